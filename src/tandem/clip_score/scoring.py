"""Rows of images and texts -> scores, as a stream: images are decoded ahead of the encoder, and none is kept.

Joins a model with the arithmetic of `formulas`. Shapes: n rows, b of a batch, d dimensions.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tandem.answer import Failure, ModelIdentity
from tandem.arrays import Vectors
from tandem.clip_score import formulas
from tandem.clip_score.formulas import METRICS, Floats, Metric
from tandem.clip_score.results import Scores
from tandem.clip_score.rows import Cut, ScoredRows, ScoreRow, check_row
from tandem.clip_score.texts import TextVectors
from tandem.defaults import BATCH_SIZE, LongTexts
from tandem.errors import DataError, ImageError, TandemError
from tandem.image import ImageSource, many, source_name
from tandem.progress import Progress, count_of

if TYPE_CHECKING:
    from tandem.model import Model

_Left = TypeVar("_Left")
_Right = TypeVar("_Right")


ROWS = 256  # scored at once: texts of one length are encoded together, and there are more of them among many


def clip_score(
    model: "Model",
    images: ImageSource | Iterable[ImageSource],
    prompts: str | Iterable[str],
    *,
    prefix: str = "",
    long: LongTexts = "truncate",
    batch_size: int = BATCH_SIZE,
    progress: bool | None = None,
) -> Scores:
    """How well each image fits its prompt: CLIPScore, 2.5 max(cos, 0) (Hessel et al. 2021).

    `values["clip_score"]` and `values["cosine"]` are float32 [n]; `figures["clip_score_100"]` is the mean in
    torchmetrics' unit. One prompt alone is that of all images. The default has no prefix, as generated images are
    scored; `formulas.PAPER_PREFIX`, "A photo depicts", is what the paper puts before captions. A prompt of more tokens
    than the model reads is cut and keeps its end token, or split or refused as `long` says; `cut` lists those.

    Raises `DataError` where images and prompts differ in number. Images that cannot be read are in `failures`.
    """
    rows = (ScoreRow(image, prompt) for image, prompt in _together(many(images), _texts(prompts), "images", "prompts"))
    return _scored(model, rows, ("clip_score",), images, prefix, long, batch_size, progress)


def ref_clip_score(
    model: "Model",
    images: ImageSource | Iterable[ImageSource],
    prompts: str | Iterable[str],
    references: Iterable[str | Sequence[str]],
    *,
    prefix: str = "",
    long: LongTexts = "truncate",
    batch_size: int = BATCH_SIZE,
    progress: bool | None = None,
) -> Scores:
    """How well each prompt fits its image and the nearest of its references: RefCLIPScore (Hessel et al. 2021).

    `references` has a text or several for each image; both scores are in `values`. The rest as for `clip_score`.
    """
    pairs = _together(many(images), _texts(prompts), "images", "prompts")
    rows = (
        ScoreRow(image, prompt, (some,) if isinstance(some, str) else tuple(some))
        for (image, prompt), some in _together(pairs, references, "images", "references")
    )
    return _scored(model, rows, ("ref_clip_score", "clip_score"), images, prefix, long, batch_size, progress)


def image_similarity(
    model: "Model",
    images: ImageSource | Iterable[ImageSource],
    source_images: ImageSource | Iterable[ImageSource],
    *,
    batch_size: int = BATCH_SIZE,
    progress: bool | None = None,
) -> Scores:
    """The cosine of each image with its source image, float32 [n] in -1..1."""
    pairs = _together(many(images), many(source_images), "images", "source_images")
    rows = (ScoreRow(image, source_image=source) for image, source in pairs)
    return _scored(model, rows, ("image_similarity",), images, "", "truncate", batch_size, progress)


def directional_similarity(
    model: "Model",
    images: ImageSource | Iterable[ImageSource],
    source_images: ImageSource | Iterable[ImageSource],
    prompts: str | Iterable[str],
    source_prompts: str | Iterable[str],
    *,
    prefix: str = "",
    long: LongTexts = "truncate",
    batch_size: int = BATCH_SIZE,
    progress: bool | None = None,
) -> Scores:
    """Whether each image moved away from its source image as its prompt moved away from its source prompt.

    cos(image - source, prompt - source prompt) of unit vectors, float32 [n] (Gal et al. 2022); 0 for an image that did
    not move. A row whose two prompts are the same to the model is in `failures`. `values` has the similarity of the
    images and the CLIPScore of the prompts, too.
    """
    pictures = _together(many(images), many(source_images), "images", "source_images")
    prompted = _together(pictures, _texts(prompts), "images", "prompts")
    rows = (
        ScoreRow(image, prompt, source_image=source, source_prompt=before)
        for ((image, source), prompt), before in _together(prompted, _texts(source_prompts), "images", "source_prompts")
    )
    metrics: tuple[Metric, ...] = ("directional_similarity", "image_similarity", "clip_score")
    return _scored(model, rows, metrics, images, prefix, long, batch_size, progress)


def iter_scores(
    model: "Model",
    rows: Iterable[ScoreRow],
    metrics: Sequence[Metric] = ("clip_score",),
    *,
    prefix: str = "",
    long: LongTexts = "truncate",
    batch_size: int = BATCH_SIZE,
) -> Iterator[ScoredRows]:
    """Yield the scores of each batch of rows as soon as they are ready. Every image is read once, and none is kept.

    Raises `DataError` for a row that lacks what a metric needs, `TextError` as `long` says.
    """
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise TandemError(f"metrics: expected some of {', '.join(METRICS)}, got {unknown[0]!r}")
    if not metrics:
        raise TandemError(f"metrics: expected some of {', '.join(METRICS)}, got none")
    texts = TextVectors(model, prefix=prefix, long=long)
    paired = any("source_image" in METRICS[metric].needs for metric in metrics)
    waiting: deque[tuple[int, ScoreRow]] = deque()
    rows_at_once = max(batch_size, ROWS)

    def images() -> Iterator[ImageSource]:
        for index, row in enumerate(rows):
            check_row(row, index, metrics)
            waiting.append((index, row))
            yield row.image
            if paired and row.source_image is not None:
                yield row.source_image

    def batches() -> Iterator[ScoredRows]:
        batch: list[_Read] = []
        vectors = model.iter_embed_images(images(), batch_size=batch_size * (2 if paired else 1))
        for _, item in vectors:
            before = next(vectors)[1] if paired else None
            batch.append((*waiting.popleft(), item, before))
            if len(batch) == rows_at_once:
                yield _scored_batch(batch, metrics, texts)
                batch = []
        if batch:
            yield _scored_batch(batch, metrics, texts)

    return batches()


_Read = tuple[int, ScoreRow, Vectors | ImageError, Vectors | ImageError | None]


@dataclass(frozen=True, eq=False)
class _Encoded:
    """A row whose images could be read, with their vectors [d]; those of its source image are empty without one."""

    index: int
    row: ScoreRow
    image: Vectors
    source: Vectors


def _scored_batch(batch: Sequence[_Read], metrics: Sequence[Metric], texts: TextVectors) -> ScoredRows:
    failures: list[Failure] = []
    good: list[_Encoded] = []
    for index, row, image, source in batch:
        if isinstance(image, ImageError):
            failures.append(Failure(index, image))
        elif isinstance(source, ImageError):
            failures.append(Failure(index, source))
        else:
            good.append(_Encoded(index, row, image, image[:0] if source is None else source))
    if "directional_similarity" in metrics and good:
        after, before = (texts.embed(_texts_of(good, field)) for field in ("prompt", "source_prompt"))
        clear = formulas.has_direction(after, before)
        failures += [
            Failure(each.index, _no_direction(each.row)) for each, has in zip(good, clear, strict=True) if not has
        ]
        good = [each for each, has in zip(good, clear, strict=True) if has]
    values, cut = _values(good, metrics, texts) if good else ({}, [])
    return ScoredRows(
        [each.index for each in good],
        [source_name(each.row.image) for each in good],
        [each.row.prompt or "" for each in good],
        values,
        sorted(failures, key=lambda failure: failure.index),
        cut,
        [each.row.image for each in good],
    )


def _no_direction(row: ScoreRow) -> ImageError:
    reason = "no direction to follow: to the model, its prompt and its source prompt are the same"
    return ImageError(source_name(row.image), reason, "invalid")


def _values(
    good: Sequence[_Encoded], metrics: Sequence[Metric], texts: TextVectors
) -> tuple[dict[str, Floats], list[Cut]]:
    """The scores of rows by name, float32 [b] each, and the texts that were cut."""
    image = np.stack([each.image for each in good])  # [b d]
    sources = np.stack([each.source for each in good])
    values: dict[str, Floats] = {}
    cut: list[Cut] = []

    def embedded(listed: Sequence[tuple[int, str]]) -> Vectors:
        found = texts.embed([text for _, text in listed])
        for index, text in listed:
            if (tokens := texts.cut(text)) is not None:
                cut.append(Cut(index, text, *tokens))
        return found

    def of_rows(field: str) -> list[tuple[int, str]]:
        return [(each.index, text) for each, text in zip(good, _texts_of(good, field), strict=True)]

    text = image[:0]
    if any("prompt" in METRICS[metric].needs for metric in metrics):
        text = embedded(of_rows("prompt"))
        values["cosine"] = formulas.cosines(image, text)
    for metric in metrics:
        if metric == "clip_score":
            values[metric] = formulas.clip_score(values["cosine"])
            values["other"] = _with_others([each.row for each in good], image, text)
        elif metric == "ref_clip_score":
            found = embedded([(each.index, reference) for each in good for reference in each.row.references])
            near = formulas.nearest(text, found, [len(each.row.references) for each in good])
            values[metric] = formulas.ref_clip_score(values["cosine"], near)
        elif metric == "image_similarity":
            values[metric] = formulas.cosines(image, sources)
        else:
            before = embedded(of_rows("source_prompt"))
            values[metric] = formulas.directional_similarity(image, sources, text, before)
    return values, cut


def _texts_of(good: Sequence[_Encoded], field: str) -> list[str]:
    return [getattr(each.row, field) or "" for each in good]


def _with_others(rows: Sequence[ScoreRow], image: Vectors, text: Vectors) -> Floats:
    """The cosine of each image with the prompt of the row half a batch further; NaN where that is its own.

    Half a batch: neighbours are often of one image, or of one prompt.
    """
    others = np.roll(np.arange(len(rows)), -(len(rows) // 2)).tolist()
    found = formulas.cosines(image, text[others])
    for place, other in enumerate(others):
        if rows[other].prompt == rows[place].prompt or _is_same(rows[other].image, rows[place].image):
            found[place] = np.nan
    return found


def _is_same(one: ImageSource, other: ImageSource) -> bool:
    if isinstance(one, str | os.PathLike) and isinstance(other, str | os.PathLike):
        return os.fspath(one) == os.fspath(other)
    return one is other


def _scored(
    model: "Model",
    rows: Iterable[ScoreRow],
    metrics: tuple[Metric, ...],
    images: object,
    prefix: str,
    long: LongTexts,
    batch_size: int,
    progress: bool | None,
) -> Scores:
    parts = []
    with Progress(count_of(images), show=progress, label="scoring", unit="image") as bar:
        for part in iter_scores(model, rows, metrics, prefix=prefix, long=long, batch_size=batch_size):
            parts.append(part)
            bar.advance(len(part) + len(part.failures))
    return Scores.join(ModelIdentity(model.name, model.fingerprint), metrics, prefix, parts)


def _texts(texts: str | Iterable[str]) -> Iterable[str]:
    """One text is that of all images."""
    return repeat(texts) if isinstance(texts, str) else texts


def _together(left: Iterable[_Left], right: Iterable[_Right], name: str, other: str) -> Iterator[tuple[_Left, _Right]]:
    """Both in pairs. Raises `DataError` where one has more than the other."""
    endless = isinstance(right, repeat)
    others = iter(right)
    count = 0
    for each in left:
        try:
            pair = next(others)
        except StopIteration:
            raise DataError(f"{other}: expected one for each of the {name}, got {count:,}") from None
        count += 1
        yield each, pair
    if not endless and next(others, _END) is not _END:
        raise DataError(f"{other}: expected one for each of the {count:,} {name}, got more")


_END = object()
