"""What a server answered and what was sent to it, as values: models, results, images that it could not read."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, overload

import numpy as np

from tandem.answer import Failure
from tandem.arrays import Vectors
from tandem.errors import DataError, ImageError, ImageErrorKind
from tandem.image import ImageSource, source_name
from tandem.plain_line import plain_line
from tandem.search.results import Results
from tandem.search.stores.protocol import are_unit


@dataclass(frozen=True)
class Served:
    """The model that answered, by name and fingerprint."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class ServedResults(Results):
    """Results from a server, which has decided whether anything matches."""

    matches_nothing: bool = False

    @property
    def nothing_matches(self) -> bool:
        return self.matches_nothing


@dataclass(frozen=True)
class ServedRows(Sequence[dict[str, Any]]):
    """What a server answered: a row for each image that could be read, in order; the others are in `failures`."""

    rows: tuple[dict[str, Any], ...]
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        return self.rows[index]


@dataclass(frozen=True)
class Sent:
    """An image to send: its index among those given, and its data URI."""

    index: int
    source: ImageSource
    uri: str

    def __len__(self) -> int:
        return len(self.uri)


def vectors_of(data: Sequence[Mapping[str, Any]], count: int) -> list[Vectors]:
    """The rows that a server answered, in order: one for each input, finite and of unit length. Raises `ValueError`."""
    rows = sorted(data, key=lambda row: int(row["index"]))
    if [row["index"] for row in rows] != list(range(count)):
        raise ValueError(f"expected a row for each of {count:,} inputs, got {len(rows):,}, or others")
    vectors = [np.frombuffer(base64.b64decode(row["embedding"], validate=True), dtype="<f4") for row in rows]
    if len({len(vector) for vector in vectors}) != 1 or not len(vectors[0]):
        raise ValueError("expected vectors of one length")
    if not are_unit(np.stack(vectors)).all():
        raise ValueError("expected vectors that are finite and of unit length")
    return vectors


def finite(value: Any) -> float:
    """A number of an answer. Raises `ValueError` for one that is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r:.60}")
    return float(value)


def optional(value: Any) -> float | None:
    """The same, or None."""
    return None if value is None else finite(value)


def text(value: Any) -> str:
    """A text of an answer. Raises `ValueError` for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {value!r:.60}")
    return value


def failures_of(batch: Sequence[Sent], listed: Iterable[Mapping[str, Any]]) -> list[Failure]:
    """What a server says of the images of a batch that it cannot read, by their places among those given here."""
    failures = []
    for each in listed:
        place = _place(each["image"])
        if not 0 <= place < len(batch):
            raise ValueError(f"expected one of {len(batch):,} images, got {each['image']!r:.60}")
        sent = batch[place]
        reason, kind = plain_line(text(each["error"])), plain_line(text(each["kind"]))
        failures.append(Failure(sent.index, ImageError(source_name(sent.source), reason, cast(ImageErrorKind, kind))))
    return failures


def _place(name: str) -> int:
    """`images[3]` -> 3."""
    return int(name.rpartition("[")[2].rstrip("]"))


def prompts_of(batch: Sequence[Sent], prompts: str | Sequence[str]) -> list[str]:
    """The prompts of the images of a batch; one alone is that of all. Raises `DataError` where there are fewer."""
    if isinstance(prompts, str):
        return [prompts] * len(batch)
    if batch[-1].index >= len(prompts):
        raise DataError(f"prompts: expected one for each of the images, got {len(prompts):,}")
    return [prompts[each.index] for each in batch]
