"""What a run measures of itself on the way: seen-class accuracy and retrieval, on pictures it does not train on."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tandem.config import Preprocessing
from tandem.evaluate.metrics import recall_at_k, top_k_accuracy
from tandem.pixels import to_pixels
from tandem.prompts import DEFAULT_TEMPLATE
from tandem.samples import Sample, read_parquet, read_webdataset
from tandem.train.recipe import Recipe

EncodeImages = Callable[[np.ndarray], np.ndarray]  # uint8 [n s s 3] -> unit vectors [n d]
EncodeTexts = Callable[[list[str]], np.ndarray]  # sentences -> unit vectors [m d]


@dataclass(frozen=True)
class ValidationSets:
    """Pixels and words, ready to be encoded."""

    classes: tuple[np.ndarray, np.ndarray, list[str]] | None  # pixels, labels, names
    captions: tuple[np.ndarray, np.ndarray, list[str]] | None  # pixels, picture of each sentence, sentences


def read_validation(recipe: Recipe) -> ValidationSets:
    """Decode the recipe's validation sets once. Raises `DataError` when one cannot be read."""
    chosen, root = recipe.validation, Path(recipe.data_root).expanduser()
    preprocessing = recipe.model.preprocessing
    classes = captions = None
    if chosen.zero_shot:
        samples = read_parquet(root / chosen.zero_shot, chosen.names)
        names = sorted({sample.texts[0] for sample in samples})
        labels = np.array([names.index(sample.texts[0]) for sample in samples[: chosen.limit]])
        first_names = [name.split(",")[0].strip() for name in names]
        classes = (_pixels(samples[: chosen.limit], preprocessing), labels, first_names)
    if chosen.retrieval:
        samples = read_webdataset(root / chosen.retrieval, "captions")
        owner = np.array([i for i, sample in enumerate(samples) for _ in sample.texts])
        captions = (_pixels(samples, preprocessing), owner, [text for sample in samples for text in sample.texts])
    return ValidationSets(classes, captions)


def measure(sets: ValidationSets, encode_images: EncodeImages, encode_texts: EncodeTexts) -> dict[str, float]:
    """Measures by name: `zero_shot_top1` (seen classes), `text_to_image_r10`, `image_to_text_r10`."""
    out: dict[str, float] = {}
    if sets.classes is not None:
        pixels, labels, names = sets.classes
        classes = encode_texts([DEFAULT_TEMPLATE.format(name) for name in names])
        out["zero_shot_top1"] = top_k_accuracy(encode_images(pixels) @ classes.T, labels)
    if sets.captions is not None:
        pixels, owner, sentences = sets.captions
        scores = encode_texts(sentences) @ encode_images(pixels).T  # [m n]
        matches = owner[:, None] == np.arange(len(pixels))[None]
        out["text_to_image_r10"] = recall_at_k(scores, matches, 10)
        out["image_to_text_r10"] = recall_at_k(scores.T, matches.T, 10)
    return out


def _pixels(samples: list[Sample], preprocessing: Preprocessing) -> np.ndarray:
    return np.stack([to_pixels(Image.open(io.BytesIO(sample.image)), preprocessing) for sample in samples])
