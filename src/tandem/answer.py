"""What a classification says: probabilities for pictures and labels, as arrays, text, JSON or a picture.

Knows results. It knows no model and no engine: whoever answered passes a name and a fingerprint.

Shapes: n pictures that were answered, c labels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tandem.errors import ImageError, TandemError
from tandem.image import ImageSource, load_image

REPR_ROWS = 10


class Identity(Protocol):
    """Who answered. The fingerprint is asked for only when it is needed: hashing large weights takes a while."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Failure:
    """A picture that was set aside: its place among those that were given, and why."""

    index: int
    error: ImageError

    @property
    def source(self) -> str:
        return self.error.source


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """One row for each picture that could be read, in the order given; those that could not are in `failures`.

    `sources[i]`, `best[i]`, `probabilities[i]` and `logits[i]` belong together.
    """

    model: Identity
    labels: tuple[str, ...]
    sources: tuple[str, ...]
    logits: NDArray[np.float32]  # [n c], cosine times exp(logit_scale)
    failures: tuple[Failure, ...] = ()
    # What to draw: None where it was not kept (it came from an iterator or an open file).
    pictures: tuple[ImageSource | None, ...] = field(default=())

    @classmethod
    def join(cls, parts: "Sequence[Answer]") -> "Answer":
        """One answer from the answers to several batches (at least one)."""
        return cls(
            parts[0].model,
            parts[0].labels,
            tuple(source for part in parts for source in part.sources),
            np.concatenate([part.logits for part in parts]),
            tuple(failure for part in parts for failure in part.failures),
            tuple(picture for part in parts for picture in part.pictures),
        )

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Softmax over the labels, float32 [n c]: how the labels compare with each other, not whether any fits."""
        return softmax(self.logits)

    @property
    def best(self) -> list[str]:
        """The likeliest label of each picture."""
        return [self.labels[i] for i in self.logits.argmax(axis=1)]

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The `k` likeliest labels of each picture with their probabilities, likeliest first."""
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, :k]
        rows = zip(order, self.probabilities, strict=True)
        return [[(self.labels[i], float(row[i])) for i in columns] for columns, row in rows]

    def plot(self, path: str | Path, *, top: int = 5, limit: int = 24) -> Path:
        """Draw each picture beside the bars of its `top` labels, at most `limit` pictures. Gives the path."""
        from tandem import plots

        if not self.sources:
            raise TandemError("nothing to draw: no picture was answered")
        pictures = [self._load(i) for i in range(min(limit, len(self.sources)))]
        rows = [
            plots.Row(picture, name, best)
            for picture, name, best in zip(pictures, self.sources, self.top(top), strict=False)
        ]
        return plots.draw_answer(rows, Path(path), model=self.model.name, left_out=len(self.sources) - len(rows))

    def _load(self, index: int) -> Any:
        picture = self.pictures[index]
        if picture is None:
            raise TandemError(
                f"picture {index} ({self.sources[index]}) came from an iterator or an open file and was not kept; "
                "to draw, classify file paths or a list"
            )
        return load_image(picture)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, in the shape of `tandem classify --json`."""
        probabilities = self.probabilities
        return {
            "model": {"name": self.model.name, "fingerprint": self.model.fingerprint},
            "labels": list(self.labels),
            "results": [
                {
                    "image": source,
                    "best": best,
                    "probabilities": _by_label(self.labels, probabilities[i]),
                    "logits": _by_label(self.labels, self.logits[i]),
                }
                for i, (source, best) in enumerate(zip(self.sources, self.best, strict=True))
            ],
            "failures": [{"image": failure.source, "error": failure.error.reason} for failure in self.failures],
        }

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.as_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        lines = [f"Answer: {_count(len(self.sources), 'picture')}, {_count(len(self.labels), 'label')}"]
        for source, best in zip(self.sources[:REPR_ROWS], self.top(3), strict=False):
            lines.append(f"  {source}: " + ", ".join(f"{label} {probability:.1%}" for label, probability in best))
        if len(self.sources) > REPR_ROWS:
            lines.append(f"  and {len(self.sources) - REPR_ROWS} more")
        if self.failures:
            lines.append(f"  set aside: {_count(len(self.failures), 'picture')} (see .failures)")
        return "\n".join(lines)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the last axis."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True), dtype=np.float32)


def _by_label(labels: Sequence[str], values: NDArray[np.float32]) -> dict[str, float]:
    # float32 carries seven digits; more would be noise in the document.
    return {label: float(f"{value:.7g}") for label, value in zip(labels, values, strict=True)}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
