"""Class vectors on disk, below the folder of caches: a set of labels that took seconds to embed is read the next time.

A file is named by the SHA-256 of all that its vectors depend on: the model's fingerprint, how it computes and in which
versions of Tandem and its engine, the labels in their prompts. It holds float32 rows and a SHA-256 of name and rows:
what is damaged, cut or renamed is computed again. The files together have at most `MAX_BYTES`; those that were not
used for longest are removed. Labels themselves are not written. Knows values and vectors; no models, no texts' meaning.

Shapes: c labels, d dimensions.
"""

import contextlib
import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tandem import files
from tandem.arrays import Vectors
from tandem.home import cache_folder

FORMAT = 2  # 1: of templates instead of filled prompts, and no versions
FOLDER = "class-vectors"
MAX_BYTES = 256 * 2**20  # of all files: 128 sets of 1,000 labels at 512 dimensions
_SUFFIX = ".f32"


class ClassVectorFile:
    """The file of one set of labels, computed in one way."""

    def __init__(self, key: Mapping[str, object]) -> None:
        """`key` is all that the vectors depend on; its values are plain, `labels` and `dimensions` among them."""
        self._shape = int(str(key["labels"])), int(str(key["dimensions"]))
        written = json.dumps({**key, "format": FORMAT}, sort_keys=True).encode()
        self._digest = hashlib.sha256(written).digest()
        self.path = cache_folder() / FOLDER / (self._digest.hex() + _SUFFIX)

    def read(self) -> Vectors | None:
        """float32 [c d]; None where there are none, or they are not whole."""
        try:
            with files.open_regular(self.path) as file:
                status = os.fstat(file.fileno())
                size = 4 * math.prod(self._shape)
                if status.st_size != size + len(self._digest) or _others_may_write(status):
                    return None
                content = file.read(status.st_size)
            os.utime(self.path)  # it was used
        except OSError:
            return None
        if content is None or content[size:] != self._checksum(content[:size]):
            return None
        rows = np.frombuffer(content[:size], "<f4").reshape(self._shape).astype(np.float32)
        with np.errstate(all="ignore"):
            lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        return rows if (np.abs(lengths - 1) < 1e-3).all() else None  # NaN is not less

    def write(self, vectors: Vectors) -> None:
        """Keep the vectors [c d], and remove what has not been used for longest. A disk that refuses keeps nothing."""
        content = np.ascontiguousarray(vectors, "<f4").tobytes()
        if len(content) > MAX_BYTES // 4:  # one set must not take the place of all others
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic_write(self.path) as temporary:
                temporary.write_bytes(content + self._checksum(content))
            self.path.chmod(self.path.stat().st_mode & ~stat.S_IWOTH)  # else `read` does not take it
            _remove_oldest(self.path.parent)

    def _checksum(self, content: bytes) -> bytes:
        return hashlib.sha256(self._digest + content).digest()


def _others_may_write(status: os.stat_result) -> bool:
    """Whether another user than this one and the administrator could have written the file."""
    if not hasattr(os, "getuid"):  # Windows has no such bits
        return False
    return bool(status.st_mode & stat.S_IWOTH) or status.st_uid not in (os.getuid(), 0)


def _remove_oldest(folder: Path) -> None:
    """Until the files together are small enough. Other processes may remove some meanwhile."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.suffix == _SUFFIX:
                status = path.lstat()
                found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found, key=lambda each: each[0]):
        if total <= MAX_BYTES:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
