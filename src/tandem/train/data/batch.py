"""What one process learns from in one step. Plain arrays and words: no file, no tensor, no model known here.

A step's global batch has slots 0..N-1, a picture each; a process has a contiguous share of them. What is in a slot
depends on (recipe, step, slot) alone, not on how many processes or workers there are.

Shapes: n pictures of this process, m sentences of this process, N and M those of all processes, t tokens, s pixels a
side, k patches kept, c classes.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Classes:
    """For a classification term: which of this process's pictures have a class, and one sentence for every class.

    Sentences and their ids are the same on every process; a class whose pictures are in the batch has the sentence
    that the batch has for it.
    """

    rows: np.ndarray  # int64 [r]: rows of this process's pictures that have a class
    labels: np.ndarray  # int64 [r]: their class, 0..c-1
    ids: np.ndarray  # int32 [c t]
    sentences: list[str]  # c of them
    total: int  # pictures of all processes that have a class: what a mean divides by


@dataclass(frozen=True)
class Batch:
    """This process's share of a step."""

    step: int
    pixels: np.ndarray  # uint8 [n s s 3]
    ids: np.ndarray  # int32 [m t], cut to the longest sentence of the share, padded
    sentences: list[str]  # m of them
    keys: list[str]  # n: where each picture came from, for messages
    targets: np.ndarray | None  # None: sentence k describes picture k. Else float32 [N M], 1 where one describes it
    first_picture: int  # this process's rows begin here in N ...
    first_sentence: int  # ... and here in M
    pictures: int  # N
    total_sentences: int  # M
    kept: np.ndarray | None = None  # int64 [n k], ascending: patches kept by patch dropout; None: all
    classes: Classes | None = None
    broken: tuple[tuple[str, str], ...] = ()  # (key, reason) of samples of this share that another one replaced
