"""The scores as arithmetic on unit vectors. Knows no model, no image and no text.

Shapes: n pairs, d dimensions.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors

Metric: TypeAlias = Literal["clip_score", "ref_clip_score", "image_similarity", "directional_similarity"]
Floats: TypeAlias = NDArray[np.float32]

WEIGHT = 2.5  # w of Hessel et al. 2021, section 3: it stretches cosines, which rarely pass 0.4, over 0..1
TORCHMETRICS = 100.0  # what torchmetrics multiplies a cosine with instead; there is no w in it
PAPER_PREFIX = "A photo depicts"  # what Hessel et al. 2021 put before captions (section 3)
UNMOVED = 1e-4  # length of a difference of unit vectors that is rounding, from batches of other sizes


def cosines(left: Vectors, right: Vectors) -> Floats:
    """Of unit vectors [n d] and [n d], pair by pair: float32 [n] in -1..1."""
    return _bounded(np.einsum("nd,nd->n", left, right))


def clip_score(cosine: Floats) -> Floats:
    """CLIPScore, w max(cos, 0) with w = 2.5, of image-text cosines [n] (Hessel et al. 2021, equation 1)."""
    return np.asarray(np.float32(WEIGHT) * np.maximum(cosine, 0), dtype=np.float32)


def ref_clip_score(cosine: Floats, nearest_reference: Floats) -> Floats:
    """RefCLIPScore [n] (Hessel et al. 2021, equation 2).

    The harmonic mean of CLIPScore and of max(cos, 0) of the text and its nearest reference; 0 where either is 0.
    """
    score, reference = clip_score(cosine), np.maximum(nearest_reference, 0)
    total = score + reference
    found = np.divide(2 * score * reference, total, out=np.zeros_like(score), where=total > 0)
    return np.asarray(found, dtype=np.float32)


def nearest(text: Vectors, references: Vectors, counts: Sequence[int]) -> Floats:
    """The highest cosine of each text [n d] with its references, of which the first has counts[0], and so on: [n]."""
    owner = np.repeat(np.arange(len(counts)), counts)
    each = cosines(text[owner], references)
    return np.maximum.reduceat(each, np.cumsum([0, *counts[:-1]])) if len(counts) else each


def directional_similarity(image: Vectors, source_image: Vectors, text: Vectors, source_text: Vectors) -> Floats:
    """cos(image - source_image, text - source_text) of unit vectors [n d]: float32 [n] (Gal et al. 2022, section 4.1).

    An image that did not move follows no direction: 0, as torch's cosine similarity has it. So is one of texts that are
    the same, which `has_direction` finds beforehand.
    """
    moved, asked = image - source_image, text - source_text
    lengths = np.linalg.norm(moved, axis=1) * np.linalg.norm(asked, axis=1)
    there = (np.linalg.norm(moved, axis=1) > UNMOVED) & has_direction(text, source_text)
    products = np.einsum("nd,nd->n", moved, asked)
    found = np.divide(products, lengths, out=np.zeros_like(products), where=there)
    return _bounded(found)


def has_direction(text: Vectors, source_text: Vectors) -> NDArray[np.bool_]:
    """Whether the two texts of each pair differ to the model, [n]."""
    return np.asarray(np.linalg.norm(text - source_text, axis=1) > UNMOVED)


def _bounded(cosine: NDArray[np.floating]) -> Floats:
    """Rounding may have brought a cosine past 1."""
    return np.asarray(np.clip(cosine, -1, 1), dtype=np.float32)
