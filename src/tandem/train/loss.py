"""The contrastive objective: arithmetic on vectors. Knows no model, no device and no process.

Letters: n pictures, m sentences, d the shared dimension.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Gather = Callable[[Tensor], Tensor]


def contrastive_loss(
    images: Tensor, texts: Tensor, logit_scale: Tensor, targets: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, figure 3): the mean of the two cross-entropies over the logits.

    images [n d], texts [m d]: unit length, float32. logit_scale: the logarithm of the logits' factor.
    targets [n m]: how much each sentence describes each picture, 0 or more; each row and each column has a positive
    sum and is scaled to 1. None: the k-th sentence describes the k-th picture and no other.
    gather: joins the vectors of all processes, with gradient; None where there is one.
    """
    if gather is not None:
        images, texts = gather(images), gather(texts)
    logits = logit_scale.exp() * images @ texts.T  # [n m]
    if targets is None:
        labels = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    by_image = targets / targets.sum(1, keepdim=True)
    by_text = targets.T / targets.T.sum(1, keepdim=True)
    return (F.cross_entropy(logits, by_image) + F.cross_entropy(logits.T, by_text)) / 2


def soften(targets: Tensor, sentences: Tensor, share: float, temperature: float) -> Tensor:
    """Give `share` of each picture's target to the sentences that a teacher finds close to its own ones.

    targets [n m], sentences [m e]: the teacher's unit vectors -> [n m], rows of sum 1.
    """
    hard = targets / targets.sum(1, keepdim=True)
    similarity = hard @ (sentences @ sentences.T)  # [n m], a picture stands where its sentences stand
    return (1 - share) * hard + share * F.softmax(similarity / temperature, dim=1)


def distillation_loss(students: Tensor, teachers: Tensor) -> Tensor:
    """Mean of 1 - cosine between students [m e], of any length, and teachers [m e], of unit length."""
    return 1 - (F.normalize(students, dim=-1) * teachers).sum(-1).mean()
