"""Fine-tuning as a task of evaluation: a model is trained on one data set and measured on another, before and after.

The training is a run of `tandem train` in a folder, which resumes; the measuring knows models, heads and data sets.

Shapes: n images, c classes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem import files, prompts
from tandem.arrays import Vectors
from tandem.datasets.dataset import Dataset
from tandem.errors import DataError
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import mean_interval, paired_bootstrap
from tandem.evaluate.model_checks import unseen
from tandem.evaluate.result import DatasetRecord, TaskResult
from tandem.evaluate.splits import hold_out
from tandem.image import read_bytes
from tandem.train.measuring import Elsewhere, HeadOutcomes, measure, model_of
from tandem.train.recipe import Recipe, from_dict
from tandem.train.run.assembly import MODEL
from tandem.train.run.fine_tuned import CHOSEN_BY, WISE_FT, ZERO_SHOT
from tandem.train.run.loop import train
from tandem.train.wise_ft import ALPHAS, between, read_curve, read_model_with_head

HELD_OUT = 0.2  # of the training images of each class, for choosing alpha
_ROWS = 64  # images of a row group


def fine_tune(
    model_source: str,
    train_dataset: Dataset,
    test_dataset: Dataset,
    *,
    folder: Path,
    steps: int = 300,
    seed: int = 0,
    batch_size: int = 64,
    learning_rate: float = 1e-4,
    held_out: float = HELD_OUT,
    templates: str | Sequence[str] | None = None,
    elsewhere: Sequence[Dataset] = (),
    alphas: Sequence[float] = ALPHAS,
    overrides: Mapping[str, Any] | None = None,
) -> TaskResult:
    """Fine-tune a model for the classes of `train_dataset`, and measure it on `test_dataset` and `elsewhere`.

    A share `held_out` of each class's training images is not trained on and chooses WiSE-FT's alpha; with 0, alpha is
    0.5. The test images choose nothing, and are left out of the training set where it has them. `templates` are those
    of the training set where it has some, else the default one. `elsewhere` are data sets of other things, with
    labels or captions, on which the image tower is measured with the model's own texts: what fine-tuning cost.
    `overrides`: further values of the recipe.

    The run lives in `folder`: the same call resumes it. Its model and head are `folder/wise-ft` and
    `folder/wise-ft.tandem-head`. Raises `DataError` for test classes without training images, and for a folder of
    another run.
    """
    chosen = prompts.check_templates(templates or train_dataset.templates or prompts.default_templates(None))
    fresh, notes = unseen(train_dataset, test_dataset)
    if notes:
        train_dataset = train_dataset.take(fresh, *notes)
    labels = train_dataset.labels
    every = np.arange(len(labels))
    rest, out = hold_out(labels, held_out, seed) if held_out else (every, every[:0])
    order = _classes_in_use(train_dataset, rest, test_dataset)
    folder = Path(folder)
    record = {"hash": train_dataset.hash, "held_out": held_out, "seed": seed}
    _write_once(train_dataset, folder, {"train": rest, "validation": out}, record)
    run = {"steps": steps, "batch": batch_size, "rate": learning_rate}
    recipe = _recipe(model_source, train_dataset.name, folder, chosen, seed, run, bool(len(out)), overrides or {})
    train(recipe)
    zero_shot, fine_tuned = (read_model_with_head(folder / name) for name in (ZERO_SHOT, MODEL))
    if len(zero_shot.head.classes) != len(order):
        raise DataError(f"{train_dataset.name}: two classes have the same names, apart from spaces: rename one")
    alpha = float(read_model_with_head(folder / WISE_FT).head.card["alpha"])
    known = {point.alpha: point.measures.get(CHOSEN_BY) for point in read_curve(folder / "wise-ft.csv")}
    model = model_of(zero_shot)  # fine-tuning changes no text
    others = [Elsewhere.of(model, each, chosen) for each in elsewhere]
    measured = {}
    for at in sorted({*alphas, 0.0, 1.0, alpha}):
        classifier = between(zero_shot, fine_tuned, at)
        measured[at] = measure(classifier, test_dataset, order, others)
    return _result(train_dataset, test_dataset, recipe, measured, known, alpha, held_out)


# --- training --------------------------------------------------------------------------------------------------------


def _classes_in_use(train_dataset: Dataset, rows: NDArray[np.int64], test_dataset: Dataset) -> list[str]:
    """The classes of the training images `rows`, by their first use: the order of the head's logits."""
    order = [train_dataset.classes[place] for place in dict.fromkeys(train_dataset.labels[rows].tolist())]
    tested = [test_dataset.classes[place] for place in dict.fromkeys(test_dataset.labels.tolist())]
    if unknown := [name for name in tested if name not in order]:
        raise DataError(
            f"{test_dataset.name}: expected classes that {train_dataset.name} has images of, got {len(unknown)} "
            f"others, such as {unknown[0]!r}"
        )
    return order


