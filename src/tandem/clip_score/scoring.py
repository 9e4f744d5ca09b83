"""Rows of images and texts -> scores, as a stream: images are decoded ahead of the encoder, and none is kept.

Joins a model with the `metrics`. Shapes: n rows, d dimensions.
"""

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, TypeVar

from tandem.answer import Failure, ModelIdentity
from tandem.arrays import Vectors
from tandem.clip_score.formulas import Floats, Metric
from tandem.clip_score.metrics import METRICS, Encoded, EncodedRows, check_row, texts_of
from tandem.clip_score.results import Scores
from tandem.clip_score.rows import ScoredRows, ScoreRow
from tandem.clip_score.texts import Texts, TextVectors
from tandem.defaults import BATCH_SIZE, LongTexts
from tandem.errors import DataError, ImageError, TandemError
from tandem.image import ImageSource, many, source_name
from tandem.progress import Progress, count_of

if TYPE_CHECKING:
    from tandem.model import Model

_Left = TypeVar("_Left")
_Right = TypeVar("_Right")


ROWS = 256  # scored at once
# Texts of one length are encoded together, and there are more of them among many: those of a second's rows.
MOST_ROWS = 4096
SECONDS = 1.0


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
    refused: deque[_Read] = deque()
    rows_at_once = max(batch_size, ROWS)

    def images() -> Iterator[ImageSource]:
        for index, row in enumerate(rows):
            if row.error is not None:
                refused.append((index, row, row.error, None))
                continue
            check_row(row, index, metrics)
            waiting.append((index, row))
            yield row.image
            if paired and row.source_image is not None:
                yield row.source_image

    def in_parts(batch: Sequence[_Read]) -> Iterator[ScoredRows]:
        """Of the same rows whatever the speed, but for the texts: those of all parts are encoded together."""
        with contextlib.suppress(TandemError):  # raised below, if the text it is about is ever wanted
            texts.embed(
                [
                    text
                    for _, row, image, _ in batch
                    if not isinstance(image, ImageError)
                    for text in texts_of(row, metrics)
                ]
            )
        for start in range(0, len(batch), rows_at_once):
            yield _scored_batch(batch[start : start + rows_at_once], metrics, texts)

    def scored() -> Iterator[ScoredRows]:
        batch: list[_Read] = []
        begun = time.monotonic()
        vectors = model.iter_embed_images(images(), batch_size=batch_size * (2 if paired else 1))
        for _, item in vectors:
            before = next(vectors)[1] if paired else None
            batch.append((*waiting.popleft(), item, before))
            while refused and refused[0][0] < batch[-1][0]:
                batch.insert(-1, refused.popleft())
            is_due = time.monotonic() - begun >= SECONDS or len(batch) >= MOST_ROWS
            if is_due and len(batch) >= rows_at_once:
                whole = len(batch) - len(batch) % rows_at_once
                yield from in_parts(batch[:whole])
                batch, begun = batch[whole:], time.monotonic()
        yield from in_parts([*batch, *refused])

    return scored()


_Read = tuple[int, ScoreRow, Vectors | ImageError, Vectors | ImageError | None]


def _scored_batch(batch: Sequence[_Read], metrics: Sequence[Metric], texts: Texts) -> ScoredRows:
    failures: list[Failure] = []
    good: list[Encoded] = []
    for index, row, image, source in batch:
        if isinstance(image, ImageError):
            failures.append(Failure(index, image))
        elif isinstance(source, ImageError):
            failures.append(Failure(index, source))
        else:
            good.append(Encoded(index, row, image, image[:0] if source is None else source))
    prompts = {index: row.prompt for index, row, *_ in batch if row.prompt is not None}
    return scored_rows(good, metrics, texts, failures, prompts)


def scored_rows(
    encoded: Sequence[Encoded],
    metrics: Sequence[Metric],
    texts: Texts,
    failures: Sequence[Failure] = (),
    prompts: Mapping[int, str] | None = None,
) -> ScoredRows:
    """The scores of rows whose vectors are known, beside the failures of others; `prompts` by row, of failures too."""
    failed = list(failures)
    rows = EncodedRows(encoded, texts)
    for about in (METRICS[metric] for metric in metrics):
        if about.undefined is not None and rows.rows:
            without = about.undefined(rows)
            lost = (each for each, is_lost in zip(rows.rows, without, strict=True) if is_lost)
            failed += [
                Failure(each.index, ImageError(source_name(each.row.image), about.reason, "invalid")) for each in lost
            ]
            rows = rows.kept(~without)
    values: dict[str, Floats] = {}
    for metric in metrics if rows.rows else ():
        values |= METRICS[metric].of(rows)
    return ScoredRows(
        [each.index for each in rows.rows],
        [source_name(each.row.image) for each in rows.rows],
        [each.row.prompt or "" for each in rows.rows],
        values,
        sorted(failed, key=lambda failure: failure.index),
        rows.cut,
        [each.row.image for each in rows.rows],
        {each.index: prompts[each.index] for each in failed if prompts is not None and each.index in prompts},
    )


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
