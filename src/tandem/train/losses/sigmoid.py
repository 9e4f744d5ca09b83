"""The sigmoid loss (Zhai et al. 2023, algorithm 1), without ever holding the matrix of logits.

Letters: n pictures and m sentences of this process, N and M those of all processes, d the shared dimension.
"""

from torch import Tensor

from tandem.train.losses.blocks import full_precision, softplus_sum
from tandem.train.losses.joining import Gather, alone, lifted, matched


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
