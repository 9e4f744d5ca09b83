"""Fine-tuning as a task of evaluation: a model is trained on one data set and measured on another, before and after.

The training is a run of `tandem train` in a folder, which resumes; the measuring knows models, heads and data sets.

Shapes: n images, c classes, d the shared dimension, m captions.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem import engine as engines
from tandem import files, prompts
from tandem.arrays import Vectors
from tandem.datasets.dataset import Dataset
from tandem.errors import DataError
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import bootstrap, difference, mean_interval, means
from tandem.evaluate.metrics import answers, chance_recall, label_ranks, match_ranks
from tandem.evaluate.result import DatasetRecord, TaskResult
from tandem.image import read_bytes
from tandem.model import Model
from tandem.train.recipe import Recipe, from_dict
from tandem.train.run.fine_tuned import CHOSEN_BY, FINE_TUNED, WISE_FT, ZERO_SHOT
from tandem.train.run.loop import train
from tandem.train.wise_ft import ALPHAS, Classifier, between, read_classifier, read_curve

HELD_OUT = 0.2  # of the training images of each class, for choosing alpha
_ROWS = 64  # images of a row group
_MEASURED_K = 10  # of recall, where another data set has captions


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

    A share `held_out` of each class's training images is not trained on and chooses WiSE-FT's alpha; with none, alpha
    is 0.5. The test images choose nothing. `templates` are those of the training set where it has some, else the
    built-in ensemble. `elsewhere` are data sets of other things, with labels or captions, on which the image tower is
    measured with the model's own texts: what fine-tuning cost. `overrides`: further values of the recipe.

    The run lives in `folder`: the same call resumes it. Its model and head are `folder/wise-ft` and
    `folder/wise-ft.tandem-head`. Raises `DataError` for test classes without training images, and for a folder of
    another run.
    """
    chosen = prompts.check_templates(templates or train_dataset.templates or prompts.templates())
    order = _classes_in_use(train_dataset, test_dataset)
    recipe = _recipe(
        model_source, train_dataset, Path(folder), chosen, held_out, seed,
        {"steps": steps, "batch": batch_size, "rate": learning_rate}, overrides or {},
    )  # fmt: skip
    train(recipe)
    ends = [read_classifier(Path(folder) / name) for name in (ZERO_SHOT, FINE_TUNED)]
    if len(ends[0].head.classes) != len(order):
        raise DataError(f"{train_dataset.name}: two classes have the same names, apart from spaces: rename one")
    places = [order.index(name) for name in test_dataset.classes if name in order]
    alpha = float(read_classifier(Path(folder) / WISE_FT).head.card["alpha"])
    known = {point.alpha: point.measures.get(CHOSEN_BY) for point in read_curve(Path(folder) / "wise-ft.csv")}
    measured: dict[float, _Measured] = {}
    for each in sorted({*alphas, 0.0, 1.0, alpha}):
        measured[each] = _Measured.of(between(*ends, each), test_dataset, places, order, chosen, elsewhere)
    return _result(train_dataset, test_dataset, recipe, measured, known, alpha, held_out)


# --- training --------------------------------------------------------------------------------------------------------


def _classes_in_use(train_dataset: Dataset, test_dataset: Dataset) -> list[str]:
    """The classes that have training images, in the order of the data set's images."""
    order = [train_dataset.classes[place] for place in dict.fromkeys(train_dataset.labels.tolist())]
    tested = [test_dataset.classes[place] for place in dict.fromkeys(test_dataset.labels.tolist())]
    if unknown := [name for name in tested if name not in order]:
        raise DataError(
            f"{test_dataset.name}: expected classes that {train_dataset.name} has images of, got {len(unknown)} others, "
            f"such as {unknown[0]!r}"
        )
    return order


