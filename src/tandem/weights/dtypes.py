"""numpy's types for stored tensors. bfloat16 is `ml_dtypes`' and is left out where that package is not installed.

Machines that only train may lack it; there, a bfloat16 file is refused by its type's name, and all else is read.
"""

from typing import Any

import numpy as np

try:
    import ml_dtypes
except ImportError:
    BFLOAT16: np.dtype[Any] | None = None
else:
    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
