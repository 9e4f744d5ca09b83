"""Modules that take the place of the text encoders and tokenizers of a diffusers pipeline. Needs torch, not diffusers.

`replace_text_encoders(pipe)` exchanges those of a pipeline; `load_text_encoder` makes a pair for a pipeline that is
being put together; `pipeline_inputs` turns a `Conditioning` into the arguments of a pipeline's call. The towers are
computed by a text engine, without gradients: OpenVINO's on a CPU, by default, wherever the rest of the pipeline is.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tandem import engine as engines
from tandem.arrays import Vectors
from tandem.conditioning.consumers import tower_names
from tandem.conditioning.encoding import check_finite
from tandem.conditioning.inversions import TextualInversion, read_inversions
from tandem.conditioning.learnt_words import LearntWords, learnt_words
from tandem.conditioning.pipeline_parts import LEARNT, PromptTokenizer, TextConfig, TextOutput
from tandem.conditioning.result import Conditioning
from tandem.engine.inputs import read_positions
from tandem.errors import ConditioningError
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.weights.text_tower import MODEL_TYPE, TextCheckpoint, read_text_tower, text_tower_of

Embeddings = Mapping[str, str | Path | TextualInversion] | Iterable[str | Path | TextualInversion]
_PAIRS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2", "text_encoder_3": "tokenizer_3"}


class _FinalNorm(nn.Module):
    """`text_encoder.text_model`, of which pipelines use the final norm, after clip skip."""

    def __init__(self, checkpoint: TextCheckpoint) -> None:
        super().__init__()
        text = checkpoint.text
        self.final_layer_norm = nn.LayerNorm(text.width, text.norm_epsilon)
        for name, parameter in (("weight", self.final_layer_norm.weight), ("bias", self.final_layer_norm.bias)):
            parameter.data = torch.from_numpy(np.array(checkpoint.tensors[f"ln_final.{name}"], np.float32))
        self.requires_grad_(False)


class CLIPTextModule(nn.Module):
    """Takes the place of CLIPTextModel, or of CLIPTextModelWithProjection where there is a projection."""

    def __init__(
        self,
        checkpoint: TextCheckpoint,
        *,
        learnt: LearntWords | None = None,
        projects: bool | None = None,
        engine: engines.EngineName = "auto",
        device: str | None = None,
        precision: engines.Precision = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`learnt`: words with embeddings of their own, whose ids the tokenizer gives. `projects`: whether the output
        begins with projected vectors; by default where the weights have a projection.
        """
        super().__init__()
        self.projects = checkpoint.has_projection if projects is None else projects
        if self.projects and not checkpoint.has_projection:
            raise ConditioningError(f"{checkpoint.source}: expected a text_projection; its weights have none")
        self.checkpoint = checkpoint
        self.config = TextConfig(checkpoint)
        self.text_model = _FinalNorm(checkpoint)
        self._engine = engines.build_text(
            checkpoint.text,
            checkpoint.embed_dim,
            checkpoint.tensors,
            engine=engine,
            device=device,
            precision=precision,
        )
        self._added = None if learnt is None else learnt.vectors
        self.to(dtype)
        self.eval()

    @property
    def dtype(self) -> torch.dtype:
        """That of the outputs: a pipeline's `.to(torch.float16)` changes it, not what is computed with."""
        return self.text_model.final_layer_norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the outputs are."""
        return self.text_model.final_layer_norm.weight.device

    @torch.no_grad()
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = True,
    ) -> TextOutput | tuple[Any, ...]:
        """input_ids [n t] -> `last_hidden_state` [n t w] and `pooler_output` [n w], or `text_embeds` [n d] first where
        the encoder projects; with `hidden_states`, l + 1 of [n t w], where they are asked for.
        """
        if attention_mask is not None and not bool((attention_mask != 0).all()):
            raise ConditioningError(
                "attention_mask: image generators see padding, and so does this encoder; leave it out"
            )
        if position_ids is not None or output_attentions:
            raise ConditioningError("position_ids, output_attentions: this encoder has neither; leave them out")
        text = self.checkpoint.text
        ids = input_ids.detach().cpu().numpy().astype(np.int32)
        layers = [*range(text.layers + 1), -1] if output_hidden_states else [-1]
        found = self._engine.hidden_states(ids, layers, added=self._added)
        check_finite(found, self.checkpoint.source, self._engine.precision)
        last = found[-1]
        pooled = last[np.arange(len(ids)), read_positions(ids, text)]
        hidden = tuple(map(self._out, found[:-1])) if output_hidden_states else None
        values: dict[str, Any] = {"last_hidden_state": self._out(last), "hidden_states": hidden}
        if self.projects:
            values = {"text_embeds": self._out(self.checkpoint.project(pooled)), **values}
        else:
            values = {
                "last_hidden_state": values["last_hidden_state"],
                "pooler_output": self._out(pooled),
                "hidden_states": hidden,
            }
        output = TextOutput(**values)
        return output if return_dict is not False else output.to_tuple()

    def get_input_embeddings(self) -> nn.Module:
        """Refused: the table belongs to the engine."""
        raise ConditioningError(f"this text encoder's table of embeddings cannot be changed: {LEARNT}")

    def resize_token_embeddings(self, *_: Any, **__: Any) -> None:
        """Refused: the table belongs to the engine."""
        raise ConditioningError(f"this text encoder's table of embeddings cannot be changed: {LEARNT}")

    def _out(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device=self.device, dtype=self.dtype)


def load_text_encoder(
    source: str | Path, *, subfolder: str | None = None, embeddings: Embeddings = (), tower: str = "", **options: Any
) -> tuple[CLIPTextModule, PromptTokenizer]:
    """A text encoder and its tokenizer, for a pipeline's constructor; see `read_text_tower` for what is read.

    `tower`, such as "clip_l", says which embeddings are meant in files that have several; by default those of the
    encoder's width. `options` as `CLIPTextModule`.
    """
    towers = (tower,) if tower else tower_names(subfolder)
    return _pair(read_text_tower(source, subfolder=subfolder), read_inversions(embeddings), towers, **options)


def replace_text_encoders(
    pipe: Any,
    *,
    embeddings: Embeddings = (),
    engine: engines.EngineName = "auto",
    device: str | None = None,
    precision: engines.Precision = "auto",
) -> list[str]:
    """Exchange the CLIP text encoders of a diffusers pipeline, and their tokenizers; T5's stay. Returns their names.

    The weights are the pipeline's own, of whatever dtype. `embeddings` are files of textual inversion, or words with
    files. Raises `ConditioningError` for a pipeline without such encoders.
    """
    inversions = read_inversions(embeddings)
    names = [name for name in _PAIRS if _is_clip(getattr(pipe, name, None))]
    if not names:
        raise ConditioningError(
            f"{type(pipe).__name__}: expected a CLIP text encoder in text_encoder or text_encoder_2"
        )
    new: dict[str, Any] = {}
    for name in names:
        theirs, words = getattr(pipe, name), getattr(pipe, _PAIRS[name])
        checkpoint = _checkpoint_of(theirs, words, f"{type(pipe).__name__}.{name}")
        encoder, tokenizer = _pair(
            checkpoint,
            inversions,
            tower_names(name),
            projects=theirs.projects if isinstance(theirs, CLIPTextModule) else hasattr(theirs, "text_projection"),
            engine=engine,
            device=device,
            precision=precision,
            dtype=theirs.dtype,
        )
        new |= {name: encoder.to(theirs.device), _PAIRS[name]: tokenizer}
    pipe.register_modules(**new)
    return names


def pipeline_inputs(
    conditioning: Conditioning, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The arguments of a pipeline's call: `prompt_embeds` and the negative ones, and pooled ones where they are taken.

    Raises `ConditioningError` where something is missing, such as T5's states for Flux.
    """
    if conditioning.missing:
        raise ConditioningError(f"{conditioning.consumer}: missing: {conditioning.missing}")
    values = {
        "prompt_embeds": conditioning.states,
        "negative_prompt_embeds": conditioning.negative_states,
        "pooled_prompt_embeds": conditioning.pooled,
        "negative_pooled_prompt_embeds": conditioning.negative_pooled,
    }
    return {
        name: torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)
        for name, array in values.items()
        if array.shape[1]
    }


