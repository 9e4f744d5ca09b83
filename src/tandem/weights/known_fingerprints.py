"""The fingerprint of a model that was read before, by the identity of its files: hashing all weights takes a second.

A file's identity is its path, size, inode and the times of its last change, in nanoseconds; nothing is sampled. A model
whose files are not all known from its source is hashed each time. Kept in the folder of caches, which can be deleted.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tandem.config import Activation
from tandem.files import write_json
from tandem.home import cache_folder
from tandem.tokenizer.reading import TOKENIZER_FILES
from tandem.weights.checkpoint import Checkpoint, fingerprint
from tandem.weights.reading import OPEN_CLIP_CONFIG, read
from tandem.weights.sources import ModelFiles, locate

_MOST = 64  # models that are remembered; the latest
_BESIDE = (".json", ".txt", ".model")  # what belongs to weights that were named by their file


@dataclass(frozen=True)
class Known:
    """A model's fingerprint, and the model where it was read to know it."""

    fingerprint: str
    files: ModelFiles
    checkpoint: Checkpoint | None = None


def fingerprint_of(source: str | Path, *, activation: Activation | None = None, version: str = "") -> Known:
    """The fingerprint of the model that `read` reads: remembered for the same files, else computed, and remembered.

    version: of whatever reads; what another one computed does not count. Raises what `read` raises.
    """
    files = locate(source)
    identity = file_identity(files.path, activation)
    known = _known(version)
    if identity is not None and (found := known.get(identity)):
        return Known(found, files)
    checkpoint = read(source, activation=activation, files=files)
    found = fingerprint(checkpoint)
    if identity is not None:
        kept = dict([*known.items(), (identity, found)][-_MOST:])
        with contextlib.suppress(OSError):  # a disk that refuses remembers nothing
            _path().parent.mkdir(parents=True, exist_ok=True)
            write_json(_path(), {"version": version, "models": kept})
    return Known(found, files, checkpoint)


def file_identity(path: Path, activation: Activation | None = None) -> str | None:
    """SHA-256 of what tells a model's files from all others; None where its tokenizer may be another repository's."""
    folder = path if path.is_dir() else path.parent
    if (folder / OPEN_CLIP_CONFIG).is_file() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    parts = []
    for file in sorted(_files(path, folder)):
        status = file.stat()
        numbers = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
        parts.append([str(file.absolute()), *numbers])
    return hashlib.sha256(json.dumps([str(path.absolute()), activation, parts]).encode()).hexdigest()


def _files(path: Path, folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            belongs = path.is_dir() or entry.name == path.name or entry.name.endswith(_BESIDE)
            if belongs and entry.is_file():
                yield folder / entry.name


def _path() -> Path:
    return cache_folder() / "fingerprints.json"


def _known(version: str) -> dict[str, str]:
    try:
        document = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict) or document.get("version") != version:
        return {}
    models = document.get("models")
    return {str(key): str(value) for key, value in models.items()} if isinstance(models, dict) else {}
