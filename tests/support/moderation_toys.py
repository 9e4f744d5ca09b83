"""A policy for red things, and labelled images of two colours, which even a random tower tells apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tandem.datasets.dataset import Dataset

POLICY = """
name = "red things"
description = "Pictures of something red."
templates = ["a photo of {}.", "{}"]

[categories.red]
description = "Mostly red."
texts_for = ["a red thing", "red"]
texts_against = ["a blue thing"]
base_rate = 0.25

[categories.red.bands]
review = 0.3
block = 0.8
"""


def draw(path: Path, *, red: bool, seed: int) -> Path:
    """Noise of one colour."""
    pixels = np.random.default_rng(seed).integers(0, 60, (40, 40, 3))
    pixels[:, :, 0 if red else 2] += 190
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def draw_labelled(folder: Path, each: int, seed: int = 0) -> Path:
    for name in ("red", "blue"):
        for number in range(each):
            draw(folder / name / f"{number}.png", red=name == "red", seed=1000 * seed + 2 * number + (name == "red"))
    return folder


def labelled_set(
    digests: Sequence[bytes],
    classes: tuple[str, ...],
    shown: Sequence[tuple[int, ...]],
    *,
    multi_label: bool = False,
) -> Dataset:
    """A labelled data set of which only the digests and the labels are looked at."""
    return Dataset(
        name="labelled",
        source="labelled",
        layout="folder",
        split=None,
        keys=tuple(map(str, range(len(digests)))),
        digests=tuple(digests),
        open_images=lambda places: [],
        classes=classes,
        label_sets=tuple(shown),
        multi_label=multi_label,
    )
