"""The sigmoid loss (Zhai et al. 2023, algorithm 1), without ever holding the matrix of logits.

Letters: n pictures and m sentences of this process, N and M those of all processes, d the shared dimension.
"""

from torch import Tensor

from tandem.train.losses.joining import Gather


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
    """
    raise NotImplementedError
