"""Tensor names: every foreign format is a pure renaming to and from the original's names.

Original names are OpenAI's: `visual.` for the image tower, no prefix for the text tower. open_clip has the same, or
the text tower under `text.`; transformers has its own, with the fused attention projection in three parts and both
final projections transposed. Knows names, and how an array is cut or turned where a name demands it. No files.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

Naming = Literal["original", "open_clip", "transformers"]

# Wrappers that training code leaves in front of every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "clip_model.", "clip.")
_BUFFERS = ("num_batches_tracked", "attn_mask", "position_ids")
_SIZES = ("input_resolution", "context_length", "vocab_size")  # the three extra buffers of OpenAI's archives
_TEXT_ROOTS = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")


class StackedOnDemand(Mapping[str, np.ndarray]):
    """Arrays by name, some of which lie in parts in the file and are stacked each time they are asked for.

    `parts(name)` are the arrays as they lie: what an engine takes, so that no stacked copy stays in memory.
    """

    def __init__(self, whole: Mapping[str, np.ndarray], stacked: Mapping[str, tuple[np.ndarray, ...]]) -> None:
        self._parts = {name: (array,) for name, array in whole.items()} | dict(stacked)

    def parts(self, name: str) -> tuple[np.ndarray, ...]:
        return self._parts[name]

    def __getitem__(self, name: str) -> np.ndarray:
        parts = self._parts[name]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def shape_and_dtype(tensors: Mapping[str, np.ndarray], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Without stacking what lies in parts."""
    parts = tensors.parts(name) if isinstance(tensors, StackedOnDemand) else (tensors[name],)
    rows = sum(part.shape[0] for part in parts) if len(parts) > 1 else None
    return (parts[0].shape if rows is None else (rows, *parts[0].shape[1:])), parts[0].dtype


def strip_prefixes(names: Iterable[str]) -> dict[str, str]:
    """Names as they came -> names without what wraps them all (`module.`, `_orig_mod.`, ...)."""
    renamed = {name: name for name in names}
    while renamed:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in renamed.values())), None)
        if prefix is None:
            break
        renamed = {name: short.removeprefix(prefix) for name, short in renamed.items()}
    return renamed


def is_buffer(name: str) -> bool:
    """Whether a tensor follows from the architecture, so that it is dropped."""
    return name in _SIZES or name.rpartition(".")[2] in _BUFFERS


def has_openai_buffers(names: Iterable[str]) -> bool:
    """Whether the three extra buffers of OpenAI's archives are there."""
    return set(_SIZES) <= set(names)


def naming_of(names: Iterable[str]) -> Naming:
    """Which format the (unwrapped) names are of. Unknown names count as original: the check will name them."""
    names = set(names)
    if any(name.startswith(("vision_model.", "text_model.")) for name in names):
        return "transformers"
    if any(name.startswith(tuple(f"text.{root}" for root in _TEXT_ROOTS)) for name in names):
        return "open_clip"
    return "original"


def to_original(tensors: Mapping[str, np.ndarray]) -> tuple[Mapping[str, np.ndarray], Naming]:
    """Foreign tensors under the original names, without wrappers and buffers, and the naming they came in.

    A tensor that has no place keeps its name: the check against the configuration then names it as surplus.
    """
    stripped = {short: tensors[name] for name, short in strip_prefixes(tensors).items()}
    kept = {name: array for name, array in stripped.items() if not is_buffer(name)}
    if "logit_scale" in kept and kept["logit_scale"].shape == (1,):  # open_clip can train it as a vector of one
        kept["logit_scale"] = kept["logit_scale"].reshape(())
    naming = naming_of(stripped)
    if naming == "transformers":
        return _from_transformers(kept), naming
    if naming == "open_clip":
        kept = {_without_text(name): array for name, array in kept.items()}
    return kept, naming


def _without_text(name: str) -> str:
    short = name.removeprefix("text.")
    return short if short.startswith(_TEXT_ROOTS) else name


# --- transformers --------------------------------------------------------------------------------------------------

_PARTS = ("q_proj", "k_proj", "v_proj")  # stacked in this order in `in_proj_weight` and `in_proj_bias`
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_WHOLE = {
    "logit_scale": "logit_scale",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_THEIR_BLOCK = re.compile(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)")
_WHOLE_BACK = {theirs: ours for ours, theirs in _WHOLE.items()}
_TRANSPOSED_BACK = {theirs: ours for ours, theirs in _TRANSPOSED.items()}
_IN_BLOCK_BACK = {theirs: ours for ours, theirs in _IN_BLOCK.items()}


def transformers_names(name: str) -> tuple[str, ...]:
    """An original name -> transformers' name, or its three names for a fused attention projection."""
    if name in _WHOLE:
        return (_WHOLE[name],)
    if name in _TRANSPOSED:
        return (_TRANSPOSED[name],)
    if match := _BLOCK.fullmatch(name):
        tower = "vision_model" if match[1] else "text_model"
        layer = f"{tower}.encoder.layers.{match[2]}"
        if match[3] in ("attn.in_proj_weight", "attn.in_proj_bias"):
            kind = match[3].removeprefix("attn.in_proj_")
            return tuple(f"{layer}.self_attn.{part}.{kind}" for part in _PARTS)
        module, _, kind = match[3].rpartition(".")
        if module in _IN_BLOCK:
            return (f"{layer}.{_IN_BLOCK[module]}.{kind}",)
    raise KeyError(name)


def to_transformers(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Original names -> transformers' names. Raises `KeyError` with a name that has no place there (a ResNet's)."""
    renamed: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        theirs = transformers_names(name)
        if name in _TRANSPOSED:
            renamed[theirs[0]] = np.ascontiguousarray(array.T)  # [width dim] -> [dim width]
        elif len(theirs) == 1:
            renamed[theirs[0]] = array
        else:
            renamed.update(zip(theirs, np.split(array, 3), strict=True))  # [3*width ...] -> 3 x [width ...]
    return renamed


def _from_transformers(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    stacked: dict[str, tuple[np.ndarray, ...]] = {}
    renamed: dict[str, np.ndarray] = {}
    parts: dict[str, dict[str, tuple[str, np.ndarray]]] = {}
    for name, array in tensors.items():
        match = _THEIR_BLOCK.fullmatch(name)
        if name in _WHOLE_BACK:
            renamed[_WHOLE_BACK[name]] = array
        elif name in _TRANSPOSED_BACK:
            renamed[_TRANSPOSED_BACK[name]] = np.ascontiguousarray(array.T)  # [dim width] -> [width dim]
        elif match is None:
            renamed[name] = array
        else:
            block = f"{'visual.' if match[1] == 'vision' else ''}transformer.resblocks.{match[2]}"
            module, _, kind = match[3].rpartition(".")
            part = module.removeprefix("self_attn.")
            if part in _PARTS:
                parts.setdefault(f"{block}.attn.in_proj_{kind}", {})[part] = (name, array)
            elif module in _IN_BLOCK_BACK:
                renamed[f"{block}.{_IN_BLOCK_BACK[module]}.{kind}"] = array
            else:
                renamed[name] = array
    for fused, found in parts.items():
        stack = [found[part][1] for part in _PARTS if part in found]
        if len(stack) == 3 and len({(array.shape, array.dtype) for array in stack}) == 1 and stack[0].ndim:
            stacked[fused] = tuple(stack)  # 3 x [width ...] -> [3*width ...]
        else:
            renamed.update(dict(found.values()))  # left as they came, for the check to name
    return StackedOnDemand(renamed, stacked)
