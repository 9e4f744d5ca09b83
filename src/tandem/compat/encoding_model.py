"""What the models of OpenAI's `clip` and of open_clip share: encoding, and preprocessing of one image.

Shapes: n images, m texts, t tokens, s pixels a side, d shared dimension.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.arrays import Vectors
from tandem.compat import arrays, loading, tensors
from tandem.compat.inference_model import InferenceModel
from tandem.compat.refusals import GRADIENTS, STATES, refuse, refuse_method
from tandem.model import Model
from tandem.pixels import preprocess
from tandem.weights import Checkpoint

_REFUSED = {
    **dict.fromkeys(("transformer", "token_embedding", "ln_final", "forward_intermediates"), STATES),
    **dict.fromkeys(("lock_image_tower", "lock_text_tower"), "`tandem train` has locked towers"),
    "set_grad_checkpointing": GRADIENTS,
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
        side = model.config.preprocessing.image_size
        self.input_resolution = side  # OpenAI's name
        self.image_size = (side, side) if model.config.vision.has_last_norm else side  # of a ResNet, open_clip's is one
        self.output_dim = model.config.embed_dim
        self.image_mean, self.image_std = model.config.preprocessing.mean, model.config.preprocessing.std

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, {name: STATES})


class EncodingModel(InferenceModel):
    """A model that encodes preprocessed images and token ids."""

    refused = _REFUSED

    @property
    def visual(self) -> Visual:
        return Visual(self._model)

    @property
    def context_length(self) -> int:
        return self._model.config.text.context_length

    @property
    def vocab_size(self) -> int:
        return self._model.config.text.vocabulary_size

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
