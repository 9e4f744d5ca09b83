"""The metrics: what each is called, what it needs, and how it is computed of the vectors of some rows.

Shapes: b rows, d dimensions.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.clip_score import formulas
from tandem.clip_score.formulas import Floats, Metric
from tandem.clip_score.rows import Cut, ScoreRow
from tandem.clip_score.texts import Texts
from tandem.errors import DataError
from tandem.image import ImageSource


@dataclass(frozen=True, eq=False)
class Encoded:
    """A row whose images could be read, with their vectors [d]; those of its source image are empty without one."""

    index: int  # among the rows given
    row: ScoreRow
    image: Vectors
    source: Vectors


class EncodedRows:
    """The vectors of some rows, at least one. Texts are embedded when a metric first asks for them."""

    def __init__(self, rows: Sequence[Encoded], texts: Texts) -> None:
        self.rows, self.texts = rows, texts
        self.cut: list[Cut] = []  # of the texts that were asked for

    def kept(self, which: NDArray[np.bool_]) -> "EncodedRows":
        """Those rows of [b] that are true, with nothing embedded yet."""
        return EncodedRows([row for row, keep in zip(self.rows, which, strict=True) if keep], self.texts)

    @cached_property
    def image(self) -> Vectors:
        return np.stack([each.image for each in self.rows])

    @cached_property
    def source_image(self) -> Vectors:
        return np.stack([each.source for each in self.rows])

    @cached_property
    def prompt(self) -> Vectors:
        return self._embedded([(each.index, each.row.prompt or "") for each in self.rows])

    @cached_property
    def source_prompt(self) -> Vectors:
        return self._embedded([(each.index, each.row.source_prompt or "") for each in self.rows])

    @cached_property
    def nearest_reference(self) -> Floats:
        """The cosine of each prompt with the nearest of its row's references, [b]."""
        found = self._embedded([(each.index, reference) for each in self.rows for reference in each.row.references])
        return formulas.nearest(self.prompt, found, [len(each.row.references) for each in self.rows])

    @cached_property
    def cosine(self) -> Floats:
        """Of image and prompt, [b]."""
        return formulas.cosines(self.image, self.prompt)

    @cached_property
    def other(self) -> Floats:
        """The cosine of each image with the prompt of the row half a batch further; NaN where that is its own, [b].

        Half a batch: neighbours are often of one image, or of one prompt.
        """
        others = np.roll(np.arange(len(self.rows)), -(len(self.rows) // 2)).tolist()
        found = formulas.cosines(self.image, self.prompt[others])
        for place, other in enumerate(others):
            one, two = self.rows[place].row, self.rows[other].row
            if one.prompt == two.prompt or _is_same(one.image, two.image):
                found[place] = np.nan
        return found

    def _embedded(self, listed: Sequence[tuple[int, str]]) -> Vectors:
        found = self.texts.embed([text for _, text in listed])
        for index, text in listed:
            if (tokens := self.texts.cut(text)) is not None:
                self.cut.append(Cut(index, text, *tokens))
        return found


def _is_same(one: ImageSource, other: ImageSource) -> bool:
    if isinstance(one, str | os.PathLike) and isinstance(other, str | os.PathLike):
        return os.fspath(one) == os.fspath(other)
    return one is other


@dataclass(frozen=True)
class About:
    """What a score is called, how it is computed, and what a row needs for it beside its image.

    `of` gives float32 [b] by name: the metric, and what belongs beside it. Rows for which `undefined` [b] is true have
    no such score, for this `reason`.
    """

    title: str
    formula: str
    needs: tuple[str, ...]
    of: Callable[[EncodedRows], dict[str, Floats]]
    undefined: Callable[[EncodedRows], NDArray[np.bool_]] | None = None
    reason: str = ""


METRICS: dict[Metric, About] = {
    "clip_score": About(
        "CLIPScore",
        "2.5 max(cos, 0), Hessel et al. 2021",
        ("prompt",),
        lambda rows: {"cosine": rows.cosine, "clip_score": formulas.clip_score(rows.cosine), "other": rows.other},
    ),
    "ref_clip_score": About(
        "RefCLIPScore",
        "harmonic mean of CLIPScore and max(cos, 0) to the nearest reference",
        ("prompt", "references"),
        lambda rows: {
            "cosine": rows.cosine,
            "ref_clip_score": formulas.ref_clip_score(rows.cosine, rows.nearest_reference),
        },
    ),
    "image_similarity": About(
        "image similarity",
        "cos of image and source image",
        ("source_image",),
        lambda rows: {"image_similarity": formulas.cosines(rows.image, rows.source_image)},
    ),
    "directional_similarity": About(
        "directional similarity",
        "cos of the change of the image and that of the text, Gal et al. 2022",
        ("prompt", "source_image", "source_prompt"),
        lambda rows: {
            "cosine": rows.cosine,
            "directional_similarity": formulas.directional_similarity(
                rows.image, rows.source_image, rows.prompt, rows.source_prompt
            ),
        },
        undefined=lambda rows: ~formulas.has_direction(rows.prompt, rows.source_prompt),
        reason="no direction to follow: to the model, its prompt and its source prompt are the same",
    ),
}


def texts_of(row: ScoreRow, metrics: Sequence[Metric]) -> Iterator[str]:
    """The texts of a row that metrics ask for."""
    needs = {need for metric in metrics for need in METRICS[metric].needs}
    found = {"prompt": (row.prompt,), "source_prompt": (row.source_prompt,), "references": row.references}
    return (text for need, texts in found.items() if need in needs for text in texts if text is not None)


def check_row(row: ScoreRow, index: int, metrics: Sequence[Metric]) -> None:
    """Raise `DataError` where the row lacks what a metric needs."""
    for metric in metrics:
        for need in METRICS[metric].needs:
            value = getattr(row, need)
            if value is None or (need != "source_image" and not value):
                place = row.place or f"row {index}"
                raise DataError(f"{place}: {METRICS[metric].title} needs a {need.rstrip('s').replace('_', ' ')}")
            texts = value if need == "references" else [value] if need != "source_image" else []
            if wrong := next((each for each in texts if not isinstance(each, str)), None):
                raise DataError(f"{row.place or f'row {index}'}: {need}: expected text, got {type(wrong).__name__}")
