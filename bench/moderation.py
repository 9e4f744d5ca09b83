"""Moderation: what fits promise against what holds on other images, and the rate beside the encoder's.

    python bench/moderation.py [--data ../shared/data] [--plot docs/images/moderation.svg] [--screens FOLDER]
    python bench/moderation.py --speed [--data ../shared/data] [--images 1000] [--rounds 11]

Policies are fitted with tandem-mini on one half of the data (Flickr8k dev, or a seeded half of the other sets) and
measured on the other (Flickr8k test, the other half). Nothing is chosen by the other half; docs/log.md says how often
it was looked at, and what changed in between. What an image of Flickr8k shows is read from its five captions: it shows
people, or a dog, if any of them has a word of the lists below, which were written down before anything was measured.
People leave out what they do not care about, and "a player" may be a toy, so that some of what counts as wrong is right
and the other way round: the number of images with exactly one such caption says how many are in doubt.

`alcohol`: beer bottles among the 200 classes of Tiny-ImageNet, fitted on training images, which tandem-mini has seen,
and measured on validation images. `--screens`: the policy `screenshots` on what bench/screens.py has taken, halved by
page, among photos and drawings.

`--speed`: seconds for the same images, `embed_images` and `moderate` in turn (`alternating.py`).
"""

import argparse
import dataclasses
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from alternating import alternate, table

import tandem
from tandem.datasets.dataset import Dataset
from tandem.datasets.opening import open_dataset
from tandem.evaluate.features import Features, embed_dataset
from tandem.model import Model
from tandem.moderation import Moderator, PolicyFile, fit_policy, open_policy
from tandem.moderation.category_fitting import areas, band_figures, calibration_figure
from tandem.moderation.decisions import is_flagged
from tandem.moderation.fit_file import Fit

# Written down before anything was measured.
PEOPLE = """
person people man men woman women boy boys girl girls child children kid kids baby babies toddler toddlers guy guys lady
ladies gentleman adult adults teenager teenagers teen teens crowd family couple couples friends player players rider
riders runner runners skier skiers snowboarder snowboarders surfer surfers skateboarder skateboarders climber climbers
biker bikers cyclist cyclists swimmer swimmers hiker hikers dancer dancers worker workers team someone somebody human
humans audience spectators pedestrians male female males females
"""
DOGS = "dog dogs puppy puppies greyhound greyhounds poodle terrier collie retriever labrador dachshund hound"

