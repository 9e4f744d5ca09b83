"""How well a model locates: pointing, boxes, and "there / not there", on drawn scenes and on mosaics of real photos.

    python bench/locate.py [--model M] [--scenes 200] [--seed 7] [--mosaics val.parquet]
    python bench/locate.py --choose [--photos photos.tar] [--mosaics val.parquet] [--write]     measures, keeps the best
    python bench/locate.py --time                                       a window against an embedding, ViT-B/32 and B/16

Kinds that the model knows are those whose drawn crops its score tells from crops of all other kinds with an area under
the ROC curve of at least 0.9, on seeds of their own. Beside each figure stands what chance gives: for a point, the
mean share of the image that the thing covers; and what always pointing at the middle gives. Intervals are 95%, over
scenes. --choose compares methods, windows and spreads on other seeds than those that are reported.
"""

import argparse
import dataclasses
import io
import itertools
import time
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
from tandem.localization.baseline import Baseline
from tandem.localization.contrast import BACKGROUND, Contrast
from tandem.localization.locating import TEMPLATES, ImageFeatures, Locator
from tandem.localization.location import Location
from tandem.localization.settings import LocateSettings, Presence, by_architecture, save_settings, shipped_path

CROPS, DEV, BASELINE, TEST = 11, 21, 31, 7  # seeds: kinds that are known, choosing, baseline windows, reporting
KNOWN = 0.9
KEPT = 640  # baseline windows
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


# --- choosing ------------------------------------------------------------------------------------------------------


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


# --- time ----------------------------------------------------------------------------------------------------------


def time_engines() -> None:
    """A window's dense vectors against its embedding, at the native size, random weights."""
    from tandem import engine as engines
    from tandem import nn
    from tandem.config import ModelConfig, Preprocessing, TextTransformer, VisionTransformer

    text = TextTransformer(77, 1000, 64, 1, 1, 256, "quick_gelu", 998, 999)  # it is not timed
    for name in ("ViT-B-32", "ViT-B-16"):
        vision = VisionTransformer(224, int(name[-2:]), 768, 12, 12, 3072, "quick_gelu")
        config = ModelConfig(512, vision, text, Preprocessing(224))
        tensors = nn.to_arrays(nn.initialise(nn.CLIP(config)))
        pixels = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), np.uint8)
        built = engines.build(config, tensors)
        seconds = {}
        for verb in (built.encode_images, built.encode_dense):
            verb(pixels)
            verb(pixels)
        for _ in range(7):
            for verb in (built.encode_images, built.encode_dense):
                began = time.perf_counter()
                verb(pixels)
                seconds.setdefault(verb.__name__, []).append(time.perf_counter() - began)
        plain, dense = (min(each) / len(pixels) * 1000 for each in seconds.values())
        print(f"{name}: embedding {plain:.1f} ms, dense {dense:.1f} ms, ratio {dense / plain:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=TEST)
    parser.add_argument("--mosaics", type=Path, help="a Parquet file of labelled photos: columns image, names")
    parser.add_argument("--photos", type=Path, help="a tar of photos, for baseline windows")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--methods", nargs="+", default=(), help="with --choose: only these")
    parser.add_argument("--write", action="store_true", help="into the model's folder")
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    if arguments.time:
        time_engines()
        return
    model = tandem.load(arguments.model)
    locator = Locator(model)
    if arguments.choose:
        settings = choose(model, arguments.scenes, arguments.photos, arguments.methods, arguments.mosaics)
        print(settings.method, settings.scales, settings.bandwidth, settings.level, settings.presence, settings.figures)
        path = save_settings(settings, model.fingerprint, shipped_path(model) if arguments.write else None)
        print(f"wrote {path}")
        return
    settings, areas = locator.settings, known_kinds(model)
    known = {kind for kind, value in areas.items() if value >= KNOWN and kind in THINGS}
    print(f"{model.name}: {settings.method}, windows of {settings.scales} of the shorter side")
    print("areas of crops:", ", ".join(f"{kind} {value:.2f}" for kind, value in areas.items()))
    began = time.perf_counter()
    asked = asked_of(locator, drawn(arguments.seed, arguments.scenes), settings, known)
    print(f"{(time.perf_counter() - began) / arguments.scenes:.2f} s a scene, its texts included")
    things = [each for each in asked if each.family == "things"]
    report([each for each in things if each.text in known], f"drawn things that it knows ({', '.join(sorted(known))})")
    report(
        [each for each in things if each.text not in known or each.box is None], "other drawn things, known ones absent"
    )
    report([each for each in asked if each.family == "shapes"], "coloured shapes; absent ones fit in half")
    if arguments.mosaics:
        asked = asked_of(locator, mosaics(arguments.mosaics, arguments.seed, arguments.scenes // 2), settings, known)
        report(asked, "mosaics of six labelled photos")


if __name__ == "__main__":
    main()
