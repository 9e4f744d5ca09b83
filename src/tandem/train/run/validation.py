"""What a run measures of itself on the way: seen-class accuracy and retrieval, on pictures it does not train on."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tandem.config import Preprocessing
from tandem.errors import ConfigError, DataError
from tandem.evaluate.metrics import recall_at_k, top_k_accuracy
from tandem.pixels import preprocess
from tandem.prompts import DEFAULT_TEMPLATE
from tandem.samples import Sample, read_samples
from tandem.train.recipe import Measured, Recipe

EncodeImages = Callable[[np.ndarray], np.ndarray]  # uint8 [n s s 3] -> unit vectors [n d]
EncodeTexts = Callable[[list[str]], np.ndarray]  # sentences -> unit vectors [m d]

MEASURES = {"zero_shot": ("zero_shot_top1",), "retrieval": ("text_to_image_r10", "image_to_text_r10")}


@dataclass(frozen=True)
class ValidationSet:
    """Pixels and words, ready to be encoded."""

    prefix: str  # before the names of its measures
    pixels: np.ndarray  # uint8 [n s s 3]
    owner: np.ndarray  # zero-shot: the class of each picture [n]; retrieval: the picture of each sentence [m]
    words: list[str]  # names of classes, or m sentences
    kind: str


def read_validation(recipe: Recipe) -> list[ValidationSet]:
    """Decode the recipe's validation sets once. Raises `DataError` when one cannot be read, `ConfigError` when `best`
    names no measure of them."""
    root = Path(recipe.data_root).expanduser()
    chosen = sets(recipe)
    names = [prefix + measure for prefix, measured in chosen for measure in MEASURES[measured.kind]]
    if len(set(names)) != len(names):
        raise ConfigError("validation.sets: two sets have the same name")
    if recipe.validation.best not in ("sum", *names) and names:
        raise ConfigError(f"validation.best: expected sum or one of {', '.join(names)}, got {recipe.validation.best!r}")
    return [_read(prefix, measured, root, recipe.model.preprocessing) for prefix, measured in chosen]


def sets(recipe: Recipe) -> list[tuple[str, Measured]]:
    """Each set with what stands before the names of its measures."""
    chosen = recipe.validation
    found = []
    if chosen.zero_shot:
        found.append(("", Measured("", chosen.zero_shot, "zero_shot", chosen.names, chosen.limit)))
    if chosen.retrieval:
        found.append(("", Measured("", chosen.retrieval, "retrieval", "captions", 0)))
    return found + [(f"{measured.name}/", measured) for measured in chosen.sets]


def measure(sets: list[ValidationSet], encode_images: EncodeImages, encode_texts: EncodeTexts) -> dict[str, float]:
    """Measures by name: `zero_shot_top1` (seen classes), `text_to_image_r10`, `image_to_text_r10`; shares of 1."""
    out: dict[str, float] = {}
    for one in sets:
        images = encode_images(one.pixels)
        if one.kind == "zero_shot":
            classes = encode_texts([DEFAULT_TEMPLATE.format(name) for name in one.words])
            out[f"{one.prefix}zero_shot_top1"] = top_k_accuracy(images @ classes.T, one.owner)
        else:
            scores = encode_texts(one.words) @ images.T  # [m n]
            matches = one.owner[:, None] == np.arange(len(one.pixels))[None]
            out[f"{one.prefix}text_to_image_r10"] = recall_at_k(scores, matches, 10)
            out[f"{one.prefix}image_to_text_r10"] = recall_at_k(scores.T, matches.T, 10)
    return out


def score(measures: Mapping[str, float], best: str) -> float | None:
    """The number that chooses the weights that are kept: one measure, or the sum of all. None without measures."""
    if not measures:
        return None
    return sum(measures.values()) if best == "sum" else measures[best]


def _read(prefix: str, chosen: Measured, root: Path, preprocessing: Preprocessing) -> ValidationSet:
    path = root / chosen.path
    text = chosen.text or ("names" if chosen.kind == "zero_shot" else "captions")
    samples = [sample for sample in read_samples(path, text) if sample.texts]
    if not samples:
        raise DataError(f"{path}: expected pictures with {text} to measure on, found none")
    taken = samples[: chosen.limit or None]
    pixels = np.stack([_pixels(sample, preprocessing) for sample in taken])
    if chosen.kind == "zero_shot":
        names = sorted({sample.texts[0] for sample in samples})
        place = {name: i for i, name in enumerate(names)}
        labels = np.array([place[sample.texts[0]] for sample in taken])
        return ValidationSet(prefix, pixels, labels, [name.split(",")[0].strip() for name in names], chosen.kind)
    owner = np.array([i for i, sample in enumerate(taken) for _ in sample.texts])
    return ValidationSet(prefix, pixels, owner, [text for sample in taken for text in sample.texts], chosen.kind)


def _pixels(sample: Sample, preprocessing: Preprocessing) -> np.ndarray:
    try:
        return preprocess(Image.open(io.BytesIO(sample.image)), preprocessing)
    except Exception as error:  # Pillow's plugins raise nearly anything on hostile bytes
        raise DataError(f"{sample.key}: cannot measure on a picture that cannot be read: {error}") from None
