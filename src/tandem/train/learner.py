"""The model as a learner: a batch in, losses out. Knows words, pixels and vectors; no optimiser, no files, no clock."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.config import ModelConfig
from tandem.nn import CLIP
from tandem.tokenizer import Tokenizer
from tandem.train.data import Batch
from tandem.train.loss import contrastive_loss, distillation_loss, soften
from tandem.train.recipe import Recipe

TEXT_LOTS = 4  # sentences of a batch are encoded in so many lots by length


@dataclass
class Lessons:
    """The teacher's vectors of every sentence of the run, and words of its own to teach beside them."""

    known: dict[str, np.ndarray]
    extra: list[str]
    per_batch: int
    seed: int

    @property
    def width(self) -> int:
        """The teacher's dimension."""
        return len(next(iter(self.known.values())))

    def words(self, step: int) -> list[str]:
        """The extra sentences of a step."""
        if not self.per_batch:
            return []
        draw = np.random.default_rng((self.seed, step, 1))
        return [self.extra[i] for i in draw.integers(len(self.extra), size=self.per_batch)]

    def vectors(self, sentences: list[str]) -> Tensor:
        """Unit vectors float32 [m e]."""
        return F.normalize(torch.from_numpy(np.stack([self.known[s] for s in sentences])).float(), dim=-1)


class Learner(nn.Module):
    """The model with what only training has: the step's losses, and a linear map onto the teacher's space."""

    def __init__(
        self,
        recipe: Recipe,
        config: ModelConfig,
        tokenizer: Tokenizer,
        model: CLIP,
        lessons: Lessons | None,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe, self.tokenizer, self.lessons, self.device = recipe, tokenizer, lessons, device
        self.context_length = config.text.context_length
        self.mean = torch.tensor(config.preprocessing.mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(config.preprocessing.std, device=device).view(1, 3, 1, 1) * 255
        width = lessons.width if lessons else 0
        self.to_teacher = nn.Linear(config.embed_dim, width).to(device) if lessons else None
        self.to(device)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The losses of a batch by name; `loss` is what is minimised."""
        words = self.lessons.words(step) if self.lessons else []
        images = self.encode_images(batch.pixels)  # [n d]
        texts = self.encode_texts(batch.sentences + words)  # [m + words, d]
        m = len(batch.sentences)
        targets = torch.from_numpy(batch.targets).to(self.device)
        if self.lessons is None or self.to_teacher is None:
            return {"loss": contrastive_loss(images, texts[:m], self.model.logit_scale, targets)}
        wanted = self.lessons.vectors(batch.sentences + words).to(self.device)
        chosen = self.recipe.distillation
        if chosen.soften:
            targets = soften(targets, wanted[:m], chosen.soften, chosen.temperature)
        contrast = contrastive_loss(images, texts[:m], self.model.logit_scale, targets)
        distance = distillation_loss(self.to_teacher(texts), wanted)
        return {"loss": contrast + chosen.weight * distance, "contrast": contrast, "distance": distance}

    def encode_images(self, pixels: np.ndarray) -> Tensor:
        """uint8 [n s s 3] -> unit vectors float32 [n d]."""
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)  # [n 3 s s], still laid out channels last
        x = (x.float() - self.mean) / self.std
        with self._autocast():
            features = self.model.encode_image(x)
        return F.normalize(features.float(), dim=-1)

    def encode_texts(self, sentences: list[str]) -> Tensor:
        """Sentences -> unit vectors float32 [m d]. What is past the context is cut off.

        Sentences of like length go together, each lot cut to its longest: most are far shorter than the longest one,
        and what follows the end token reaches nothing (a third of the work at four lots).
        """
        ids = self.tokenizer(sentences, self.context_length, truncate=True)  # [m t]
        lengths = (ids == self.tokenizer.end_id).argmax(1) + 1
        order = np.argsort(lengths, kind="stable")
        lots = []
        with self._autocast():
            for rows in np.array_split(order, min(TEXT_LOTS, len(order))):
                lot = torch.from_numpy(ids[rows, : lengths[rows].max()]).to(self.device)
                lots.append(self.model.encode_text(lot).float())
        back = torch.from_numpy(np.argsort(order)).to(self.device)
        return F.normalize(torch.cat(lots)[back], dim=-1)

    @torch.no_grad()
    def image_vectors(self, pixels: np.ndarray) -> np.ndarray:
        """For validation: in batches, without gradient."""
        parts = [self.encode_images(pixels[i : i + 250]).cpu().numpy() for i in range(0, len(pixels), 250)]
        return np.concatenate(parts)

    @torch.no_grad()
    def text_vectors(self, sentences: list[str]) -> np.ndarray:
        """For validation: in batches, without gradient."""
        parts = [self.encode_texts(sentences[i : i + 500]).cpu().numpy() for i in range(0, len(sentences), 500)]
        return np.concatenate(parts)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)
