"""Ten everyday words, as many pictures of each: how often the word that is answered most is answered.

Real small pictures are blurred, so these are cut to a square and shrunk to 32 x 32. The words are CIFAR-10's, a data
set that is left for measuring transfer; the pictures are web photos of `broad` and, for the frog, of Tiny-ImageNet val.
A model that was trained on `broad` has seen most of them at their full size: ten words of Tiny-ImageNet val, which is
never trained on, stand beside.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.datasets import Dataset, open_dataset
from tandem.evaluate import embed_dataset
from tandem.evaluate.zero_shot import zero_shot
from tandem.model import Model
from tandem.prompts import DEFAULT_TEMPLATE, ENSEMBLE

SIDE = 32  # pixels
VAL = "tiny-imagenet/val.parquet"


@dataclass(frozen=True)
class Place:
    """Where pictures of a word are: a file, a text in its column `source`, and labels among those rows (none: all)."""

    file: str
    source: str = ""
    labels: tuple[str, ...] = ()


def _val(*labels: str) -> Place:
    return Place(VAL, labels=labels)


def _web(file: str, source: str, *labels: str) -> Place:
    return Place(f"broad/{file}.parquet", source, labels)


EVERYDAY = {
    "airplane": _web("things", "Image-Classification-Project", "airplane"),
    "car": _web("things", "vehicle-cnn", "car"),
    "bird": _web("nature", "Game-of-Bird"),
    "cat": _web("nature", "popular-animals", "cat"),
    "deer": _web("nature", "popular-animals", "deer"),
    "dog": _web("nature", "popular-animals", "dog"),
    "frog": _val("bullfrog", "tailed frog"),
    "horse": _web("nature", "popular-animals", "horse"),
    "ship": _web("things", "Image-Classification-Project", "ship"),
    "truck": _web("things", "Image-Classification-Project", "truck"),
}
UNSEEN = {
    "cat": _val("tabby", "Persian cat", "Egyptian cat"),
    "dog": _val("Chihuahua", "German shepherd", "Labrador retriever", "Yorkshire terrier", "golden retriever"),
    "bird": _val("albatross", "black stork", "goose", "king penguin"),
    "fish": _val("goldfish"),
    "frog": _val("bullfrog", "tailed frog"),
    "car": _val("convertible", "sports car", "limousine", "beach wagon"),
    "bus": _val("school bus", "trolleybus"),
    "train": _val("bullet train", "freight car"),
    "bridge": _val("suspension bridge", "steel arch bridge", "viaduct"),
    "bottle": _val("beer bottle", "pop bottle", "pill bottle", "water jug"),
}


@dataclass(frozen=True)
class Answers:
    """How a model answers ten words; shares from 0 to 1."""

    share: float  # of the word that is answered most
    fair: float  # the share that each word has of the pictures
    word: str  # the one that is answered most
    top1: float


def draw_balanced(rows: Sequence[NDArray[np.intp]], seed: int = 0) -> list[NDArray[np.intp]]:
    """As many rows of each as the rarest has, drawn without repeats, in order."""
    least, random = min(map(len, rows)), np.random.default_rng(seed)
    return [np.sort(random.permutation(each)[:least]) for each in rows]


def pictures(data: Path, words: Mapping[str, Place], *, small: bool) -> Dataset:
    """As many pictures of each word, shrunk or as they are."""
    opened = [_opened(data, place.file, place.source) for place in words.values()]
    rows = []
    for word, place, dataset in zip(words, words.values(), opened, strict=True):
        wanted = [dataset.classes.index(label) for label in place.labels] or range(len(dataset.classes))
        found = np.flatnonzero(np.isin(dataset.labels, wanted))
        if not len(found):
            raise SystemExit(f"{place.file}: expected pictures of {word}, found none")
        rows.append(found)
    images: list[bytes] = []
    labels: list[tuple[int]] = []
    for label, (dataset, chosen) in enumerate(zip(opened, draw_balanced(rows), strict=True)):
        content = dataset.images(chosen.tolist())
        images += [_small(each) if small else each for each in content]  # type: ignore[misc,arg-type]
        labels += [(label,)] * len(chosen)
    return Dataset(
        name=f"{len(words)} everyday words",
        source=str(data),
        layout="parquet",
        split=None,
        keys=tuple(map(str, range(len(images)))),
        digests=tuple(sha256(image).digest() for image in images),
        open_images=lambda places: (images[place] for place in places),
        classes=tuple(words),
        label_sets=tuple(labels),
    )


@cache
def _opened(data: Path, file: str, source: str) -> Dataset:
    if not source:
        return open_dataset(data / file)
    return open_dataset(data / file, label="label", where=f"source like '%{source}%'")


def _small(content: bytes) -> bytes:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    square.save(out, "PNG")
    return out.getvalue()


def measure(model: Model, dataset: Dataset, templates: Iterable[Sequence[str]]) -> list[Answers]:
    """The answers by each list of templates. The most answered word is chosen on one half and counted on the other."""
    features = embed_dataset(model, dataset, cache=False, progress=False)
    found = []
    for each in templates:
        result = zero_shot(model, features, templates=each)
        share = result.figures["most_answered_share"]
        hub = max(result.tables["class_prior"], key=lambda row: row["share"])["class"]
        found.append(Answers(share.value, 1 / len(dataset.classes), hub, result.figures["top1"].value))
    return found


def measure_all(model: Model, data: Path) -> dict[str, Answers]:
    """Answers by pictures and prompts, in words; the first are those of the main table."""
    found = {}
    prompts = {"the ensemble": ENSEMBLE, "one template": (DEFAULT_TEMPLATE,)}
    for where, words, small in (
        (f"at {SIDE} pixels", EVERYDAY, True),
        ("as they are", EVERYDAY, False),
        (f"Tiny-ImageNet val at {SIDE} pixels", UNSEEN, True),
    ):
        answers = measure(model, pictures(data, words, small=small), prompts.values())
        found |= {f"{where}, {name}": each for name, each in zip(prompts, answers, strict=True)}
    return found