def held_out_places(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Places of `share` of the images of each class, ascending; at least one is left to train on."""
    draw = np.random.default_rng((seed, 1))
    found: list[int] = []
    for label in np.unique(labels):
        rows = draw.permutation(np.flatnonzero(labels == label))
        found += rows[: min(round(share * len(rows)), len(rows) - 1)].tolist()
    return np.sort(np.array(found, np.int64))


def _recipe(
    model_source: str,
    dataset: Dataset,
    folder: Path,
    templates: Sequence[str],
    held_out: float,
    seed: int,
    run: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> Recipe:
    """The recipe of the run, its images written beside it."""
    out = held_out_places(dataset.labels, held_out, seed)
    rest = np.setdiff1d(np.arange(len(dataset)), out)
    record = {"hash": dataset.hash, "held_out": held_out, "seed": seed}
    _write_once(dataset, folder, {"train": rest, "validation": out}, record)
    values: dict[str, Any] = {
        "name": f"{dataset.name} fine-tuned",
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
    if len(out):
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


# --- measuring -------------------------------------------------------------------------------------------------------


class _Measured:
    """What one classifier answers: on the test images, and on those of other data sets."""

    def __init__(self, logits: Vectors, labels: NDArray[np.int64], elsewhere: dict[str, tuple[Vectors, float]]) -> None:
        self.right = (label_ranks(logits, labels) == 1).astype(np.float32)
        self.answer = answers(logits, labels).astype(np.float32)
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        self.probability = (shifted / shifted.sum(1, keepdims=True))[np.arange(len(labels)), answers(logits, labels)]
        self.elsewhere = elsewhere  # "NAME measure" -> outcome of each image, chance

    @staticmethod
    def of(
        classifier: Classifier,
        test: Dataset,
        places: list[int],
        order: list[str],
        templates: Sequence[str],
        elsewhere: Sequence[Dataset],
    ) -> "_Measured":
        """Classes that have no training image are no answers; the others are, in the order of the test set's."""
        checkpoint = classifier.model
        model = Model(checkpoint, engines.build(checkpoint.config, checkpoint.tensors, engine="torch"))
        numbers = {name: number for number, name in enumerate(n for n in test.classes if n in order)}
        labels = np.array([numbers[test.classes[label]] for label in test.labels.tolist()], np.int64)
        logits = classifier.head.logits(model.embed_images(test.images(), progress=False))[:, places]
        others = {}
        for dataset in elsewhere:
            others |= _outcomes(model, dataset, templates)
        return _Measured(logits, labels, others)


def _outcomes(model: Model, dataset: Dataset, templates: Sequence[str]) -> dict[str, tuple[Vectors, float]]:
    """Zero-shot top-1, or recall@10 both ways: the outcome of each image float32 [n] and the chance of it, by name."""
    vectors = model.embed_images(dataset.images(), progress=False)
    if dataset.classes:
        classes = model.class_vectors(dataset.classes, dataset.templates or templates)
        right = label_ranks(vectors @ classes.T, dataset.labels) == 1
        return {f"{dataset.name} zero_shot_top1": (right.astype(np.float32), 1 / len(dataset.classes))}
    owner = np.array([image for image, texts in enumerate(dataset.captions) for _ in texts])
    texts = model.embed_texts([text for texts in dataset.captions for text in texts], long="truncate")
    scores = vectors @ texts.T  # [n m]
    matches = owner[None] == np.arange(len(vectors))[:, None]
    to_image = (match_ranks(scores.T, matches.T) <= _MEASURED_K).astype(np.float32)  # [m]
    counts = np.bincount(owner, minlength=len(vectors))
    found = np.bincount(owner, weights=to_image, minlength=len(vectors)) / np.maximum(counts, 1)
    to_text = match_ranks(scores, matches) <= _MEASURED_K
    each = round(len(owner) / len(vectors))
    return {
        f"{dataset.name} text_to_image_r10": (found.astype(np.float32), chance_recall(len(vectors), 1, _MEASURED_K)),
        f"{dataset.name} image_to_text_r10": (to_text.astype(np.float32), chance_recall(len(owner), each, _MEASURED_K)),
    }


def _result(
    train_dataset: Dataset,
    test_dataset: Dataset,
    recipe: Recipe,
    measured: Mapping[float, _Measured],
    validation: Mapping[float, float | None],
    alpha: float,
    held_out: float,
) -> TaskResult:
    ends = {"zero_shot": measured[0.0], "fine_tuned": measured[1.0], "wise_ft": measured[alpha]}
    chance = 1 / len(_classes_in_use(train_dataset, test_dataset))
    figures = {f"{name}_top1": _share(each.right, chance) for name, each in ends.items()}
    for name in ("fine_tuned", "wise_ft"):
        figures[f"{name}_gain"] = _difference(ends[name].right, ends["zero_shot"].right)
    for key, (before, other_chance) in ends["zero_shot"].elsewhere.items():
        for name, each in ends.items():
            figures[f"{name} on {key}"] = _share(each.elsewhere[key][0], other_chance)
        for name in ("fine_tuned", "wise_ft"):
            figures[f"{name}_gain on {key}"] = _difference(ends[name].elsewhere[key][0], before)
    curve = []
    for each, found in measured.items():
        row: dict[str, Any] = {"alpha": each, "validation": validation.get(each), "test": _interval(found.right)}
        row["elsewhere"] = {key: _interval(outcome) for key, (outcome, _) in found.elsewhere.items()}
        curve.append(row)
    outcomes = {f"{name}_top1": each.right for name, each in ends.items()}
    return TaskResult(
        "fine_tuning",
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
        outcomes | {"answer": ends["wise_ft"].answer, "probability": ends["wise_ft"].probability.astype(np.float32)},
        _notes(train_dataset, test_dataset, recipe, alpha),
    )


def _notes(train_dataset: Dataset, test_dataset: Dataset, recipe: Recipe, alpha: float) -> tuple[str, ...]:
    chosen = "on held-out training images" if recipe.validation.classification else "not by any measure"
    notes = [
        *train_dataset.notes,
        *test_dataset.notes,
        f"alpha {alpha:g} was chosen {chosen}; the test images chose nothing.",
    ]
    if common := len(set(train_dataset.digests) & set(test_dataset.digests)):
        notes.append(f"{common} of the test images are training images, too: figures are too high.")
    return tuple(dict.fromkeys(notes))


def _share(outcomes: Vectors, chance: float) -> Figure:
    found = mean_interval(outcomes)
    return Figure(found.value, len(outcomes), found.low, found.high, chance)


def _difference(after: Vectors, before: Vectors) -> Figure:
    found = difference(
        bootstrap(means((after - before)[:, None]), len(after))[0], len(after), bool((after != before).any())
    )
    return Figure(found.value, len(after), found.low, found.high, None, "difference")


def _interval(outcomes: Vectors) -> dict[str, float | int]:
    found = mean_interval(outcomes)
    return {"value": found.value, "low": found.low, "high": found.high, "n": len(outcomes)}
