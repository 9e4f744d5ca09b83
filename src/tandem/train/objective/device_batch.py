"""One process's share of a step, as tensors: what the towers read and what the losses compare.

Knows neither towers nor losses. Texts come in three runs, in this order: the sentences of the batch, further words that
a sentence encoder teaches, and one sentence for each class.

Shapes: n pictures and m sentences of this process, N and M of all of them, w words, c classes, e a teacher's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tandem.tokenizer import Tokenizer
from tandem.train.data.batch import Batch
from tandem.train.objective.clip_teacher import ClipTeacher
from tandem.train.objective.teacher import Lessons


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


def to_tensors(
    batch: Batch,
    lessons: Lessons | None,
    tokenizer: Tokenizer,
    context_length: int,
    device: torch.device,
    clip_teacher: ClipTeacher | None = None,
) -> Tensors:
    """The share of a step on `device`; ids stay on the host, where their lengths shape the work."""
    words = lessons.words(batch.step) if lessons else []
    classes = batch.classes
    lots = [batch.ids]
    if words:
        lots.append(tokenizer(words, context_length, truncate=True))
    if classes is not None:
        lots.append(classes.ids)

    def moved(array: np.ndarray | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array).to(device, non_blocking=True)

    pixels = torch.from_numpy(batch.pixels).to(device, non_blocking=True)
    return Tensors(
        pixels=pixels,
        ids=torch.from_numpy(_one_below_the_other(lots, tokenizer)),
        sentences=len(batch.sentences),
        pictures=batch.pictures,
        total_sentences=batch.total_sentences,
        first_picture=batch.first_picture,
        first_sentence=batch.first_sentence,
        targets=moved(batch.targets),
        kept=moved(batch.kept),
        words=len(words),
        total_words=lessons.per_batch if lessons else 0,
        taught=lessons.vectors([*batch.sentences, *words]).to(device) if lessons else None,
        teacher_images=clip_teacher.images(pixels) if clip_teacher else None,
        teacher_texts=clip_teacher.texts(batch.sentences) if clip_teacher else None,
        classes=len(classes.sentences) if classes else 0,
        labelled=moved(classes.rows) if classes else None,
        labels=moved(classes.labels) if classes else None,
        total_labelled=classes.total if classes else 0,
    )


def _one_below_the_other(lots: Sequence[np.ndarray], tokenizer: Tokenizer) -> np.ndarray:
    """[m t], [w t'], [c t''] -> int32 [m+w+c longest], padded, no longer than the longest sentence."""
    rows = [lot[:, : ((lot == tokenizer.end_id).argmax(1) + 1).max(initial=1)] for lot in lots]
    longest = max(row.shape[1] for row in rows)
    pad = tokenizer.pad_id
    padded = [np.pad(row, ((0, 0), (0, longest - row.shape[1])), constant_values=pad) for row in rows]
    return np.concatenate(padded).astype(np.int32)
