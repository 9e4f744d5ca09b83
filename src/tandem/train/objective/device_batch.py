"""One process's share of a step, as tensors: what the towers read and what the losses compare.

Knows neither towers nor losses. Texts come in three parts, in this order: the texts of the batch, further words that a
sentence encoder teaches, and one text for each class.

Shapes: n images and m texts of this process, N and M those of all processes, w words, c classes, e a teacher's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tandem.tokenizer import Tokenizer
from tandem.train.data.batch import Batch
from tandem.train.objective.clip_teacher import ClipTeacher
from tandem.train.objective.targets import SparseTargets
from tandem.train.objective.teacher import TeacherTargets


@dataclass(frozen=True)
class DeviceBatch:
    """The share of a step. Tensors are on the device; `ids` may stay on the host, where their lengths are read."""

    pixels: Tensor  # uint8 [n s s 3]
    ids: Tensor | None  # int32 [m+w+c t]; None: no process has a text
    texts: int  # m
    total_texts: int  # M
    targets: SparseTargets | None = None  # None: the k-th text describes the k-th image and no other
    kept: Tensor | None = None  # int64 [n k]: the patches that patch dropout keeps

    words: int = 0  # w
    total_words: int = 0  # of all processes
    teacher_vectors: Tensor | None = None  # float32 [m+w e]: a sentence encoder's unit vectors of texts and words

    teacher_images: Tensor | None = None  # float32 [n e]: a CLIP teacher's unit vectors
    teacher_texts: Tensor | None = None  # float32 [m e]

    classes: int = 0  # c; their texts are the same on every process. 0 where a head classifies
    labelled: Tensor | None = None  # int64 [k]: rows of the own images that have a class
    labels: Tensor | None = None  # int64 [k]: which one
    total_labelled: int = 0  # of all processes
    class_sources: Tensor | None = None  # int64 [c]: classes of one source compete; None: all of them


def to_device_batch(
    batch: Batch,
    teacher: TeacherTargets | None,
    tokenizer: Tokenizer,
    context_length: int,
    device: torch.device,
    clip_teacher: ClipTeacher | None = None,
) -> DeviceBatch:
    """The share of a step on `device`; ids stay on the host, where their lengths are read."""
    words = teacher.words(batch.step) if teacher else []
    classes = batch.classes
    ids = [batch.ids]
    if words:
        ids.append(tokenizer(words, context_length, truncate=True))
    if classes is not None:
        ids.append(classes.ids)

    def to_device(array: np.ndarray | None) -> Tensor | None:
        return None if array is None else _to_device(array, device)

    pixels = _to_device(batch.pixels, device)
    any_text = batch.total_texts or words or (classes and classes.texts)
    return DeviceBatch(
        pixels=pixels,
        ids=torch.from_numpy(_stacked(ids, tokenizer)) if any_text else None,
        texts=len(batch.texts),
        total_texts=batch.total_texts,
        targets=_targets(batch, device),
        kept=to_device(batch.kept),
        words=len(words),
        total_words=teacher.per_batch if teacher else 0,
        teacher_vectors=teacher.vectors([*batch.texts, *words]).to(device) if teacher else None,
        teacher_images=clip_teacher.images(pixels) if clip_teacher else None,
        teacher_texts=clip_teacher.texts(batch.texts) if clip_teacher else None,
        classes=len(classes.texts) if classes else 0,
        labelled=to_device(classes.rows) if classes else None,
        labels=to_device(classes.labels) if classes else None,
        total_labelled=classes.total if classes else 0,
        class_sources=to_device(classes.sources) if classes else None,
    )


def _to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """On the device, some time soon: a copy to a GPU runs beside what follows if the memory it reads is pinned."""
    tensor = torch.from_numpy(array)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def _targets(batch: Batch, device: torch.device) -> SparseTargets | None:
    if batch.matches is None:
        return None
    images, texts, images_per_text = (
        torch.from_numpy(array).to(device, non_blocking=True)
        for array in (batch.matches.images, batch.matches.texts, batch.matches.images_per_text)
    )
    values = torch.ones(len(images), device=device)
    return SparseTargets(images, texts, values, len(batch.pixels), batch.total_images, images_per_text.float())


def _stacked(parts: Sequence[np.ndarray], tokenizer: Tokenizer) -> np.ndarray:
    """[m t], [w t'], [c t''] -> int32 [m+w+c longest], padded, no longer than the longest text."""
    pad = tokenizer.pad_id
    rows = [part[:, : _used(part, pad) + (pad == tokenizer.end_id)] for part in parts]  # one more may be an end token
    longest = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, longest - row.shape[1])), constant_values=pad) for row in rows]
    return np.concatenate(padded).astype(np.int32)


def _used(ids: np.ndarray, pad_id: int) -> int:
    """The number of columns, at least one, after which there is only padding."""
    return int(np.flatnonzero((ids != pad_id).any(axis=0)).max(initial=0)) + 1
