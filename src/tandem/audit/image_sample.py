"""The images of an audit: drawn everyday things, or a sample of the user's data set."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tandem.audit import scenes
from tandem.audit.answers import name_vectors
from tandem.audit.labelled_images import CaptionedImage, LabelledImages, Reference
from tandem.audit.protocol import Encoder
from tandem.audit.things import THINGS
from tandem.datasets import open_dataset
from tandem.datasets.dataset import Dataset
from tandem.datasets.hashing import file_digests
from tandem.datasets.images import ImageFiles
from tandem.errors import DataError, ImageError
from tandem.files import display_name, user_path
from tandem.image import IMAGE_SUFFIXES, Limits, load_image
from tandem.pixels import as_rgb
from tandem.prompts import DEFAULT_TEMPLATE, read_vocabulary

OF_EACH = 12  # drawn images of each thing
LIMIT = 200  # images of a user, unless another number is asked for
_SHORTER = 336  # pixels that a user's image keeps: what the largest usual models read
_NAMES = 32  # everyday words among which unlabelled images are answered, at least
# Drawn things are no photos: the average over four media is nearer to all of them.
_TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "a drawing of a {}.", "a cartoon of a {}.")


@dataclass(frozen=True, eq=False)
class Gathered:
    """The images, and those that could not be read."""

    images: LabelledImages
    skipped: tuple[ImageError, ...] = ()
    notes: tuple[str, ...] = ()


def draw_things(seed: int, scale: float = 1.0) -> LabelledImages:
    """Sixteen things, each several times, in turn."""
    random, names = np.random.default_rng([seed, 1]), tuple(THINGS)
    times = max(1, round(OF_EACH * scale))
    images = tuple(scenes.thing(random, name) for _ in range(times) for name in names)
    content = sha256(b"".join(image.pixels.tobytes() for image in images)).hexdigest()
    labels = np.tile(np.arange(len(names)), times)
    return LabelledImages(images, names, labels, "drawn", _TEMPLATES, "scenes drawn by Tandem", content)


def open_images(
    source: str | Path, *, labels: bool = True, limit: int = LIMIT, seed: int = 0, **options: Any
) -> Dataset:
    """A user's images: any layout of data sets, or a folder of images that has no folders of classes.

    `labels=False` takes a folder as images without labels, whatever folders they are in; `options` are those of
    `open_dataset`. Raises `DataError`.
    """
    folder = user_path(source, strict=False)
    if not folder.is_dir() or any(options.values()) or (labels and not _is_plain(folder)):
        return open_dataset(source, limit=limit, seed=seed, **options)
    paths = sorted(
        os.path.join(place, name)
        for place, folders, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
    )
    if not paths:
        raise DataError(f"{source}: no images in this folder")
    drawn = np.sort(np.random.default_rng([seed, 3]).permutation(len(paths))[:limit])
    kept = [paths[i] for i in drawn]
    notes = () if len(kept) == len(paths) else (f"{len(kept):,} of {len(paths):,} images were drawn (seed {seed}).",)
    return Dataset(
        name=display_name(folder.resolve().name),
        source=str(source),
        layout="folder",
        split=None,
        keys=tuple(display_name(os.path.relpath(path, folder)) for path in kept),
        digests=tuple(file_digests(kept)),
        open_images=ImageFiles(kept).open,
        notes=notes,
    )


def _is_plain(folder: Path) -> bool:
    """Whether images lie in the folder itself, and none in the folders directly below it."""

    def has_images(path: str | Path) -> bool:
        with os.scandir(path) as entries:
            return any(os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES for entry in entries)

    try:
        with os.scandir(folder) as entries:
            below = [entry.path for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        return has_images(folder) and not any(map(has_images, below))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from None


def sample(dataset: Dataset, encoder: Encoder, *, labels: bool = True, limit: int = LIMIT, seed: int = 0) -> Gathered:
    """At most `limit` images of a data set, drawn by `seed`; without one label each, with the model's own answers.

    Raises `DataError` where fewer than four can be read.
    """
    drawn = [int(i) for i in np.random.default_rng([seed, 2]).permutation(len(dataset))[:limit]]
    places = sorted(drawn)  # shards are read from front to back
    loaded: dict[int, Image.Image] = {}
    skipped = []
    for place, source in zip(places, dataset.images(places), strict=True):
        try:
            loaded[place] = _small(load_image(source, limits=Limits(), at_least=_SHORTER))
        except ImageError as error:
            skipped.append(ImageError(dataset.keys[place], error.reason, error.kind))
    if len(loaded) < 4:
        raise DataError(f"{dataset.name}: an audit needs at least 4 images that can be read, found {len(loaded)}")
    kept = [place for place in drawn if place in loaded]
    captions = tuple(dataset.captions[i] for i in kept) if dataset.captions else ()
    notes = [*dataset.notes]
    if len(drawn) < len(dataset):
        notes.append(f"{len(drawn):,} of {len(dataset):,} images were drawn (seed {seed}).")

    def gathered(
        names: tuple[str, ...], of: Callable[[int], int], reference: Reference, templates: tuple[str, ...]
    ) -> Gathered:
        labels = np.array([of(place) for place in kept], dtype=np.int64)
        images = tuple(CaptionedImage(loaded[place], names[label]) for place, label in zip(kept, labels, strict=True))
        own = LabelledImages(images, names, labels, reference, templates, dataset.name, dataset.hash, captions)
        return Gathered(own, tuple(skipped), tuple(notes))

    if labels and len(dataset.classes) > 1 and not dataset.multi_label:
        everyone = dataset.labels
        templates = dataset.templates or (DEFAULT_TEMPLATE,)
        return gathered(dataset.classes, lambda place: int(everyone[place]), "label", templates)
    notes.append(
        "The images have no single label each: the model's own answer to the unchanged image, among everyday "
        "words, is the reference. Figures then measure consistency, not whether answers are true."
    )
    words = np.array(read_vocabulary())
    vectors = name_vectors(encoder, words.tolist(), (DEFAULT_TEMPLATE,))
    cosines = encoder.images([CaptionedImage(loaded[place], "") for place in kept]) @ vectors.T
    answers = cosines.argmax(1)
    # The words that were answered, and the nearest others where these are few: prompts are read for each of them.
    nearest = np.argsort(-cosines.max(0), kind="stable")
    names = np.unique(np.concatenate([answers, nearest[:_NAMES]]))
    by_place = dict(zip(kept, np.searchsorted(names, answers), strict=True))
    return gathered(tuple(words[names].tolist()), lambda place: int(by_place[place]), "own answer", (DEFAULT_TEMPLATE,))


def _small(image: Image.Image) -> Image.Image:
    """RGB, its shorter side at most as long as models read."""
    image = as_rgb(image)
    shrink = _SHORTER / min(image.size)
    if shrink >= 1:
        return image.copy()
    width, height = (max(1, round(side * shrink)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3)
