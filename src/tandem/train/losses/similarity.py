"""What a CLIP teacher adds to the objective: how it sees the batch's pictures among the sentences, and back.

Letters: n pictures and m sentences of this process, N and M those of all processes, d and e dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tandem.train.losses.joining import Gather, alone

Side = tuple[
    Tensor, Tensor, Tensor | float
]  # unit vectors of pictures [n d] and sentences [m d], and the logits' factor


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
