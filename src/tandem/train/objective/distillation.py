"""What teachers add to the objective: of sentences (Hinton et al. 2015), and a CLIP of both sides.

Shapes: n pictures and m sentences of this process, N and M those of all processes, d and e dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tandem.train.objective.losses import Gather, alone

Side = tuple[
    Tensor, Tensor, Tensor | float
]  # unit vectors of pictures [n d] and sentences [m d], and the logits' factor


def soften(targets: Tensor, sentences: Tensor, share: float, temperature: float) -> Tensor:
    """Give `share` of each picture's target to the sentences that a teacher finds close to its own ones.

    targets [N M], sentences [M e]: the teacher's unit vectors -> [N M], rows of sum 1.
    """
    hard = targets / targets.sum(1, keepdim=True)
    similarity = hard @ (sentences @ sentences.T)  # [N M], a picture stands where its sentences stand
    return (1 - share) * hard + share * F.softmax(similarity / temperature, dim=1)


def distillation_loss(students: Tensor, teachers: Tensor, total: int | None = None) -> Tensor:
    """This process's share of the mean of 1 - cosine.

    students [m e], of any length; teachers [m e], of unit length. total: sentences of all processes; None: m.
    """
    distances = 1 - (F.normalize(students, dim=-1) * teachers).sum(-1)  # [m]
    return distances.sum() / (len(distances) if total is None else total)


def similarity_loss(student: Side, teacher: Side, gather: Gather = alone) -> Tensor:
    """This process's share of the divergence of the student's similarities from the teacher's (CLIP-KD, Yang et al.
    2024, 3.2: CRD): the mean over pictures of KL(teacher's softmax over the sentences, student's), and over sentences
    of that over the pictures, halved. Zero where both see alike, whatever their widths.

    The own rows of the matrices of logits are held: [n M] and [m N], four of each.
    """
    images, texts, scale = student
    wanted_images, wanted_texts, wanted_scale = teacher
    images_all, texts_all = gather(images)[0], gather(texts)[0]
    with torch.no_grad():
        wanted_images_all, wanted_texts_all = gather(wanted_images)[0], gather(wanted_texts)[0]
    by_image = _divergence(scale * images @ texts_all.T, wanted_scale * wanted_images @ wanted_texts_all.T)
    by_text = _divergence(scale * texts @ images_all.T, wanted_scale * wanted_texts @ wanted_images_all.T)
    return (by_image / len(images_all) + by_text / len(texts_all)) / 2


def _divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Sum over the rows of KL(softmax of `wanted`, softmax of `logits`)."""
    return F.kl_div(logits.log_softmax(1), wanted.log_softmax(1), reduction="sum", log_target=True)
