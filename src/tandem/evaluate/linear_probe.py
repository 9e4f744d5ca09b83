"""The linear probe: how much a linear classifier on the frozen vectors can tell apart, with all the labels it can get.

Shapes: n images, c classes.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.errors import named
from tandem.evaluate import intervals
from tandem.evaluate.class_rows import per_class_rows
from tandem.evaluate.features import Features
from tandem.evaluate.figures import Figure
from tandem.evaluate.metrics import answers
from tandem.evaluate.model_checks import check_same_model, matched, note_of_training
from tandem.evaluate.result import DatasetRecord, TaskResult
from tandem.heads import logistic
from tandem.heads.sweep import HELD_OUT, held_out_fourth, sweep
from tandem.model import Model
from tandem.scores.scoring import softmax


def linear_probe(model: Model, train: Features, test: Features, *, seed: int = 0) -> TaskResult:
    """Logistic regression on the vectors of `train`, measured on `test` (Radford et al. 2021, A.3).

    C is chosen on a fourth of `train`, drawn by `seed`, by accuracy and of equal ones by log loss; the classifier is
    then fitted on all of it. Images of `train` that are in `test` too are left out. Raises `DataError` for vectors of
    another model, several labels for an image, and classes without an image to learn from.
    """
    check_same_model(model, train)
    check_same_model(model, test)
    train, test, notes = matched(train, test)
    classes, labels = test.dataset.classes, test.dataset.labels
    held_out = held_out_fourth(train.dataset.labels, seed)
    found = sweep(np.asarray(train.vectors), train.dataset.labels, len(classes), held_out)
    logits = found.fit.logits(np.asarray(test.vectors))
    given = answers(logits, labels)
    right = (given == labels).astype(np.float64)
    probability = softmax(logits)[np.arange(len(labels)), given]
    return TaskResult(
        "linear-probe",
        DatasetRecord.of(test.dataset),
        {
            "train": train.dataset.name,
            "train_hash": train.dataset.hash,
            "train_images": len(train),
            "held_out_to_choose_c": int(held_out.sum()),
            "c": found.best.c,
            "max_iterations": logistic.ITERATIONS,
            "seed": seed,
            "resamples": intervals.RESAMPLES,
        },
        _figures(right, labels, len(classes), seed),
        {
            "classes": list(classes),
            "sweep": [
                {"c": each.c, "accuracy": each.accuracy, "log_loss": each.log_loss}
                | {"iterations": each.iterations, "converged": each.converged}
                for each in found.points
            ],
            "per_class": per_class_rows(classes, labels, given),
        },
        test.dataset.keys,
        {
            "top1": right.astype(np.float32),
            "answer": given.astype(np.float32),
            "probability": probability,
        },
        (*test.dataset.notes, *notes, *_notes(train, found.fit.facts["converged"]), *note_of_training(model)),
    )


def _figures(right: NDArray[np.float64], labels: NDArray[np.int64], classes: int, seed: int) -> dict[str, Figure]:
    n = len(labels)
    top1 = intervals.mean_interval(right, seed=seed)
    (found,) = intervals.bootstrap(intervals.class_means(right[:, None], labels), n, seed=seed)
    mean = intervals.share(found, n)
    return {
        "top1": Figure.of(top1, n, chance=1 / classes),
        "mean_per_class": Figure.of(mean, n, chance=1 / classes),
    }


def _notes(train: Features, converged: bool) -> list[str]:
    counts = np.bincount(train.dataset.labels, minlength=len(train.dataset.classes))
    notes = []
    single = [name for name, count in zip(train.dataset.classes, counts, strict=True) if count == 1]
    if single:
        notes.append(f"One image to learn from, so none to choose C by: {named(single)}.")
    few = f"less than {HELD_OUT} images" if (counts[counts > 1] < HELD_OUT).any() else ""
    if few:
        notes.append(f"Some classes have {few} to learn from: C was chosen on few of them.")
    if not converged:
        notes.append(f"The fit stopped after {logistic.ITERATIONS} iterations, before its minimum.")
    return notes
