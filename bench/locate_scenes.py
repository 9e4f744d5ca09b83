"""Scenes with known places for `locate.py`: what a model answers about them, and the figures of its answers."""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import tandem
from tandem.audit import drawing, scenes
from tandem.audit.placed_scenes import PlacedScene, PlacedThing, shapes_scene, things_scene
from tandem.audit.things import THINGS
from tandem.localization.contrast import BACKGROUND, Contrast
from tandem.localization.locating import TEMPLATES, ImageFeatures, Locator
from tandem.localization.location import Location
from tandem.localization.settings import LocateSettings

CROPS = 11  # the seed of the crops by which kinds are known
KNOWN = 0.9  # the area from which on a kind is
HEAT = 64  # of maps, on the longer side: half of the default, for speed


@dataclass(frozen=True, eq=False)
class Asked:
    """One text of one scene: what came out, and where the thing is; None where it is absent."""

    scene: int
    family: str
    text: str
    location: Location
    box: tuple[int, int, int, int] | None
    size: tuple[int, int]  # of the image

    @property
    def pointed(self) -> bool:
        x, y = self.location.point
        return self.box is not None and self.box[0] <= x < self.box[2] and self.box[1] <= y < self.box[3]

    @property
    def overlap(self) -> float:
        return self.location.boxes[0].overlap(self.box) if self.box and self.location.boxes else 0.0


# --- what the model knows --------------------------------------------------------------------------------------------


def crops(seed: int, each: int = 20) -> tuple[list[Image.Image], NDArray[np.int64], list[str]]:
    """Drawn things and shapes, one an image, and which kind each is."""
    random, kinds = np.random.default_rng(seed), [*THINGS, *drawing.SHAPES]
    images, labels = [], []
    for i, kind in enumerate(kinds):
        for _ in range(each):
            if kind in THINGS:
                images.append(scenes.thing(random, kind).pixels)
            else:
                size, canvas = random.uniform(0.55, 0.85), drawing.canvas(scenes._ground(random))
                drawing.draw_shape(canvas, kind, scenes._square(0.5, 0.5, size), scenes._colour(random))
                images.append(drawing.finished(canvas))
            labels.append(i)
    return images, np.array(labels), kinds


def known_kinds(model: tandem.Model) -> dict[str, float]:
    """The area under the ROC curve of each kind's crops against all others."""
    images, labels, kinds = crops(CROPS)
    contrast = Contrast.of(kinds, BACKGROUND, lambda texts: model.class_vectors(texts, TEMPLATES), model.logit_scale)
    logits = contrast.logits(model.embed_images(images))
    return {kind: area(logits[:, i], labels == i) for i, kind in enumerate(kinds)}


# --- images --------------------------------------------------------------------------------------------------------


def drawn(seed: int, count: int) -> Iterator[tuple[str, PlacedScene]]:
    """Things, and every third time coloured shapes."""
    random = np.random.default_rng(seed)
    for i in range(count):
        yield ("shapes", shapes_scene(random)) if i % 3 == 2 else ("things", things_scene(random))


def mosaics(path: Path, seed: int, count: int) -> Iterator[tuple[str, PlacedScene]]:
    """Two rows of three labelled photos of different classes, and a class that is not among them."""
    from pyarrow import parquet

    table = parquet.read_table(path)
    names = [each.split(",")[0].strip() for each in table["names"].to_pylist()]
    random = np.random.default_rng(seed)
    for _ in range(count):
        order = random.permutation(len(names))
        rows: list[int] = []
        for i in order:
            if names[i] not in {names[row] for row in rows}:
                rows.append(int(i))
            if len(rows) == 7:
                break
        canvas, things = Image.new("RGB", (384, 256)), []
        for place, row in enumerate(rows[:6]):
            left, top = place % 3 * 128, place // 3 * 128
            photo = Image.open(io.BytesIO(table["image"][row].as_py())).convert("RGB")
            canvas.paste(photo.resize((128, 128), Image.Resampling.BICUBIC), (left, top))
            things.append(PlacedThing(names[row], names[row], "", (left, top, left + 128, top + 128)))
        yield "mosaics", PlacedScene(canvas, tuple(things), names[rows[6]])


