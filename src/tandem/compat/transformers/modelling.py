"""CLIP and SigLIP under transformers' names: `model(**inputs)`, `get_image_features`, over Tandem's engine.

Shapes: n images, m texts, d shared dimension.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.compat import arrays, tensors
from tandem.compat.refusals import refuse
from tandem.compat.transformers.outputs import ModelOutput
from tandem.compat.transformers.pretrained import PretrainedModel, states_of
from tandem.compat.transformers.single_towers import (
    CLIPTextModel,
    CLIPVisionModel,
    SiglipTextModel,
    SiglipVisionModel,
)


class CLIPModel(PretrainedModel):
    """Two towers: `model(**inputs)` gives logits and vectors of unit length, `get_..._features` a tower's own."""

    def forward(
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        attention_mask: Any = None,
        **options: Any,
    ) -> ModelOutput:
        """`logits_per_image` [n m], `logits_per_text` [m n], `text_embeds` [m d], `image_embeds` [n d]."""
        if input_ids is None or pixel_values is None:
            refuse(
                f"{type(self).__name__}() without {'input_ids' if input_ids is None else 'pixel_values'}",
                "it compares texts with images; get_text_features and get_image_features give one side",
            )
        images = self._image_output(pixel_values, options)
        texts = self._text_output(input_ids, attention_mask, options)
        image, text = (_unit(tensors.numbers(each["pooler_output"], "vectors")) for each in (images, texts))
        logits = self._model.logits(image, text)
        return ModelOutput(
            {
                "logits_per_image": arrays.tensor(logits, like=pixel_values),
                "logits_per_text": arrays.tensor(np.ascontiguousarray(logits.T), like=pixel_values),
                "text_embeds": arrays.tensor(text, like=input_ids),
                "image_embeds": arrays.tensor(image, like=pixel_values),
                "text_model_output": texts,
                "vision_model_output": images,
            }
        )

    @property
    def vision_model(self) -> CLIPVisionModel | SiglipVisionModel:
        """The image tower alone."""
        return CLIPVisionModel(self._model)

    @property
    def text_model(self) -> CLIPTextModel | SiglipTextModel:
        """The text tower alone."""
        return CLIPTextModel(self._model)

    def get_image_features(self, pixel_values: Any = None, **options: Any) -> Any:
        """The vectors [n d], not of unit length: a tensor, as in transformers 4, that has the attributes of 5's output.

        Those are `pooler_output`, which is the same, `last_hidden_state` and `hidden_states`.
        """
        if pixel_values is None:
            refuse("get_image_features without pixel_values", "the processor makes them of images")
        return _features(self._image_output(pixel_values, options))

    def get_text_features(self, input_ids: Any = None, attention_mask: Any = None, **options: Any) -> Any:
        """The vectors [m d], not of unit length, as `get_image_features` gives them."""
        if input_ids is None:
            refuse("get_text_features without input_ids", "the processor makes them of texts")
        return _features(self._text_output(input_ids, attention_mask, options))


class SiglipModel(CLIPModel):
    """SigLIP: each pair has a probability of its own, the sigmoid of its logit."""

    @property
    def vision_model(self) -> SiglipVisionModel:
        """The image tower alone."""
        return SiglipVisionModel(self._model)

    @property
    def text_model(self) -> SiglipTextModel:
        """The text tower alone."""
        return SiglipTextModel(self._model)

    @property
    def logit_bias(self) -> Any:
        """What is added to the scaled cosines."""
        return arrays.tensor(np.array(self._model.logit_bias, np.float32))


class AutoModel(CLIPModel):
    """The model of any name: `CLIPModel`, or `SiglipModel` for those that were trained with a bias."""

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        found = CLIPModel.from_pretrained(*args, **options)
        return SiglipModel(found._model) if found._model.config.logit_bias else found


AutoModelForZeroShotImageClassification = AutoModel


def _features(output: ModelOutput) -> Any:
    vectors = output["pooler_output"]
    return arrays.with_attributes(vectors, {"pooler_output": lambda: vectors, **states_of(output)})


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
