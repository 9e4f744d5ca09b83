"""What training has beside the towers: the scale, a bias, a map onto a teacher's space; and the losses of a step.

Knows vectors and what they should become (`tensors.Tensors`); no towers, no optimiser. Each loss is this process's
share: the shares of all processes sum to the loss on the whole batch.
"""

import math

import torch
from torch import Tensor, nn

from tandem.nn import CLIP
from tandem.train.recipe import Recipe
from tandem.train.tensors import Tensors

MAX_LOGIT_SCALE = math.log(100)


class Heads(nn.Module):
    """`logit_scale` is the model's own parameter, so it is saved with the model too."""

    def __init__(self, clip: CLIP, recipe: Recipe, teacher_width: int = 0, teacher_scale: float = 100.0) -> None:
        """teacher_width: of the sentence encoder's vectors, 0 without one; teacher_scale: a CLIP teacher's."""
        super().__init__()
        self.logit_scale = clip.logit_scale
        self.logit_bias: nn.Parameter | None = None
        self.to_teacher = nn.Linear(clip.config.embed_dim, teacher_width) if teacher_width else None

    def losses(self, images: Tensor, texts: Tensor, batch: Tensors, gather: object = None) -> dict[str, Tensor]:
        """images [n d], texts [m+w+c d] -> this process's shares by name; `loss` is what is minimised.

        gather: own rows -> (rows of all processes, where the own begin), with gradient; None on one process.
        """
        raise NotImplementedError

    @torch.no_grad()
    def cap(self) -> None:
        """After the optimiser's step: the logits' factor stays at 100 or below (Radford et al. 2021, 2.5)."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
