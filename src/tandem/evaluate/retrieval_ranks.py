"""Ranks of retrieval in both directions from vectors, in blocks: the whole matrix of scores is never held.

Shapes: n images, m texts, d the shared dimension. Each text is of one image, its owner.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import DataError

# Cosines closer than this are equal: the rounding of float32 products depends on where in a matrix they are computed,
# by up to about 5e-7. Equal ones count against the model, whichever way they were rounded.
RESOLUTION = np.float32(1e-6)
_IMAGES, _TEXTS = 250, 1 << 15  # of a block: 31 MB of scores. At most 255 images: bytes count them.

Ranks = NDArray[np.int64]


def retrieval_ranks(images: Vectors, texts: Vectors, owner: NDArray[np.integer]) -> tuple[Ranks, Ranks]:
    """The rank of each text's image among all images [m], and of each image's best text among all texts [n], from 1.

    images [n d] and texts [m d] of unit length, owner [m]: places of images. A rank is 1 plus the number of others
    that score at least as high; an image's own texts are no others to each other. Raises `DataError` for an image
    without a text, and for vectors that are not finite.
    """
    missing = np.setdiff1d(np.arange(len(images)), owner)
    if len(missing) or not len(images):
        raise DataError(f"retrieval: {len(missing)} images have no text, the first is image {missing[:1].tolist()}")
    own = np.einsum("md,md->m", images[owner], texts)
    if not (np.isfinite(own).all() and np.isfinite(images).all()):
        raise DataError("retrieval: expected finite vectors")
    best = np.full(len(images), -np.inf, dtype=np.float32)
    np.maximum.at(best, owner, own)
    of_texts, of_images = np.ones(len(texts), dtype=np.int64), np.ones(len(images), dtype=np.int64)
    for at_text in range(0, len(texts), _TEXTS):
        some = slice(at_text, min(at_text + _TEXTS, len(texts)))
        threshold, transposed = own[some] - RESOLUTION, texts[some].T
        for at_image in range(0, len(images), _IMAGES):
            here = slice(at_image, at_image + _IMAGES)
            scores = images[here] @ transposed  # [i d] [d j] -> [i j]
            inside = np.flatnonzero((owner[some] >= here.start) & (owner[some] < here.stop))
            scores[owner[some][inside] - at_image, inside] = -np.inf
            above = scores >= threshold
            of_texts[some] += np.add.reduce(above.view(np.uint8), axis=0, dtype=np.uint8)
            np.greater_equal(scores, best[here, None] - RESOLUTION, out=above)
            # A count of one row of bytes at a time is twenty times faster than one along an axis.
            of_images[here] += [int(np.count_nonzero(row)) for row in above]
    return of_texts, of_images
