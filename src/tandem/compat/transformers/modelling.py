"""CLIP and SigLIP under transformers' names: `model(**inputs)`, `get_image_features`, over Tandem's engine.

Knows what transformers' models give; the arithmetic is the engine's, without gradients.

Shapes: n images, m texts, t tokens, s pixels a side, w width, d shared dimension.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.compat import arrays, loading, tensors
from tandem.compat.loading import Source
from tandem.compat.refusals import GRADIENTS, STATES, TRAIN, check_options, refuse, refuse_method
from tandem.compat.transformers.outputs import Config, HiddenStates, ModelOutput
from tandem.config import to_dict
from tandem.engine.inputs import end_positions
from tandem.errors import WeightsError
from tandem.model import Model

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
_METHODS = dict.fromkeys(
    ("parameters", "named_parameters", "zero_grad", "gradient_checkpointing_enable", "named_modules", "modules"),
    GRADIENTS,
) | {
    "state_dict": "tandem.load(...).tensors are the weights, as arrays",
    "load_state_dict": "weights come from the folder, file or name",
    "save_pretrained": "`tandem convert MODEL FOLDER --to transformers` writes a folder",
    "push_to_hub": "`tandem convert` writes the folder; huggingface-cli uploads it",
    "half": "dtype=torch.bfloat16 in from_pretrained is the reduced precision",
    "text_model": STATES,
    "vision_model": STATES,
    "compile": "the engine compiles by itself",
}


class _PretrainedModel:
    """What all models have: where they are, what they are, and nothing that trains."""

    def __init__(self, model: Model) -> None:
        self._model = model

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
        """As transformers' `config.json` says it; that of Tandem for towers that transformers has no class for."""
        from tandem.weights.transformers_config import config_to

        try:
            return Config(config_to(self._model.config))
        except WeightsError:
            return Config(to_dict(self._model.config))

    @property
    def device(self) -> Any:
        return tensors.device_of(self._model.engine.device.lower())

    @property
    def dtype(self) -> Any:
        """Of its results, whatever the arithmetic is."""
        return tensors.float32()

    def __repr__(self) -> str:
        return f"<tandem.compat {type(self).__name__} of {self._model!r}>"

    @property
    def logit_scale(self) -> Any:
        """The logarithm of the factor of cosines."""
        return arrays.tensor(np.array(np.log(self._model.logit_scale), np.float32))

    def eval(self) -> Any:
        return self

    def train(self, mode: bool = True) -> Any:
        if mode:
            refuse(f"{type(self).__name__}.train()", TRAIN)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        if requires_grad:
            refuse(f"{type(self).__name__}.requires_grad_()", GRADIENTS)
        return self

    def to(self, device: object = None, dtype: object = None) -> Any:
        """On "cpu" or, with torch, "cuda"; or in another precision. Changes and returns the model."""
        if device is not None and ("float" in str(device)):
            device, dtype = None, device
        engine = self._model.engine
        same = device is None or tensors.device_name(device) in (engine.device, engine.device.lower())
        if not (same and dtype is None):
            self._model = loading.on_device(self._model.checkpoint, self.device if same else device, dtype)
        return self

    def cpu(self) -> Any:
        return self.to("cpu")

    def cuda(self, device: int | None = None) -> Any:
        return self.to("cuda" if device is None else device)

    def float(self) -> Any:
        return self.to(dtype="float32")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the class computes."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        refuse_method(self, name, _METHODS)

    # --- the towers ----------------------------------------------------------------------------------------------

    def _image_output(self, pixel_values: Any, options: Mapping[str, Any]) -> ModelOutput:
        """`last_hidden_state` [n p w], `pooler_output` [n d], not of unit length, `hidden_states`."""
        check_options(type(self).__name__, options, _CALL_HARMLESS, _CALL_INSTEAD)
        plain = tensors.numbers(pixel_values, "pixel_values")
        side = self._model.config.preprocessing.image_size
        if plain.ndim != 4 or plain.shape[1:] != (3, side, side):
            refuse(
                f"pixel_values of shape {list(plain.shape)}", f"expected [n 3 {side} {side}], as the processor's are"
            )
        pixels = loading.pixels_of(plain, self._model)
        vision, engine = self._model.config.vision, self._model.engine

        def states(layer: int, norm: bool | None = None) -> Any:
            if not vision.has_last_norm:
                refuse("the hidden states of this image tower, which is no Vision Transformer", STATES)
            return arrays.tensor(engine.image_states(pixels, layer, norm=norm), like=pixel_values)

        def last() -> Any:  # SigLIP's are normed, CLIP's before the norm
            return states(-1) if self._model.config.logit_bias else states(vision.state_layers)

        vectors = self._model.encode_pixels(pixels, normalize=False)
        return ModelOutput(
            {
                "last_hidden_state": last,
                "pooler_output": arrays.tensor(vectors, like=pixel_values),
                "hidden_states": lambda: HiddenStates(vision.state_layers, states),
            }
        )

    def _text_output(self, input_ids: Any, attention_mask: Any, options: Mapping[str, Any]) -> ModelOutput:
        """`last_hidden_state` [m t w], `pooler_output` [m d], not of unit length, `hidden_states`."""
        check_options(type(self).__name__, options, _CALL_HARMLESS, _CALL_INSTEAD)
        text, engine = self._model.config.text, self._model.engine
        ids = np.atleast_2d(tensors.numbers(input_ids, "input_ids"))
        if ids.dtype.kind not in "iu":
            refuse(f"input_ids of {ids.dtype}", "expected whole numbers [m t], as the tokenizer's are")
        ids = ids.astype(np.int32)
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
            return arrays.tensor(engine.text_states(ids, layer), like=input_ids)

        vectors = self._model.encode_token_ids(ids, normalize=False)
        return ModelOutput(
            {
                "last_hidden_state": lambda: states(-1),
                "pooler_output": arrays.tensor(vectors, like=input_ids),
                "hidden_states": lambda: HiddenStates(text.layers, states),
            }
        )

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


class CLIPModel(_PretrainedModel):
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


class CLIPVisionModelWithProjection(_PretrainedModel):
    """The image tower alone: `image_embeds` [n d], not of unit length, and the states of patches."""

    def forward(self, pixel_values: Any = None, **options: Any) -> ModelOutput:
        found = self._image_output(pixel_values, options)
        return ModelOutput({"image_embeds": found["pooler_output"], **_states(found)})


class CLIPTextModelWithProjection(_PretrainedModel):
    """The text tower alone: `text_embeds` [m d], not of unit length, and the states of tokens."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **options: Any) -> ModelOutput:
        found = self._text_output(input_ids, attention_mask, options)
        return ModelOutput({"text_embeds": found["pooler_output"], **_states(found)})


def _states(output: ModelOutput) -> dict[str, Any]:
    return {
        "last_hidden_state": lambda: output["last_hidden_state"],
        "hidden_states": lambda: output["hidden_states"],
    }


def _features(output: ModelOutput) -> Any:
    vectors = output["pooler_output"]
    return arrays.with_attributes(vectors, {"pooler_output": lambda: vectors, **_states(output)})


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
