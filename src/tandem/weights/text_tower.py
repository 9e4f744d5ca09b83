"""A text tower that stands alone: the text encoders of image generators, and the text tower of a whole CLIP.

`read_text_tower` takes what `read` takes, and also transformers' CLIPTextModel and CLIPTextModelWithProjection as they
lie in a diffusers repository (`text_encoder/` with `tokenizer/` beside it), and one file of such weights. Nothing in
the files is executed. Knows formats; not what the states are for.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tandem.config import Activation, TextTower, TextTransformer
from tandem.errors import ConfigError, HubError, WeightsError
from tandem.files import user_path
from tandem.towers import tower_part
from tandem.weights.json_files import read_json
from tandem.weights.names import display_name, names_of, shape_and_dtype, strip_prefixes, subset, to_original
from tandem.weights.reading import read
from tandem.weights.repository import Repository, is_offline
from tandem.weights.safetensors_file import read_safetensors
from tandem.weights.shapes import check_shapes, default_heads
from tandem.weights.tensor_files import first_present, read_tensor_file, shard_names
from tandem.weights.tokenizer_files import special_tokens
from tandem.weights.transformers import WEIGHTS
from tandem.weights.transformers_config import text_tower_from

if TYPE_CHECKING:
    from tandem.tokenizer import Tokenizer

MODEL_TYPE = "clip_text_model"
# As on hubs: variants in half precision come beside the others, or alone
_WEIGHTS = (*WEIGHTS, "model.fp16.safetensors", "pytorch_model.fp16.bin")
_TOKENIZER_FOLDERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
_PROJECTION = "text_projection"
# What tensors of image generators in one file begin with
_OF_PIPELINES = ("cond_stage_model.", "conditioner.embedders.", "model.diffusion_model.", "diffusion_model.")
_QUICK_GELU_WIDTHS = (512, 640, 768)  # of OpenAI's text towers; wider ones in image generators are open_clip's


@dataclass(frozen=True)
class TextCheckpoint:
    """A text tower with its tokenizer. Tensors are under the original names, in the dtype they are stored in."""

    text: TextTower
    embed_dim: int  # of the projection; 0 for a tower that has none
    tensors: Mapping[str, np.ndarray]
    tokenizer: "Tokenizer"
    source: str

    @property
    def has_projection(self) -> bool:
        """Whether pooled vectors can be projected into the space that the tower shares with an image tower."""
        return self.embed_dim > 0

    def project(self, pooled: np.ndarray) -> np.ndarray:
        """[n w] -> [n d], not of unit length; [n 0] for a tower without projection."""
        if not self.has_projection:
            return np.empty((len(pooled), 0), np.float32)
        projected: np.ndarray = pooled @ np.asarray(self.tensors[_PROJECTION], np.float32)
        bias = self.tensors.get(f"{_PROJECTION}_bias")
        return projected if bias is None else projected + np.asarray(bias, np.float32)


def read_text_tower(
    source: str | Path, *, subfolder: str | None = None, activation: Activation | None = None
) -> TextCheckpoint:
    """Read a text tower: a folder or file, a whole CLIP's folder or name, or `subfolder` of a diffusers repository.

    Raises `WeightsError`, `ConfigError` or `HubError`, in one line that names the file.
    """
    text = str(source)
    path = user_path(text)
    if subfolder is not None:
        folder = path if path.is_dir() else _fetch(text, subfolder)
        if not (folder / subfolder).is_dir():
            raise WeightsError(
                f"{folder}: expected a folder {subfolder} in it, as in a diffusers repository; none is there"
            )
        path = folder / subfolder
    if path.is_dir() and _is_text_model(path):
        return _read_folder(path, activation)
    if path.is_file() and _is_text_model(path.parent):
        return _read_folder(path.parent, activation, path)
    if path.is_file() and path.suffix == ".safetensors" and _is_text_file(path):
        return _read_file(path, activation)
    if path.is_dir() and (path / "model_index.json").is_file():
        raise WeightsError(f"{text}: this is a whole pipeline: name one of its folders, such as {text}/text_encoder")
    whole = read(source if subfolder is None else path, activation=activation)
    names = tower_part(whole.config.text, "shapes").shapes(whole.config.text, whole.config.embed_dim)
    tensors = subset(whole.tensors, names)
    return TextCheckpoint(whole.config.text, whole.config.embed_dim, tensors, whole.tokenizer, text)


def text_tower_of(
    config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], tokenizer: "Tokenizer", source: str
) -> TextCheckpoint:
    """A text tower from transformers' configuration and state dict, and a tokenizer in the format of its prompts."""
    ids = tokenizer.format
    text = text_tower_from(config, source, ids.start_id, ids.end_id, ids.pad_id)
    return _checked(text, tensors, tokenizer, source)


