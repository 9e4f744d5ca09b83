"""A policy for red things, and labelled images of two colours, which even a random tower tells apart."""

from pathlib import Path

import numpy as np
from PIL import Image

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
