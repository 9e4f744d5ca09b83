"""Linear layers and convolutions as OpenVINO operators: in floating point, or of eight bits where tensors say so.

Every product has the name of its layer, by which calibration finds it. Constants share the arrays' memory.

Shapes: i inputs, o outputs. Of convolutions: b batch, h rows, w columns.
"""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tandem.openvino_import import Node, op
from tandem.towers.parts.constants import constant, tensor
from tandem.towers.parts.folding import Convolution
from tandem.towers.parts.int8 import STEPS, Int8, Range, int8_of, quantized, range_of
from tandem.towers.parts.tensors import Tensors, split_qkv


def linear(
    x: Node, tensors: Tensors, layer: str, weight: NDArray[np.generic], bias: NDArray[np.generic] | None
) -> Node:
    """[... i] -> [... o], weight [o i] as computed, not as it is stored."""
    return _linear(x, tensors, layer, None, lambda: weight, bias)


def named_linear(x: Node, tensors: Tensors, name: str) -> Node:
    """`linear` with the tensors `name`.weight and `name`.bias."""
    weight = name + ".weight"
    return _linear(x, tensors, name, int8_of(tensors, weight), lambda: tensors[weight], tensors[name + ".bias"])


def unbiased(x: Node, tensors: Tensors, name: str) -> Node:
    """`linear` with the tensor `name` [o i]."""
    return _linear(x, tensors, name, int8_of(tensors, name), lambda: tensors[name], None)


def qkv_linear(x: Node, tensors: Tensors, name: str, part: int) -> Node:
    """`linear` with the rows for queries (0), keys (1) or values (2) of `name`weight and `name`bias."""
    int8 = int8_of(tensors, name + "weight")
    bias = split_qkv(tensors, name + "bias")[part]
    return _linear(
        x,
        tensors,
        name + "qkv"[part],
        None if int8 is None else int8.part(part, 3),
        lambda: split_qkv(tensors, name + "weight")[part],
        bias,
    )


def project(x: Node, tensors: Tensors, name: str, bias: str | None = None) -> Node:
    """[b i] -> [b o] by the matrix `name` [i o], and `bias` where there is one."""
    int8, limits = int8_of(tensors, name), range_of(tensors, name)
    if int8 is None and limits is None:
        x = _named(op.matmul(x, tensor(tensors, name), False, False), name)
        return x if bias is None else op.add(x, tensor(tensors, bias))
    return _linear(x, tensors, name, int8, lambda: tensors[name].T, None if bias is None else tensors[bias])


def convolve(
    x: Node,
    folded: Convolution,
    tensors: Tensors,
    layer: str,
    stride: int = 1,
    groups: int = 1,
    padding: int | None = None,
) -> Node:
    """[b i h w] -> [b o h w]; padding keeps rows and columns at a stride of 1, unless it is given.

    A convolution in groups computes in floating point: in eight bits it is slower, and with a range for each channel
    OpenVINO computes it wrongly (`docs/log.md`).
    """
    around = [folded.kernel.shape[2] // 2 if padding is None else padding] * 2
    kernel, bias = folded.kernel, folded.bias
    if groups > 1:
        made = constant(kernel.astype(np.float32).reshape(groups, -1, *kernel.shape[1:]))
        x = op.group_convolution(x, made, [stride] * 2, around, around, [1, 1])
    else:
        if (limits := range_of(tensors, layer)) is None:
            # OpenVINO computes linear layers from int8 weights, and convolutions from float32 that it makes of them
            made = constant(kernel.astype(np.float32))
        else:
            x, made = _rounded(x, limits, None), _constant(folded.int8 or quantized(kernel))
            bias = bias if limits.shift is None else bias + limits.shift
        x = op.convolution(x, made, [stride] * 2, around, around, [1, 1])
    x = _named(x, layer)
    return op.add(x, constant(bias.astype(np.float32).reshape(1, -1, 1, 1))) if bias.any() else x


def _linear(
    x: Node,
    tensors: Tensors,
    layer: str,
    int8: Int8 | None,
    weight: Callable[[], NDArray[np.generic]],
    bias: NDArray[np.generic] | None,
) -> Node:
    limits = range_of(tensors, layer)
    if limits is not None:
        int8 = int8 or quantized(weight())
        x = _rounded(x, limits, int8.smooth)
        if limits.shift is not None:
            bias = limits.shift if bias is None else bias.astype(np.float32) + limits.shift
    if int8 is None:
        made = constant(weight())
    elif limits is None and int8.smooth is not None:
        made = constant(int8.array())  # unsmoothed
    else:
        made = _constant(int8)
    x = _named(op.matmul(x, made, False, True), layer)
    return x if bias is None else op.add(x, constant(bias))


def _rounded(x: Node, limits: Range, smooth: NDArray[np.float32] | None) -> Node:
    """x in 256 steps, made once for all layers that round it alike."""
    values = [limits.low, limits.high, *([] if smooth is None else [smooth])]
    name = f"{x.get_friendly_name()}/{hashlib.sha256(b''.join(value.tobytes() for value in values)).hexdigest()[:16]}"
    for target in x.output(0).get_target_inputs():
        if (node := target.get_node()).get_friendly_name() == name:
            return node if node.get_type_name() == "FakeQuantize" else _only_consumer(node)
    if smooth is not None:
        x = _named(op.multiply(x, constant(1 / smooth[0])), name)
        name += "/rounded"
    low, high = (constant(np.asarray(value, np.float32)) for value in (limits.low, limits.high))
    return _named(op.fake_quantize(x, low, high, low, high, STEPS), name)


def _only_consumer(node: Node) -> Node:
    (target,) = node.output(0).get_target_inputs()
    return target.get_node()


def _constant(weight: Int8) -> Node:
    """[o ...] as a constant."""
    scale = weight.scale.reshape(-1, *(1,) * (weight.ints.ndim - 1))
    return op.multiply(op.convert(constant(np.ascontiguousarray(weight.ints)), "f32"), constant(scale))


def _named(node: Node, name: str) -> Node:
    node.set_friendly_name(name)
    return node
