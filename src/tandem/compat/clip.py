"""OpenAI's `clip` over Tandem's engine: `load`, `tokenize`, `encode_image`, `model(image, text)`.

Token ids are always of CLIP's vocabulary. A model with another one in its style, such as the one that ships, reads the
words that they stand for. Vectors are not of unit length, as the original's are not.

Shapes: n images, m texts, t tokens, s pixels a side, d shared dimension.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.compat import arrays, loading
from tandem.compat.encoding_model import EncodingModel, Preprocess
from tandem.compat.refusals import check_length, check_options, module_names, refuse
from tandem.tokenizer import Tokenizer

__all__ = ["available_models", "load", "tokenize"]

_MODELS = ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px")


def available_models() -> list[str]:
    """The names of the published models; `load` takes whatever else `tandem.load` takes."""
    return list(_MODELS)


def load(
    name: str | os.PathLike[str] | None = "ViT-B/32",
    device: object = "cpu",
    jit: bool = False,
    download_root: str | None = None,
) -> tuple["CLIP", Callable[[Image.Image], Any]]:
    """The model, and what makes a tensor [3 s s] of an image. Weights are downloaded where they are missing.

    device: "cpu", or "cuda" with torch. Where a GPU is there, scripts that choose it by `torch.cuda.is_available()` get
    it. Raises what `tandem.load` raises.
    """
    check_options("clip.load", {"download_root": download_root, "jit": jit}, {"jit": False}, _OPTIONS)
    source = loading.named(name, {}, "clip.load")
    model = loading.model(source, device=device)
    if not model.tokenizer.is_clip_style:
        refuse(f"clip.load({source!r})", "clip.tokenize has CLIP's vocabulary alone: tandem.compat.open_clip reads it")
    return CLIP(model), Preprocess(model.checkpoint)


class CLIP(EncodingModel):
    """A model as `clip.load` gives it."""

    def encode_image(self, image: Any) -> Any:
        """Preprocessed images [n 3 s s] -> [n d]."""
        return self._images(image, normalize=False)

    def encode_text(self, text: Any) -> Any:
        """Token ids of `clip.tokenize` [m t] -> [m d]."""
        return self._texts(text, normalize=False)

    def __call__(self, image: Any, text: Any) -> tuple[Any, Any]:
        """The logits per image [n m] and per text [m n]."""
        logits = self._model.logits(self._image_vectors(image), self._text_vectors(text))
        return arrays.tensor(logits, like=image), arrays.tensor(np.ascontiguousarray(logits.T), like=image)

    forward = __call__

    def _own_ids(self, ids: NDArray[Any]) -> NDArray[np.int32]:
        """Ids of CLIP's vocabulary, which a model with another one reads by the words that they stand for."""
        tokenizer = self._model.tokenizer
        if tokenizer.is_clip:
            return ids.astype(np.int32)
        return tokenizer(Tokenizer.clip().decode(ids.tolist()), self.context_length)


def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Any:
    """Token ids int32 [n t], padded with 0. Raises `TextError` for a text of more tokens, without `truncate`."""
    check_length("context_length", context_length)
    return arrays.tensor(Tokenizer.clip()(texts, context_length, truncate, pad_to=context_length))


_OPTIONS = {
    "download_root": "is a setting of the machine: set TANDEM_CACHE in the environment",
    "jit": "the engine compiles by itself: jit=False",
}
_find = module_names(
    __name__, {}, {"model": "tandem.nn has the modules of the towers", "clip": "tandem.compat.clip is"}
)


def __getattr__(name: str) -> Any:
    return _find(name)
