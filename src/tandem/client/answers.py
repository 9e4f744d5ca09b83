"""What a server answered and what was sent to it, as values: models, results, images that it could not read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from tandem.answer import Failure
from tandem.errors import DataError, ImageError
from tandem.image import ImageSource, source_name
from tandem.search.results import Results


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


def failures_of(batch: Sequence[Sent], listed: Iterable[Mapping[str, Any]]) -> list[Failure]:
    """What a server says of the images of a batch that it cannot read, by their places among those given here."""
    failures = []
    for each in listed:
        sent = batch[_place(each["image"])]
        failures.append(Failure(sent.index, ImageError(source_name(sent.source), each["error"], each["kind"])))
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
