"""Labelled vectors that a head is fitted from, checked once for all methods.

Shapes: n images, d the shared dimension, c classes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tandem.arrays import Vectors
from tandem.errors import DataError, named


@dataclass(frozen=True, eq=False)
class Shots:
    """The vectors of a few images, their labels, and the vectors and the scale that zero-shot would classify with.

    Every class has at least one image. Made by `check_shots`.
    """

    vectors: Vectors  # float32 [n d], of unit length
    labels: NDArray[np.int64]  # [n], places in `classes`
    classes: tuple[str, ...]
    class_vectors: Vectors  # float32 [c d], of unit length
    logit_scale: float

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Images of each class, int64 [c]."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @cached_property
    def means(self) -> Vectors:
        """The mean vector of each class, float32 [c d]."""
        sums = np.zeros(self.class_vectors.shape, dtype=np.float64)
        np.add.at(sums, self.labels, self.vectors)
        return np.asarray(sums / self.counts[:, None], dtype=np.float32)

    @cached_property
    def zero_shot_logits(self) -> Vectors:
        """What the model says without these images, float32 [n c]."""
        return np.float32(self.logit_scale) * (self.vectors @ self.class_vectors.T)

    def take(self, places: NDArray[np.intp]) -> "Shots":
        """Those at `places`. Raises `DataError` where they leave a class without an image."""
        return check_shots(
            self.vectors[places], self.labels[places], self.classes, self.class_vectors, self.logit_scale
        )

    def at_least(self, images: int, why: str) -> None:
        """Raise `DataError`, naming the classes, where a class has fewer images than a method needs."""
        few = [repr(name) for name, count in zip(self.classes, self.counts, strict=True) if count < images]
        if few:
            raise DataError(f"{why} needs at least {images} images of every class; fewer of {named(few)}")


def check_shots(
    vectors: ArrayLike, labels: ArrayLike, classes: tuple[str, ...], class_vectors: ArrayLike, logit_scale: float
) -> Shots:
    """Shots from plain arrays. Raises `DataError` for shapes that do not fit, values that are not finite, labels that
    are no places in `classes`, and classes without an image, by name."""
    images, texts = np.asarray(vectors, dtype=np.float32), np.asarray(class_vectors, dtype=np.float32)
    places = np.asarray(labels)
    if not classes or texts.ndim != 2 or len(texts) != len(classes):
        raise DataError(f"expected a vector for each of {len(classes)} classes, [c d], got the shape {texts.shape}")
    if images.ndim != 2 or images.shape[1] != texts.shape[1] or len(images) == 0:
        raise DataError(f"expected vectors [n {texts.shape[1]}] as the classes have, got the shape {images.shape}")
    if places.shape != (len(images),) or not np.issubdtype(places.dtype, np.integer):
        raise DataError(
            f"expected a label for each of {len(images)} vectors, integers [n], got {places.dtype} {places.shape}"
        )
    if places.min() < 0 or places.max() >= len(classes):
        raise DataError(f"expected labels from 0 to {len(classes) - 1}, got {places.min()} to {places.max()}")
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        raise DataError("expected finite vectors, got NaN or infinity: leave out the images that could not be read")
    shots = Shots(images, places.astype(np.int64), tuple(classes), texts, float(logit_scale))
    without = [repr(name) for name, count in zip(shots.classes, shots.counts, strict=True) if not count]
    if without:
        raise DataError(f"no image of {named(without)}: give at least one of every class, or leave the class out")
    return shots
