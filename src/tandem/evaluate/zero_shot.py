"""Classification by words: how often the right name wins. Whether its classes were seen in training, it cannot know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tandem.evaluate.metrics import top_k_accuracy
from tandem.image import ImageSource
from tandem.model import Model


@dataclass(frozen=True)
class ZeroShot:
    """Shares of pictures, 0..1, and what guessing would give."""

    top1: float
    top5: float
    chance: float
    pictures: int


def zero_shot(
    model: Model,
    images: Iterable[ImageSource],
    labels: Sequence[int],
    names: Sequence[str],
    templates: str | Sequence[str] | None = None,
) -> ZeroShot:
    """Classify `images` among `names`; `labels` are the right names' places, one for each picture."""
    vectors = model.embed_images(images, batch_size=128, progress=False)
    scores = model.similarity(vectors, model.class_vectors(names, templates))  # [n c]
    right = np.asarray(labels)
    five = min(5, len(names))
    return ZeroShot(top_k_accuracy(scores, right), top_k_accuracy(scores, right, five), 1 / len(names), len(right))
