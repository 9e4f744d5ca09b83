"""Search both ways on pictures with captions: any caption of a picture counts as a match for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tandem.evaluate.metrics import recall_at_k
from tandem.image import ImageSource
from tandem.model import Model


@dataclass(frozen=True)
class Retrieval:
    """Recall at k in both directions, 0..1, by k, and what guessing would give at k = 10."""

    text_to_image: dict[int, float]
    image_to_text: dict[int, float]
    chance_text_to_image_10: float
    chance_image_to_text_10: float
    pictures: int
    sentences: int


def retrieval(
    model: Model, images: Iterable[ImageSource], captions: Sequence[Sequence[str]], ks: Sequence[int] = (1, 5, 10)
) -> Retrieval:
    """Find every picture by each of its captions, and a caption of its own by every picture."""
    pictures = model.embed_images(images, batch_size=128, progress=False)
    sentences = model.embed_texts([text for texts in captions for text in texts], truncate=True)
    owner = np.array([i for i, texts in enumerate(captions) for _ in texts])
    matches = owner[:, None] == np.arange(len(pictures))[None]  # [m n]
    scores = model.similarity(sentences, pictures)
    per_picture = len(owner) / len(pictures)
    return Retrieval(
        {k: recall_at_k(scores, matches, k) for k in ks},
        {k: recall_at_k(scores.T, matches.T, k) for k in ks},
        10 / len(pictures),
        1 - (1 - per_picture / len(owner)) ** 10,
        len(pictures),
        len(owner),
    )
