"""open_clip's layout: open_clip_config.json beside open_clip_model.safetensors, both namings of the text tower.

Which file holds what; the meaning of the configuration is in `open_clip_config`. Needs no open_clip.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tandem.config import Activation, ModelConfig
from tandem.errors import HubError, WeightsError
from tandem.files import write_json
from tandem.tokenizer.reading import TOKENIZER_FILES
from tandem.towers import TEXT_TOWERS, has_part, tower_part
from tandem.towers.parts.names import Names, Rule
from tandem.weights.checkpoint import Checkpoint, with_activation
from tandem.weights.json_files import read_json
from tandem.weights.names import Naming, names_of, renamed_to, shape_and_dtype, to_original
from tandem.weights.names import display_name as name_in_format
from tandem.weights.open_clip_config import config_from, config_to, is_custom
from tandem.weights.open_clip_text import names_language_model, tokenizer_repository
from tandem.weights.open_clip_timm import image_activation_beside, timm_model_of
from tandem.weights.safetensors_file import write_safetensors
from tandem.weights.shapes import check_tensors
from tandem.weights.tensor_files import first_present, read_tensor_file
from tandem.weights.tokenizer_files import special_tokens, write_tokenizer

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
    folder: Path, activation: Activation | None, weights: Path | None = None, *, with_tokenizer: bool = True
) -> tuple[ModelConfig, Mapping[str, np.ndarray], Path]:
    """Configuration and tensors of a folder in open_clip's layout, and the folder of its tokenizer.

    with_tokenizer: whether a tokenizer is fetched that is not beside the model, and that no description needs.
    """
    weights = weights or first_present(folder, WEIGHTS + OTHER_WEIGHTS)
    if weights is None:
        raise WeightsError(f"{folder}: expected one of {', '.join(WEIGHTS)} beside {CONFIG}; found none")
    tensors, naming = to_original(read_tensor_file(weights).tensors)
    shapes = {name: shape_and_dtype(tensors, name)[0] for name in tensors}
    plain = read_json(folder / CONFIG)
    needed = with_tokenizer or not names_language_model(plain)  # whose name tells its special tokens
    tokenizer = _tokenizer_folder(folder, plain) if needed else folder
    tokens = special_tokens(tokenizer)
    config = config_from(plain, tokens, str(folder / CONFIG), shapes, _language_model(folder))
    if "activation" in config.notes:
        config = _ask_transformers(config, folder)
    if activation:
        config = with_activation(config, activation)
    check_tensors(tensors, config, str(weights), lambda name: display_name(name, naming))
    return config, tensors, tokenizer


def _tokenizer_folder(folder: Path, plain: Mapping[str, Any]) -> Path:
    """Where the tokenizer is: beside the model, else in the repository that the configuration names."""
    if any((folder / name).is_file() for name in TOKENIZER_FILES) or not (repository := tokenizer_repository(plain)):
        return folder
    from tandem.weights.repository import fetch_tokenizer

    try:
        return fetch_tokenizer(repository)
    except HubError as error:
        raise HubError(
            f"{folder}: its tokenizer, {repository}, is neither beside the weights nor cached, and {error}; put "
            "tokenizer.json (or vocab.txt, or a .model file) there"
        ) from None


def language_model_files() -> list[str]:
    """Files that may describe a language model beside open_clip's configuration."""
    return [tower_part(kind, "hugging_face").CONFIG for kind in TEXT_TOWERS.values() if has_part(kind, "hugging_face")]


def _language_model(folder: Path) -> dict[str, Any] | None:
    found = first_present(folder, tuple(language_model_files()))
    return read_json(found) if found else None


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
    if naming != "open_clip":
        return name_in_format(name, names_of(naming))
    theirs = name_in_format(name, names_of(naming)) if name.startswith("visual.") else name
    return theirs if theirs.startswith(("visual.", "logit_")) else f"text.{theirs}"


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a folder that open_clip's `create_model_from_pretrained("local-dir:...")` opens."""
    config = checkpoint.config
    plain = config_to(config)
    if not checkpoint.tokenizer.is_clip_style:
        # open_clip then takes the tokenizer beside the configuration, whatever this says
        plain["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "local"
    tensors = renamed_to(checkpoint.tensors, _names(config), keep_others=True)
    if is_custom(config):
        tensors = {
            name if name.startswith(("visual.", "logit_")) else f"text.{name}": array for name, array in tensors.items()
        }
    if stated := image_activation_beside(config):
        warnings.warn(
            f"open_clip computes {timm_model_of(config)} with another activation than this model's {stated}: its "
            "image vectors will differ slightly there; Tandem reads the folder as it is",
            stacklevel=2,
        )
    write_json(folder / CONFIG, plain)
    if has_part(config.text, "hugging_face"):
        part = tower_part(config.text, "hugging_face")
        write_json(folder / part.CONFIG, part.config_to(config.text))
    write_tokenizer(checkpoint.tokenizer, config.text, folder)
    write_safetensors(folder / WEIGHTS[0], tensors, {"format": "pt"})


def _names(config: ModelConfig) -> Names:
    """What open_clip calls the tensors that do not keep OpenAI's names."""
    rules: list[Rule] = []
    if timm_model_of(config):
        rules += tower_part(config.vision, "names").RULES["open_clip"]
    if config.text.projection_bias:
        rules += tower_part(config.text, "names").RULES["open_clip"]
    return Names(rules)
