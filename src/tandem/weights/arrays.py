"""Stored tensors as numpy sees them: the type for bfloat16, and files mapped into memory."""

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from tandem.errors import WeightsError

# Machines that only train may lack the package: there a bfloat16 file is refused by its type's name.
try:
    import ml_dtypes
except ImportError:
    BFLOAT16: np.dtype[Any] | None = None
else:
    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def map_file(path: Path) -> mmap.mmap:
    """The file's bytes, mapped privately: arrays on it may be written to, and the file never changes."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise WeightsError(f"{path}: the file is empty; copy or download it again")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
