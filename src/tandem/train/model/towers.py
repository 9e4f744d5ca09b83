"""Both towers as one module: pixels and token ids in, unit vectors out. This is what is wrapped and sharded.

Weights stay float32 (Adam on half-precision weights rounds small steps away and gives NaN after a step); autocast
computes the products in bfloat16. Knows no loss, no optimiser and no process.

Shapes: n images, m texts, t tokens, d the shared dimension, s pixels a side.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.errors import ConfigError
from tandem.nn import CLIP
from tandem.towers import tower_type
from tandem.train.model.packing import pack

Precision = Literal["float32", "bfloat16"]


class Towers(nn.Module):
    """The model, from pixels and ids. `logit_scale` and `logit_bias` are not used here: the objective takes them."""

    mean: Tensor
    std: Tensor

    def __init__(self, clip: CLIP, precision: Precision = "bfloat16") -> None:
        super().__init__()
        self.clip = clip
        self.precision = precision
        preprocessing, like = clip.config.preprocessing, clip.logit_scale
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, 255 * like.new_tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, pixels: Tensor | None, ids: Tensor | None, kept: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """pixels uint8 [n s s 3], ids [m t] -> unit vectors [n d] and [m d], float32 (float64 when the model is).

        ids are best left on the host: the lengths of texts decide the work, and reading them from a GPU waits for it.
        kept [n k]: the patches that patch dropout keeps. Pixels or ids may be None; their vectors are then None too.
        """
        with self._autocast():
            images = None if pixels is None else self._images(pixels, kept)
            texts = None if ids is None else self._texts(ids)
        return images, texts

    def _images(self, pixels: Tensor, kept: Tensor | None) -> Tensor:
        if kept is not None and not self.clip.config.vision.takes_patch_dropout:
            kind = tower_type(self.clip.config.vision)
            raise ConfigError(f"patch_dropout: expected a vision_transformer, the image tower is a {kind}; set it to 0")
        # The permuted view keeps channels last in memory, which is fastest for convolutions.
        x = (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std  # [n 3 s s]
        features = self.clip.encode_image(x) if kept is None else self.clip.encode_image(x, kept)
        return self._unit(features)

    def _texts(self, ids: Tensor) -> Tensor:
        device, config = self.mean.device, self.clip.config.text
        if config.fixed_length or not config.causal:  # tokens see what follows them, so nothing can share rows
            return self._unit(self.clip.encode_text(ids.to(device)))
        assert config.end_id is not None  # checked by the description
        packed = pack(ids.cpu().numpy(), config.end_id, config.context_length)
        rows, positions, text, ends = (
            torch.from_numpy(array).to(device, non_blocking=True)
            for array in (packed.ids, packed.positions, packed.text, packed.ends)
        )
        same = text[:, :, None] == text[:, None, :]  # [r l l]
        return self._unit(self.clip.encode_packed(rows, positions, same.tril()[:, None], ends))

    def _unit(self, features: Tensor) -> Tensor:
        return F.normalize(features.to(self.mean.dtype), dim=-1)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "float32" or self.mean.dtype == torch.float64:
            return nullcontext()
        return torch.autocast(self.mean.device.type, torch.bfloat16)
