"""Losses from teachers: a sentence encoder (Hinton et al. 2015), and a CLIP of both towers.

Shapes: n images and m texts of this process, N and M those of all processes, d and e dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tandem.train.objective.blocks import by_row_blocks, recomputed
from tandem.train.parallel.process import Gather, single_process

# Unit vectors of images [n d] and texts [m d], and the factor of their logits.
View = tuple[Tensor, Tensor, Tensor | float]


def distillation_loss(students: Tensor, teachers: Tensor, total: int | None = None) -> Tensor:
    """This process's share of the mean of 1 - cosine.

    students [m e], of any length; teachers [m e], of unit length. total: texts of all processes; None: m.
    """
    distances = 1 - (F.normalize(students, dim=-1) * teachers).sum(-1)  # [m]
    return distances.sum() / (len(distances) if total is None else total)


def similarity_loss(student: View, teacher: View, gather: Gather | None = None) -> Tensor:
    """This process's share of the divergence of the student's similarities from the teacher's (CLIP-KD, Yang et al.
    2024, 3.2: CRD): the mean over images of KL(teacher's softmax over the texts, student's), and over texts of that
    over the images, halved. Zero where both agree, whatever their widths.

    Rows of the logits are computed a block at a time, and again in the backward pass.
    """
    join = gather or single_process().gather
    images, texts, scale = student
    teacher_images, teacher_texts, teacher_scale = teacher
    all_images, all_texts = join(images)[0], join(texts)[0]
    with torch.no_grad():
        all_teacher_images, all_teacher_texts = join(teacher_images)[0], join(teacher_texts)[0]
    by_image = _divergence((images, all_texts, scale), (teacher_images, all_teacher_texts, teacher_scale))
    by_text = _divergence((texts, all_images, scale), (teacher_texts, all_teacher_images, teacher_scale))
    return (by_image / len(all_images) + by_text / len(all_texts)) / 2


def _divergence(student: View, teacher: View) -> Tensor:
    """Queries [n d], keys [M d] and a factor of each -> sum over queries of KL(softmax of teacher, of student)."""
    queries, keys, scale = student
    teacher_queries, teacher_keys, teacher_scale = teacher

    def block(rows: Tensor, columns: Tensor, factor: Tensor | float, teacher_rows: Tensor) -> Tensor:
        logits = (factor * rows @ columns.T).log_softmax(1)
        wanted = (teacher_scale * teacher_rows @ teacher_keys.T).log_softmax(1)
        return F.kl_div(logits, wanted, reduction="sum", log_target=True)

    sums = [
        recomputed(block, queries[rows], keys, scale, teacher_queries[rows])
        for rows in by_row_blocks(len(queries), len(keys), queries.device)
    ]
    return torch.stack(sums).sum() if sums else queries.sum() * 0.0
