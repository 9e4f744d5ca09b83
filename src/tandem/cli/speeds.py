"""Images per second of published models on this machine, measured with random weights and kept in the data folder.

Speed depends on shapes alone, so nothing is downloaded, and checkpoints of one architecture share a figure. Knows
engines and configurations; no checkpoints.
"""

import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.errors import EngineError, TandemError
from tandem.files import write_json
from tandem.home import data_folder
from tandem.processor import processor

if TYPE_CHECKING:
    from tandem.config import ModelConfig
    from tandem.weights import KnownModel

PRECISIONS = ("float32", "bfloat16")
BATCH = 8  # images
ROUNDS = 5
LEAST_SECONDS, LEAST_BATCHES = 0.8, 3  # a round
_COPIES = 2.5  # of the weights in memory, at most: as arrays, packed by the engine, and what it computes


def load(precision: str) -> dict[str, float]:
    """Images per second by architecture, as measured on this processor."""
    document = _document()
    return {name: by[precision] for name, by in document["images_per_second"].items() if precision in by}


def measure(model: "KnownModel", precision: str) -> float:
    """Images per second of a published model's image tower, batch 8; kept for `load`.

    Raises `EngineError` where the processor has no such precision, and `TandemError` where its memory is too small.
    """
    from tandem import engine as engines

    config = _config(model)
    if precision not in (available := engines.available_precisions()):
        raise EngineError(f"precision: this processor computes in {', '.join(available)}, not in {precision!r}")
    _check_memory(model)
    rate = images_per_second(config, precision)
    document = _document()
    document["images_per_second"].setdefault(_key(model), {})[precision] = round(rate, 2)
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, document)
    return rate


def images_per_second(config: "ModelConfig", precision: str, batch: int = BATCH) -> float:
    """The rate of an image tower with random weights, compiled before: the best of several rounds' medians.

    Other work on the machine makes a round slower and never faster.
    """
    import numpy as np
    from PIL import Image

    from tandem import engine as engines
    from tandem.pixels import preprocess
    from tandem.weights.architectures import random_image_weights

    engine = engines.build(config, random_image_weights(config), engine="openvino", precision=precision)  # type: ignore[arg-type]
    drawn = np.random.default_rng(0).integers(0, 256, (config.vision.image_size,) * 2 + (3,), dtype=np.uint8)
    pixels = np.stack([preprocess(Image.fromarray(drawn), config.preprocessing)] * batch)
    engine.encode_images(pixels)
    return max(_round(lambda: engine.encode_images(pixels), batch) for _ in range(ROUNDS))


def _round(encode: Callable[[], object], batch: int) -> float:
    """Images per second: the median of at least three batches."""
    rates: list[float] = []
    start = time.perf_counter()
    while len(rates) < LEAST_BATCHES or time.perf_counter() - start < LEAST_SECONDS:
        began = time.perf_counter()
        encode()
        rates.append(batch / (time.perf_counter() - began))
    return statistics.median(rates)


def _config(model: "KnownModel") -> "ModelConfig":
    from tandem.config import from_dict
    from tandem.weights.architectures import architecture
    from tandem.weights.published import shipped_folder

    if folder := shipped_folder(model.name):
        return from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    return architecture(model.architecture)


def _key(model: "KnownModel") -> str:
    return model.architecture or model.name


def speed_of(model: "KnownModel", rates: dict[str, float]) -> float | None:
    """Its figure among those that `load` gives."""
    return rates.get(_key(model))


def _check_memory(model: "KnownModel") -> None:
    needed = model.parameters * 4 * _COPIES  # an upper bound: the text tower is not built
    free = _free_bytes()
    if free is not None and needed > free:
        raise TandemError(
            f"{model.name}: measuring may take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        )


def _free_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _path() -> Path:
    return data_folder() / "speeds.json"


def _document() -> dict[str, Any]:
    """What was measured here; nothing of another processor, and nothing of a damaged file."""
    empty: dict[str, Any] = {"processor": processor(), "images_per_second": {}}
    try:
        document = json.loads(_path().read_text(encoding="utf-8"))
        same = document["processor"] == empty["processor"]
        rates = {
            name: {kind: float(rate) for kind, rate in by.items()} for name, by in document["images_per_second"].items()
        }
        same = same and all(0 < rate < math.inf for by in rates.values() for rate in by.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return empty
    return {**empty, "images_per_second": rates} if same else empty
