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
import os
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
        """`key` is all that the vectors depend on; its values are plain, `dimensions` among them."""
        self._row_bytes = 4 * int(str(key["dimensions"]))
        written = json.dumps({**key, "format": FORMAT}, sort_keys=True).encode()
        self._digest = hashlib.sha256(written).digest()
        self.path = cache_folder() / FOLDER / (self._digest.hex() + _SUFFIX)

    def read(self) -> Vectors | None:
        """float32 [c d]; None where there are none, or they are not whole."""
        try:
            with files.open_regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size - len(self._digest)
                if not 0 < size <= MAX_BYTES // 4 or size % self._row_bytes:
                    return None
                content = file.read(size + len(self._digest))
            os.utime(self.path)  # it was used
        except OSError:
            return None
        if content is None or content[size:] != self._checksum(content[:size]):
            return None
        rows = np.frombuffer(content[:size], "<f4").reshape(-1, self._row_bytes // 4)
        return rows.astype(np.float32)

    def write(self, vectors: Vectors) -> None:
        """Keep the vectors [c d], and remove what has not been used for longest. A disk that refuses keeps nothing."""
        content = np.ascontiguousarray(vectors, "<f4").tobytes()
        if len(content) > MAX_BYTES // 4:  # one set must not take the place of all others
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic_write(self.path) as temporary:
                temporary.write_bytes(content + self._checksum(content))
            _remove_oldest(self.path.parent)

    def _checksum(self, content: bytes) -> bytes:
        return hashlib.sha256(self._digest + content).digest()


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