PRECISION, RECALL = 0.9, 0.95
DOGS_POLICY = """
name = "dogs"
description = "A photo with a dog."
templates = ["a photo of {}."]
[categories.dogs]
texts_for = ["a dog", "a puppy", "a dog running"]
texts_against = ["a person", "people", "a horse", "a bird", "a cat", "a landscape", "a bicycle"]
base_rate = 0.2
"""
FOOD_POLICY = """
name = "food"
description = "A photo of a dish or of something to eat."
templates = ["a photo of {}."]
[categories.food]
texts_for = ["food", "a dish", "a meal on a plate", "fruit", "vegetables", "a dessert"]
texts_against = ["a person", "an animal", "a building", "a landscape", "an object", "a flower", "a car"]
base_rate = 0.2
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--model")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--screens", type=Path, help="screenshots that bench/screens.py has taken")
    parser.add_argument("--only", help="measure this category alone")
    parser.add_argument("--plot", type=Path, help="draw the probabilities and the bands of dogs on Flickr8k test")
    arguments = parser.parse_args()
    model = tandem.load(arguments.model)
    if arguments.speed:
        speed(model, arguments.data, arguments.images, arguments.rounds)
    else:
        promises(model, arguments.data, arguments.plot, arguments.screens, arguments.only)


# --- promises --------------------------------------------------------------------------------------------------------


def promises(model: Model, data: Path, plot: Path | None, screens: Path | None, only: str | None) -> None:
    print(
        f"{model.name} {model.fingerprint[:12]}; promised with 95% confidence: blocked ones right in {PRECISION:.0%},"
    )
    print(f"{RECALL:.0%} of those with the category not allowed; [] 95% interval, () chance\n")
    print("| category | fitted on | base rate there, stated | AUC | what | promised | in folds | on other images |")
    print("|---|---|---|---|---|---|---|---|")
    for name, opened, fitted_on, measured_on in tasks(data, screens):
        if only not in (None, name):
            continue
        labelled, others = embed_dataset(model, fitted_on), embed_dataset(model, measured_on)
        fit = fit_policy(model, opened, labelled, block_precision=PRECISION, review_recall=RECALL)
        _rows(name, fit, labelled, others, model, opened)
        if plot is not None and name == "dogs":
            _draw(plot, fit, others, model, opened)


def _rows(name: str, fit: Fit, labelled: Features, others: Features, model: Model, opened: PolicyFile) -> None:
    found = fit.categories[name]
    shown = others.dataset.label_matrix[:, others.dataset.classes.index(name)]
    each = [row[name] for row in Moderator(opened, model, fit=fit).decide(others.vectors)]
    blocked = np.array([row.band == "block" for row in each])
    flagged = np.array([is_flagged(row.band) for row in each])
    figures = band_figures(blocked, flagged, shown, found.base_rate)
    if all(row.probability is not None for row in each):
        stated = np.array([row.probability for row in each])
        figures["calibration_error"] = calibration_figure(stated, shown, found.base_rate)
    area = float(areas([np.array([row.score for row in each])], shown)(np.ones((1, len(shown))))[0, 0])
    counted = (
        f"{len(labelled):,}, {found.positives:,} with it",
        f"{found.fitted_base_rate:.1%}, {found.base_rate:.1%}",
    )
    wanted = {"block_precision": f"{PRECISION:.0%}", "review_recall": f"{RECALL:.0%}"}
    for row, what in enumerate(("block_precision", "block_recall", "review_recall", "calibration_error")):
        head = (name, *counted, f"{found.figures['auc'].value:.3f}, others {area:.3f}") if not row else ("",) * 4
        values = (_shown(found.figures.get(what)), _shown(figures.get(what)))
        print(f"| {' | '.join((*head, what.replace('_', ' '), wanted.get(what, ''), *values))} |")
    for note in found.notes:
        print(f"<!-- {name}: {note} -->")
    print(f"<!-- {name}: measured on {len(others):,}, {int(shown.sum()):,} with it; score of {found.score_kind} -->")


def _shown(figure: Any) -> str:
    if figure is None:
        return "none in it"
    if figure.unit == "score":
        return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
    chance = "" if figure.chance is None else f" ({figure.chance:.1%})"
    return f"{figure.value:.1%} [{figure.low:.1%}, {figure.high:.1%}]{chance}"


def tasks(data: Path, screens: Path | None = None) -> Iterator[tuple[str, PolicyFile, Dataset, Dataset]]:
    """What is looked for, by which policy, and the images to fit and to measure on."""
    for name, words, source in (("people", PEOPLE, "people"), ("dogs", DOGS, DOGS_POLICY)):
        both = [captioned(data / "flickr8k" / f"{split}-00000.tar", name, words) for split in ("dev", "test")]
        yield name, policy(source), *both
        if name == "people":  # the same policy where it is used among such photos
            text = open_policy(source).path.read_text()
            yield name, policy(text.replace("base_rate = 0.3", "base_rate = 0.78")), *both
    broad = data / "broad"
    photos = {"coco": None, "nature": None, "scenes": None, "people": None, "home": None, "things": not_receipts}
    for name, wanted, rest, source in (
        ("documents", {"things": is_receipt}, photos, "documents"),
        ("food", {"food": None}, photos, FOOD_POLICY),
    ):
        images = [(each, True) for each in parquet(broad, wanted)]
        others = [(each, False) for each in parquet(broad, rest)]
        drawn = np.random.default_rng(0).choice(len(others), 3000, replace=False)
        images += [others[place] for place in drawn.tolist()]
        order = np.random.default_rng(1).permutation(len(images)).tolist()
        half = len(order) // 2
        halves = [[images[place] for place in part] for part in (order[:half], order[half:])]
        yield name, policy(source), *(in_memory(part, name) for part in halves)
    tiny = data / "tiny-imagenet"
    yield (
        "alcohol",
        policy("alcohol"),
        *(in_memory(part, "alcohol") for part in (bottles(tiny, True), bottles(tiny, False))),
    )
    if screens is not None:
        yield (
            "screenshots",
            policy("screenshots"),
            *(
                in_memory([*screenshots(screens, half), *((each, False) for each in rest)], "screenshots")
                for half, rest in enumerate(
                    _halves(list(parquet(broad, dict.fromkeys(("coco", "people", "things", "drawn")))))
                )
            ),
        )


def bottles(folder: Path, train: bool) -> list[tuple[bytes, bool]]:
    """Beer bottles among 3,000 others of the training images, or among all of the validation images."""
    images: list[tuple[bytes, bool]] = []
    for path in sorted(folder.glob("train-*.parquet" if train else "val.parquet")):
        rows = pyarrow.parquet.read_table(path).to_pylist()
        images += [(row["image"], row["names"] == "beer bottle") for row in rows]
    if not train:
        return images
    others = [place for place, (_, shown) in enumerate(images) if not shown]
    drawn = np.random.default_rng(0).choice(others, 3000, replace=False).tolist()
    return [each for each in images if each[1]] + [images[place] for place in drawn]


def screenshots(folder: Path, half: int) -> list[tuple[bytes, bool]]:
    """Those of every second page, by the order of their names."""
    paths = sorted(folder.glob("*.png"))
    pages = sorted({path.name.split(".")[0] for path in paths})
    return [(path.read_bytes(), True) for path in paths if pages.index(path.name.split(".")[0]) % 2 == half]


def _halves(images: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    order = np.random.default_rng(2).permutation(len(images)).tolist()
    half = len(order) // 2
    return [images[place] for place in order[:half]], [images[place] for place in order[half:]]


def policy(source: str) -> PolicyFile:
    """One that ships by name, or that of a text."""
    if "\n" not in source:
        return open_policy(source)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(source)
        file.flush()
        return open_policy(file.name)


def captioned(path: Path, name: str, words: str) -> Dataset:
    """Images with captions, as shown or not by their words."""
    dataset = open_dataset(path)
    listed = set(words.split())
    saying = [
        sum(bool(listed & set(re.findall("[a-z]+", caption.lower()))) for caption in captions)
        for captions in dataset.captions
    ]
    doubtful = sum(count == 1 for count in saying)
    print(
        f"<!-- {path.name}: {sum(map(bool, saying)):,} of {len(saying):,} {name}, {doubtful:,} by one caption only -->"
    )
    return dataclasses.replace(
        dataset, classes=("others", name), label_sets=tuple((int(count > 0),) for count in saying), captions=()
    )


def is_receipt(row: dict[str, Any]) -> bool:
    return "(receipts)" in row["source"]


def not_receipts(row: dict[str, Any]) -> bool:
    return not is_receipt(row)


def parquet(folder: Path, files: dict[str, Callable[[dict[str, Any]], bool] | None]) -> Iterator[bytes]:
    for name, keep in files.items():
        for row in pyarrow.parquet.read_table(folder / f"{name}.parquet", columns=["image", "source"]).to_pylist():
            if keep is None or keep(row):
                yield row["image"]


def in_memory(images: Sequence[tuple[bytes, bool]], name: str) -> Dataset:
    first = {hashlib.sha256(content).digest(): (content, shown) for content, shown in images}
    contents = [content for content, _ in first.values()]
    return Dataset(
        name=f"broad, {name}",
        source="broad",
        layout="parquet",
        split=None,
        keys=tuple(digest.hex() for digest in first),
        digests=tuple(first),
        open_images=lambda places: [contents[place] for place in places],
        classes=("others", name),
        label_sets=tuple((int(shown),) for _, shown in first.values()),
    )


def _draw(path: Path, fit: Fit, others: Features, model: Model, opened: PolicyFile) -> None:
    """Left: how often an image of each stated probability shows it. Right: the probabilities, with the bands."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams |= {"svg.hashsalt": "tandem", "font.size": 9, "svg.fonttype": "none"}
    (name, found), *_ = fit.categories.items()
    shown = others.dataset.label_matrix[:, others.dataset.classes.index(name)]
    rows = [row[name] for row in Moderator(opened, model, fit=fit).decide(others.vectors)]
    stated = np.array([row.probability for row in rows])
    observed = shown.mean()
    weights = np.where(shown, found.base_rate / observed, (1 - found.base_rate) / (1 - observed))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    edges = np.quantile(stated, np.linspace(0, 1, 9))
    place = np.clip(np.searchsorted(edges, stated, "right") - 1, 0, 7)
    for each in range(8):
        inside = place == each
        true = np.average(shown[inside], weights=weights[inside])
        spread = np.sqrt(true * (1 - true) / inside.sum())
        mean = np.average(stated[inside], weights=weights[inside])
        left.errorbar(mean, true, yerr=1.96 * spread, fmt="o", color="#1b7f5c", capsize=2)
    left.plot([0, 1], [0, 1], color="0.6", lw=1, ls=":")
    left.set(
        xlabel=f"stated probability (base rate {found.base_rate:.0%})",
        ylabel=f"share with {name}",
        title="Other images",
    )
    bins = np.linspace(0, 1, 31)
    right.hist(stated[~shown], bins, weights=weights[~shown], alpha=0.6, label=f"without {name}", color="#7a869a")
    right.hist(stated[shown], bins, weights=weights[shown], alpha=0.6, label=f"with {name}", color="#1b7f5c")
    for threshold, text in (
        (found.review_probability, "review"),
        (found.block_probability, "block"),
    ):
        if threshold is not None:
            right.axvline(threshold, color="0.2", lw=1, ls="--")
            right.text(threshold, right.get_ylim()[1] * 0.97, f" {text}", va="top")
    right.set(xlabel="stated probability", ylabel="photos at the base rate", title="Bands")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(f"<!-- drew {path} -->")


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(model: Model, data: Path, images: int, rounds: int) -> None:
    dataset = open_dataset(data / "flickr8k" / "test-00000.tar")
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for place, content in enumerate(dataset.images(range(min(images, len(dataset))))):
            assert isinstance(content, bytes)
            paths.append(Path(folder) / f"{place:04}.webp")
            paths[-1].write_bytes(content)
        labelled = embed_dataset(
            model, captioned(data / "flickr8k" / "dev-00000.tar", "people", PEOPLE), progress=False
        )
        opened = open_policy("people")
        moderator = Moderator(opened, model, fit=fit_policy(model, opened, labelled, review_recall=RECALL))
        ways: dict[str, Callable[[], object]] = {
            "embed_images": lambda: model.embed_images(paths, progress=False),
            "moderate": lambda: moderator.moderate(paths),
            "moderate, with digests": lambda: moderator.moderate(paths, digests=True),
        }
        print(table(alternate(ways, rounds), len(paths)))


if __name__ == "__main__":
    main()
