"""The data of one process in one step, as plain arrays and strings. Knows no file, tensor or model.

The global batch of a step has slots 0..N-1 with one image each; a process has a contiguous range of them. What is in a
slot depends on (recipe, step, slot) alone, not on the number of processes or workers.

Shapes: n images and m texts of this process, N and M those of all processes, t tokens, s pixels a side, k patches kept,
e matches, c classes.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Matches:
    """Which texts of the whole batch describe this process's images. As pairs: of N x M possible ones few match."""

    images: np.ndarray  # int64 [e], ascending: rows of this process's images
    texts: np.ndarray  # int64 [e]: texts of the whole batch, 0..M-1
    images_per_text: np.ndarray  # int64 [M]: how many images of the whole batch each text describes


@dataclass(frozen=True)
class Classes:
    """For a classification loss: which of this process's images have a class, and one text for every class.

    Texts and their ids are the same on every process. A class with images in the batch has the text it has there.
    Where a head classifies, instead of texts, there are none.
    """

    rows: np.ndarray  # int64 [r]: rows of this process's images that have a class
    labels: np.ndarray  # int64 [r]: their class, 0..c-1
    ids: np.ndarray  # int32 [c t], or [0 t]
    texts: list[str]  # c of them, or none
    total: int  # images of all processes that have a class: the denominator of a mean
    sources: np.ndarray | None = None  # int64 [c]: of which training set each class is; None: all of one


@dataclass(frozen=True)
class Batch:
    """This process's share of a step."""

    step: int
    pixels: np.ndarray  # uint8 [n s s 3]
    ids: np.ndarray  # int32 [m t], cut to the longest text of the share, padded
    texts: list[str]  # m of them
    keys: list[str]  # n: where each image comes from, for messages
    matches: Matches | None  # None: text k describes image k and no other
    first_image: int  # this process's rows begin here in N ...
    first_text: int  # ... and here in M
    total_images: int  # N
    total_texts: int  # M
    kept: np.ndarray | None = None  # int64 [n k], ascending: patches kept by patch dropout; None: all
    classes: Classes | None = None
    replaced: tuple[tuple[str, str], ...] = ()  # (key, reason) of broken samples of this share
