"""The arrays a tower is made of, by name, as graphs and numpy read them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tandem.towers.parts.int8 import stored

Tensors = Mapping[str, NDArray[np.generic]]


def parts(tensors: Tensors, name: str) -> Sequence[NDArray[np.generic]]:
    """A tensor in the parts that make it up, first rows first; nearly always one.

    Tensors that stack what their file holds apart only on demand offer the parts as `parts(name)`: stacked copies would
    live as long as what is built from them.
    """
    apart: Callable[[str], Sequence[NDArray[np.generic]]] | None = getattr(tensors, "parts", None)
    return apart(name) if apart else (tensors[name],)


def split_qkv(tensors: Tensors, name: str) -> Sequence[NDArray[np.generic]]:
    """The rows for q, k and v of a fused projection, however the file divides them."""
    found = list(parts(tensors, name))
    if len(found) == 3:
        return found
    if len(found) == 2:  # q, and k with v
        return [found[0], *np.split(found[1], 2)]
    return np.split(found[0], 3)


def stored_arrays(tensors: Tensors) -> Iterator[NDArray[np.generic]]:
    """The arrays as they lie in memory or in a file, none of them computed."""
    kept = stored(tensors)
    for name in kept:
        yield from parts(kept, name)


def size_of(tensors: Tensors, name: str) -> int:
    """How many numbers a tensor has, without computing or stacking it."""
    return sum(part.size for part in parts(stored(tensors), name))
