"""What a task asks before it measures: whether vectors and classes belong together, and what was seen before."""

from dataclasses import replace

import numpy as np

from tandem.datasets.dataset import Dataset
from tandem.errors import DataError, named
from tandem.evaluate.features import Features
from tandem.model import Model


def check_same_model(model: Model, data: Features) -> None:
    """Raises `DataError` for features of another model, and for none at all."""
    if not len(data.dataset):
        raise DataError(f"{data.dataset.name}: expected at least one image, got none")
    if data.fingerprint != model.fingerprint:
        raise DataError(
            f"{data.dataset.name}: expected vectors of {model.name} ({model.fingerprint[:12]}), got those of another "
            f"model ({data.fingerprint[:12]}): embed the images with this one"
        )


def unseen(learnt: Dataset, measured: Dataset) -> tuple[list[int], tuple[str, ...]]:
    """The places of images to learn from that are not also measured on, and a note where that leaves some out."""
    seen = set(measured.digests)
    fresh = [place for place, digest in enumerate(learnt.digests) if digest not in seen]
    if len(fresh) == len(learnt):
        return fresh, ()
    return fresh, (f"{len(learnt) - len(fresh)} of {len(learnt)} images to learn from are also measured on: left out",)


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
    fresh, notes = unseen(learnt, measured)
    if notes:
        train = train.take(fresh)
    counts = np.bincount(train.dataset.labels, minlength=len(learnt.classes))
    used = np.bincount(measured.labels, minlength=len(measured.classes)) > 0
    needed = {name for name, is_used in zip(measured.classes, used, strict=True) if is_used}
    without = [name for name in measured.classes if name in needed and name not in learnt.classes]
    without += [name for name, count in zip(learnt.classes, counts, strict=True) if not count]
    if without:
        advice = (
            "; equal files count once: give two images of each class that differ, or other data to learn from, --train"
        )
        known = set(without) <= set(learnt.classes)
        raise DataError(f"{learnt.name}: no image to learn from of {named(without)}{advice if known else ''}")
    if measured.classes != learnt.classes:
        place = {name: number for number, name in enumerate(learnt.classes)}
        label_sets = tuple((place[measured.classes[labels[0]]],) for labels in measured.label_sets)
        test = replace(test, dataset=replace(measured, classes=learnt.classes, label_sets=label_sets))
    return train, test, notes


def note_of_training(model: Model) -> tuple[str, ...]:
    """A line on what the model says of its training data, for the notes of a result."""
    if model.config.data:
        return (
            f"{model.name} was trained on: {model.config.data}. What was seen in training is not zero-shot: figures on "
            "such classes or images say how well they were learnt.",
        )
    return (f"{model.name} does not say what it was trained on: whether it has seen these classes is not known.",)
