"""open_clip's layout: open_clip_config.json beside open_clip_model.safetensors, both namings of the text tower.

Which file holds what; the meaning of the configuration is in `open_clip_config`. Needs no open_clip.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tandem.config import Activation, ModelConfig
from tandem.errors import WeightsError
from tandem.files import write_json
from tandem.weights.checkpoint import Checkpoint, with_activation
from tandem.weights.names import Naming, to_original
from tandem.weights.open_clip_config import config_from, config_to
from tandem.weights.safetensors_file import write_safetensors
from tandem.weights.shapes import check_tensors
from tandem.weights.tensor_files import first_present, read_json, read_tensor_file
from tandem.weights.tokenizer_files import special_tokens, write_tokenizer
from tandem.weights.transformers import display_name as display_name_in_transformers

CONFIG = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_model.safetensors.index.json",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.bin.index.json",
)
# Some folders carry open_clip's configuration beside weights under transformers' file names.
OTHER_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


def read(
    folder: Path, activation: Activation | None, weights: Path | None = None
) -> tuple[ModelConfig, Mapping[str, np.ndarray]]:
    """Configuration and tensors of a folder in open_clip's layout."""
    weights = weights or first_present(folder, WEIGHTS + OTHER_WEIGHTS)
    if weights is None:
        raise WeightsError(f"{folder}: expected one of {', '.join(WEIGHTS)} beside {CONFIG}; found none")
    config = config_from(read_json(folder / CONFIG), special_tokens(folder), str(folder / CONFIG))
    if "activation" in config.notes:
        config = _ask_transformers(config, folder)
    if activation:
        config = with_activation(config, activation)
    tensors, naming = to_original(read_tensor_file(weights).tensors)
    check_tensors(tensors, config, str(weights), lambda name: display_name(name, naming))
    return config, tensors


def _ask_transformers(config: ModelConfig, folder: Path) -> ModelConfig:
    """Hubs often carry both layouts of a model, and transformers' always names the activation: the note may go."""
    if not (folder / "config.json").is_file():
        return config
    plain = read_json(folder / "config.json")
    towers = [plain.get(key) for key in ("vision_config", "text_config")]
    named = {tower.get("hidden_act") if isinstance(tower, dict) else None for tower in towers}
    return with_activation(config, config.text.activation) if named == {config.text.activation} else config


def display_name(name: str, naming: Naming) -> str:
    """An original name as the file has it, for messages."""
    if naming == "transformers":
        return display_name_in_transformers(name)
    in_text = naming == "open_clip" and name != "logit_scale" and not name.startswith("visual.")
    return f"text.{name}" if in_text else name


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a folder that open_clip's `create_model_from_pretrained("local-dir:...")` opens."""
    write_json(folder / CONFIG, config_to(checkpoint.config))
    write_tokenizer(checkpoint.tokenizer, checkpoint.config.text, folder)
    write_safetensors(folder / WEIGHTS[0], checkpoint.tensors, {"format": "pt"})
