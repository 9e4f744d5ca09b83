"""Seeded splits and draws: which images a task learns from. By class, and the same for the same seed and labels.

Shapes: n images, c classes.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tandem.errors import DataError
from tandem.evaluate.features import Features
from tandem.evaluate.metrics import named


def ranks_within_class(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The place of each image in a random order of its class, int64 [n]: images below k are a draw of k shots.

    So the draw of two shots contains that of one.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    result = np.empty(len(labels), dtype=np.int64)
    result[order] = np.arange(len(labels)) - starts[labels[order]]
    return result


def draw_shots(labels: NDArray[np.int64], shots: int, seed: int) -> NDArray[np.intp]:
    """The places of `shots` images of every class, fewer of a class that has fewer, in ascending order."""
    return np.flatnonzero(ranks_within_class(labels, seed) < shots)


def hold_out(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places of images to learn from, and of those held out: a share of every class, at least one of each and never
    all. The only image of a class is learnt from. Raises `DataError` for a share that is not between 0 and 1."""
    if not 0 < share < 1:
        raise DataError(f"expected a share between 0 and 1 to hold out, got {share}")
    counts = np.bincount(labels)
    held = np.clip(np.round(share * counts), 1, np.maximum(counts - 1, 0))
    chosen = ranks_within_class(labels, seed) < np.where(counts > 1, held, 0)[labels]
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def matched(train: Features, test: Features) -> tuple[Features, Features, tuple[str, ...]]:
    """Both with the classes of `train` in its order, and `train` without images that `test` has too; with notes.

    Raises `DataError` for features of different models, for classes of `test` that `train` lacks, and for classes
    without an image to learn from, by name.
    """
    if train.fingerprint != test.fingerprint:
        raise DataError(
            f"expected vectors of one model, got those of {train.model_name} for {train.dataset.name} and of "
            f"{test.model_name} for {test.dataset.name}"
        )
    learnt, measured = train.dataset, test.dataset
    notes = []
    seen = set(measured.digests)
    fresh = [place for place, digest in enumerate(learnt.digests) if digest not in seen]
    if len(fresh) < len(learnt):
        note = f"{len(learnt) - len(fresh)} of {len(learnt)} images to learn from are also measured on: left out"
        train, notes = train.take(fresh), [note]
    counts = np.bincount(train.dataset.labels, minlength=len(learnt.classes))
    used = np.bincount(measured.labels, minlength=len(measured.classes)) > 0
    needed = {name for name, is_used in zip(measured.classes, used, strict=True) if is_used}
    without = [name for name in measured.classes if name in needed and name not in learnt.classes]
    without += [name for name, count in zip(learnt.classes, counts, strict=True) if not count]
    if without:
        raise DataError(f"{learnt.name}: no image to learn from of {named(without)}")
    if measured.classes != learnt.classes:
        place = {name: number for number, name in enumerate(learnt.classes)}
        label_sets = tuple((place[measured.classes[labels[0]]],) for labels in measured.label_sets)
        test = replace(test, dataset=replace(measured, classes=learnt.classes, label_sets=label_sets))
    return train, test, tuple(notes)
