"""Symmetric InfoNCE (Radford et al. 2021, figure 3) and the sigmoid loss (Zhai et al. 2023, algorithm 1).

Neither ever holds the matrix of logits. A loss gets the vectors of other processes by a function it is given.

Shapes: n pictures and m sentences of this process, N and M those of all processes, P processes, d the dimension.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tandem.train.objective.blocks import full_precision, log_sum_exps, softplus_sum

# Own rows [n ...] -> the rows of all processes in their order [N ...], and at which of them the own ones begin. With
# gradient: what reaches the result on any process comes back, summed over the processes, to the own rows.
Gather = Callable[[Tensor], tuple[Tensor, int]]


def alone(rows: Tensor) -> tuple[Tensor, int]:
    """The `Gather` of a single process."""
    return rows, 0


def lifted(x: Tensor) -> Tensor:
    """Half precisions as float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def matched(images: Tensor, texts: Tensor) -> Tensor:
    """images [n d], texts [n d] -> the product [n] of each picture with its own sentence."""
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} pictures and {len(texts)} sentences: without targets, expected one for each")
    return (images * texts).sum(1)


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


def sigmoid_loss(
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    targets: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    """This process's share: every pair of the batch asked whether it belongs together, summed, over N pictures.

    images [n d], texts [m d]: unit length. logit_scale: the logarithm of the logits' factor; logit_bias: added.
    targets [N M]: how far a pair belongs together, 0 to 1. None: the k-th picture and the k-th sentence do, no others.
    gather: joins rows of all processes, with gradient; None where there is one.

    Of a logit x with target z the loss is log(1 + exp(x)) - z x: the first over all pairs, in blocks; the second is
    that of the pairs that belong together.
    """
    images, texts, logit_scale, logit_bias = (lifted(x) for x in (images, texts, logit_scale, logit_bias))
    join = gather or alone
    with full_precision(images.device):
        all_texts, _ = join(texts)  # [M d]
        everything = softplus_sum(images, all_texts, logit_scale, logit_bias)
        if targets is None:
            together = matched(images, texts).sum() * logit_scale.exp() + len(images) * logit_bias
            return (everything - together) / len(all_texts)
        targets = targets.to(images.dtype)
        start = join(images.detach()[:, :1])[1]
        own = targets[start : start + len(images)]  # [n M]
        together = (images * (own @ all_texts)).sum() * logit_scale.exp() + own.sum() * logit_bias
        return (everything - together) / len(targets)