def _is_text_model(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and read_json(config).get("model_type") == MODEL_TYPE


def _read_folder(folder: Path, activation: Activation | None, weights: Path | None = None) -> TextCheckpoint:
    from tandem.tokenizer import Tokenizer

    weights = weights or first_present(folder, _WEIGHTS)
    if weights is None:
        raise WeightsError(f"{folder}: expected one of {', '.join(_WEIGHTS)} beside config.json; found none")
    beside = folder.parent / _TOKENIZER_FOLDERS.get(folder.name, "tokenizer")
    words = folder if not beside.is_dir() or _has_tokenizer(folder) else beside
    plain = read_json(folder / "config.json")
    found = special_tokens(words) if _has_tokenizer(words) else None
    last = int(plain.get("vocab_size", 49408)) - 1 if isinstance(plain.get("vocab_size", 49408), int) else 49407
    start, end = (found.start_id, found.end_id) if found else (None, None)
    start, end = (last - 1 if start is None else start), (last if end is None else end)
    pad = found.pad_id if found and found.pad_id is not None else end
    text = text_tower_from(plain, str(folder / "config.json"), start, end, pad)
    if activation:
        text = dataclasses.replace(text, activation=activation)
    tokenizer = (Tokenizer.from_folder(words, text) if found else None) or _clips(text, folder)
    return _checked(text, read_tensor_file(weights).tensors, tokenizer, str(folder))


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file()


def _clips(text: TextTransformer, source: Path) -> "Tokenizer":
    from tandem.tokenizer import TextFormat, Tokenizer

    tokenizer = Tokenizer.clip()
    if text.vocabulary_size != tokenizer.vocabulary_size:
        raise WeightsError(
            f"{source}: its vocabulary of {text.vocabulary_size} entries is not CLIP's {tokenizer.vocabulary_size}, "
            "and there is no folder `tokenizer` beside it (with tokenizer.json, or vocab.json and merges.txt)"
        )
    return tokenizer.with_format(TextFormat.of(text))


def _is_text_file(path: Path) -> bool:
    """Whether a lone file holds a text tower and nothing of an image tower."""
    if path.with_name("config.json").is_file():
        return False
    names = set(strip_prefixes(read_safetensors(path)[0]).values())
    if any(name.startswith(_OF_PIPELINES) for name in names):
        raise WeightsError(
            f"{path}: this is a whole image generator in one file; give the folder of a diffusers pipeline, or "
            "its text encoders as files of their own"
        )
    return any(name.startswith("text_model.") for name in names) and not any(
        name.startswith(("vision_model.", "visual.")) for name in names
    )


def _read_file(path: Path, activation: Activation | None) -> TextCheckpoint:
    """One file such as `clip_l.safetensors` or `clip_g.safetensors`: sizes follow from the shapes."""
    tensors, _ = to_original(read_tensor_file(path).tensors)
    try:
        (size, width), (context, _) = tensors["token_embedding.weight"].shape, tensors["positional_embedding"].shape
        mlp = tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: not a CLIP text tower that Tandem can read: {error}") from None
    layers = len({name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")})
    assumed = activation or ("quick_gelu" if width in _QUICK_GELU_WIDTHS else "gelu")
    text = TextTransformer(
        context, size, width, layers, default_heads(width), mlp, assumed, size - 2, size - 1, pad_id=size - 1
    )
    return _checked(text, tensors, _clips(text, path), str(path))


def _checked(
    text: TextTransformer, tensors: Mapping[str, np.ndarray], tokenizer: "Tokenizer", source: str
) -> TextCheckpoint:
    """The tower with exactly its own tensors. Raises `WeightsError` where some are missing or misshapen."""
    stripped = {short: tensors[name] for name, short in strip_prefixes(tensors).items()}
    if any(name.startswith(("embeddings.", "encoder.", "final_layer_norm.")) for name in stripped):
        # As transformers 5 names them: the model is the tower itself
        stripped = {name if name.startswith("text_") else f"text_model.{name}": stripped[name] for name in stripped}
    ours, _ = to_original(stripped)
    kept = subset(ours, [name for name in ours if name != "logit_scale"])
    shape = shape_and_dtype(kept, _PROJECTION)[0] if _PROJECTION in kept else ()
    embed_dim = shape[-1] if len(shape) == 2 else 0
    try:
        text.check(embed_dim)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    expected = tower_part(text, "shapes").shapes(text, embed_dim)
    if not embed_dim:
        del expected[_PROJECTION]
    check_shapes(kept, expected, source, lambda name: display_name(name, names_of("transformers")))
    return TextCheckpoint(text, embed_dim, kept, tokenizer, source)


def _fetch(repository: str, subfolder: str) -> Path:
    """The local folder of a hub repository, with the text encoder of `subfolder` and its tokenizer in it."""
    name, _, revision = repository.partition("@")
    files = Repository(name, revision or None, offline=is_offline(), missing="no such folder here, and ")
    if not files.offline:
        files.check_reachable()
    config = files.get(f"{subfolder}/config.json")
    if config is None:
        raise files.lacks(f"a text encoder ({subfolder}/config.json)")
    weights = files.first(tuple(f"{subfolder}/{each}" for each in _WEIGHTS))
    if weights is None:
        raise files.lacks(f"weights (one of {', '.join(_WEIGHTS)} in {subfolder})")
    if weights.name.endswith(".index.json"):
        for shard in shard_names(read_json(weights), weights):
            if files.get(f"{subfolder}/{shard}") is None:
                raise files.lacks(f"{shard}, a shard of {weights.name}")
    words = _TOKENIZER_FOLDERS.get(subfolder, "tokenizer")
    if files.get(f"{words}/tokenizer.json") is None and files.get(f"{words}/vocab.json") is None:
        raise HubError(f"{repository}: expected a tokenizer in {words}; there is none")
    for each in _TOKENIZER_FILES:
        files.get(f"{words}/{each}")
    return config.parent.parent
