"""All rows of the table for one model, and what lies behind them."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tandem
from mini_table import everyday, held_out, photos, presence, speed
from mini_table.rows import Found
from tandem.datasets import open_dataset
from tandem.evaluate import evaluate


@dataclass(frozen=True)
class Measured:
    """Figures by the key of their row, and the parts that they are means of."""

    figures: dict[str, Found]
    kept: list[NDArray[np.float64]]  # of each source, 1 for each picture that was right
    everyday: dict[str, everyday.Answers]
    presence: dict[str, Any]
    photos: dict[str, tuple[str, float]]  # none where they were not looked at


def measure(folder: str | None, data: Path, split: str, kept: Sequence[held_out.Kept], *, speeds: bool) -> Measured:
    """Measure a model; `folder` None is the one that ships. What takes long says when it is done."""
    model = tandem.load(folder, precision="float32")
    began = time.perf_counter()

    def done(what: str) -> None:
        print(f"{folder or model.name}: {what}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)

    sets = [open_dataset(data / "tiny-imagenet/val.parquet"), open_dataset(data / f"flickr8k/{split}-00000.tar")]
    seen, retrieval = (result.figures for result in evaluate(model, sets, progress=False).results)
    one = seen["top1_one_prompt"]
    figures = {
        "seen": Found((one.value,), (one.chance or 0.0,)),
        "ensemble": Found((seen["ensemble_gain"].value,)),
    }
    for k in (10, 1):
        both = [retrieval[f"{direction}_recall@{k}"] for direction in ("text_to_image", "image_to_text")]
        figures[f"recall@{k}"] = Found(tuple(each.value for each in both), tuple(each.chance or 0.0 for each in both))
    done("Tiny-ImageNet val and Flickr8k")
    right = held_out.measure(model, kept)
    share, chance = held_out.overall(kept, right)
    figures["kept"] = Found((share,), (chance,))
    done("the kept twentieth")
    words = everyday.measure_all(model, data)
    hub = next(iter(words.values()))
    figures["hub"] = Found((hub.share,), (hub.fair,))
    done("everyday words")
    there = presence.measure(model, data, split)
    figures["presence"] = Found((there["captions"]["auc_present_emptied"],), (0.5,))
    done("present or absent")
    answers: dict[str, tuple[str, float]] = {}
    if split == "test":
        answers = photos.measure(model)
        count = len(photos.SHOWN)
        figures["photos"] = Found((photos.right(answers), count), (count / len(photos.LABELS), count))
    figures["size"] = Found((speed.megabytes(model),))
    if speeds:
        figures["speed"] = Found((speed.images_per_second(folder, data),))
        figures["cold"] = Found((speed.cold_seconds(folder),))
        done("speed")
    return Measured(figures, right, words, there, answers)
