"""Symmetric InfoNCE (Radford et al. 2021, figure 3) and the sigmoid loss (Zhai et al. 2023, algorithm 1).

Neither ever holds the matrix of logits, nor that of targets. The vectors of other processes come through a function
that the loss is given.

Shapes: n images and m texts of this process, N and M those of all processes, P processes, d the dimension.
"""

import torch
from torch import Tensor

from tandem.train.objective.blocks import full_precision, log_sum_exps, softplus_sum, upcast
from tandem.train.objective.targets import Targets
from tandem.train.parallel.process import Gather, single_process


def contrastive_loss(
    images: Tensor, texts: Tensor, logit_scale: Tensor, targets: Targets | None = None, gather: Gather | None = None
) -> Tensor:
    """This process's share of the mean of the two cross-entropies over the logits.

    images [n d], texts [m d]: unit length. logit_scale: the logarithm of the factor of the logits.
    targets: how well each text describes each image, 0 or more; every row and every column has a positive sum and is
    scaled to 1. None: the k-th text describes the k-th image and no other.
    gather: joins the rows of all processes, with gradient; None with one process.

    A process computes the logits of its own images with all texts. Its rows are then complete; of a column it knows its
    part, and the parts of all processes are joined: one number per text and process.
    """
    images, texts, logit_scale = upcast(images), upcast(texts), upcast(logit_scale)
    join = gather or single_process().gather
    with full_precision(images.device):
        all_texts, first = join(texts)  # [M d]
        rows, parts = log_sum_exps(images, all_texts, logit_scale)  # [n], [M]
        columns = torch.logsumexp(join(parts[None])[0], dim=0)  # [P M] -> [M]
        own_columns = columns[first : first + len(texts)]  # [m]
        if targets is None:
            matching = paired_dot(images, texts) * logit_scale.exp()  # [n]
            return (rows + own_columns - 2 * matching).sum() / (2 * len(all_texts))
        row_sums, column_sums = (sums.to(images.dtype) for sums in targets.sums(join))
        by_row, by_column = 1 / (row_sums * targets.total_images), 1 / (column_sums * len(all_texts))
        matching = targets.dots(images, all_texts, by_row, by_column) * logit_scale.exp()  # [n]
        return ((rows / targets.total_images - matching).sum() + own_columns.sum() / len(all_texts)) / 2


def sigmoid_loss(
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    targets: Targets | None = None,
    gather: Gather | None = None,
) -> Tensor:
    """This process's share: a binary cross-entropy for every pair of the batch, summed, over N images.

    images [n d], texts [m d]: unit length. logit_scale: the logarithm of the factor of the logits; logit_bias: added.
    targets: how far a pair matches, 0 to 1. None: the k-th image and the k-th text match, no others.
    gather: joins the rows of all processes, with gradient; None with one process.

    For a logit x with target z the loss is log(1 + exp(x)) - z x: the first over all pairs, in blocks; the second over
    the matching pairs.
    """
    images, texts, logit_scale, logit_bias = (upcast(x) for x in (images, texts, logit_scale, logit_bias))
    join = gather or single_process().gather
    with full_precision(images.device):
        all_texts, _ = join(texts)  # [M d]
        every_pair = softplus_sum(images, all_texts, logit_scale, logit_bias)
        if targets is None:
            matching = paired_dot(images, texts).sum() * logit_scale.exp() + len(images) * logit_bias
            return (every_pair - matching) / len(all_texts)
        row_sums = targets.sums(join)[0].to(images.dtype)
        by_row, by_column = images.new_ones(len(images)), images.new_zeros(len(all_texts))
        dots = targets.dots(images, all_texts, by_row, by_column)
        matching = dots.sum() * logit_scale.exp() + row_sums.sum() * logit_bias
        return (every_pair - matching) / targets.total_images


def paired_dot(images: Tensor, texts: Tensor) -> Tensor:
    """images [n d], texts [n d] -> the dot product [n] of each image with its own text."""
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images and {len(texts)} texts: without targets, expected one for each")
    return (images * texts).sum(1)
