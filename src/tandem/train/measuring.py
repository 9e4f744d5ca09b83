"""What a classifier answers on data sets: its head on images of its classes, its towers on those of other things.

Knows models, heads and data sets; no training.

Shapes: n images, c classes, m captions, d the shared dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem import engine as engines
from tandem.arrays import Vectors
from tandem.datasets.dataset import Dataset
from tandem.evaluate.metrics import answers, chance_recall, label_ranks, match_ranks
from tandem.model import Model
from tandem.scores.scoring import softmax
from tandem.train.wise_ft import ModelWithHead

K = 10  # of recall, where another data set has captions
Outcomes = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HeadOutcomes:
    """The outcome for each image, 0 to 1."""

    right: Outcomes  # [n]: whether the head's answer is right; ties count against it
    answer: NDArray[np.int64]  # [n]: its answer, a place in the classes of the data set
    probability: Outcomes  # [n]: of that answer
    classes: int  # that the head tells apart and the data set names
    elsewhere: Mapping[str, tuple[Outcomes, float]]  # "NAME measure" -> outcomes [n'], and the chance of one


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """A data set of other things, with the vectors [m d] of its class names or of all its captions.

    They are encoded once: what is measured has one text tower.
    """

    dataset: Dataset
    texts: Vectors

    @staticmethod
    def of(model: Model, dataset: Dataset, templates: str | Sequence[str] | None = None) -> "Elsewhere":
        """`templates` serve where the data set has none."""
        if dataset.classes:
            return Elsewhere(dataset, model.class_vectors(dataset.classes, dataset.templates or templates))
        texts = [text for texts in dataset.captions for text in texts]
        return Elsewhere(dataset, model.embed_texts(texts, long="truncate"))


def model_of(classifier: ModelWithHead) -> Model:
    """The model of a classifier, computed by torch."""
    checkpoint = classifier.model
    return Model(checkpoint, engines.build(checkpoint.config, checkpoint.tensors, engine="torch"))


def measure(
    classifier: ModelWithHead, test: Dataset, classes: Sequence[str], elsewhere: Sequence[Elsewhere] = ()
) -> HeadOutcomes:
    """Measure a classifier whose head has the logits of `classes`, by their names in the data set `test`.

    Classes of `test` that the head does not have are never answered. Raises `ImageError` for an image that cannot be
    read.
    """
    model = model_of(classifier)
    places = {place: classes.index(name) for place, name in enumerate(test.classes) if name in classes}
    logits = np.full((len(test), len(test.classes)), -np.inf, np.float32)
    found = classifier.head.logits(model.embed_images(test.images(), progress=False))
    logits[:, list(places)] = found[:, list(places.values())]
    answered = answers(logits, test.labels)
    probability = softmax(logits)[np.arange(len(test)), answered]
    right = (label_ranks(logits, test.labels) == 1).astype(np.float32)
    others: dict[str, tuple[Outcomes, float]] = {}
    for other in elsewhere:
        others |= zero_shot_outcomes(model, other)
    return HeadOutcomes(right, answered, probability, len(places), others)


def zero_shot_outcomes(model: Model, other: Elsewhere) -> dict[str, tuple[Outcomes, float]]:
    """Top-1 by class names, or recall@10 both ways: by name, the outcome of each image and the chance of it."""
    dataset = other.dataset
    vectors = model.embed_images(dataset.images(), progress=False)
    if dataset.classes:
        right = label_ranks(vectors @ other.texts.T, dataset.labels) == 1
        return {f"{dataset.name} zero_shot_top1": (right.astype(np.float32), 1 / len(dataset.classes))}
    owner = np.array([image for image, texts in enumerate(dataset.captions) for _ in texts])
    scores = vectors @ other.texts.T  # [n m]
    matches = owner[None] == np.arange(len(vectors))[:, None]
    to_image = match_ranks(scores.T, matches.T) <= K  # [m]
    counts = np.bincount(owner, minlength=len(vectors))
    of_captions = np.bincount(owner, weights=to_image, minlength=len(vectors)) / np.maximum(counts, 1)
    to_text = match_ranks(scores, matches) <= K
    usual = round(len(owner) / len(vectors))  # captions of an image
    return {
        f"{dataset.name} text_to_image_recall@{K}": (of_captions.astype(np.float32), chance_recall(len(vectors), 1, K)),
        f"{dataset.name} image_to_text_recall@{K}": (to_text.astype(np.float32), chance_recall(len(owner), usual, K)),
    }
