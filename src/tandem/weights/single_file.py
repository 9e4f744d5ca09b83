"""One weights file without a configuration: what it is follows from its names, its shapes and how it was written.

Knows which writers are certain of their activation (OpenAI's) and notes what it had to assume for the others.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tandem.config import Activation, ModelConfig
from tandem.weights.checkpoint import activation_note, with_activation
from tandem.weights.names import Naming, has_openai_buffers, strip_prefixes, to_original
from tandem.weights.open_clip import display_name
from tandem.weights.shapes import check_tensors, config_from_shapes
from tandem.weights.tensor_files import TensorFile, read_tensor_file

_ORIGINAL_ARGUMENTS = {"image_resolution", "vision_patch_size", "transformer_heads"}  # of the original's constructor
_OPEN_CLIP_KEYS = {"epoch", "name"}  # beside state_dict in what open_clip's training saves


def read(path: Path, activation: Activation | None) -> tuple[ModelConfig, Mapping[str, np.ndarray]]:
    """Configuration and tensors of a lone file; assumptions are in `config.notes`."""
    raw = read_tensor_file(path)
    names = set(strip_prefixes(raw.tensors).values())
    tensors, naming = to_original(raw.tensors)
    certain = raw.torchscript or has_openai_buffers(names) or _written_by_the_original(raw)
    assumed, reason = _assume(raw, naming)
    notes = {}
    if not certain:
        notes["activation"] = activation_note(str(path), assumed, reason)
        notes["heads"] = f"{path} does not name its attention heads: those of the published models are assumed"
    shapes = {name: array.shape for name, array in tensors.items()}
    config = config_from_shapes(shapes, str(path), activation="quick_gelu" if certain else assumed, notes=notes)
    if activation:
        config = with_activation(config, activation)
    check_tensors(tensors, config, str(path), lambda name: display_name(name, naming))
    return config, tensors


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