def _recipe(
    model_source: str,
    name: str,
    folder: Path,
    templates: Sequence[str],
    seed: int,
    run: Mapping[str, Any],
    validated: bool,
    overrides: Mapping[str, Any],
) -> Recipe:
    """The recipe of the run, over the images that were written beside it."""
    values: dict[str, Any] = {
        "name": f"{name} fine-tuned",
        "folder": str(folder),
        "data_root": str(folder / "data"),
        "steps": run["steps"],
        "seed": seed + 1,
        "precision": "float32",
        "init": {"model": model_source},
        "objective": {"kind": "classification", "label_smoothing": 0.1},
        "data": [
            {"path": "train.parquet", "text": "names", "kind": "names", "templates": list(templates),
             "per_batch": run["batch"], "crop": [0.5, 1.0]}
        ],
        "optimiser": {
            "learning_rate": run["rate"], "warmup_steps": max(1, run["steps"] // 10), "layer_decay": 0.8,
        },
        "checkpoints": {"every_steps": 100},
        "validation": {"every_steps": max(1, run["steps"]), "limit": 0},
        "log": {"tensorboard": False},
    }  # fmt: skip
    if validated:
        values["validation"]["classification"] = "validation.parquet"
    return from_dict({**values, **overrides})


def _write_once(dataset: Dataset, folder: Path, parts: Mapping[str, NDArray[np.int64]], record: dict[str, Any]) -> None:
    """The images of each part as `folder/data/PART.parquet`, unless an earlier call has written them."""
    data = folder / "data"
    known = data / "written.json"
    if known.exists():
        if json.loads(known.read_text(encoding="utf-8")) != record:
            raise DataError(
                f"{folder}: a run on other images, or split in another way, lives here; choose another folder"
            )
        return
    data.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        if len(rows):
            _write_parquet(dataset, rows, data / f"{name}.parquet")
    files.write_json(known, record)


def _write_parquet(dataset: Dataset, rows: NDArray[np.int64], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema({"image": pa.binary(), "names": pa.string()})
    with files.atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start in range(0, len(rows), _ROWS):
            at = rows[start : start + _ROWS].tolist()
            images = [read_bytes(image) for image in dataset.images(at)]
            names = [dataset.classes[dataset.labels[place]] for place in at]
            writer.write_table(pa.table({"image": images, "names": names}, schema))


# --- the result ------------------------------------------------------------------------------------------------------


def _result(
    train_dataset: Dataset,
    test_dataset: Dataset,
    recipe: Recipe,
    measured: Mapping[float, HeadOutcomes],
    validation: Mapping[float, float | None],
    alpha: float,
    held_out: float,
) -> TaskResult:
    ends = {"zero_shot": measured[0.0], "fine_tuned": measured[1.0], "wise_ft": measured[alpha]}
    chance = 1 / measured[0.0].classes
    figures = {f"{name}_top1": _share(each.right, chance) for name, each in ends.items()}
    for name in ("fine_tuned", "wise_ft"):
        figures[f"{name}_gain"] = _difference(ends[name].right, ends["zero_shot"].right)
    for key, (before, other_chance) in ends["zero_shot"].elsewhere.items():
        for name, each in ends.items():
            figures[f"{name} on {key}"] = _share(each.elsewhere[key][0], other_chance)
        for name in ("fine_tuned", "wise_ft"):
            figures[f"{name}_gain on {key}"] = _difference(ends[name].elsewhere[key][0], before)
    curve = []
    for at, found in measured.items():
        row: dict[str, Any] = {"alpha": at, "validation": validation.get(at), "test": _interval(found.right)}
        row["elsewhere"] = {key: _interval(outcome) for key, (outcome, _) in found.elsewhere.items()}
        curve.append(row)
    chosen = ends["wise_ft"]
    outcomes = {f"{name}_top1": each.right for name, each in ends.items()}
    outcomes |= {"answer": chosen.answer.astype(np.float32), "probability": chosen.probability}
    return TaskResult(
        "fine-tune",
        DatasetRecord.of(test_dataset),
        {
            "train": train_dataset.name,
            "train_hash": train_dataset.hash,
            "train_images": len(train_dataset),
            "held_out": held_out,
            "alpha": alpha,
            "templates": list(recipe.data[0].templates),
            "steps": recipe.steps,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.optimiser.learning_rate,
            "label_smoothing": recipe.objective.label_smoothing,
            "seed": recipe.seed - 1,
        },
        figures,
        {"classes": list(test_dataset.classes), "wise_ft": curve},
        test_dataset.keys,
        outcomes,
        _notes(train_dataset, test_dataset, recipe, alpha),
    )


def _notes(train_dataset: Dataset, test_dataset: Dataset, recipe: Recipe, alpha: float) -> tuple[str, ...]:
    chosen = "on held-out training images" if recipe.validation.classification else "not by any measure"
    notes = [
        *train_dataset.notes,
        *test_dataset.notes,
        f"alpha {alpha:g} was chosen {chosen}; the test images chose nothing.",
    ]
    return tuple(dict.fromkeys(notes))


def _share(outcomes: Vectors, chance: float) -> Figure:
    return Figure.of(mean_interval(outcomes), len(outcomes), chance=chance)


def _difference(after: Vectors, before: Vectors) -> Figure:
    return Figure.of(paired_bootstrap(after, before), len(after), unit="difference")


def _interval(outcomes: Vectors) -> dict[str, float | int]:
    found = mean_interval(outcomes)
    return {"value": found.value, "low": found.low, "high": found.high, "n": len(outcomes)}
