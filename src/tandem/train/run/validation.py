"""Validation during a run: zero-shot accuracy, retrieval, a head's accuracy, on images that it does not train on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tandem.config import Preprocessing
from tandem.errors import ConfigError, DataError, ImageError
from tandem.evaluate.metrics import MEASURES, recall_at_k, top_k_accuracy
from tandem.files import user_path
from tandem.image import load_pixels
from tandem.prompts import DEFAULT_TEMPLATE
from tandem.samples import Sample, read_samples, read_webdataset
from tandem.train.data.loader import data_root, shard_reader
from tandem.train.data.paths import file_kind, located
from tandem.train.data.remote import RemoteFile
from tandem.train.data.samples import BrokenSample, Samples
from tandem.train.data.shard_reader import RemoteShard, ShardReader
from tandem.train.recipe import Recipe, Source
from tandem.train.validation_settings import ValidationSource

EncodeImages = Callable[[np.ndarray], np.ndarray]  # uint8 [n s s 3] -> unit vectors [n d]
EncodeTexts = Callable[[list[str]], np.ndarray]  # texts -> unit vectors [m d]
Logits = Callable[[np.ndarray], np.ndarray]  # unit vectors [n d] -> logits of a head [n c]


@dataclass(frozen=True)
class ValidationSet:
    """Pixels and texts, ready to be encoded."""

    prefix: str  # of the names of its measures
    pixels: np.ndarray  # uint8 [n s s 3]
    owner: np.ndarray  # retrieval: the image of each text [m]; else: the class of each image [n]
    texts: list[str]  # names of classes, or m captions; none where a head classifies
    kind: str


def read_validation(
    recipe: Recipe, classes: Sequence[tuple[str, ...]] = (), reader: ShardReader | None = None
) -> list[ValidationSet]:
    """Decode the validation sets of the recipe once. `classes`: those of its head, each as its synonyms. `reader`: that
    of the training sets, so that both share the cache.

    Raises `DataError` if a set cannot be read, `ConfigError` if `validation.best` is no measure of them.
    """
    check_measures(recipe)
    root, reader = data_root(recipe), reader or shard_reader(recipe)
    return [
        _read_part(prefix, measured, recipe, root, reader, classes)
        if measured.kind == "classification" or measured.hold_out or measured.where
        else _read(prefix, measured, root, reader, recipe.model.preprocessing)
        for prefix, measured in validation_sources(recipe)
    ]


def check_measures(recipe: Recipe) -> None:
    """Check that what is chosen by is measured. Raises `ConfigError` that names the key."""
    names = [prefix + measure for prefix, measured in validation_sources(recipe) for measure in MEASURES[measured.kind]]
    if len(set(names)) != len(names):
        raise ConfigError("validation.sets: two sets have the same name")
    if recipe.validation.best not in ("sum", *names) and names:
        raise ConfigError(f"validation.best: expected sum or one of {', '.join(names)}, got {recipe.validation.best!r}")
    if unknown := [name for name in recipe.interpolation.at_least if name not in names]:
        raise ConfigError(f"interpolation.at_least: expected some of {', '.join(names)}, got {unknown[0]!r}")


def validation_sources(recipe: Recipe) -> list[tuple[str, ValidationSource]]:
    """Each set with the prefix of the names of its measures."""
    chosen = recipe.validation
    found = []
    if chosen.zero_shot:
        found.append(("", ValidationSource("", chosen.zero_shot, "zero_shot", chosen.names, chosen.limit)))
    if chosen.retrieval:
        found.append(("", ValidationSource("", chosen.retrieval, "retrieval", "captions", 0)))
    if chosen.classification:
        found.append(("", ValidationSource("", chosen.classification, "classification", "", chosen.limit)))
    return found + [(f"{measured.name}/", measured) for measured in chosen.sets]


def validate(
    sets: Sequence[ValidationSet], encode_images: EncodeImages, encode_texts: EncodeTexts, logits: Logits | None = None
) -> dict[str, float]:
    """Measures by name, from 0 to 1: `zero_shot_top1` and `classification_top1` (top-1 accuracy, by class names and by
    the head that `logits` gives), `text_to_image_r10`, `image_to_text_r10`."""
    out: dict[str, float] = {}
    for one in sets:
        images = encode_images(one.pixels)
        if one.kind == "zero_shot":
            classes = encode_texts([DEFAULT_TEMPLATE.format(name) for name in one.texts])
            out[f"{one.prefix}zero_shot_top1"] = top_k_accuracy(images @ classes.T, one.owner)
        elif one.kind == "classification":
            assert logits is not None
            out[f"{one.prefix}classification_top1"] = top_k_accuracy(logits(images), one.owner)
        else:
            scores = encode_texts(one.texts) @ images.T  # [m n]
            matches = one.owner[:, None] == np.arange(len(one.pixels))[None]
            out[f"{one.prefix}text_to_image_r10"] = recall_at_k(scores, matches, 10)
            out[f"{one.prefix}image_to_text_r10"] = recall_at_k(scores.T, matches.T, 10)
    return out


def score(measures: Mapping[str, float], best: str) -> float | None:
    """The number by which the best weights are chosen: one measure, or the sum of all. None without measures."""
    if not measures:
        return None
    return sum(measures.values()) if best == "sum" else measures[best]


def _read(
    prefix: str, chosen: ValidationSource, root: Path | str, reader: ShardReader, preprocessing: Preprocessing
) -> ValidationSet:
    text = chosen.text or ("names" if chosen.kind == "zero_shot" else "captions")
    path: Path | RemoteFile
    if (url := located(chosen.path, root)) is not None:
        [path] = reader.find([url])
        file_kind(path)  # refuses what is no plain tar
        found = read_webdataset(RemoteShard(reader, path), text)
    else:
        path = Path(root) / user_path(chosen.path)
        found = read_samples(path, text)
    samples = [sample for sample in found if sample.texts]
    if not samples:
        raise DataError(f"{path}: expected images with {text} to validate on, found none")
    taken = samples[: chosen.limit or None]
    pixels = np.stack([_pixels(sample, preprocessing) for sample in taken])
    if chosen.kind == "zero_shot":
        names = sorted({sample.texts[0] for sample in samples})
        class_index = {name: i for i, name in enumerate(names)}
        labels = np.array([class_index[sample.texts[0]] for sample in taken])
        return ValidationSet(prefix, pixels, labels, [name.split(",")[0].strip() for name in names], chosen.kind)
    owner = np.array([i for i, sample in enumerate(taken) for _ in sample.texts])
    return ValidationSet(prefix, pixels, owner, [text for sample in taken for text in sample.texts], chosen.kind)


def _read_part(
    prefix: str,
    chosen: ValidationSource,
    recipe: Recipe,
    root: Path | str,
    reader: ShardReader,
    classes: Sequence[tuple[str, ...]],
) -> ValidationSet:
    """A source, or a part of it: some rows, or the samples that training leaves out. Classes are those of the whole;
    for a head those that it has, in images that are read as those of the first training set are.
    """
    of_head, first = chosen.kind == "classification", recipe.data[0]
    kind: Literal["names", "captions"] = "captions" if chosen.kind == "retrieval" else "names"
    source = Source(
        chosen.path,
        chosen.text or (first.text if of_head else kind),
        first.image if of_head else Source.image,
        where=chosen.where,
        hold_out=chosen.hold_out,
        weight=1,
        kind=kind,
        captions="all",
    )
    cache = user_path(recipe.cache_folder or Path(recipe.folder) / "indexes")
    samples = Samples(source, root, cache, reader, held_out=chosen.hold_out > 0)
    numbers = {names: i for i, names in enumerate(classes if of_head else samples.names)}
    if unknown := [names for names in samples.names if names not in numbers]:
        some = ", ".join(names[0] for names in list(numbers)[:5])
        raise DataError(
            f"{samples.label_of_source}: expected classes of the training set ({some}, ...), got "
            f"{', '.join(unknown[0])!r}"
        )
    taken = _spread(samples, chosen.limit)
    pixels = _pixels_of(samples, taken, recipe.model.preprocessing)
    if kind == "names":
        labels = np.array([numbers[samples.names[samples.label(number)]] for number in taken])
        texts = [] if of_head else [names[0] for names in samples.names]
        return ValidationSet(prefix, pixels, labels, texts, chosen.kind)
    captions = [samples.texts(number) for number in taken]
    owner = np.array([i for i, found in enumerate(captions) for _ in found])
    return ValidationSet(prefix, pixels, owner, [text for found in captions for text in found], chosen.kind)


def _spread(samples: Samples, limit: int) -> list[int]:
    """At most `limit` samples (0: all), spread over the files, which may be sorted by class."""
    count = len(samples)
    taken: list[int] = np.unique(np.linspace(0, count - 1, min(limit or count, count)).round().astype(int)).tolist()
    return taken


def _pixels_of(samples: Samples, numbers: Sequence[int], preprocessing: Preprocessing) -> np.ndarray:
    """uint8 [n s s 3]. Raises `DataError` for an image that cannot be read."""
    pixels = []
    for number in numbers:
        try:
            pixels.append(_pixels(Sample(samples.key(number), samples.image(number), ()), preprocessing))
        except BrokenSample as error:
            raise DataError(f"{samples.key(number)}: an image of a validation set cannot be read: {error}") from None
    return np.stack(pixels)


def _pixels(sample: Sample, preprocessing: Preprocessing) -> np.ndarray:
    try:
        return load_pixels(sample.image, preprocessing)
    except ImageError as error:
        raise DataError(f"{sample.key}: an image of a validation set cannot be read: {error}") from None
