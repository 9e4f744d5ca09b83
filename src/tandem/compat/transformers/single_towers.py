"""One tower alone under transformers' names, with its projection or as it is.

Shapes: n images, m texts, p patches, t tokens, w width, d shared dimension.
"""

from typing import Any

import numpy as np

from tandem.compat import arrays
from tandem.compat.refusals import STATES, refuse
from tandem.compat.transformers.outputs import ModelOutput
from tandem.compat.transformers.pretrained import PretrainedModel, states_of
from tandem.engine.inputs import end_positions


class CLIPVisionModelWithProjection(PretrainedModel):
    """The image tower: `image_embeds` [n d], not of unit length, and the states of patches."""

    def forward(self, pixel_values: Any = None, **options: Any) -> ModelOutput:
        found = self._image_output(_given(pixel_values, "pixel_values"), options)
        return ModelOutput({"image_embeds": found["pooler_output"], **states_of(found)})


class CLIPTextModelWithProjection(PretrainedModel):
    """The text tower: `text_embeds` [m d], not of unit length, and the states of tokens."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **options: Any) -> ModelOutput:
        found = self._text_output(_given(input_ids, "input_ids"), attention_mask, options)
        return ModelOutput({"text_embeds": found["pooler_output"], **states_of(found)})


class CLIPVisionModel(PretrainedModel):
    """The image tower without its projection: `last_hidden_state` [n p w], `pooler_output` [n w]."""

    def forward(self, pixel_values: Any = None, **options: Any) -> ModelOutput:
        """`pooler_output` is the class token's state after the last norm."""
        found = self._image_output(_given(pixel_values, "pixel_values"), options)
        pixels, model = self._pixels(pixel_values), self._model

        def pooled() -> Any:
            if getattr(model.config.vision, "pooling", "") != "class":
                refuse(
                    "pooler_output of an image tower without a class token",
                    f"CLIPVisionModelWithProjection gives its vectors; {STATES}",
                )
            return arrays.tensor(model.engine.image_states(pixels, -1)[:, 0], like=pixel_values)

        return _pooled(found, pooled)


class CLIPTextModel(PretrainedModel):
    """The text tower without its projection: `last_hidden_state` [m t w], `pooler_output` [m w]."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **options: Any) -> ModelOutput:
        """`pooler_output` is the state of the first end token."""
        found = self._text_output(_given(input_ids, "input_ids"), attention_mask, options)
        ids, model = self._ids(input_ids), self._model

        def pooled() -> Any:
            text = model.config.text
            if text.pooling != "end" or text.end_id is None or text.fixed_length:
                refuse(
                    "pooler_output of a text tower that reads no end token",
                    f"CLIPTextModelWithProjection gives its vectors; {STATES}",
                )
            states = model.engine.text_states(ids, -1)
            return arrays.tensor(states[np.arange(len(ids)), end_positions(ids, text.end_id)], like=input_ids)

        return _pooled(found, pooled)


class SiglipVisionModel(PretrainedModel):
    """SigLIP's image tower: `last_hidden_state` [n p w], `pooler_output` [n d], which is its vector."""

    def forward(self, pixel_values: Any = None, **options: Any) -> ModelOutput:
        return self._image_output(_given(pixel_values, "pixel_values"), options)


class SiglipTextModel(PretrainedModel):
    """SigLIP's text tower: `last_hidden_state` [m t w], `pooler_output` [m d], which is its vector."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **options: Any) -> ModelOutput:
        return self._text_output(_given(input_ids, "input_ids"), attention_mask, options)


def _given(value: Any, name: str) -> Any:
    if value is None:
        refuse(f"a model without {name}", "the processor makes them")
    return value


def _pooled(output: ModelOutput, pooled: Any) -> ModelOutput:
    states = states_of(output)
    return ModelOutput({"last_hidden_state": states.pop("last_hidden_state"), "pooler_output": pooled, **states})
