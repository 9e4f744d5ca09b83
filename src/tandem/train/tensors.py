"""One process's share of a step, as tensors: what the towers read and what the losses compare.

Knows neither towers nor losses. Texts come in three runs, in this order: the sentences of the batch, further words that
a sentence encoder teaches, and one sentence for each class.

Letters: n pictures and m sentences of this process, N and M of all of them, w words, c classes, e a teacher's width.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tensors:
    """The share of a step. Tensors are on the device, `ids` may stay on the host: their lengths shape the work."""

    pixels: Tensor  # uint8 [n s s 3]
    ids: Tensor  # int32 [m+w+c t]
    sentences: int  # m
    pictures: int  # N
    total_sentences: int  # M
    first_picture: int = 0  # where the own rows begin in N
    first_sentence: int = 0  # ... and in M
    targets: Tensor | None = None  # float32 [N M]; None: the k-th sentence describes the k-th picture
    kept: Tensor | None = None  # int64 [n k]: the patches that patch dropout keeps

    words: int = 0  # w
    total_words: int = 0  # of all processes
    taught: Tensor | None = None  # float32 [m+w e]: a sentence encoder's unit vectors of sentences and words

    teacher_images: Tensor | None = None  # float32 [n e]: a CLIP teacher's unit vectors
    teacher_texts: Tensor | None = None  # float32 [m e]

    classes: int = 0  # c; their sentences are the same on every process
    labelled: Tensor | None = None  # int64 [k]: rows of the own pictures that have a class
    labels: Tensor | None = None  # int64 [k]: which one
    total_labelled: int = 0  # of all processes
