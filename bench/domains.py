"""What a domain gains, and what it costs elsewhere: zero-shot, prompts, learn, fine-tuning with WiSE-FT, search.

    python bench/domains.py [DOMAIN ...] [--data FOLDER] [--out FOLDER] [--steps N] [--plots FOLDER]

The figures of docs/domains/. A domain's images are split once, by seed: a test part that is looked at last, a dev part
that chooses prompts, and the rest, from which shots are drawn. Fine-tuning takes all that is not test, and holds a part
of it out to choose alpha. Every step is kept in the folder: the same command resumes, and prints what is there.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tandem
from tandem.datasets import Dataset, open_dataset
from tandem.evaluate.features import embed_dataset
from tandem.evaluate.few_shot import few_shot
from tandem.evaluate.intervals import mean_interval, paired_bootstrap
from tandem.evaluate.metrics import label_ranks
from tandem.files import write_json
from tandem.prompts import DEFAULT_TEMPLATE, ENSEMBLE
from tandem.train.fine_tune import fine_tune

TEST, DEV, SEED, SHOTS, DRAWS, K = 0.27, 0.12, 0, (4, 16), 5, 10
HELD_OUT = 0.16  # of what is not test: about as many images as dev


@dataclass(frozen=True)
class Domain:
    """Where its images are, what its labels mean, and the templates that compete on its dev part."""

    path: str
    templates: tuple[str, ...]
    where: str | None = None
    prefix: str = ""  # of labels that say the same for all of them
    steps: int = 150  # of fine-tuning
    rate: float = 3e-4


DOMAINS = {
    "catalogue": Domain(
        "clothing/train.parquet",
        (
            "a product photo of a {}.",
            "a photo of a {}, a piece of clothing.",
            "a {} on a plain background.",
            "a {} lying on the floor.",
            "clothing: {}.",
        ),
    ),
    "from-above": Domain(
        "broad/scenes.parquet",
        (
            "a satellite view of a {}.",
            "satellite view of {}.",
            "an aerial photo of a {}.",
            "a {} seen from above.",
            "a photo of a {} taken from a plane.",
        ),
        "source like '%(aerial)%'",
        "satellite view of ",
    ),
    "food": Domain(
        "broad/food.parquet",
        (
            "a photo of {}, a dish.",
            "a photo of {}, a type of food.",
            "a plate of {}.",
            "a close-up of {}.",
            "{} served in a restaurant.",
        ),
        "source like '%(food101)%'",
        # At the others' settings 101 classes were hardly learnt: 4.7% of the held-out photos
        steps=300,
        rate=1e-3,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("domains", nargs="*", metavar="DOMAIN", help=f"one of {', '.join(DOMAINS)}; none: all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/domains"))
    parser.add_argument("--model", default="tandem-mini")
    parser.add_argument("--steps", type=int, help="of fine-tuning, instead of the domain's")
    parser.add_argument("--limit", type=int, default=1000, help="images of Tiny-ImageNet val")
    parser.add_argument("--plots", type=Path, help="a folder for the curves, as SVG")
    arguments = parser.parse_args()
    for name in arguments.domains or DOMAINS:
        found = measure(name, DOMAINS[name], arguments)
        print(table(name, found))
        if arguments.plots:
            draw(name, found, arguments.plots / f"domain-{name}.svg")


def measure(name: str, domain: Domain, arguments: argparse.Namespace) -> dict[str, Any]:
    """All steps of a domain, each kept as `OUT/NAME/STEP.json`."""
    out = arguments.out / name
    out.mkdir(parents=True, exist_ok=True)
    dataset = opened(arguments.data, name, domain)
    test, dev, rest = (dataset.take(rows.tolist()) for rows in split(dataset.labels))
    found: dict[str, Any] = {"images": {"test": len(test), "dev": len(dev), "rest": len(rest)}}
    found["classes"] = len(dataset.classes)

    def step(key: str, work: Callable[[], Any]) -> Any:
        path = out / f"{key}.json"
        if not path.exists():
            write_json(path, work())
        found[key] = json.loads(path.read_text(encoding="utf-8"))
        return found[key]

    prompts = step("prompts", lambda: choose_prompts(arguments.model, test, dev, domain))
    step("learn", lambda: learn(arguments.model, test, rest, prompts["templates"]))

    def tune() -> dict[str, Any]:
        everything = np.concatenate(split(dataset.labels)[1:])
        result = fine_tune(
            arguments.model,
            dataset.take(np.sort(everything).tolist()),
            test,
            folder=out / "run",
            steps=arguments.steps or domain.steps,
            learning_rate=domain.rate,
            seed=SEED,
            held_out=HELD_OUT,
            templates=prompts["templates"],
            elsewhere=elsewhere(arguments.data, arguments.limit),
            alphas=(0.0, 0.25, 0.5, 0.75, 1.0),
        )
        figures = {key: figure.as_dict() for key, figure in result.figures.items()}
        return {"figures": figures, "curve": result.tables["wise_ft"], "settings": dict(result.settings)}

    step("fine_tune", tune)
    models = {"zero_shot": arguments.model, "wise_ft": str(out / "run" / "wise-ft")}
    step("search", lambda: search(models, test, prompts["templates"]))
    return found


def opened(data: Path, name: str, domain: Domain) -> Dataset:
    """The images of a domain, with the names of its classes as one would type them."""
    dataset = open_dataset(data / domain.path, label="label", where=domain.where)
    used = sorted(set(dataset.labels.tolist()))
    names = [dataset.classes[place].removeprefix(domain.prefix) for place in used]
    names = [text.removeprefix("a ").removeprefix("an ") if domain.prefix else text for text in names]
    sets = tuple((used.index(labels[0]),) for labels in dataset.label_sets)
    return dataclasses.replace(dataset, name=name, classes=tuple(names), label_sets=sets)


def split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Places of the test, the dev and the remaining images: shares of every class."""
    draw = np.random.default_rng(SEED)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in np.unique(labels):
        rows = draw.permutation(np.flatnonzero(labels == label))
        ends = round(TEST * len(rows)), round((TEST + DEV) * len(rows))
        for part, some in zip(parts, (rows[: ends[0]], rows[ends[0] : ends[1]], rows[ends[1] :]), strict=True):
            part.extend(some.tolist())
    return tuple(np.sort(np.array(part, np.int64)) for part in parts)  # type: ignore[return-value]


