"""Classification by a linear head on the image tower, started at a zero-shot classifier (Wortsman et al. 2022, 3).

Knows vectors, labels and the vectors of the classes; no texts, no towers, no optimiser. The loss is this process's
share, as every loss here.

Shapes: n images of this process, N of all, c classes, d the shared dimension.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.nn import CLIP
from tandem.train.objective.blocks import full_precision, upcast
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.parallel.process import Gather


class ClassificationObjective(nn.Module):
    """Cross-entropy over logits exp(a) (x . w_k + b_k), of images of unit length x; `a`, the model's scale, is fixed.

    Weights and biases are learnt within the scale, where they are as large as the vectors: the rate that suits the
    towers suits them, too.
    """

    def __init__(self, clip: CLIP, class_vectors: Tensor, label_smoothing: float = 0.0) -> None:
        """class_vectors [c d]: the first weights; zero-shot answers are those of the untrained head."""
        super().__init__()
        self.label_smoothing = label_smoothing
        self.logit_scale = clip.logit_scale.requires_grad_(False)
        if clip.logit_bias is not None:
            clip.logit_bias.requires_grad_(False)
        self.weight = nn.Parameter(class_vectors.detach().to(clip.logit_scale).clone())
        self.bias = nn.Parameter(self.weight.new_zeros(len(class_vectors)))

    def logits(self, images: Tensor) -> Tensor:
        """Unit vectors [n d] -> [n c], at least float32."""
        with full_precision(images.device):
            images, weight, bias = upcast(images), upcast(self.weight), upcast(self.bias)
            return upcast(self.logit_scale).exp() * torch.addmm(bias, images, weight.T)

    def losses(
        self, images: Tensor, texts: Tensor, batch: DeviceBatch, gather: Gather | None = None
    ) -> dict[str, Tensor]:
        """images [n d], texts [0 d] -> this process's share of the mean cross-entropy, as `loss`."""
        assert batch.labelled is not None
        assert batch.labels is not None
        logits = self.logits(images)[batch.labelled]
        loss = F.cross_entropy(logits, batch.labels, reduction="sum", label_smoothing=self.label_smoothing)
        return {"loss": loss / batch.total_labelled}

    def cap(self) -> None:
        """Nothing: the scale is not learnt."""

    @torch.no_grad()
    def head(self) -> tuple[Tensor, Tensor]:
        """Weights [c d] and biases [c] of logits on unit vectors, the scale included, on the CPU."""
        scale = self.logit_scale.exp()
        return (scale * self.weight).float().cpu(), (scale * self.bias).float().cpu()
