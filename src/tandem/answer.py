"""The result of a classification: probabilities as arrays, text, JSON, a table or a drawing.

Knows results. It knows no model and no engine: the model is a name and a fingerprint here.

Shapes: n images that could be read, c labels.
"""

import dataclasses
import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from tandem import html
from tandem.errors import ImageError, MissingExtraError, TandemError
from tandem.files import display_name, user_path
from tandem.image import ImageSource, load_image
from tandem.scores.scoring import ScoringKind, compete, probabilities

REPR_ROWS = 10
TRUE = 0.5  # the probability from which a label that stands by itself counts as true


class Identity(Protocol):
    """The model of an answer. The fingerprint is computed only when needed: hashing large weights takes a while."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Failure:
    """An image that was skipped: its index among the inputs, and the error."""

    index: int
    error: ImageError

    @property
    def source(self) -> str:
        return self.error.source


@dataclass(frozen=True)
class ModelIdentity:
    """The name and fingerprint of a model: what a pickled answer keeps of it."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Prediction:
    """The result for one image. `probabilities` and `logits` are by label, in the order of the labels."""

    source: str
    best: str
    probabilities: dict[str, float]
    logits: dict[str, float]

    @property
    def probability(self) -> float:
        """The probability of the best label."""
        return self.probabilities[self.best]


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """One row for each image that could be read, in input order; the others are in `failures`.

    `sources[i]`, `best[i]`, `probabilities[i]` and `logits[i]` belong together; `answer[i]` is row i as a
    `Prediction`, and `answer[i:j]` an answer with fewer rows. A pickled answer keeps the model's name and
    fingerprint instead of the model.
    """

    model: Identity
    labels: tuple[str, ...]
    sources: tuple[str, ...]
    logits: NDArray[np.float32]  # [n c], a scale times the cosine, plus a bias: what the probabilities come from
    failures: tuple[Failure, ...] = ()
    # What `plot` draws; None for images that were not kept (from an iterator or an open file).
    images: tuple[ImageSource | None, ...] = field(default=())
    # "softmax": the labels compete, and an image's probabilities sum to 1; so do the classes of a "head". Else each
    # label stands by itself, and several may be true of an image, or none: "sigmoid" by the model, "calibrated" by its
    # calibration.
    scoring: ScoringKind = "softmax"

    @classmethod
    def join(cls, parts: "Sequence[Answer]") -> "Answer":
        """Concatenate the answers to several batches (at least one)."""
        return cls(
            parts[0].model,
            parts[0].labels,
            tuple(source for part in parts for source in part.sources),
            np.concatenate([part.logits for part in parts]),
            tuple(failure for part in parts for failure in part.failures),
            tuple(image for part in parts for image in part.images),
            parts[0].scoring,
        )

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Of each label for each image, float32 [n c]. With `scoring` "softmax" or "head" they compare labels, and do
        not say whether any fits; else each is that of the label by itself.
        """
        return probabilities(self.scoring, self.logits)

    @property
    def best(self) -> list[str]:
        """The likeliest label of each image."""
        return [self.labels[i] for i in self.logits.argmax(axis=1)]

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The `k` likeliest labels of each image with their probabilities, likeliest first."""
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, :k]
        rows = zip(order, self.probabilities, strict=True)
        return [[(self.labels[i], float(row[i])) for i in columns] for columns, row in rows]

    def above(self, threshold: float = TRUE) -> list[list[str]]:
        """The labels of each image that are at least so probable, likeliest first: several, or none."""
        return [[label for label, share in row if share >= threshold] for row in self.top(len(self.labels))]

    def plot(self, path: str | Path | None = None, *, top: int = 5, limit: int = 24) -> Path | None:
        """Draw each image beside the bars of its `top` labels, at most `limit` images.

        Writes the drawing to `path` and returns it. Without a path, shows the drawing in the notebook or in a window.
        """
        from tandem import plots

        if not self.sources:
            raise TandemError("nothing to draw: no image was answered")
        images = [self._load(i) for i in range(min(limit, len(self.sources)))]
        rows = [
            plots.Row(image, display_name(name), best, highlighted(self.scoring, best))
            for image, name, best in zip(images, self.sources, self.top(top), strict=False)
        ]
        target = None if path is None else user_path(path)
        by_itself = "" if compete(self.scoring) else f": each label by itself ({self.scoring})"
        left_out = len(self.sources) - len(rows)
        return plots.draw_answer(rows, target, model=self.model.name + by_itself, left_out=left_out)

    def _load(self, index: int) -> Any:
        image = self.images[index] if index < len(self.images) else None
        if image is None:
            raise TandemError(
                f"image {index} ({self.sources[index]}) came from an iterator or an open file and was not kept; "
                "to draw, classify file paths or a list"
            )
        return load_image(image)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`: a row for each image, the best label, then a column of probabilities for each label."""
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("pandas", "pandas", "a table of an answer") from None
        index = pandas.Index(self.sources, name="image", dtype=object)
        frame = pandas.DataFrame(self.probabilities, index=index, columns=list(self.labels))
        frame.insert(0, "best", self.best, allow_duplicates=True)
        return frame

    def as_dict(self) -> dict[str, Any]:
        """A dict of plain values, as `tandem classify --json` prints it."""
        shares = self.probabilities
        return {
            "model": {"name": self.model.name, "fingerprint": self.model.fingerprint},
            "labels": list(self.labels),
            "scoring": self.scoring,
            "results": [
                {
                    "image": display_name(source),
                    "best": best,
                    "probabilities": _by_label(self.labels, shares[i]),
                    "logits": _by_label(self.labels, self.logits[i]),
                }
                for i, (source, best) in enumerate(zip(self.sources, self.best, strict=True))
            ],
            "failures": [
                {name: display_name(value) for name, value in failure.error.as_dict().items()}
                for failure in self.failures
            ],
        }

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.as_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> "Answer": ...

    def __getitem__(self, index: int | slice) -> "Prediction | Answer":
        """Row `index`, or an answer with the rows of a slice, without `failures`."""
        if isinstance(index, slice):
            return dataclasses.replace(
                self, sources=self.sources[index], logits=self.logits[index], failures=(), images=self.images[index]
            )
        row = range(len(self))[operator.index(index)]  # raises IndexError where there is no such row
        return self._prediction(row, probabilities(self.scoring, self.logits[row]))

    def __iter__(self) -> Iterator[Prediction]:
        for row, shares in enumerate(self.probabilities):
            yield self._prediction(row, shares)

    def _prediction(self, row: int, shares: NDArray[np.float32]) -> Prediction:
        logits = self.logits[row]
        return Prediction(
            self.sources[row],
            self.labels[int(logits.argmax())],
            dict(zip(self.labels, map(float, shares), strict=True)),
            dict(zip(self.labels, map(float, logits), strict=True)),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "model": ModelIdentity(self.model.name, self.model.fingerprint)}

    def __copy__(self) -> "Answer":
        return dataclasses.replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Answer":
        return dataclasses.replace(self, logits=self.logits.copy())  # the other fields are immutable

    def _repr_html_(self) -> str:
        """What a notebook shows: the first images with the bars of their likeliest labels."""
        rows = []
        for row, best in enumerate(self[:REPR_ROWS].top(3)):
            uri = html.thumbnail_uri(self.images[row] if row < len(self.images) else None)
            bars = "".join(html.bar(probability, label, f"{probability:.1%}") for label, probability in best)
            rows.append((html.photo(uri, self.sources[row]), f"<div>{html.text(self.sources[row])}</div>{bars}"))
        notes = [self._counted()]
        if len(self) > REPR_ROWS:
            notes.append(f"the first {REPR_ROWS} are shown")
        if self.failures:
            notes.append(f"{len(self.failures):,} skipped (see .failures)")
        return html.table(rows, "; ".join(notes))

    def _counted(self) -> str:
        by_itself = "" if compete(self.scoring) else f", each by itself ({self.scoring})"
        return f"{_count(len(self.sources), 'image')}, {_count(len(self.labels), 'label')}{by_itself}"

    def __repr__(self) -> str:
        lines = [f"Answer: {self._counted()}"]
        for source, best in zip(self.sources[:REPR_ROWS], self.top(3), strict=False):
            lines.append(
                f"  {display_name(source)}: " + ", ".join(f"{label} {probability:.1%}" for label, probability in best)
            )
        if len(self.sources) > REPR_ROWS:
            lines.append(f"  and {len(self.sources) - REPR_ROWS} more")
        if self.failures:
            lines.append(f"  skipped: {_count(len(self.failures), 'image')} (see .failures)")
        return "\n".join(lines)


def highlighted(scoring: ScoringKind, best: Sequence[tuple[str, float]]) -> int:
    """How many of an image's likeliest labels stand out: the first where labels compete, else those likelier true."""
    return 1 if compete(scoring) else sum(probability >= TRUE for _, probability in best)


def _by_label(labels: Sequence[str], values: NDArray[np.float32]) -> dict[str, float]:
    # float32 has seven significant digits; more would be noise.
    return {label: float(f"{value:.7g}") for label, value in zip(labels, values, strict=True)}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
