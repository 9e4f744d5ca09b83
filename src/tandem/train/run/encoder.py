"""The vectors of a checkpoint, for measuring weights that are not those of the run. Knows checkpoints; no data."""

import numpy as np
import torch

from tandem import nn
from tandem.tokenizer import Tokenizer
from tandem.train.model.towers import Towers
from tandem.train.run.assembly import IMAGES_PER_PASS, TEXTS_PER_PASS
from tandem.weights import Checkpoint


class CheckpointEncoder:
    """Vectors of a checkpoint, float32, on one device."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self._tokenizer: Tokenizer = checkpoint.tokenizer
        self._context_length = checkpoint.config.text.context_length
        clip = nn.from_arrays(checkpoint.config, checkpoint.tensors)
        self._towers = Towers(clip, "float32").to(device).eval()
        self._device = device

    @torch.no_grad()
    def images(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [n s s 3] -> unit vectors [n d]."""
        parts = torch.split(torch.from_numpy(pixels), IMAGES_PER_PASS)
        return torch.cat([self._towers(part.to(self._device), None)[0].cpu() for part in parts]).numpy()

    @torch.no_grad()
    def texts(self, texts: list[str]) -> np.ndarray:
        """m texts -> unit vectors [m d]."""
        ids = torch.from_numpy(self._tokenizer(texts, self._context_length, truncate=True))
        return torch.cat([self._towers(None, part)[1].cpu() for part in torch.split(ids, TEXTS_PER_PASS)]).numpy()
