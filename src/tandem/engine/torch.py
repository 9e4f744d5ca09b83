"""Vectors through the torch definition (`tandem.nn`): for CUDA and MPS, and for CPUs without OpenVINO.

Knows what is computed of a batch; devices and precisions are in `torch_device`, the order of batches in
`torch_batches`, the mathematics in `nn`. Only torch and numpy are imported.

Shapes: n images or texts, t tokens of a text, p tokens of an image, w width, d shared dimension.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tandem import nn
from tandem.config import ModelConfig
from tandem.engine.inputs import (
    Pixels,
    buckets,
    check_dense,
    check_image_layer,
    check_pixels,
    check_token_ids,
    fixed_buckets,
)
from tandem.engine.torch_batches import Batches
from tandem.engine.torch_device import autocast, lower, to_device, torch_device, torch_precision
from tandem.engine.torch_streams import CudaStreams, Streams
from tandem.engine.torch_text import TorchTextEngine

# How much of a large call is in flight: bounds the memory, and is enough to fill the device
BATCH_IMAGES = {"cpu": 32, "cuda": 256, "mps": 64}
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384, "mps": 4096}

COMPILE = "TANDEM_TORCH_COMPILE"  # in the environment, 1: compile the image tower


class TorchEngine:
    """Both verbs and the per-token states on cpu, cuda (cuda:1, ...) or mps.

    `precision="auto"` is float32: the reference's numbers. In bfloat16 and float16 the products run in that type under
    autocast, while layer norms, softmax and the residual stream's sums keep the precision autocast gives them.
    """

    name = "torch"

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, NDArray[np.generic]],
        device: str | None = None,
        precision: str = "auto",
        *,
        streams: Streams | None = None,
    ) -> None:
        """streams: those of the device, by default where it has some (CUDA)."""
        self.config = config
        self._device = torch_device(device)
        self.device = str(self._device)
        self.precision = torch_precision(self._device, precision)
        self._model = nn.from_arrays(config, tensors).requires_grad_(False).to(self._device)
        lower(self._model, self.precision)
        if streams is None and self._device.type == "cuda":
            streams = CudaStreams(self._device)
        self.overlaps = streams is not None
        self._batches = Batches(self._device, streams)
        self._text_states = TorchTextEngine(config.text, self._model.text, self._device, self.precision)
        channels_first = (1, -1, *(1,) * (len(config.preprocessing.pixel_shape) - 1))
        self._mean, self._std = (
            255 * torch.tensor(values, device=self._device).reshape(channels_first)
            for values in config.preprocessing.normalisation
        )
        self._compiled = False
        if os.environ.get(COMPILE) == "1":
            self.compile_image_tower()

    def compile_image_tower(self, backend: str = "inductor") -> None:
        """Compile the blocks of the image tower for full batches, at the next one: some seconds, for faster ones.

        Smaller batches run as they did. TANDEM_TORCH_COMPILE=1 in the environment does this for every engine. backend:
        of torch.compile.
        """
        for block in self._model.visual.blocks():  # type: ignore[operator]
            block.compile(backend=backend, dynamic=False)  # one by one: those of a kind share a compilation
        self._compiled = True
        self._batches.forget()

    def encode_images(self, pixels: Pixels, *, normalize: bool = True) -> NDArray[np.float32]:
        """uint8 or float32 pixels in 0..255 [n h w 3] -> vectors float32 [n d], of unit length if `normalize`."""
        return self.begin_images(pixels, normalize=normalize)()

    def begin_images(self, pixels: Pixels, *, normalize: bool = True) -> Callable[[], NDArray[np.float32]]:
        """`encode_images`, in two steps; see `OverlappingEngine`."""
        pixels = check_pixels(pixels, self.config.preprocessing.pixel_shape)
        step = BATCH_IMAGES[self._device.type]
        parts = (pixels[start : start + step] for start in range(0, len(pixels), step))
        function = partial(self._of_images, full=step, normalize=normalize)
        with torch.inference_mode(), self._autocast():
            return self._batches.begin(("images", normalize), function, parts, self.config.embed_dim, step)

    def encode_texts(self, token_ids: NDArray[np.int32], *, normalize: bool = True) -> NDArray[np.float32]:
        """Token ids int32 [n t], start and end tokens included -> vectors float32 [n d], of unit length if asked."""
        token_ids = check_token_ids(token_ids, self.config.text)
        vectors = np.empty((len(token_ids), self.config.embed_dim), np.float32)
        most, text = BATCH_TOKENS[self._device.type], self.config.text
        cut = fixed_buckets if self.overlaps else buckets
        parts = [(rows, ids) for rows, ids, *_ in cut(token_ids, text, most)]
        if parts:
            function = partial(self._of_texts, normalize=normalize)
            with torch.inference_mode(), self._autocast():
                found = self._batches.run(
                    ("texts", normalize), function, (ids for _, ids in parts), self.config.embed_dim, most
                )
            vectors[np.concatenate([rows for rows, _ in parts])] = found
        return vectors

    def text_states(
        self, token_ids: NDArray[np.int32], layer: int = -1, *, norm: bool | None = None
    ) -> NDArray[np.float32]:
        """The state of every token, float32 [n t w]; see `Engine.text_states`."""
        return self._text_states.hidden_states(token_ids, [layer], norm=norm)[0]  # type: ignore[no-any-return]

    def image_states(
        self, pixels: Pixels, layer: int = -2, *, norm: bool | None = None, projection: bool = False
    ) -> NDArray[np.float32]:
        """The state of every token of images, float32 [n p w] (or [n p d]); see `Engine.image_states`."""
        vision = self.config.vision
        pixels = check_pixels(pixels, self.config.preprocessing.pixel_shape)
        wanted = check_image_layer(vision, layer, norm, projection)
        layout = vision.state_layout(wanted[0])
        width = self.config.embed_dim if projection else layout.width
        return self._states(pixels, lambda x: self._model.image_states(x, *wanted).float(), layout.tokens, width)

    def encode_dense(self, pixels: Pixels) -> NDArray[np.float32]:
        """A unit vector for each patch or position of images, float32 [n p d]; see `Engine.encode_dense`."""
        pixels = check_pixels(pixels, self.config.preprocessing.pixel_shape)
        check_dense(self.config.vision)
        places, width = self.config.vision.grid**2, self.config.embed_dim
        return self._states(pixels, lambda x: _vectors(self._model.dense(x), True), places, width)

    def release(self) -> None:
        """Give back what launches that are recorded keep. The weights on the device stay: every method needs them."""
        self._batches.forget()

    def _states(
        self, pixels: Pixels, function: Callable[[Tensor], Tensor], places: int, width: int
    ) -> NDArray[np.float32]:
        """What `function` makes of normalised pixels, float32 [n p w]: so large that batches wait for their results."""
        states = np.empty((len(pixels), places, width), np.float32)
        step = BATCH_IMAGES[self._device.type]
        with torch.inference_mode(), self._autocast(), self._as_written():
            for start in range(0, len(pixels), step):
                part = to_device(pixels[start : start + step], self._device)
                states[start : start + step] = function(self._normalised(part)).cpu().numpy()
        return states

    def _autocast(self) -> torch.autocast:
        return autocast(self._device, self.precision)

    def _as_written(self) -> AbstractContextManager[None]:
        """A context in which nothing is compiled for a new shape."""
        return torch.compiler.set_stance("force_eager") if self._compiled else nullcontext()

    def _of_images(self, pixels: Tensor, full: int, normalize: bool) -> Tensor:
        """[b h w 3] in 0..255 -> float32 [b d]"""
        with nullcontext() if len(pixels) == full else self._as_written():
            return _vectors(self._model.encode_image(self._normalised(pixels)), normalize)

    def _of_texts(self, ids: Tensor, normalize: bool) -> Tensor:
        """int32 [b t] -> float32 [b d]"""
        return _vectors(self._model.encode_text(ids.long()), normalize)

    def _normalised(self, pixels: Tensor) -> Tensor:
        """[n h w 3] in 0..255 -> [n 3 h w], by mean and std."""
        return (pixels.movedim(-1, 1).float() - self._mean) / self._std


def _vectors(features: Tensor, normalize: bool) -> Tensor:
    return functional.normalize(features.float(), dim=-1) if normalize else features.float()
