"""The arrays a model is made of, as engines read them. Knows names; no graph and no device."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.generic]]

NORM_EPSILON = 1e-5  # of layer norms and batch norms


def parts(tensors: Tensors, name: str) -> Sequence[NDArray[np.generic]]:
    """A tensor in the parts that make it up, first rows first; nearly always one.

    Tensors that stack what their file holds apart only on demand offer the parts as `parts(name)`: stacked copies would
    live as long as what is built from them.
    """
    apart: Callable[[str], Sequence[NDArray[np.generic]]] | None = getattr(tensors, "parts", None)
    return apart(name) if apart else (tensors[name],)


def thirds(tensors: Tensors, name: str) -> Sequence[NDArray[np.generic]]:
    """The rows for q, k and v of a fused projection."""
    found = parts(tensors, name)
    return found if len(found) == 3 else np.split(found[0], 3)
