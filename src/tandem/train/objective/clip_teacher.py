"""A CLIP as a teacher: its vectors of the images and texts of a batch.

It sees the same crops as the run, resized to its own size, and tokenizes texts with its own tokenizer. Nothing is kept,
since every crop has another vector.

Shapes: n images, m texts, s pixels a side, e its shared dimension.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tandem import nn, weights
from tandem.errors import ConfigError
from tandem.train.model.towers import Precision, Towers

IMAGES_PER_PASS, TEXTS_PER_PASS = 256, 1024


class ClipTeacher:
    """Any model that `tandem.load` reads; it never learns."""

    def __init__(self, source: str, precision: Precision, device: torch.device) -> None:
        """Raises `WeightsError` or `HubError` where `source` cannot be read."""
        checkpoint = weights.read(source)
        if checkpoint.config.preprocessing.makes_patches:
            raise ConfigError(
                f"distillation.model: {source} takes images as patches of any aspect ratio (naflex), batches are of "
                "square ones; name a model of fixed resolution"
            )
        self._tokenizer, self._config = checkpoint.tokenizer, checkpoint.config
        clip = nn.from_arrays(checkpoint.config, checkpoint.tensors)
        self._towers = Towers(clip, precision).to(device).eval().requires_grad_(False)
        self.scale = float(clip.logit_scale.exp())  # of its logits

    @torch.no_grad()
    def images(self, pixels: Tensor) -> Tensor:
        """uint8 [n s s 3], on the teacher's device -> unit vectors float32 [n e]."""
        parts = [self._towers(self._resized(part), None)[0] for part in torch.split(pixels, IMAGES_PER_PASS)]
        return torch.cat(parts)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """m texts -> unit vectors float32 [m e]. What is past the teacher's context is cut off."""
        ids = torch.from_numpy(self._tokenizer(texts, self._config.text.context_length, truncate=True))
        return torch.cat([self._towers(None, part)[1] for part in torch.split(ids, TEXTS_PER_PASS)])

    def _resized(self, pixels: Tensor) -> Tensor:
        size = self._config.vision.image_size
        if pixels.shape[1:3] == (size, size):
            return pixels
        x = pixels.permute(0, 3, 1, 2).float()
        x = F.interpolate(x, (size, size), mode="bicubic", align_corners=False, antialias=True)
        return x.clamp(0, 255).permute(0, 2, 3, 1)
