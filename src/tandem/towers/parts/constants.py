"""Arrays as constants of OpenVINO graphs, which share their memory: whoever holds a graph keeps the arrays alive."""

import numpy as np
from numpy.typing import NDArray

from tandem.openvino_import import Node, Type, op, ov
from tandem.towers.parts.int8 import int8_of
from tandem.towers.parts.tensors import Tensors


def tensor(tensors: Tensors, name: str) -> Node:
    """A tensor as a constant."""
    return constant(tensors[name])


def embedded(ids: Node, tensors: Tensors, name: str) -> Node:
    """The rows `ids` [...] of a table -> float32 [... w]. The table stays as it is stored, and where it is.

    In float16 the conversion must stand before the lookup, where OpenVINO moves it behind: written behind, the whole
    table is converted (XLM-V's 901,629 rows: 3.9 GB and 40 s to compile instead of 0.3 GB and 1.5 s, measured). In
    bfloat16 it stays with the conversion behind.
    """
    if int8 := int8_of(tensors, name):
        rows = op.convert(op.gather(constant(int8.ints), ids, integers(0)), "f32")
        return op.multiply(rows, op.unsqueeze(op.gather(constant(int8.scale), ids, integers(0)), integers(-1)))
    array = tensors[name]
    if array.dtype.name != "bfloat16":
        return op.gather(constant(array), ids, integers(0))
    array = np.ascontiguousarray(array)
    words = ov.Tensor(_writeable(array.view(np.uint16)), array.shape, Type.bf16)  # numpy has no type for it
    return op.convert(op.gather(op.constant(words, shared_memory=True), ids, integers(0)), "f32")


def embedded_with(ids: Node, tensors: Tensors, name: str, added: Node | None) -> Node:
    """`embedded`; ids from the table's end on are rows of `added` [m w], which no vocabulary has."""
    if added is None:
        return embedded(ids, tensors, name)
    int8 = int8_of(tensors, name)
    rows = len(tensors[name] if int8 is None else int8.ints)
    known = embedded(op.minimum(ids, integers(rows - 1)), tensors, name)
    new = op.gather(added, op.maximum(op.subtract(ids, integers(rows)), integers(0)), integers(0))
    return op.select(op.unsqueeze(op.greater_equal(ids, integers(rows)), integers(-1)), new, known)


def constant(array: NDArray[np.generic] | np.float32) -> Node:
    """A constant of float32, or int8, that shares the array's memory wherever it can."""
    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float16, np.int8):
        array = array.astype(np.float32)  # bfloat16, which has no numpy dtype of its own
    array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    made = op.constant(_writeable(array), shared_memory=True)
    return op.convert(made, "f32") if array.dtype == np.float16 else made


def _writeable(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """OpenVINO shares writeable arrays only, though it never writes to a constant. Copies where the memory is not."""
    if array.flags.writeable:
        return array
    view = array.view()
    try:
        view.flags.writeable = True
    except ValueError:
        return array.copy()
    return view


def integers(values: int | list[int]) -> Node:
    """A constant of int32."""
    return op.constant(np.asarray(values, np.int32))
