"""The settings with which a model locates best on drawn scenes, for `locate.py --choose`: method, windows, verdicts."""

import dataclasses
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from locate_scenes import (
    KNOWN,
    Asked,
    asked_in,
    asked_of,
    drawn,
    known_kinds,
    mosaics,
    overlaps,
    pointing,
    present_area,
)
from numpy.typing import NDArray
from PIL import Image

import tandem
from tandem.audit.placed_scenes import PlacedScene
from tandem.audit.things import THINGS
from tandem.localization.baseline import Baseline
from tandem.localization.locating import ImageFeatures, Locator
from tandem.localization.settings import LocateSettings, Presence, by_architecture

DEV, BASELINE = 21, 31  # seeds: choosing, baseline windows
KEPT = 640  # baseline windows


def groups(model: tandem.Model) -> list[tuple[LocateSettings, list[tuple[float, ...]]]]:
    """What is tried: each method that the tower has, looked at once, and the scales of it that are used together."""
    vision = model.config.vision
    windows = dataclasses.replace(by_architecture(vision, "windows"), scales=(0.5, 0.35, 0.25))
    found = [(windows, [(0.25,), (0.35, 0.25), (0.5, 0.35, 0.25)])]
    if vision.dense_method is not None:
        dense = dataclasses.replace(by_architecture(vision, vision.dense_method), scales=(1.0, 2 / 3, 0.5, 0.35))
        found.append((dense, [(1.0,), (2 / 3,), (0.5,), (0.35,), (2 / 3, 0.35)]))
    return found


def choose(
    model: tandem.Model, count: int, photos: Path | None, methods: Sequence[str], labelled: Path | None
) -> LocateSettings:
    """The best by the mean of pointing and of there / not there on known things of the dev seed."""
    locator = Locator(model)
    known = {kind for kind, value in known_kinds(model).items() if value >= KNOWN and kind in THINGS}
    print("known kinds:", ", ".join(sorted(known)) or "none", flush=True)
    best: tuple[float, LocateSettings, Seen] | None = None
    for looked, together in (each for each in groups(model) if not methods or each[0].method in methods):
        images = list(drawn(DEV, count))
        looked_at = [locator.encode(scene.pixels, looked) for _, scene in images]
        anywhere = baseline_features(locator, looked, photos)
        for scales in together:
            pairs = zip(images, looked_at, strict=True)
            seen = [(family, scene, only(features, looked, scales)) for (family, scene), features in pairs]
            vectors = baseline_vectors([[only(features, looked, scales) for features in group] for group in anywhere])
            standards = {q: None if q is None else Baseline.of(vectors, q) for q in (None, 0.97, 0.99)}
            for bandwidth, quantile in itertools.product((0.25, 0.4), standards):
                settings = dataclasses.replace(looked, scales=scales, bandwidth=bandwidth, baseline=standards[quantile])
                asked = asked_in_all(locator, seen, settings, known)
                mine = [each for each in asked if each.family == "things" and each.text in known]
                shapes = [each for each in asked if each.family == "shapes"]
                value = (pointing(mine) + present_area(mine)) / 2
                print(
                    f"{settings.method:15} {','.join(f'{scale:.2f}' for scale in scales):15} bandwidth {bandwidth:.2f} "
                    f"base {quantile or '-':<5} known: pointing {pointing(mine):.3f} area {present_area(mine):.3f}  "
                    f"shapes: pointing {pointing(shapes):.3f} area {present_area(shapes):.3f}",
                    flush=True,
                )
                if best is None or value > best[0]:
                    best = value, settings, seen
    assert best is not None
    _, settings, seen = best
    return fit_presence(locator, fit_level(locator, settings, seen, known), seen, known, labelled)


Seen = list[tuple[str, PlacedScene, ImageFeatures]]


def only(features: ImageFeatures, looked: LocateSettings, scales: tuple[float, ...]) -> ImageFeatures:
    """What was seen at some of the scales."""
    kept = tuple(places for places, scale in zip(features.dense, looked.scales, strict=True) if scale in scales)
    return dataclasses.replace(features, dense=kept)


