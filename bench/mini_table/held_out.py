"""The twentieth of `broad` that training leaves out: each picture among the labels of its source, by words alone.

The recipe's own sources and the trainer's own `Samples` say which pictures these are. Sources with sentences, and those
with one label alone, have nothing to choose between. Where each picture has a label of its own (emoji, flags), what is
kept are words that training never saw: these are measured, and not counted.
"""

import dataclasses
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.datasets import Dataset
from tandem.evaluate.zero_shot import judged
from tandem.model import Model
from tandem.train.data.samples import Samples
from tandem.train.recipe import Source


@dataclass(frozen=True, eq=False)
class Kept:
    """What one source leaves out: encoded images, the class of each [n], and the names of all classes.

    `counts`: whether any label has several pictures in the whole source.
    """

    name: str
    images: list[bytes]
    labels: NDArray[np.int64]
    classes: list[str]
    counts: bool


def labelled_sources(recipe: Path) -> list[Source]:
    """The sources with labels that a recipe holds samples of out."""
    with recipe.open("rb") as file:
        tables: list[dict[str, Any]] = tomllib.load(file).get("data", [])
    named = [each for each in tables if each.get("hold_out") and each.get("kind") == "names"]
    if not named:
        raise SystemExit(f"{recipe}: expected labelled sources with hold_out, found none; give another with --recipe")
    return [
        Source(each["path"], each["text"], where=each.get("where", {}), hold_out=each["hold_out"], kind="names")
        for each in named
    ]


def read_kept(sources: Sequence[Source], data: Path) -> list[Kept]:
    """What sources with at least two labels leave out. Raises `DataError` for one that leaves none out."""
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for source in sources:
            whole = Samples(dataclasses.replace(source, hold_out=0.0), data, Path(cache))
            if len(whole.names) < 2:
                continue
            samples = Samples(source, data, Path(cache), held_out=True)
            numbers = range(len(samples))
            found.append(
                Kept(
                    _named(source),
                    [samples.image(number) for number in numbers],
                    np.array([samples.label(number) for number in numbers], np.int64),
                    [", ".join(names) for names in samples.names],
                    len(whole) > len(whole.names),
                )
            )
    return found


def kept_part(dataset: Dataset, source: Source, data: Path) -> Dataset:
    """The pictures of a data set that the source leaves out, among all classes of the data set."""
    with tempfile.TemporaryDirectory() as cache:
        samples = Samples(source, data, Path(cache), held_out=True)
        keys = {samples.key(number) for number in range(len(samples))}
    places = [place for place, key in enumerate(dataset.keys) if key in keys]
    if len(places) != len(keys):
        raise SystemExit(f"{dataset.name}: expected the {len(keys)} pictures that are left out, found {len(places)}")
    return dataset.take(places)


def _named(source: Source) -> str:
    return ", ".join([Path(str(source.path)).stem, *source.where.values()])


def measure(model: Model, kept: Sequence[Kept]) -> list[NDArray[np.float64]]:
    """Of each source, 1 for each picture whose label comes first and 0 for the others [n]; one template."""
    return [
        judged(model.embed_images(each.images, progress=False), model.class_vectors(each.classes), each.labels).right
        for each in kept
    ]


def overall(kept: Sequence[Kept], right: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """The accuracy over the pictures of the sources that count, and what guessing gives."""
    parts = [part for each, part in zip(kept, right, strict=True) if each.counts]
    chances = [np.full(len(each.images), 1 / len(each.classes)) for each in kept if each.counts]
    return float(np.concatenate(parts).mean()), float(np.concatenate(chances).mean())
