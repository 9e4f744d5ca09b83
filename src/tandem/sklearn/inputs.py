"""What the `X` of an estimator is: several images, or a table of vectors. Knows shapes and types; reads no image."""

import os
from collections.abc import Iterable
from numbers import Number
from typing import Any

import numpy as np
from PIL import Image

from tandem.image import ImageSource

_TEXTS = "OUT"  # kinds of numpy's types that hold paths: objects and strings


def is_table(X: Any) -> bool:
    """Whether this is meant as rows of numbers: an array or a data frame [n d], or a list of such rows.

    A single column of objects or strings is one of images.
    """
    if isinstance(X, list | tuple):
        first = X[0] if X else None
        if isinstance(first, list | tuple):
            first = first[0] if first else 0
        return isinstance(first, Number) or (isinstance(first, np.ndarray) and first.ndim < 2)
    if hasattr(X, "tocsr"):  # sparse
        return True
    if isinstance(X, Image.Image) or not hasattr(X, "__array__"):
        return False
    array = np.asarray(X)
    return array.ndim in (1, 2) and (array.dtype.kind not in f"{_TEXTS}S" or _columns(array) > 1)


def images_in(X: Any, estimator: str) -> Iterable[ImageSource]:
    """The images of `X`, one after another.

    Takes a list, a column of a data frame, an array of paths [n] or [n 1], an array of images [n h w 3], or any other
    iterable of what `Model.embed_images` takes. Raises `TypeError` for a sparse table, `ValueError` for anything else.
    """
    several = f"{estimator}: expected several images"
    if isinstance(X, str | bytes | bytearray | memoryview | os.PathLike | Image.Image) or hasattr(X, "read"):
        raise ValueError(f"{several}, got one ({type(X).__name__}); for one image give a list of it")
    if hasattr(X, "tocsr"):
        raise TypeError(f"{several}, got a sparse table; sparse input is not supported")
    if is_table(X):
        shape = getattr(X, "shape", None) or np.shape(X)
        raise ValueError(
            f"{several} (paths, PIL images, bytes or arrays [h w 3]), got a table of numbers of shape {tuple(shape)}"
        )
    if hasattr(X, "__array__"):
        return _of_array(X if isinstance(X, np.ndarray) else np.asarray(X), several)
    if not isinstance(X, Iterable):
        raise ValueError(f"{several}, got {type(X).__name__}")
    return X


def _of_array(array: np.ndarray, several: str) -> Iterable[ImageSource]:
    if array.dtype.kind == "S":
        raise ValueError(f"{several}, got an array of bytes, which loses zeros at their ends; give a list of bytes")
    if array.ndim in (1, 2) and array.dtype.kind in _TEXTS and _columns(array) == 1:
        found: list[ImageSource] = array.reshape(-1).tolist()
        return found
    if array.ndim == 4:
        return array
    raise ValueError(
        f"{several}, an array [n h w 3] or a list, got an array of shape {array.shape}"
        + ("; for one image give a list of it" if array.ndim == 3 else "")
    )


def _columns(array: np.ndarray) -> int:
    return 1 if array.ndim == 1 else array.shape[1]