def asked_in_all(locator: Locator, seen: Seen, settings: LocateSettings, known: set[str]) -> list[Asked]:
    return [
        each
        for i, (family, scene, features) in enumerate(seen)
        for each in asked_in(locator, i, family, scene, features, settings, known)
    ]


def baseline_features(locator: Locator, settings: LocateSettings, photos: Path | None) -> list[list[ImageFeatures]]:
    """Drawn scenes, and photos where there are some."""
    images = [[scene.pixels for _, scene in drawn(BASELINE, 24)]]
    if photos is not None:
        images.append(list(itertools.islice(photos_in(photos), 40)))
    return [[locator.encode(image, settings) for image in group] for group in images]


def baseline_vectors(looked_at: list[list[ImageFeatures]]) -> NDArray[np.float32]:
    """As many places of one group as of the other, [n d]."""
    random, kept = np.random.default_rng(0), []
    for group in looked_at:
        each = [places.vectors.reshape(-1, places.vectors.shape[-1]) for features in group for places in features.dense]
        vectors = np.concatenate(each)
        count = min(len(vectors), KEPT // len(looked_at))
        kept.append(vectors[random.choice(len(vectors), count, replace=False)])
    return np.concatenate(kept)


def photos_in(path: Path) -> Iterator[Image.Image]:
    import tarfile

    with tarfile.open(path) as file:
        for member in file:
            if member.name.endswith((".webp", ".jpg", ".png")):
                data = file.extractfile(member)
                assert data is not None
                yield Image.open(io.BytesIO(data.read())).convert("RGB")


def fit_level(locator: Locator, settings: LocateSettings, seen: Seen, known: set[str]) -> LocateSettings:
    """Where a box ends: by overlap, with every thing said to be there."""
    values = {}
    for level in (0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9):
        sure = dataclasses.replace(settings, presence=Presence(50.0, 1.0, 0.0), level=level)
        asked = asked_in_all(locator, seen, sure, set())
        values[level] = overlaps([each for each in asked if each.box and each.text in known])
    print("box overlap by level:", ", ".join(f"{level}: {value:.3f}" for level, value in values.items()))
    return dataclasses.replace(settings, level=max(values, key=lambda level: values[level]))


def fit_presence(
    locator: Locator, settings: LocateSettings, seen: Seen, known: set[str], photos: Path | None
) -> LocateSettings:
    """Logistic regression on what was asked for of the dev seed: both verdicts weigh the same, and so do drawn scenes
    and mosaics.
    """
    asked = [each for each in asked_in_all(locator, seen, settings, known) if each.text in known]
    groups = [asked]
    if photos is not None:
        groups.append(asked_of(locator, mosaics(photos, DEV, 24), settings, set()))
    together = [each for group in groups for each in group]
    x = np.array([[1.0, each.location.score, each.location.whole_score] for each in together])
    y = np.array([each.box is not None for each in together], float)
    balance = np.concatenate([balanced([each.box is not None for each in group]) for group in groups])
    weights = logistic(x, y, balance)
    if weights[2] < 0:  # an image as a whole never speaks against what is in it: noise
        weights = np.append(logistic(x[:, :2], y, balance), 0.0)
    presence = Presence(*(float(f"{value:.6g}") for value in weights))
    figures = {
        "known_kinds": sorted(known),
        "scenes": len(seen),
        "dev_pointing": round(pointing(asked), 4),
        "dev_area": round(present_area(asked), 4),
        "mosaics": 0 if photos is None else 24,
        "prior": 0.5,
    }
    return dataclasses.replace(settings, presence=presence, figures=figures)


def balanced(there: Sequence[bool]) -> NDArray[Any]:
    """Weights under which both verdicts weigh the same, and a group as much as any other."""
    share = np.mean(there)
    return np.where(there, 0.5 / share, 0.5 / (1 - share)) * 100 / len(there)


def logistic(x: NDArray[Any], y: NDArray[Any], balance: NDArray[Any]) -> NDArray[Any]:
    """Newton's method, with a little shrinkage."""
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (balance * (p - y)) + 1e-2 * weights
        curvature = (x * (balance * p * (1 - p))[:, None]).T @ x + 1e-2 * np.eye(x.shape[1])
        weights -= np.linalg.solve(curvature, gradient)
    return weights
