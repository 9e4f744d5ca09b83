"""The objective of a step: its losses, and what learns beside the towers (a scale, a bias, a map to a teacher's space).

Knows vectors and what they are compared with (`DeviceBatch`); no towers, no optimiser. Each loss is this process's
share: the shares of all processes sum to the loss on the whole batch.

Shapes: as in `device_batch.py`; d the shared dimension.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.errors import ConfigError
from tandem.nn import CLIP
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.distillation import distillation_loss, similarity_loss
from tandem.train.objective.losses import contrastive_loss, sigmoid_loss
from tandem.train.objective.targets import SoftTargets, SparseTargets, Targets
from tandem.train.parallel.process import Gather, single_process
from tandem.train.recipe import Recipe

MAX_LOGIT_SCALE = math.log(100)


class ContrastiveObjective(nn.Module):
    """The losses and their parameters. `logit_scale` and `logit_bias` are the model's own and are saved with it."""

    def __init__(self, clip: CLIP, recipe: Recipe, teacher_width: int = 0, teacher_scale: float = 100.0) -> None:
        """teacher_width: of the sentence encoder's vectors, 0 without one; teacher_scale: a CLIP teacher's.

        Scale and bias start at those of `clip`. Raises `ConfigError` for the sigmoid loss on a model without a bias.
        """
        super().__init__()
        self.chosen, self.distillation = recipe.objective, recipe.distillation
        self.teacher_scale = teacher_scale
        like = clip.logit_scale
        self.logit_scale = clip.logit_scale
        self.logit_bias = clip.logit_bias if self.chosen.loss == "sigmoid" else None
        if self.chosen.loss == "sigmoid" and self.logit_bias is None:
            raise ConfigError("model.logit_bias: expected true with the loss sigmoid, which learns it, got false")
        self.to_teacher: nn.Linear | None = None
        if teacher_width:
            self.to_teacher = nn.Linear(clip.config.embed_dim, teacher_width, device=like.device, dtype=like.dtype)
            _initialise(self.to_teacher, recipe.seed)

    def losses(
        self, images: Tensor, texts: Tensor, batch: DeviceBatch, gather: Gather | None = None
    ) -> dict[str, Tensor]:
        """images [n d], texts [m+w+c d] -> this process's shares by name; `loss` is what is minimised.

        gather: joins the rows of all processes, with gradient; None with one process.
        """
        gather = gather or single_process().gather
        m, with_words = batch.texts, batch.texts + batch.words
        shares: dict[str, Tensor] = {"contrast": self._contrast(images, texts[:m], batch, gather)}
        weights = {"contrast": 1.0}
        if self.to_teacher is not None and batch.teacher_vectors is not None:
            total = batch.total_texts + batch.total_words
            shares["distance"] = distillation_loss(self.to_teacher(texts[:with_words]), batch.teacher_vectors, total)
            weights["distance"] = self.distillation.weight
        if batch.teacher_images is not None and batch.teacher_texts is not None:
            shares["teacher"] = similarity_loss(
                (images, texts[:m], self.logit_scale.exp()),
                (batch.teacher_images, batch.teacher_texts, self.teacher_scale),
                gather,
            )
            weights["teacher"] = self.distillation.model_weight
        if batch.labelled is not None and batch.labels is not None and batch.total_labelled:
            logits = self.logit_scale.exp() * images[batch.labelled] @ texts[with_words:].T  # [k c]
            if (sources := batch.class_sources) is not None:
                logits = logits.masked_fill(sources[batch.labels][:, None] != sources, -math.inf)
            shares["classes"] = F.cross_entropy(logits, batch.labels, reduction="sum") / batch.total_labelled
            weights["classes"] = self.chosen.classes
        loss = torch.stack([weights[name] * share for name, share in shares.items()]).sum()
        return {"loss": loss, **shares} if len(shares) > 1 else {"loss": loss}

    def _contrast(self, images: Tensor, texts: Tensor, batch: DeviceBatch, gather: Gather) -> Tensor:
        targets: Targets | None = batch.targets
        if batch.teacher_vectors is not None and self.distillation.soften:
            teacher, first = gather(batch.teacher_vectors[: batch.texts])  # [M e]
            hard = batch.targets or SparseTargets.paired(len(images), first, len(teacher), teacher)
            targets = SoftTargets(hard, teacher, self.distillation.soften, self.distillation.temperature)
        if self.logit_bias is not None:
            return sigmoid_loss(images, texts, self.logit_scale, self.logit_bias, targets, gather)
        return contrastive_loss(images, texts, self.logit_scale, targets, gather)

    @torch.no_grad()
    def cap(self) -> None:
        """After the optimiser's step: the factor of the logits stays at 100 or below (Radford et al. 2021, 2.5)."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


@torch.no_grad()
def _initialise(linear: nn.Linear, seed: int) -> None:
    """The same first weights on every process, whatever was drawn before."""
    bound = linear.in_features**-0.5
    draw = torch.Generator().manual_seed(seed)
    for parameter in (linear.weight, linear.bias):
        parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=draw))
