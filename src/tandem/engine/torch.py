"""Vectors through the torch definition (`tandem.nn`): for CUDA and MPS, and for CPUs without OpenVINO.

Knows devices, precisions and batches; the mathematics is in `nn`. Only torch and numpy are imported.

Shapes: n images or texts, t tokens of a text, p tokens of an image, w width, d shared dimension.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tandem import nn
from tandem.config import ModelConfig
from tandem.engine.inputs import Pixels, buckets, check_dense, check_image_layer, check_pixels, check_token_ids
from tandem.engine.torch_text import TorchTextEngine, autocast, to_device, torch_device, torch_precision

# How much of a large call is in flight: bounds the memory, and is enough to fill the device
BATCH_IMAGES = {"cpu": 32, "cuda": 256, "mps": 64}
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384, "mps": 4096}


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
    ) -> None:
        self.config = config
        self._device = torch_device(device)
        self.device = str(self._device)
        self.precision = torch_precision(self._device, precision)
        self._model = nn.from_arrays(config, tensors).to(self._device)
        self._text_states = TorchTextEngine(config.text, self._model.text, self._device, self.precision)
        channels_first = (1, -1, *(1,) * (len(config.preprocessing.pixel_shape) - 1))
        self._mean, self._std = (
            255 * torch.tensor(values, device=self._device).reshape(channels_first)
            for values in config.preprocessing.normalisation
        )

    def encode_images(self, pixels: Pixels, *, normalize: bool = True) -> NDArray[np.float32]:
        """uint8 or float32 pixels in 0..255 [n h w 3] -> vectors float32 [n d], of unit length if `normalize`."""
        pixels = check_pixels(pixels, self.config.preprocessing.pixel_shape)
        vectors = np.empty((len(pixels), self.config.embed_dim), np.float32)
        step = BATCH_IMAGES[self._device.type]
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(pixels), step):
                part = self._normalised(pixels[start : start + step])
                vectors[start : start + step] = _vectors(self._model.encode_image(part), normalize)
        return vectors

    def encode_texts(self, token_ids: NDArray[np.int32], *, normalize: bool = True) -> NDArray[np.float32]:
        """Token ids int32 [n t], start and end tokens included -> vectors float32 [n d], of unit length if asked."""
        token_ids = check_token_ids(token_ids, self.config.text)
        vectors = np.empty((len(token_ids), self.config.embed_dim), np.float32)
        with torch.inference_mode(), self._autocast():
            for rows, ids, _ in buckets(token_ids, self.config.text, BATCH_TOKENS[self._device.type]):
                vectors[rows] = _vectors(self._model.encode_text(self._to_device(ids).long()), normalize)
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
        states = np.empty(
            (len(pixels), layout.tokens, self.config.embed_dim if projection else layout.width), np.float32
        )
        step = BATCH_IMAGES[self._device.type]
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(pixels), step):
                part = self._model.image_states(self._normalised(pixels[start : start + step]), *wanted)
                states[start : start + step] = part.float().cpu().numpy()
        return states

    def encode_dense(self, pixels: Pixels) -> NDArray[np.float32]:
        """A unit vector for each patch or position of images, float32 [n p d]; see `Engine.encode_dense`."""
        pixels = check_pixels(pixels, self.config.preprocessing.pixel_shape)
        check_dense(self.config.vision)
        vectors = np.empty((len(pixels), self.config.vision.grid**2, self.config.embed_dim), np.float32)
        step = BATCH_IMAGES[self._device.type]
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(pixels), step):
                part = self._normalised(pixels[start : start + step])
                vectors[start : start + step] = _vectors(self._model.dense(part), normalize=True)
        return vectors

    def release(self) -> None:
        """Do nothing: the weights on the device are all there is, and every method needs them."""

    def _autocast(self) -> torch.autocast:
        return autocast(self._device, self.precision)

    def _normalised(self, pixels: Pixels) -> Tensor:
        """[n h w 3] in 0..255 -> [n 3 h w], by mean and std."""
        return (self._to_device(pixels).movedim(-1, 1).float() - self._mean) / self._std

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        return to_device(array, self._device)


def _vectors(features: Tensor, normalize: bool) -> NDArray[np.float32]:
    return (functional.normalize(features.float(), dim=-1) if normalize else features.float()).cpu().numpy()
