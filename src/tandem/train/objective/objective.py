"""What training has beside the towers: the scale, a bias, a map onto a teacher's space; and the losses of a step.

Knows vectors and what they should become (`device_batch.Tensors`); no towers, no optimiser. Each loss is this process's
share: the shares of all processes sum to the loss on the whole batch.

Shapes: as in `device_batch.py`; d the shared dimension.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.nn import CLIP
from tandem.train.objective.device_batch import Tensors
from tandem.train.objective.distillation import distillation_loss, similarity_loss, soften
from tandem.train.objective.losses import Gather, alone, contrastive_loss, sigmoid_loss
from tandem.train.recipe import Recipe

MAX_LOGIT_SCALE = math.log(100)
SIGMOID_SCALE, SIGMOID_BIAS = math.log(10), -10.0  # where Zhai et al. 2023 begin


class Heads(nn.Module):
    """`logit_scale` is the model's own parameter, so it is saved with the model too."""

    def __init__(self, clip: CLIP, recipe: Recipe, teacher_width: int = 0, teacher_scale: float = 100.0) -> None:
        """teacher_width: of the sentence encoder's vectors, 0 without one; teacher_scale: a CLIP teacher's.

        The scale begins where `clip` has it; a model that is drawn afresh for the sigmoid loss begins at its 10.
        """
        super().__init__()
        self.objective, self.distillation = recipe.objective, recipe.distillation
        self.teacher_scale = teacher_scale
        like = clip.logit_scale
        self.logit_scale = clip.logit_scale
        self.logit_bias: nn.Parameter | None = None
        if self.objective.loss == "sigmoid":
            self.logit_bias = nn.Parameter(torch.full_like(like, SIGMOID_BIAS))
            if not recipe.init.model:
                like.data.fill_(SIGMOID_SCALE)
        self.to_teacher: nn.Linear | None = None
        if teacher_width:
            self.to_teacher = nn.Linear(clip.config.embed_dim, teacher_width, device=like.device, dtype=like.dtype)
            _draw(self.to_teacher, recipe.seed)

    def losses(self, images: Tensor, texts: Tensor, batch: Tensors, gather: Gather = alone) -> dict[str, Tensor]:
        """images [n d], texts [m+w+c d] -> this process's shares by name; `loss` is what is minimised.

        gather: own rows -> rows of all processes, and where the own begin, with gradient.
        """
        m, taught = batch.sentences, batch.sentences + batch.words
        shares: dict[str, Tensor] = {"contrast": self._contrast(images, texts[:m], batch, gather)}
        weights = {"contrast": 1.0}
        if self.to_teacher is not None and batch.taught is not None:
            total = batch.total_sentences + batch.total_words
            shares["distance"] = distillation_loss(self.to_teacher(texts[:taught]), batch.taught, total)
            weights["distance"] = self.distillation.weight
        if batch.teacher_images is not None and batch.teacher_texts is not None:
            shares["teacher"] = similarity_loss(
                (images, texts[:m], self.logit_scale.exp()),
                (batch.teacher_images, batch.teacher_texts, self.teacher_scale),
                gather,
            )
            weights["teacher"] = self.distillation.model_weight
        if batch.labelled is not None and batch.labels is not None and batch.total_labelled:
            logits = self.logit_scale.exp() * images[batch.labelled] @ texts[taught:].T  # [k c]
            shares["classes"] = F.cross_entropy(logits, batch.labels, reduction="sum") / batch.total_labelled
            weights["classes"] = self.objective.classes
        loss = torch.stack([weights[name] * share for name, share in shares.items()]).sum()
        return {"loss": loss, **shares} if len(shares) > 1 else {"loss": loss}

    def _contrast(self, images: Tensor, texts: Tensor, batch: Tensors, gather: Gather) -> Tensor:
        targets = batch.targets
        if batch.taught is not None and self.distillation.soften:
            wanted, _ = gather(batch.taught[: batch.sentences])  # [M e]
            hard = torch.eye(len(wanted), dtype=wanted.dtype, device=wanted.device) if targets is None else targets
            targets = soften(hard, wanted, self.distillation.soften, self.distillation.temperature)
        if self.logit_bias is not None:
            return sigmoid_loss(images, texts, self.logit_scale, self.logit_bias, targets, gather)
        return contrastive_loss(images, texts, self.logit_scale, targets, gather)

    @torch.no_grad()
    def cap(self) -> None:
        """After the optimiser's step: the logits' factor stays at 100 or below (Radford et al. 2021, 2.5)."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


@torch.no_grad()
def _draw(linear: nn.Linear, seed: int) -> None:
    """The same first weights on every process, whatever was drawn before."""
    bound = linear.in_features**-0.5
    draw = torch.Generator().manual_seed(seed)
    for parameter in (linear.weight, linear.bias):
        parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=draw))
