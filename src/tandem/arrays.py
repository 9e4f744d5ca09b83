"""Types of the arrays that modules exchange."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]  # [n d], or [d] for one; of unit length where they are embeddings
