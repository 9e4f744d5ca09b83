"""Images and texts that models encode in a second, side by side."""

import statistics
import time
from collections.abc import Hashable, Mapping
from typing import TypeVar

from tandem.model import Model
from tandem.quantize.samples import Part
from tandem.quantize.searching import encoded

_Key = TypeVar("_Key", bound=Hashable)
_ROUNDS, _IMAGES, _TEXTS = 3, 8, 64


def speeds(models: Mapping[_Key, Model], part: Part) -> dict[_Key, tuple[float, float]]:
    """Images/s and texts/s of each. Medians of alternating rounds: whatever else the machine does hits all of them."""
    pixels, texts = part.pixels[:_IMAGES], part.texts[:_TEXTS]
    rounds: dict[_Key, list[tuple[float, float]]] = {key: [] for key in models}
    for _ in range(_ROUNDS):
        for key, model in models.items():
            start = time.perf_counter()
            model.engine.encode_images(pixels)
            middle = time.perf_counter()
            encoded(model, model.engine, texts)
            end = time.perf_counter()
            rounds[key].append((len(pixels) / (middle - start), len(texts) / (end - middle)))
    return {
        key: (statistics.median(a for a, _ in found), statistics.median(b for _, b in found))
        for key, found in rounds.items()
    }
