"""Symmetric InfoNCE (Radford et al. 2021, figure 3), without ever holding the matrix of logits.

Letters: n pictures and m sentences of this process, N and M those of all processes, P processes, d the dimension.
"""

import torch
from torch import Tensor

from tandem.train.losses.blocks import full_precision, log_sum_exps
from tandem.train.losses.joining import Gather, alone, lifted, matched


def contrastive_loss(
    images: Tensor, texts: Tensor, logit_scale: Tensor, targets: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    """This process's share of the mean of the two cross-entropies over the logits.

    images [n d], texts [m d]: unit length. logit_scale: the logarithm of the logits' factor.
    targets [N M]: how much each sentence describes each picture, 0 or more; each row and each column has a positive
    sum and is scaled to 1. None: the k-th sentence describes the k-th picture and no other.
    gather: joins rows of all processes, with gradient; None where there is one.

    A process computes the logits of its own pictures with all sentences. Its rows are then complete; of a column it
    knows its part, and the parts of all processes are joined: one number a sentence and process.
    """
    images, texts, logit_scale = lifted(images), lifted(texts), lifted(logit_scale)
    join = gather or alone
    with full_precision(images.device):
        all_texts, first = join(texts)  # [M d]
        rows, parts = log_sum_exps(images, all_texts, logit_scale)  # [n], [M]
        columns = torch.logsumexp(join(parts[None])[0], dim=0)  # [P M] -> [M]
        own_columns = columns[first : first + len(texts)]  # [m]
        if targets is None:
            agreement = matched(images, texts) * logit_scale.exp()  # [n]
            return (rows + own_columns - 2 * agreement).sum() / (2 * len(all_texts))
        targets = targets.to(images.dtype)
        start = join(images.detach()[:, :1])[1]
        own = targets[start : start + len(images)]  # [n M]
        pictures, sentences = targets.shape
        weights = own / own.sum(1, keepdim=True) / pictures + own / targets.sum(0) / sentences  # [n M]
        agreement = (images * (weights @ all_texts)).sum(1) * logit_scale.exp()  # [n]
        return ((rows / pictures - agreement).sum() + own_columns.sum() / sentences) / 2
