"""One weights file without a configuration: what it is follows from its names, its shapes and how it was written.

Knows which writers are certain of their activation (OpenAI's) and notes what it had to assume for the others.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tandem.config import Activation, ModelConfig
from tandem.weights import siglip_file
from tandem.weights.checkpoint import activation_note, with_activation
from tandem.weights.names import Naming, has_openai_buffers, shape_and_dtype, strip_prefixes, to_original
from tandem.weights.open_clip import display_name
from tandem.weights.shapes import check_tensors, config_from_shapes
from tandem.weights.tensor_files import TensorFile, read_tensor_file

_ORIGINAL_ARGUMENTS = {"image_resolution", "vision_patch_size", "transformer_heads"}  # of the original's constructor
_OPEN_CLIP_KEYS = {"epoch", "name"}  # beside state_dict in what open_clip's training saves
# LongCLIP (Zhang et al. 2024) keeps so many of CLIP's positions; those that follow are read from a table of their own
_LONG_CLIP_KEPT = 20
_LONG_CLIP_TABLE = "positional_embedding_res"


def read(path: Path, activation: Activation | None) -> tuple[ModelConfig, Mapping[str, np.ndarray]]:
    """Configuration and tensors of a lone file; assumptions are in `config.notes`."""
    raw = read_tensor_file(path)
    names = set(strip_prefixes(raw.tensors).values())
    tensors, naming = to_original(raw.tensors)
    tensors = _with_one_table(tensors)
    certain = raw.torchscript or has_openai_buffers(names) or _written_by_the_original(raw)
    assumed, reason = _assume(raw, naming)
    notes = {}
    if not certain:
        notes["activation"] = activation_note(str(path), assumed, reason)
        notes["heads"] = f"{path} does not name its attention heads: those of the published models are assumed"
    shapes = {name: shape_and_dtype(tensors, name)[0] for name in tensors}
    if siglip_file.is_siglip(shapes):
        config = siglip_file.published_config(shapes, naming, str(path))
    else:
        config = config_from_shapes(shapes, str(path), activation="quick_gelu" if certain else assumed, notes=notes)
    if activation:
        config = with_activation(config, activation)
    check_tensors(tensors, config, str(path), lambda name: display_name(name, naming))
    return config, tensors


def _with_one_table(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """LongCLIP's two tables of text positions as the one that they make up; other tensors as they are."""
    if _LONG_CLIP_TABLE not in tensors or "positional_embedding" not in tensors:
        return tensors
    kept, rest = tensors["positional_embedding"], tensors[_LONG_CLIP_TABLE]
    if kept.shape != rest.shape:
        return tensors  # for the check to name
    others = {name: tensors[name] for name in tensors if name != _LONG_CLIP_TABLE}
    return {**others, "positional_embedding": np.concatenate([kept[:_LONG_CLIP_KEPT], rest[_LONG_CLIP_KEPT:]])}


def _written_by_the_original(raw: TensorFile) -> bool:
    try:
        arguments = json.loads(raw.metadata.get("config", "null"))
    except ValueError:
        return False
    return isinstance(arguments, dict) and set(arguments) >= _ORIGINAL_ARGUMENTS


def _assume(raw: TensorFile, naming: Naming) -> tuple[Activation, str]:
    if naming == "transformers":
        return "quick_gelu", "which is transformers' default"
    if naming == "open_clip" or set(raw.extra_keys) >= _OPEN_CLIP_KEYS:
        return "gelu", "which is open_clip's default"
    return "quick_gelu", "as in all of OpenAI's weights"