def choose_prompts(source: str, test: Dataset, dev: Dataset, domain: Domain) -> dict[str, Any]:
    """Top-1 of each set of templates on dev; of the default, the built-in ensemble and the chosen one on test."""
    model = tandem.load(source)
    sets = {DEFAULT_TEMPLATE: (DEFAULT_TEMPLATE,), "built-in ensemble": ENSEMBLE}
    sets |= {template: (template,) for template in domain.templates}
    sets["all of the domain's"] = domain.templates
    right = {
        part: {name: zero_shot(model, dataset, templates) for name, templates in sets.items()}
        for part, dataset in (("dev", dev), ("test", test))
    }
    best = max(sets, key=lambda name: right["dev"][name].mean())
    shown = {"default": DEFAULT_TEMPLATE, "ensemble": "built-in ensemble", "chosen": best}
    return {
        "name": best,
        "templates": list(sets[best]),
        "dev": {name: float(each.mean()) for name, each in right["dev"].items()},
        "test": {key: interval(right["test"][name]) for key, name in shown.items()},
        "gain": interval(right["test"][best], right["test"][DEFAULT_TEMPLATE]),
    }


def zero_shot(model: tandem.Model, dataset: Dataset, templates: Sequence[str]) -> NDArray[np.float64]:
    """Whether each image is given its own class, float64 [n]."""
    scores = embed_dataset(model, dataset).vectors @ model.class_vectors(dataset.classes, templates).T
    return (label_ranks(scores, dataset.labels) == 1).astype(np.float64)


def learn(source: str, test: Dataset, rest: Dataset, templates: Sequence[str]) -> dict[str, Any]:
    """What `tandem learn` does with a few shots of each class, drawn several times."""
    model = tandem.load(source)
    seeds = tuple(range(DRAWS))
    found = few_shot(
        model, embed_dataset(model, rest), embed_dataset(model, test),
        shots=SHOTS, seeds=seeds, methods=("clap", "gda"), templates=templates,
    )  # fmt: skip
    return {key: figure.as_dict() for key, figure in found.figures.items()} | {"rows": found.tables["few_shot"]}


def search(models: dict[str, str], test: Dataset, templates: Sequence[str]) -> dict[str, Any]:
    """Precision of the ten best hits among the test images, for a query by the name of each class."""
    counts = np.bincount(test.labels, minlength=len(test.classes))
    found: dict[str, Any] = {
        "chance": float((counts / len(test)).mean()),
        "most": float(np.minimum(counts / K, 1).mean()),
    }
    outcomes = {}
    for name, source in models.items():
        model = tandem.load(source)
        scores = model.class_vectors(test.classes, templates) @ embed_dataset(model, test).vectors.T  # [c n]
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        outcomes[name] = (test.labels[best] == np.arange(len(test.classes))[:, None]).mean(1)
        found[name] = interval(outcomes[name])
    found["gain"] = interval(outcomes["wise_ft"], outcomes["zero_shot"])
    return found


