"""JSON files of models: objects without a key that comes twice, of a size that Python's memory can take.

Knows no format.
"""

import json
import stat
from pathlib import Path
from typing import Any

from tandem.errors import WeightsError, in_words

MAX_BYTES = (
    8 * 2**20
)  # the largest that is read so, an index of shards, has 0.3 MB; Python's objects take 30 times as much


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a regular file. Raises `WeightsError` that names the file."""
    try:
        check_regular(path)
        if (size := path.stat().st_size) > MAX_BYTES:
            raise WeightsError(f"{path}: expected JSON of at most {MAX_BYTES:,} bytes, got {size:,}")
        value = json.loads(path.read_bytes().decode(), object_pairs_hook=without_duplicates)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: expected JSON: {in_words(error)}") from None
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that comes twice, nobody knows which value was meant. Raises `ValueError`."""
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r:.80} comes twice")
    return values


def check_regular(path: Path) -> None:
    """Refuse what is no file: reading a pipe, a device or a socket may never end. Raises `WeightsError`, `OSError`."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise WeightsError(f"{path}: expected a file, found {_KINDS.get(stat.S_IFMT(mode), 'something else')}")


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
