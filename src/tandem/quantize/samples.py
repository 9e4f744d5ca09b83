"""The images and texts that a model is quantised with, in three parts: to calibrate, to choose by, and to measure once.

Shapes: n images, h and w rows and columns of a model's pixels, t tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.audit.image_sample import draw_things, open_images
from tandem.datasets.dataset import Dataset
from tandem.errors import DataError, ImageError
from tandem.files import user_path
from tandem.image import ImageSource, load_image
from tandem.model import Model
from tandem.prompts import read_vocabulary
from tandem.quantize.calibration import Batch
from tandem.sample_photos import sample_photos

LEAST_IMAGES, LEAST_TEXTS = 30, 30
_MOST = (128, 1000, 1000)  # images in each part, and texts
_CALIBRATING = 0.2  # of all, at most; the rest is halved
_CROPS = 24  # of each sample photo
_TEMPLATES = ("a photo of a {}.", "{}", "there is a {} in the picture.", "two people look at a {} on a sunny day.")
_WORDS = 100  # that stand for labels where images have none
_BATCH = 8
_PHOTO = 10**6  # groups from here on are photos


@dataclass(frozen=True, eq=False)
class Part:
    """Images and texts for one purpose. `labels` are places in the classes, where images have one each."""

    pixels: NDArray[Any]  # uint8 [n h w 3]
    texts: tuple[str, ...]
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """Everything that quantising and measuring needs."""

    calibration: Part
    dev: Part  # what is chosen, is chosen by these
    held_out: Part  # looked at once, at the end
    classes: tuple[str, ...]  # among which each image has a best text
    labelled: bool  # whether they are the user's, with a label for each image
    described: str  # where images and texts are from, in a sentence
    skipped: tuple[ImageError, ...] = ()
    own: bool = False  # whether the images are the user's


def gather(
    model: Model,
    images: str | Path | None = None,
    texts: str | Path | None = None,
    *,
    seed: int = 0,
    purpose: str = "quantising without --images",
) -> Samples:
    """The user's images and texts, or those that come with Tandem.

    images: a folder, or any data set; its labels and captions are used. texts: a file with one text a line. purpose:
    what needs sample photos, in words. Raises `DataError` for too few of either, `MissingExtraError` without photos.
    """
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    if images is None:
        pictures, groups = _sample_pictures(seed, purpose)
        where = f"{len(pictures)} sample pictures (drawings, and crops of photos) that come with Tandem and its extras"
        pixels, kept, skipped = _pixels(model, pictures)
    else:
        dataset = open_images(images, limit=sum(_MOST), seed=seed)
        pixels, kept, skipped = _pixels(model, dataset.images())
        unique = _first_of_each(dataset, kept)
        pixels, kept = pixels[unique], [kept[place] for place in unique]
        groups = np.arange(len(kept))
        if dataset.classes and not dataset.multi_label:
            labels, classes = dataset.labels[kept], dataset.classes
        captions = tuple(dict.fromkeys(text for row in dataset.captions for text in row))
        where = f"{len(kept):,} images of {dataset.name}"
    if len(pixels) < LEAST_IMAGES:
        raise DataError(
            f"{images}: expected at least {LEAST_IMAGES} different images that can be read, got {len(pixels)}"
        )
    words = _lines(texts) if texts is not None else captions
    if texts is None and len(words) < LEAST_TEXTS:
        words = tuple(_TEMPLATES[i % len(_TEMPLATES)].format(word) for i, word in enumerate(read_vocabulary()))
        where += "; sentences of everyday words"
    else:
        where += f"; {len(words):,} texts of {'its captions' if texts is None else Path(texts).name}"
    if len(words) < LEAST_TEXTS:
        raise DataError(f"{texts}: expected at least {LEAST_TEXTS} different texts, one a line, got {len(words)}")
    rng = np.random.default_rng([seed, 4])
    parts = [
        Part(
            pixels[rows],
            tuple(words[i] for i in text_rows),
            None if labels is None else labels[rows],
        )
        for rows, text_rows in zip(_split(groups, rng), _split(np.arange(len(words)), rng), strict=True)
    ]
    calibration, dev, held_out = parts
    named = classes or _some_words(seed)
    return Samples(calibration, dev, held_out, named, labels is not None, where, tuple(skipped), images is not None)


def image_batches(part: Part) -> list[Batch]:
    """Pixels as the image tower's graph takes them."""
    return [[part.pixels[start : start + _BATCH]] for start in range(0, len(part.pixels), _BATCH)]


