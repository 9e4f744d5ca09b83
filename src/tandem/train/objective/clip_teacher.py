"""A CLIP whose view of a batch is learned from: its vectors of the same pictures and the same sentences.

It sees the crops that the run sees, resized to its own size, and reads the sentences by its own tokenizer. Nothing is
kept: another crop has another vector.

Shapes: n pictures, m sentences, s pixels a side, e its shared dimension.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tandem import nn, weights
from tandem.train.model.towers import Precision, Towers

IMAGES_AT_ONCE, TEXTS_AT_ONCE = 256, 1024


class ClipTeacher:
    """Any model that `tandem.load` reads; it never learns."""

    def __init__(self, source: str, precision: Precision, device: torch.device) -> None:
        """Raises `WeightsError` or `HubError` where `source` cannot be read."""
        checkpoint = weights.read(source)
        self._tokenizer, self._config = checkpoint.tokenizer, checkpoint.config
        clip = nn.from_arrays(checkpoint.config, checkpoint.tensors)
        self._towers = Towers(clip, precision).to(device).eval().requires_grad_(False)
        self.scale = float(clip.logit_scale.exp())  # of its logits

    @torch.no_grad()
    def images(self, pixels: Tensor) -> Tensor:
        """uint8 [n s s 3], on the teacher's device -> unit vectors float32 [n e]."""
        lots = [self._towers(self._resized(lot), None)[0] for lot in torch.split(pixels, IMAGES_AT_ONCE)]
        return torch.cat(lots)

    @torch.no_grad()
    def texts(self, sentences: Sequence[str]) -> Tensor:
        """m sentences -> unit vectors float32 [m e]. What is past the teacher's context is cut off."""
        ids = torch.from_numpy(self._tokenizer(sentences, self._config.text.context_length, truncate=True))
        return torch.cat([self._towers(None, lot)[1] for lot in torch.split(ids, TEXTS_AT_ONCE)])

    def _resized(self, pixels: Tensor) -> Tensor:
        size = self._config.vision.image_size
        if pixels.shape[1:3] == (size, size):
            return pixels
        x = pixels.permute(0, 3, 1, 2).float()
        x = F.interpolate(x, (size, size), mode="bicubic", align_corners=False, antialias=True)
        return x.clamp(0, 255).permute(0, 2, 3, 1)
