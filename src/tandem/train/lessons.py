"""A share of a step with what its teachers say of it, as tensors: the batch's words and pictures, and their vectors.

Knows batches and vectors by sentence; no towers, no losses.

Letters: m sentences, w words, c classes, t tokens, e the teacher's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tandem.tokenizer import Tokenizer
from tandem.train.clip_teacher import ClipTeacher
from tandem.train.data.batch import Batch
from tandem.train.parallel.shares import shares
from tandem.train.tensors import Tensors


@dataclass(frozen=True)
class Lessons:
    """The teacher's vectors of every sentence of the run, and words of its own to teach beside them."""

    known: dict[str, np.ndarray]  # unit vectors [e]
    extra: list[str]
    per_batch: int  # words of a step, of all processes
    seed: int
    rank: int = 0
    processes: int = 1

    @property
    def width(self) -> int:
        """The teacher's dimension."""
        return len(next(iter(self.known.values())))

    def words(self, step: int) -> list[str]:
        """This process's share of the extra sentences of a step."""
        return drawn_words(self.extra, self.per_batch, self.seed, step)[
            shares(self.per_batch, self.processes)[self.rank]
        ]

    def vectors(self, sentences: Sequence[str]) -> Tensor:
        """Unit vectors float32 [m e]."""
        found = [self.known[sentence] for sentence in sentences]
        rows = np.stack(found) if found else np.empty((0, self.width), np.float16)
        return F.normalize(torch.from_numpy(rows).float(), dim=-1)


def drawn_words(words: Sequence[str], count: int, seed: int, step: int) -> list[str]:
    """The extra sentences of a step, of all processes."""
    draw = np.random.default_rng((seed, step, 1))
    return [words[i] for i in draw.integers(len(words), size=count)] if count else []


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
