"""Speed and size of a model: images a second in float32, a cold `tandem classify`, weights in float16.

Timing means something on an idle machine only, and the process is held to two cores before anything is imported that
counts them.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
from cold import run

import tandem
from tandem.datasets import open_dataset
from tandem.model import Model
from tandem.sample_photos import sample_photos

CORES, ROUNDS = 2, 5
LABELS = "cat,dog,person"


def images_per_second(folder: str | None, data: Path, rounds: int = ROUNDS) -> float:
    """From encoded photos of 128 x 128 pixels in memory to vectors: the median of the rounds, after one to warm up."""
    model = tandem.load(folder, precision="float32")
    images = list(open_dataset(data / "flickr8k/dev-00000.tar").images())
    rates = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        model.embed_images(images, progress=False)
        rates.append(len(images) / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def cold_seconds(folder: str | None, rounds: int = ROUNDS) -> float:
    """`tandem classify` of one photo, from starting the process to its end: the median, after one to warm up."""
    command = [sys.executable, "-m", "tandem", "classify", sample_photos("the photo")[0], "--labels", LABELS]
    command += ["--model", folder] if folder is not None else []
    return statistics.median([run(command)[0].seconds for _ in range(rounds + 1)][1:])


def megabytes(model: Model) -> float:
    """The weights as a file holds them, numbers in floating point as float16."""
    sizes = (
        array.size * (2 if np.issubdtype(array.dtype, np.floating) else array.itemsize)
        for array in model.checkpoint.stored.values()
    )
    return sum(sizes) / 1e6
