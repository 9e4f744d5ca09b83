"""What a model is measured by: classification by words, and search both ways on images with captions.

Whether classes or captions were seen in training, it cannot know.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tandem.evaluate.metrics import recall_at_k, top_k_accuracy
from tandem.image import ImageSource
from tandem.model import Model
from tandem.prompts import Labels


@dataclass(frozen=True)
class ZeroShot:
    """Shares of images, 0..1, and what guessing would give."""

    top1: float
    top5: float
    chance: float
    images: int


def zero_shot(
    model: Model,
    images: Iterable[ImageSource],
    labels: Sequence[int],
    names: Labels,
    templates: str | Sequence[str] | None = None,
    *,
    language: str | None = None,
) -> ZeroShot:
    """Classify `images` among `names`; `labels` are the right names' places, one for each image.

    `language` is that of the names, as for `Model.classify`.
    """
    vectors = model.embed_images(images, batch_size=128, progress=False)
    scores = model.similarity(vectors, model.class_vectors(names, templates, language=language))  # [n c]
    right = np.asarray(labels)
    five = min(5, len(names))
    return ZeroShot(top_k_accuracy(scores, right), top_k_accuracy(scores, right, five), 1 / len(names), len(right))


@dataclass(frozen=True)
class Retrieval:
    """Recall at k in both directions, 0..1, by k, and what guessing would give at k = 10."""

    text_to_image: dict[int, float]
    image_to_text: dict[int, float]
    chance_text_to_image_10: float
    chance_image_to_text_10: float
    images: int
    texts: int


def retrieval(
    model: Model, images: Iterable[ImageSource], captions: Sequence[Sequence[str]], ks: Sequence[int] = (1, 5, 10)
) -> Retrieval:
    """Find every image by each of its captions, and a caption of its own by every image: any of them counts."""
    image_vectors = model.embed_images(images, batch_size=128, progress=False)
    text_vectors = model.embed_texts([text for texts in captions for text in texts], truncate=True)
    owner = np.array([i for i, texts in enumerate(captions) for _ in texts])
    matches = owner[:, None] == np.arange(len(image_vectors))[None]  # [m n]
    scores = model.similarity(text_vectors, image_vectors)
    per_image = len(owner) / len(image_vectors)
    return Retrieval(
        {k: recall_at_k(scores, matches, k) for k in ks},
        {k: recall_at_k(scores.T, matches.T, k) for k in ks},
        10 / len(image_vectors),
        1 - (1 - per_image / len(owner)) ** 10,
        len(image_vectors),
        len(owner),
    )
