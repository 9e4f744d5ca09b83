"""Processors as transformers has them: texts and images together to the inputs of a model."""

import os
from typing import Any

from tandem.compat.refusals import refuse
from tandem.compat.transformers.batches import BatchFeature, FromPretrained
from tandem.compat.transformers.images import CLIPImageProcessor
from tandem.compat.transformers.tokenizing import CLIPTokenizer
from tandem.weights import Checkpoint


class CLIPProcessor(FromPretrained):
    """Texts and images to inputs of a model: `processor(text=..., images=..., return_tensors="pt", padding=True)`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.tokenizer = CLIPTokenizer(checkpoint)
        self.image_processor = CLIPImageProcessor(checkpoint)

    def __call__(
        self, *inputs: Any, text: Any = None, images: Any = None, return_tensors: str | None = None, **options: Any
    ) -> BatchFeature:
        """`input_ids` and `attention_mask` of texts, `pixel_values` of images; the options are the tokenizer's.

        By position either may come first: transformers 5 has images there, 4 had texts.
        """
        for each in inputs:
            if _are_texts(each):
                text = each
            else:
                images = each
        if text is None and images is None:
            refuse("a processor without text= and images=", "give one of them, or both")
        found = BatchFeature()
        if text is not None:
            found |= self.tokenizer(text, return_tensors=return_tensors, **options)
            options = {}
        if images is not None:
            found |= self.image_processor(images, return_tensors=return_tensors, **options)
        return found


class AutoProcessor(CLIPProcessor):
    """The processor of any model."""


class SiglipProcessor(CLIPProcessor):
    """The processor of SigLIP. Its texts are padded to the model's length: `padding="max_length"`."""


def _are_texts(value: Any) -> bool:
    """Whether they are texts rather than images, which strings name, too."""
    first = next(iter(value), None) if isinstance(value, list | tuple) else value
    return isinstance(first, str) and not _names_image(first)


def _names_image(text: str) -> bool:
    return text.startswith(("http://", "https://")) or os.path.isfile(text)
