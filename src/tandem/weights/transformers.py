"""Hugging Face transformers' layout: config.json, preprocessor_config.json, a tokenizer, weights.

Which file holds what; the meaning of the two configurations is in `transformers_config`. Needs no transformers.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tandem.config import Activation, ModelConfig
from tandem.errors import WeightsError
from tandem.files import write_json
from tandem.weights.checkpoint import Checkpoint, with_activation
from tandem.weights.json_files import read_json
from tandem.weights.names import display_name, renamed_to, to_original
from tandem.weights.safetensors_file import write_safetensors
from tandem.weights.shapes import check_tensors
from tandem.weights.tensor_files import first_present, read_tensor_file
from tandem.weights.tokenizer_files import special_tokens, write_tokenizer
from tandem.weights.transformers_config import config_from, config_to, model_type_for, model_type_of
from tandem.weights.transformers_preprocessing import preprocessing_to

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
    plain = read_json(source)
    config = config_from(
        plain,
        read_json(preprocessor) if preprocessor else None,
        special_tokens(folder),
        str(source),
        str(preprocessor),
    )
    if activation:
        config = with_activation(config, activation)
    names = model_type_of(plain, str(source)).names
    tensors, _ = to_original(read_tensor_file(weights).tensors)
    check_tensors(tensors, config, str(weights), lambda name: display_name(name, names))
    return config, tensors


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a folder that `from_pretrained` of transformers opens."""
    config = checkpoint.config
    kind = model_type_for(config)
    plain, preprocessor = config_to(config), preprocessing_to(config.preprocessing, kind)
    dtypes = {array.dtype.name for array in checkpoint.tensors.values()}
    plain["dtype"] = plain["torch_dtype"] = dtypes.pop() if len(dtypes) == 1 else "float32"
    write_json(folder / "config.json", plain)
    write_json(folder / "preprocessor_config.json", preprocessor)
    write_tokenizer(checkpoint.tokenizer, config.text, folder)
    write_safetensors(folder / "model.safetensors", renamed_to(checkpoint.tensors, kind.names), {"format": "pt"})