def elsewhere(data: Path, limit: int) -> list[Dataset]:
    """Everyday things that the model knows, and sentences: what a domain must not cost."""
    tiny = open_dataset(data / "tiny-imagenet/val.parquet", label="names", limit=limit, seed=SEED)
    names = tuple(name.split(",")[0] for name in tiny.classes)
    flickr = dataclasses.replace(open_dataset(data / "flickr8k/dev-00000.tar"), name="Flickr8k dev")
    return [dataclasses.replace(tiny, name="Tiny-ImageNet val", classes=names, templates=(DEFAULT_TEMPLATE,)), flickr]


def interval(outcomes: NDArray[np.floating], before: NDArray[np.floating] | None = None) -> dict[str, Any]:
    """The mean of outcomes, or of their paired difference from those before, with its 95% interval."""
    found = mean_interval(outcomes) if before is None else paired_bootstrap(outcomes, before)
    return {"value": found.value, "interval": [found.low, found.high], "n": len(outcomes)}


def table(name: str, found: dict[str, Any]) -> str:
    """Markdown."""
    tuned, learnt, prompts, hits = found["fine_tune"]["figures"], found["learn"], found["prompts"], found["search"]
    images, chance = found["images"], 1 / found["classes"]
    rows = [
        ("zero-shot, `a photo of a {}.`", prompts["test"]["default"], chance),
        ("zero-shot, built-in ensemble", prompts["test"]["ensemble"], chance),
        (f"zero-shot, chosen on dev: {prompts['name']}", prompts["test"]["chosen"], chance),
        *((f"learn, {shots} shots (CLAP)", learnt[f"clap_{shots}_shots"], chance) for shots in SHOTS),
        *((f"learn, {shots} shots (GDA)", learnt[f"gda_{shots}_shots"], chance) for shots in SHOTS),
        ("fine-tuned", tuned["fine_tuned_top1"], chance),
        (f"WiSE-FT, alpha {found['fine_tune']['settings']['alpha']:g}", tuned["wise_ft_top1"], chance),
        ("search by class name, precision of 10", hits["zero_shot"], hits["chance"]),
        ("search by class name, precision of 10, WiSE-FT", hits["wise_ft"], hits["chance"]),
    ]
    for key in sorted({each.partition(" on ")[2] for each in tuned if " on " in each}):
        for model in ("zero_shot", "wise_ft", "fine_tuned"):
            figure = tuned[f"{model} on {key}"]
            rows.append((f"elsewhere, {key}, {model}", figure, figure["chance"]))
        for model in ("wise_ft", "fine_tuned"):
            rows.append((f"elsewhere, {key}, {model} less zero_shot", tuned[f"{model}_gain on {key}"], None))
    lines = [
        f"## {name}: {found['classes']} classes; test {images['test']}, dev {images['dev']}, rest {images['rest']}",
        "",
    ]
    lines += ["| what | figure | 95% interval | n | chance |", "|---|---|---|---|---|"]
    for what, figure, by_chance in rows:
        low, high = figure["interval"]
        guess = "" if by_chance is None else f"{by_chance:.1%}"
        lines.append(f"| {what} | {figure['value']:.1%} | {low:.1%} to {high:.1%} | {figure['n']:,} | {guess} |")
    return "\n".join(lines) + "\n"


def draw(name: str, found: dict[str, Any], path: Path) -> None:
    """The curve over alpha, with bands for the intervals."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = name
    from matplotlib import pyplot

    curve = found["fine_tune"]["curve"]
    alphas = [row["alpha"] for row in curve]
    series = {f"{name}, test: top-1": [row["test"] for row in curve]}
    for key in curve[0]["elsewhere"]:
        series[key.replace(" zero_shot_top1", ": top-1").replace("_", " ")] = [row["elsewhere"][key] for row in curve]
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for label, points in series.items():
        (line,) = axes.plot(alphas, [100 * point["value"] for point in points], marker="o", markersize=3, label=label)
        low, high = ([100 * point[end] for point in points] for end in ("low", "high"))
        axes.fill_between(alphas, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.axvline(found["fine_tune"]["settings"]["alpha"], color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="alpha: 0 zero-shot, 1 fine-tuned", ylabel="%", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
