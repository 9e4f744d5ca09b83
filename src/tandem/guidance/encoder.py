"""The image tower of a model as something with a gradient: views of a picture in, vectors out.

Shapes: n views, s pixels along a side, d the shared dimension.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from tandem import nn
from tandem.model import Model


class Encoder:
    """A model's image tower in torch, float32, with the weights of `Model.tensors` held fixed.

    It computes on the device of a torch engine, else on the CPU.
    """

    def __init__(self, model: Model) -> None:
        config = model.config
        self.device = torch.device(model.engine.device if model.engine.name == "torch" else "cpu")
        self._preprocessing = config.preprocessing
        tower = nn.from_arrays(config, model.tensors).visual.requires_grad_(False)
        # Channels last: convolutions and their gradients take 20% less time on CPUs (tandem-mini).
        self._tower = tower.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self._preprocessing.makes_patches:
            self._grid = math.isqrt(self._preprocessing.max_patches)
            self.size = self._grid * self._preprocessing.patch_size
        else:
            self.size = self._preprocessing.image_size

    def __call__(self, views: Tensor) -> Tensor:
        """views [n 3 s s], about 0..1, s being `size` -> vectors [n d] of unit length, on the views' device."""
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (self._preprocessing.mean, self._preprocessing.std)
        )
        pixels = (views - mean) / std
        if self._preprocessing.makes_patches:
            pixels = self._as_patches(pixels)
        vectors = self._tower(pixels.to(self.device)).float().to(views.device)
        return functional.normalize(vectors, dim=1)

    def _as_patches(self, pixels: Tensor) -> Tensor:
        """Squares [n 3 s s] -> patches as `Preprocessing.pixel_shape` has them, values first [n v t]."""
        count, grid, size = len(pixels), self._grid, self._preprocessing.patch_size
        split = pixels.reshape(count, 3, grid, size, grid, size).permute(0, 2, 4, 3, 5, 1)
        rows = split.reshape(count, grid * grid, -1)
        sides = rows.new_tensor([*divmod(grid, 256)] * 2).expand(count, grid * grid, 4)
        whole = torch.cat([rows, sides], dim=2)
        spare = self._preprocessing.max_patches - grid * grid  # padding, which the tower masks
        return functional.pad(whole, (0, 0, 0, spare)).transpose(1, 2)
