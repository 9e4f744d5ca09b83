"""Tandem's own layout: config.json, model.safetensors under the original names, tokenizer.json."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tandem.config import Activation, ModelConfig, from_dict, to_dict
from tandem.errors import ConfigError, WeightsError
from tandem.files import write_json
from tandem.weights.checkpoint import Checkpoint, with_activation
from tandem.weights.json_files import read_json
from tandem.weights.quantized import quantized_tensors
from tandem.weights.safetensors_file import write_safetensors
from tandem.weights.shapes import check_tensors
from tandem.weights.tensor_files import read_tensor_file

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
_VERSION = 1


def read(
    folder: Path, activation: Activation | None, weights: Path | None = None
) -> tuple[ModelConfig, Mapping[str, np.ndarray]]:
    """Configuration and tensors of a folder that Tandem wrote."""
    source = folder / CONFIG
    plain = read_json(source)
    version = plain.get("version", _VERSION)
    if type(version) is not int:
        raise ConfigError(f"{source}: version: expected {_VERSION}, got {version!r:.80}")
    if version != _VERSION:
        raise ConfigError(f"{source}: version: expected {_VERSION}, got {version!r:.80}; a newer Tandem wrote it")
    config = from_dict(plain, str(source))
    if activation:
        config = with_activation(config, activation)
    weights = weights or folder / WEIGHTS
    if not weights.is_file():
        raise WeightsError(f"{folder}: expected {WEIGHTS} beside {CONFIG}; it is missing")
    tensors: Mapping[str, np.ndarray] = read_tensor_file(weights).tensors
    if config.quantization is not None:
        tensors = quantized_tensors(tensors, str(weights))
    check_tensors(tensors, config, str(weights))
    return config, tensors


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the model's files into an empty folder."""
    write_json(folder / CONFIG, to_dict(checkpoint.config))
    checkpoint.tokenizer.save(folder)
    write_safetensors(folder / WEIGHTS, checkpoint.stored, {"format": "tandem"})
