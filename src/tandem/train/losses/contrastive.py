"""Symmetric InfoNCE (Radford et al. 2021, figure 3), without ever holding the matrix of logits.

Letters: n pictures and m sentences of this process, N and M those of all processes, d the shared dimension.
"""

from torch import Tensor

from tandem.train.losses.joining import Gather, alone


def contrastive_loss(
    images: Tensor, texts: Tensor, logit_scale: Tensor, targets: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    """This process's share of the mean of the two cross-entropies over the logits.

    images [n d], texts [m d]: unit length. logit_scale: the logarithm of the logits' factor.
    targets [N M]: how much each sentence describes each picture, 0 or more; each row and each column has a positive
    sum and is scaled to 1. None: the k-th sentence describes the k-th picture and no other.
    gather: joins rows of all processes, with gradient; None where there is one.
    """
    raise NotImplementedError


__all__ = ["alone", "contrastive_loss"]