def _pair(
    checkpoint: TextCheckpoint, inversions: Sequence[TextualInversion], towers: Sequence[str], **options: Any
) -> tuple[CLIPTextModule, PromptTokenizer]:
    text = checkpoint.text

    def chosen(inversion: TextualInversion) -> Vectors:
        some = [inversion.vectors[name] for name in (*towers, "") if name in inversion.vectors]
        fitting = [each for each in some if each.shape[1] == text.width]
        if not fitting:
            found = ", ".join(f"{name or 'one'} of width {each.shape[1]}" for name, each in inversion.vectors.items())
            raise ConditioningError(
                f"{inversion.source}: expected embeddings of width {text.width} for {checkpoint.source}, got {found}"
            )
        return fitting[0]

    learnt = learnt_words(inversions, text.vocabulary_size, chosen)
    tokenizer = PromptTokenizer(checkpoint.tokenizer, text.context_length, learnt, torch.from_numpy)
    return CLIPTextModule(checkpoint, learnt=learnt, **options), tokenizer


def _is_clip(module: Any) -> bool:
    return isinstance(module, nn.Module) and getattr(getattr(module, "config", None), "model_type", "") == MODEL_TYPE


def _checkpoint_of(encoder: Any, words: Any, source: str) -> TextCheckpoint:
    """The text tower of transformers' module, with the tokenizer of theirs."""
    if isinstance(encoder, CLIPTextModule):
        return encoder.checkpoint
    tensors = {name: _array(tensor) for name, tensor in encoder.state_dict().items()}
    config = encoder.config.to_dict()
    if config.get("use_attention_mask"):
        raise ConditioningError(f"{source}: its configuration hides padding from the encoder (use_attention_mask)")
    with tempfile.TemporaryDirectory() as folder:
        words.save_pretrained(folder)
        ids = TextFormat(words.bos_token_id, words.eos_token_id, words.pad_token_id)
        tokenizer = Tokenizer.from_folder(Path(folder))
    if tokenizer is None:
        raise ConditioningError(f"{source}: its tokenizer cannot be read: {type(words).__name__}")
    return text_tower_of(config, tensors, tokenizer.with_format(ids), source)


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