def asked_of(
    locator: Locator, images: Iterator[tuple[str, PlacedScene]], settings: LocateSettings, known: set[str]
) -> list[Asked]:
    """Every thing of every scene, each asked for alone, and what is absent: of known kinds all that are."""
    found = []
    for i, (family, scene) in enumerate(images):
        features = locator.encode(scene.pixels, settings)
        found += asked_in(locator, i, family, scene, features, settings, known)
    return found


def asked_in(
    locator: Locator,
    i: int,
    family: str,
    scene: PlacedScene,
    features: ImageFeatures,
    settings: LocateSettings,
    known: set[str],
) -> list[Asked]:
    """What is there and, of a scene of things, all known kinds that are not; each text is asked for alone."""
    boxes = {thing.words: thing.box for thing in scene.things}
    absent = sorted(known - set(boxes)) if family == "things" else [scene.absent]
    found = []
    for text in [*boxes, *absent]:
        contrast = contrast_of(locator, text, settings)
        location = locator.find(features, [text], contrast, settings, HEAT)[0]
        found.append(Asked(i, family, text, location, boxes.get(text), scene.pixels.size))
    return found


_CONTRASTS: dict[tuple[str, int], Contrast] = {}
_KEPT: list[Any] = []  # whose ids are keys


def contrast_of(locator: Locator, text: str, settings: LocateSettings) -> Contrast:
    """The same texts recur in all scenes."""
    key = (text, id(settings.baseline))
    if key not in _CONTRASTS:
        _KEPT.append(settings.baseline)
        _CONTRASTS[key] = locator.contrast([text], settings)
    return _CONTRASTS[key]


# --- figures -------------------------------------------------------------------------------------------------------


def area(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Under the ROC curve: how often what is there scores above what is not, ties by half."""
    if positive.all() or not positive.any():
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # ties share the mean of their ranks
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def interval(asked: Sequence[Asked], figure: Callable[[Sequence[Asked]], float], draws: int = 500) -> str:
    """A figure and its 95% interval over resampled scenes."""
    by_scene = [list(group) for _, group in itertools.groupby(asked, key=lambda each: (each.family, each.scene))]
    random = np.random.default_rng(0)
    values = [
        figure([each for i in random.integers(len(by_scene), size=len(by_scene)) for each in by_scene[i]])
        for _ in range(draws)
    ]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return f"{figure(asked):.3f} ({low:.3f} to {high:.3f})"


def pointing(asked: Sequence[Asked]) -> float:
    return float(np.mean([each.pointed for each in asked if each.box]))


def present_area(asked: Sequence[Asked]) -> float:
    scores = [each.location.score if each.location.probability is None else each.location.probability for each in asked]
    return area(np.array(scores), np.array([each.box is not None for each in asked]))


def covered(asked: Sequence[Asked]) -> float:
    """The mean share of an image that a thing covers: how often a random point is inside."""
    return float(np.mean([box_area(each.box) / (each.size[0] * each.size[1]) for each in asked if each.box]))


def at_middle(asked: Sequence[Asked]) -> float:
    """How often the middle of the image is inside."""
    inside = [
        each.box[0] <= each.size[0] / 2 < each.box[2] and each.box[1] <= each.size[1] / 2 < each.box[3]
        for each in asked
        if each.box
    ]
    return float(np.mean(inside))


def box_area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def overlaps(asked: Sequence[Asked]) -> float:
    """The mean intersection over union, where the thing is there; 0 where it was said not to be."""
    return float(np.mean([each.overlap for each in asked if each.box]))


def right_verdicts(asked: Sequence[Asked]) -> float:
    """The mean of both shares: of what is there said to be there, and of what is not said not to be."""
    said = [[each.location.present for each in asked if (each.box is not None) == there] for there in (True, False)]
    return float((np.mean(said[0]) + 1 - np.mean(said[1])) / 2)


def report(asked: Sequence[Asked], title: str) -> None:
    there = sum(each.box is not None for each in asked)
    chance, middle = covered(asked), at_middle(asked)
    print(f"\n{title}: {there} texts that are there, {len(asked) - there} that are not")
    print(f"  pointing            {interval(asked, pointing)}   chance {chance:.3f}, middle {middle:.3f}")
    print(f"  box overlap (IoU)   {interval(asked, overlaps)}")
    print(f"  there / not there   {interval(asked, present_area)}   chance 0.500 (area under the ROC curve)")
    print(f"  balanced accuracy   {interval(asked, right_verdicts)}   chance 0.500 (of the verdicts)")
