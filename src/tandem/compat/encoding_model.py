"""What the models of OpenAI's `clip` and of open_clip share: encoding, and preprocessing of one image.

Shapes: n images, m texts, t tokens, s pixels a side, d shared dimension.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.arrays import Vectors
from tandem.compat import arrays, loading, tensors
from tandem.compat.refusals import GRADIENTS, STATES, TRAIN, refuse, refuse_method
from tandem.model import Model
from tandem.pixels import preprocess
from tandem.weights import Checkpoint

_METHODS = dict.fromkeys(
    ("parameters", "named_parameters", "zero_grad", "set_grad_checkpointing", "modules"), GRADIENTS
) | {
    "state_dict": "tandem.load(...).tensors are the weights, as arrays",
    "load_state_dict": "weights come from the folder, file or name",
    "transformer": STATES,
    "token_embedding": STATES,
    "ln_final": STATES,
    "forward_intermediates": STATES,
    "lock_image_tower": "`tandem train` has locked towers",
    "lock_text_tower": "`tandem train` has locked towers",
    "half": 'precision="bf16" of open_clip.create_model_and_transforms is the reduced precision',
}


class Preprocess:
    """Called with a PIL image it gives a tensor float32 [3 s s]: resized, cropped and normalised as the original."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def __call__(self, image: Image.Image) -> Any:
        if not isinstance(image, Image.Image):
            refuse(f"preprocess({type(image).__name__})", "expected a PIL image; tandem.image.load_image opens others")
        pixels = preprocess(image, self._checkpoint.config.preprocessing)
        return arrays.tensor(loading.normalised(pixels, self._checkpoint))

    def __repr__(self) -> str:
        return f"<preprocessing of {self._checkpoint.source}: {self._checkpoint.config.preprocessing}>"


class Visual:
    """What scripts ask of the image tower: how large its images and vectors are."""

    def __init__(self, model: Model) -> None:
        self.input_resolution = self.image_size = model.config.preprocessing.image_size
        self.output_dim = model.config.embed_dim
        self.image_mean, self.image_std = model.config.preprocessing.mean, model.config.preprocessing.std

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, {name: STATES})


class EncodingModel:
    """A model for inference: its engine has no gradients."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def logit_scale(self) -> Any:
        """The logarithm of the factor of cosines."""
        return arrays.tensor(np.array(np.log(self._model.logit_scale), np.float32))

    @property
    def visual(self) -> Visual:
        return Visual(self._model)

    @property
    def context_length(self) -> int:
        return self._model.config.text.context_length

    @property
    def vocab_size(self) -> int:
        return self._model.config.text.vocabulary_size

    @property
    def dtype(self) -> Any:
        return tensors.float32()

    def __repr__(self) -> str:
        return f"<tandem.compat {type(self).__name__} of {self._model!r}>"

    def eval(self) -> Any:
        return self

    def float(self) -> Any:
        return self

    def train(self, mode: bool = True) -> Any:
        if mode:
            refuse(f"{type(self).__name__}.train()", TRAIN)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        if requires_grad:
            refuse(f"{type(self).__name__}.requires_grad_()", GRADIENTS)
        return self

    def to(self, device: object) -> Any:
        """On "cpu" or, with torch, "cuda". Changes and returns the model."""
        if tensors.device_name(device) != self._model.engine.device.lower():
            self._model = loading.on_device(self._model.checkpoint, device)
        return self

    def cuda(self) -> Any:
        return self.to("cuda")

    def cpu(self) -> Any:
        return self.to("cpu")

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, _METHODS)

    # --- encoding ------------------------------------------------------------------------------------------------

    def _images(self, image: Any, normalize: bool) -> Any:
        return arrays.tensor(self._image_vectors(image, normalize), like=image)

    def _texts(self, text: Any, normalize: bool) -> Any:
        return arrays.tensor(self._text_vectors(text, normalize), like=text)

    def _image_vectors(self, image: Any, normalize: bool = True) -> Vectors:
        plain = tensors.numbers(image, "an image")
        side = self._model.config.preprocessing.image_size
        if plain.ndim != 4 or plain.shape[1:] != (3, side, side):
            hint = ", made by preprocess(image).unsqueeze(0)"
            refuse(f"an image of shape {list(plain.shape)}", f"expected [n 3 {side} {side}]{hint}")
        return self._model.encode_pixels(loading.pixels_of(plain, self._model), normalize=normalize)

    def _text_vectors(self, text: Any, normalize: bool = True) -> Vectors:
        ids = np.atleast_2d(tensors.numbers(text, "texts"))
        return self._model.encode_token_ids(self._own_ids(ids), normalize=normalize)

    def _own_ids(self, ids: NDArray[Any]) -> NDArray[np.int32]:
        """The ids as they are: by default those of the model's own tokenizer."""
        return ids.astype(np.int32)
