"""What all models have in transformers: `from_pretrained`, `config`, and the outputs of the two towers.

The arithmetic is the engine's, without gradients.

Shapes: n images, m texts, p patches, t tokens, s pixels a side, w width, d shared dimension.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.compat import arrays, loading, tensors
from tandem.compat.inference_model import InferenceModel
from tandem.compat.loading import Source
from tandem.compat.refusals import GRADIENTS, STATES, TRAIN, check_options, refuse
from tandem.compat.transformers.configuration import Config, configuration
from tandem.compat.transformers.outputs import HiddenStates, ModelOutput
from tandem.engine.inputs import end_positions

_CALL_HARMLESS = {
    "return_dict": True,
    "output_hidden_states": ...,  # they are there in any case, computed when they are asked for
    "output_attentions": False,
    "interpolate_pos_encoding": False,
    "return_loss": False,
}
_CALL_INSTEAD = {
    "output_attentions": "attention weights do not leave the engine; `tandem locate` shows where something is",
    "interpolate_pos_encoding": "the model reads images of its own size",
    "return_loss": f"a loss without gradients serves no training: {TRAIN}",
    "return_dict": "outputs.to_tuple() gives the tuple",
    "position_ids": "tokens are read in their order",
    "inputs_embeds": STATES,
}
_REFUSED = {
    "gradient_checkpointing_enable": GRADIENTS,
    "save_pretrained": "`tandem convert MODEL FOLDER --to transformers` writes a folder",
    "push_to_hub": "`tandem convert` writes the folder; huggingface-cli uploads it",
    "half": "dtype=torch.bfloat16 in from_pretrained is the reduced precision",
    "visual_projection": "get_image_features gives the projected vectors",
    "text_projection": "get_text_features gives the projected vectors",
    "get_input_embeddings": STATES,
    "resize_token_embeddings": TRAIN,
}


class PretrainedModel(InferenceModel):
    """What all models of transformers have."""

    refused = _REFUSED

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Source = None,
        *,
        dtype: object = None,
        torch_dtype: object = None,
        **options: Any,
    ) -> Any:
        """Of a folder, a name on the hub or a published model; None for the model that ships.

        dtype: float32, or bfloat16 for the arithmetic; results are float32. Raises what `tandem.load` raises, and
        `NotCoveredError` for options that cannot be met.
        """
        source = loading.named(pretrained_model_name_or_path, options, f"{cls.__name__}.from_pretrained")
        return cls(loading.model(source, dtype=torch_dtype if dtype is None else dtype))

    @property
    def config(self) -> Config:
        """As transformers' `config.json` says it, where it has a class for the towers."""
        return configuration(self._model.config)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the class computes."""
        raise NotImplementedError

    # --- the towers ----------------------------------------------------------------------------------------------

    def _image_output(self, pixel_values: Any, options: Mapping[str, Any]) -> ModelOutput:
        """`last_hidden_state` [n p w], `pooler_output` [n d], not of unit length, `hidden_states`.

        p: patches, after a class token where the tower has one; of a ResNet, positions of a stage.
        """
        check_options(type(self).__name__, options, _CALL_HARMLESS, _CALL_INSTEAD)
        model = self._model
        pixels, vision = self._pixels(pixel_values), model.config.vision

        def states(layer: int) -> Any:
            return arrays.tensor(model.engine.image_states(pixels, layer), like=pixel_values)

        def last() -> Any:  # SigLIP's are normed, CLIP's before the norm
            normed = model.config.logit_bias or not vision.has_last_norm
            return states(-1) if normed else states(vision.state_layers)

        return ModelOutput(
            {
                "last_hidden_state": last,
                "pooler_output": lambda: arrays.tensor(model.encode_pixels(pixels, normalize=False), like=pixel_values),
                "hidden_states": lambda: HiddenStates(vision.state_layers, states),
            }
        )

    def _pixels(self, pixel_values: Any) -> NDArray[np.float32]:
        """As engines take them. Raises `NotCoveredError` for images of another size."""
        plain = tensors.numbers(pixel_values, "pixel_values")
        side = self._model.config.preprocessing.image_size
        if plain.ndim != 4 or plain.shape[1:] != (3, side, side):
            refuse(
                f"pixel_values of shape {list(plain.shape)}", f"expected [n 3 {side} {side}], as the processor's are"
            )
        return loading.pixels_of(plain, self._model)

    def _text_output(self, input_ids: Any, attention_mask: Any, options: Mapping[str, Any]) -> ModelOutput:
        """`last_hidden_state` [m t w], `pooler_output` [m d], not of unit length, `hidden_states`."""
        check_options(type(self).__name__, options, _CALL_HARMLESS, _CALL_INSTEAD)
        model = self._model
        text, ids = model.config.text, self._ids(input_ids)
        masked = self._check_mask(ids, attention_mask)
        if text.fixed_length and ids.shape[1] < text.context_length:
            warnings.warn(
                f"texts are padded to {text.context_length} tokens, as the model was trained; transformers reads "
                f'{ids.shape[1]} as they are, and worse: padding="max_length" is the same in both',
                stacklevel=4,
            )

        def states(layer: int) -> Any:
            if masked:
                refuse("hidden states under an attention_mask", f"leave the mask out for the states alone; {STATES}")
            return arrays.tensor(model.engine.text_states(ids, layer), like=input_ids)

        return ModelOutput(
            {
                "last_hidden_state": lambda: states(-1),
                "pooler_output": lambda: arrays.tensor(model.encode_token_ids(ids, normalize=False), like=input_ids),
                "hidden_states": lambda: HiddenStates(text.layers, states),
            }
        )

    def _ids(self, input_ids: Any) -> NDArray[np.int32]:
        """Token ids [m t]. Raises `NotCoveredError` for what are none."""
        ids = np.atleast_2d(tensors.numbers(input_ids, "input_ids"))
        if ids.dtype.kind not in "iu":
            refuse(f"input_ids of {ids.dtype}", "expected whole numbers [m t], as the tokenizer's are")
        return ids.astype(np.int32)

    def _check_mask(self, ids: NDArray[np.int32], attention_mask: Any) -> bool:
        """Whether something is masked. Raises `NotCoveredError` for a mask that would change the vectors."""
        if attention_mask is None:
            return False
        text = self._model.config.text
        hidden = np.atleast_2d(tensors.numbers(attention_mask, "attention_mask")) == 0
        if text.masks_padding:
            changes = bool((hidden != (ids == text.pad_id)).any())
        elif text.fixed_length or text.end_id is None:
            changes = bool(hidden.any())
        else:
            ends = end_positions(ids, text.end_id)
            changes = bool((hidden & (np.arange(ids.shape[1]) <= ends[:, None])).any())
        if changes:
            refuse("an attention_mask that hides more than padding after the end", "leave attention_mask out")
        return bool(hidden.any())


def states_of(output: ModelOutput) -> dict[str, Any]:
    """The states in an output, computed when they are asked for."""
    return {
        "last_hidden_state": lambda: output["last_hidden_state"],
        "hidden_states": lambda: output["hidden_states"],
    }
