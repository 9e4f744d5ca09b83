"""Which precision `auto` means for a model on this machine: what was measured here once, kept in the data folder.

Nothing is measured here: `tandem models --explain MODEL` does that. Until then, auto is float32.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tandem import fields
from tandem.config import to_dict
from tandem.errors import TandemError
from tandem.files import write_json
from tandem.home import data_folder
from tandem.processor import processor
from tandem.weights.checkpoint import NOT_FINGERPRINTED, Checkpoint, stored

_SAMPLED = 64  # bytes of each tensor that tell models apart: all of them would take a second


@dataclass(frozen=True)
class Way:
    """A way to compute a model, and what was measured of it."""

    precision: str
    folder: str | None  # of the quantised model; None for the model itself
    images_per_second: float
    texts_per_second: float
    top1: float  # agreement with float32
    neighbours: float
    keeps_promise: bool


@dataclass(frozen=True)
class Choice:
    """What auto means for a model, and why."""

    model: str
    precision: str
    folder: str | None
    fingerprint: str | None  # of the quantised model
    reason: str
    ways: tuple[Way, ...]


def chosen(checkpoint: Checkpoint) -> Choice | None:
    """What was chosen for a model on this machine; None where nothing was measured, or with other versions."""
    path = _path()
    if not path.is_file():
        return None
    plain = _document().get(_key(checkpoint))
    try:
        return None if plain is None else fields.read(Choice, plain)
    except TandemError:
        return None  # a damaged file: measured again


def remember(checkpoint: Checkpoint, choice: Choice) -> Path:
    """Keep what was chosen, for every later `auto`; where it is kept."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**_machine(), "models": {**_document(), _key(checkpoint): asdict(choice)}})
    return path


def quantised_folders(fingerprint: str) -> list[str]:
    """The folders that `tandem quantize` wrote on this machine from a model, those that are still there."""
    return [folder for folder in _folders().get(fingerprint, ()) if (Path(folder) / "config.json").is_file()]


def remember_folder(fingerprint: str, folder: Path) -> None:
    """Keep where a quantised model of a source lies, for `quantised_folders`."""
    path = data_folder() / "quantised.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = _folders()
    write_json(
        path, {**known, fingerprint: [*(f for f in known.get(fingerprint, ()) if f != str(folder)), str(folder)]}
    )


def _folders() -> dict[str, list[str]]:
    found = _read(data_folder() / "quantised.json")
    return {key: list(map(str, value)) for key, value in found.items() if isinstance(value, list)}


def _path() -> Path:
    return data_folder() / "precisions.json"


def _document() -> dict[str, Any]:
    """The choices by model; none of another processor, or of other versions."""
    document = _read(_path())
    models = document.pop("models", None)
    return models if document == _machine() and isinstance(models, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _machine() -> Mapping[str, Any]:
    try:
        openvino = version("openvino")
    except PackageNotFoundError:
        openvino = ""
    return {"processor": processor(), "openvino": openvino}


def _key(checkpoint: Checkpoint) -> str:
    """What tells models apart, from a few bytes of each tensor."""
    digest = hashlib.sha256()
    plain = {key: value for key, value in to_dict(checkpoint.config).items() if key not in NOT_FINGERPRINTED}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    arrays = stored(checkpoint.tensors)
    for name in sorted(arrays):
        some = np.ascontiguousarray(arrays[name].reshape(-1)[:_SAMPLED])
        digest.update(f"{name} {some.dtype}\0".encode() + some.tobytes())
    return digest.hexdigest()
