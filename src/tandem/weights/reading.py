"""From what a user typed to a checkpoint: a folder, a file, a published name or a hub name.

Joins the layouts; each knows its own files. Here is decided which one a folder is in, and which tokenizer goes with it.
Tandem's own format comes first, and reading it imports no other.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tandem.config import Activation, ModelConfig
from tandem.errors import WeightsError
from tandem.weights import folder
from tandem.weights.checkpoint import Checkpoint
from tandem.weights.json_files import read_json
from tandem.weights.sources import ModelFiles, locate
from tandem.weights.tensor_files import first_present

if TYPE_CHECKING:
    from tandem.tokenizer import Tokenizer

# Published models have scales up to ln 118, and biases down to -17
_LARGEST_LOGITS = {"logit_scale": 12.0, "logit_bias": 1000.0}
_CLIP_VOCABULARY = 49408
_WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

_Found = tuple[ModelConfig, Mapping[str, np.ndarray], Path | None]  # and the folder of the tokenizer


def read(
    source: str | Path,
    *,
    activation: Activation | None = None,
    name: str | None = None,
    tokenizer: "Tokenizer | None" = None,
    files: ModelFiles | None = None,
) -> Checkpoint:
    """Read a model from wherever it is: a local path, a published name ("ViT-B/32") or a hub name ("org/name").

    Nothing in the files is executed. `activation` overrules what the files say or leave out; what had to be assumed
    is in `config.notes`. `files` is what `locate` found of the source, where that was asked before. Raises
    `WeightsError`, `ConfigError` or `HubError`, in one line that names the file.
    """
    files = files or locate(source)
    config, tensors, folder_of_tokenizer = _read_files(files, activation)
    _check_logits(tensors, files.path)
    config = dataclasses.replace(
        config,
        name=name or files.name or config.name or _name_of(files.path),
        licence=config.licence or files.licence,
        data=config.data or files.data,
        notes={**config.notes, **files.notes},
    )
    return Checkpoint(config, tensors, tokenizer or _tokenizer(config, folder_of_tokenizer, files.path), str(source))


def read_tensors(
    source: str | Path, *, activation: Activation | None = None
) -> tuple[ModelConfig, Mapping[str, np.ndarray]]:
    """Configuration and tensors alone, for a source that has no tokenizer or does not need one."""
    config, tensors, _ = _read_files(locate(source), activation, with_tokenizer=False)
    return config, tensors


def _read_files(files: ModelFiles, activation: Activation | None, *, with_tokenizer: bool = True) -> _Found:
    read = _read_folder if files.path.is_dir() else _read_file
    return read(files.path, activation, with_tokenizer)


OPEN_CLIP_CONFIG = "open_clip_config.json"  # as `open_clip` says, which is imported where there is one


def _check_logits(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Vectors are checked where they are computed; these two make probabilities of them."""
    for name, most in _LARGEST_LOGITS.items():
        if name in tensors and not abs(float(tensors[name])) <= most:  # also of what is not a number
            raise WeightsError(
                f"{path}: {name}: expected a finite number of at most {most:g}, got {float(tensors[name]):g}; the file "
                "is damaged"
            )


def _read_folder(path: Path, activation: Activation | None, with_tokenizer: bool) -> _Found:
    config_json = path / "config.json"
    plain = read_json(config_json) if config_json.exists() else None
    if plain is not None and plain.get("format") == "tandem":
        return *folder.read(path, activation), path
    from tandem.weights import transformers

    if plain is not None and not (path / OPEN_CLIP_CONFIG).is_file():
        return *transformers.read(path, activation), path
    from tandem.weights import open_clip

    if (path / open_clip.CONFIG).is_file() and first_present(path, open_clip.WEIGHTS):
        return open_clip.read(path, activation, with_tokenizer=with_tokenizer)
    if plain is not None:
        return *transformers.read(path, activation), path
    if (path / open_clip.CONFIG).is_file():
        return open_clip.read(path, activation, with_tokenizer=with_tokenizer)
    files = sorted(entry for entry in path.iterdir() if entry.suffix in _WEIGHT_SUFFIXES and entry.is_file())
    if len(files) == 1:
        return _read_file(files[0], activation, with_tokenizer)
    found = ", ".join(file.name for file in files[:4]) or "no weights"
    raise WeightsError(
        f"{path}: not a model folder: expected config.json or {open_clip.CONFIG} beside the weights, or one weights "
        f"file; found {found}"
    )


def _read_file(path: Path, activation: Activation | None, with_tokenizer: bool) -> _Found:
    """A file that a layout beside it names belongs to that layout; any other speaks for itself."""
    from tandem.weights import open_clip, single_file, transformers

    parent = path.parent
    config_json = parent / "config.json"
    if path.name in (*open_clip.WEIGHTS, *open_clip.OTHER_WEIGHTS) and (parent / open_clip.CONFIG).is_file():
        return open_clip.read(parent, activation, path, with_tokenizer=with_tokenizer)
    if path.name in (folder.WEIGHTS, *transformers.WEIGHTS) and config_json.is_file():
        plain = read_json(config_json)
        if plain.get("format") == "tandem":
            return *folder.read(parent, activation, path), parent
        return *transformers.read(parent, activation, path), parent
    config, tensors = single_file.read(path, activation)
    # A folder of downloads may hold some other model's tokenizer: only one of the right size counts.
    return config, tensors, None if config.text.vocabulary_size == _CLIP_VOCABULARY else parent


def _tokenizer(config: ModelConfig, tokenizer_folder: Path | None, path: Path) -> "Tokenizer":
    from tandem.tokenizer import TextFormat, Tokenizer

    text = config.text
    if tokenizer_folder and (found := Tokenizer.from_folder(tokenizer_folder, text)):
        return found
    if text.vocabulary_size == _CLIP_VOCABULARY:
        return Tokenizer.clip().with_format(TextFormat.of(text))
    raise WeightsError(
        f"{path}: its vocabulary of {text.vocabulary_size} entries is not CLIP's {_CLIP_VOCABULARY}, and there is no "
        "tokenizer beside it (tokenizer.json, vocab.json with merges.txt, a SentencePiece .model, or vocab.txt); put "
        "it there: the fingerprint that goes with vectors, of photos too, covers the tokenizer"
    )


def _name_of(path: Path) -> str:
    path = path.resolve()
    return path.name if path.is_dir() else path.stem
