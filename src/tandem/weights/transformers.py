"""Hugging Face transformers' CLIP layout: config.json, preprocessor_config.json, a tokenizer, weights. ViT only.

Which file holds what; the meaning of the two configurations is in `transformers_config`. Needs no transformers.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tandem.config import Activation, ModelConfig
from tandem.errors import WeightsError
from tandem.files import write_json
from tandem.weights.checkpoint import Checkpoint, with_activation
from tandem.weights.names import to_original, to_transformers, transformers_names
from tandem.weights.safetensors_file import write_safetensors
from tandem.weights.shapes import check_tensors
from tandem.weights.tensor_files import first_present, read_json, read_tensor_file
from tandem.weights.tokenizer_files import special_tokens, write_tokenizer
from tandem.weights.transformers_config import config_from, config_to, preprocessing_to

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")  # transformers 5 writes the second


def read(
    folder: Path, activation: Activation | None, weights: Path | None = None
) -> tuple[ModelConfig, Mapping[str, np.ndarray]]:
    """Configuration and tensors of a folder that transformers wrote."""
    source = folder / "config.json"
    weights = weights or first_present(folder, WEIGHTS)
    if weights is None:
        raise WeightsError(f"{folder}: expected one of {', '.join(WEIGHTS)} beside config.json; found none")
    preprocessor = first_present(folder, PREPROCESSORS)
    config = config_from(
        read_json(source),
        read_json(preprocessor) if preprocessor else None,
        special_tokens(folder),
        str(source),
        str(preprocessor),
    )
    if activation:
        config = with_activation(config, activation)
    tensors, _ = to_original(read_tensor_file(weights).tensors)
    check_tensors(tensors, config, str(weights), display_name)
    return config, tensors


def display_name(name: str) -> str:
    """An original name as this layout has it, for messages."""
    try:
        theirs = transformers_names(name)
    except KeyError:
        return name
    return theirs[0] if len(theirs) == 1 else theirs[0].replace("q_proj", "{q,k,v}_proj")


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a folder that `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained` open."""
    config = checkpoint.config
    plain, preprocessor = config_to(config), preprocessing_to(config.preprocessing)
    dtypes = {array.dtype.name for array in checkpoint.tensors.values()}
    plain["dtype"] = plain["torch_dtype"] = dtypes.pop() if len(dtypes) == 1 else "float32"
    write_json(folder / "config.json", plain)
    write_json(folder / "preprocessor_config.json", preprocessor)
    write_tokenizer(checkpoint.tokenizer, config.text, folder)
    write_safetensors(folder / "model.safetensors", to_transformers(checkpoint.tensors), {"format": "pt"})