def text_batches(model: Model, part: Part) -> list[Batch]:
    """Token ids, and where they end, as the text tower's graph takes them: texts of equal length together."""
    from tandem.engine.inputs import padded, read_positions

    text = model.config.text
    ids = padded(model.tokenizer(list(part.texts), text.context_length, True), text)
    ends = read_positions(ids, text)
    batches: list[Batch] = []
    for end in np.unique(ends):
        rows = np.flatnonzero(ends == end)
        tokens = ids.shape[1] if text.fixed_length else int(end) + 1  # what follows reaches no vector
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            cut = np.ascontiguousarray(ids[some, :tokens])
            batches.append([cut, ends[some]] if text.pooling == "end" else [cut])
    return batches


def _some_words(seed: int) -> tuple[str, ...]:
    """Everyday words as labels. Among all of them, synonyms would decide: few images have one best word."""
    words = read_vocabulary()
    return tuple(words[i] for i in np.sort(np.random.default_rng([seed, 6]).permutation(len(words))[:_WORDS]))


def _sample_pictures(seed: int, purpose: str) -> tuple[list[ImageSource], NDArray[np.int64]]:
    """Drawn things, and crops of photos; what comes of one photo is of one group."""
    random = np.random.default_rng([seed, 5])
    pictures: list[ImageSource] = [drawn.pixels for drawn in draw_things(seed, 0.5).images]
    groups = list(range(len(pictures)))
    for number, photo in enumerate(sample_photos(purpose, "quantize")):
        image = load_image(photo)
        for _ in range(_CROPS):
            side = int(min(image.size) * random.uniform(0.35, 1))
            left, top = (int(random.uniform(0, length - side)) for length in image.size)
            crop = image.crop((left, top, left + side, top + side))
            pictures.append(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else crop)
            groups.append(_PHOTO + number)
    return pictures, np.array(groups)


def _pixels(
    model: Model, sources: Iterator[ImageSource] | Sequence[ImageSource]
) -> tuple[Any, list[int], list[ImageError]]:
    """The pixels of the images that can be read, their places, and why others cannot."""
    from tandem.image import decode_stream

    rows, kept, skipped = [], [], []
    for index, item in decode_stream(sources, model.config.preprocessing, limits=model.limits, orient=model.orient):
        if isinstance(item, ImageError):
            skipped.append(item)
        else:
            rows.append(item)
            kept.append(index)
    if not rows:
        raise DataError("no image can be read" + (f": {skipped[0]}" if skipped else ""))
    return np.stack(rows), kept, skipped


def _first_of_each(dataset: Dataset, places: Sequence[int]) -> list[int]:
    """Of images with the same bytes the first alone: a copy would be calibrated with, and measured, too."""
    seen: dict[bytes, int] = {}
    for row, place in enumerate(places):
        seen.setdefault(dataset.digests[place], row)
    return list(seen.values())


def _lines(path: str | Path) -> tuple[str, ...]:
    file = user_path(path)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as texts, one a line: {getattr(error, 'strerror', None) or error}"
        ) from None
    return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _split(groups: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Rows in three parts, drawn; a group is never divided, and photos are in each part."""
    parts: list[list[NDArray[np.intp]]] = [[], [], []]
    calibrating = min(_CALIBRATING, _MOST[0] / max(1, len(groups)))
    for kind in (groups[groups < _PHOTO], groups[groups >= _PHOTO]):
        each = rng.permutation(np.unique(kind))
        sizes = np.cumsum([round(share * len(each)) for share in (calibrating, (1 - calibrating) / 2)])
        for part, some in zip(parts, np.split(each, sizes), strict=True):
            part.append(np.flatnonzero(np.isin(groups, some)))
    rows = [rng.permutation(np.concatenate(part)) for part in parts]
    return [np.sort(each[:most]) for each, most in zip(rows, _MOST, strict=True)]
