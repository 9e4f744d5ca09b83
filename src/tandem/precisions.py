"""Which precision `auto` means for a model on this machine: what was measured here once, kept in the data folder.

`resolve` is the one place where that is decided. A quantised model has a fingerprint of its own, so it stands in for
its source only for a caller that binds nothing to the fingerprint (`allow_quantized`): `tandem classify` and `tandem
embed`. Whatever keeps or compares vectors (collections, heads, fitted policies, calibrations, cached features) gets a
precision of the same weights.

Nothing is measured here: `tandem models --explain MODEL` does that. Until then, auto is float32.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tandem import engine as engines
from tandem import fields, version, weights
from tandem.config import Activation
from tandem.errors import EngineError, TandemError
from tandem.files import write_json
from tandem.home import data_folder
from tandem.processor import processor
from tandem.weights.checkpoint import Checkpoint
from tandem.weights.known_fingerprints import Known, fingerprint_of

_OF_OWN_WEIGHTS = ("float32", "bfloat16")
_LONGEST_PATH = 4096  # characters


@dataclass(frozen=True)
class Candidate:
    """A model in a precision, and what was measured of it."""

    precision: str  # of the engine
    folder: str | None  # of the quantised model; None for the model itself
    method: str | None  # of quantisation
    fingerprint: str
    images_per_second: float
    texts_per_second: float
    top1: float  # agreement with float32
    neighbours: float
    keeps_promise: bool

    @property
    def name(self) -> str:
        """What computes, in words: a model whose weights alone have eight bits is computed in float32."""
        return "int8 weights" if self.method == "int8-weights" else self.precision


@dataclass(frozen=True)
class Choice:
    """What auto means for a model, and why."""

    model: str
    fingerprint: str
    best: Candidate
    same_weights: Candidate  # the best of those with the model's own fingerprint
    reason: str
    candidates: tuple[Candidate, ...]


def resolve(
    source: str | Path, *, activation: Activation | None = None, allow_quantized: bool = False
) -> tuple[Checkpoint, str]:
    """What `auto` loads for a source: the model, or a quantised one of it, and the precision to compute it in.

    A quantised model is taken only where it was made from exactly the model that the source is. One that was chosen
    and is gone, or was written anew, is warned of. Raises what `weights.read` raises.
    """
    if not _document():
        return weights.read(source, activation=activation), "auto"
    found = _known(source, activation)
    choice = chosen(found.fingerprint)
    if choice is not None and allow_quantized and (stand_in := _stand_in(choice)) is not None:
        return stand_in, "auto"
    read = found.checkpoint or weights.read(source, activation=activation, files=found.files)
    return read, "auto" if choice is None else choice.same_weights.precision


def _stand_in(choice: Choice) -> Checkpoint | None:
    """The quantised model that was chosen; None where none was, or it is no longer what was measured."""
    folder = choice.best.folder
    if folder is None:
        return None
    try:
        found = _known(folder)
        read = found.checkpoint or weights.read(folder, files=found.files)
        about = read.config.quantization
        if (
            found.fingerprint == choice.best.fingerprint
            and about is not None
            and about.source_fingerprint == choice.fingerprint
        ):
            return read
        why = f"{folder} is no longer the model that was measured"
    except TandemError as error:
        why = str(error)
    warnings.warn(
        f"{choice.model}: auto was a quantised model, but {why}; computing in {choice.same_weights.precision}, until "
        "tandem models --explain chooses again",
        stacklevel=4,
    )
    return None


def chosen(fingerprint: str) -> Choice | None:
    """What was chosen for a model on this machine; None where nothing was measured, or with other versions."""
    plain = _document().get(fingerprint)
    if plain is None:
        return None
    try:
        found = fields.read(Choice, plain)
        if found.fingerprint == fingerprint and _is_sound(found.best) and _is_sound(found.same_weights, own=True):
            return found
    except TandemError:
        pass
    warnings.warn(
        f"{path_of_choices()}: what it says of a model is damaged, and auto is float32; tandem models --explain "
        "measures again",
        stacklevel=4,
    )
    return None


def _is_sound(candidate: Candidate, *, own: bool = False) -> bool:
    """Whether it can be loaded as it says; `own`: with the model's own weights."""
    if candidate.folder is None:
        return candidate.precision in _OF_OWN_WEIGHTS and candidate.method is None
    return not own and len(candidate.folder) <= _LONGEST_PATH


def remember(choice: Choice) -> Path:
    """Keep what was chosen, for every later `auto`; where it is kept."""
    path = path_of_choices()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**_machine(), "models": {**_document(), choice.fingerprint: asdict(choice)}})
    return path


def path_of_choices() -> Path:
    """The file that holds all choices."""
    return data_folder() / "precisions.json"


def quantised_folders(fingerprint: str) -> list[str]:
    """The folders that `tandem quantize` wrote on this machine from a model, those that are still there."""
    return [folder for folder in _folders().get(fingerprint, ()) if (Path(folder) / "config.json").is_file()]


def name_quantised(checkpoint: Checkpoint) -> None:
    """Of a model that is not quantised, name those that were made of it here. Raises `EngineError` if there are any."""
    if checkpoint.config.quantization is not None or not _folders():
        return
    if folders := quantised_folders(weights.fingerprint(checkpoint)):
        raise EngineError(
            f"precision: int8 is for quantised models; of {checkpoint.source} there are on this machine: "
            f"{', '.join(folders)}: load one of them"
        )


def remember_folder(fingerprint: str, folder: Path) -> None:
    """Keep where a quantised model of a source lies, for `quantised_folders`."""
    path = data_folder() / "quantised.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = _folders()
    write_json(
        path, {**known, fingerprint: [*(f for f in known.get(fingerprint, ()) if f != str(folder)), str(folder)]}
    )


def fingerprint_of_folder(folder: str) -> str:
    """The fingerprint of a model on this machine, remembered by the identity of its files."""
    return _known(folder).fingerprint


def _known(source: str | Path, activation: Activation | None = None) -> Known:
    return fingerprint_of(source, activation=activation, version=version.__version__)


def _folders() -> dict[str, list[str]]:
    found = _read(data_folder() / "quantised.json")
    return {key: list(map(str, value)) for key, value in found.items() if isinstance(value, list)}


def _document() -> dict[str, Any]:
    """The choices by the model's fingerprint; none of another processor, or of other versions."""
    path = path_of_choices()
    document = _read(path) if path.is_file() else {}
    models = document.pop("models", None)
    return models if isinstance(models, dict) and document == _machine() else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _machine() -> Mapping[str, Any]:
    return {"processor": processor(), "openvino": engines.version_of("openvino"), "tandem": version.__version__}
