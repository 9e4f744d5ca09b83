"""FastViT as an OpenVINO graph: branches, batch norms and scales folded into single convolutions and products.

Shapes: b batch, c channels, h and w rows and columns, t positions, d shared dimension.
"""

import numpy as np

from tandem.openvino_import import Node, op
from tandem.towers.fastvit.description import HEAD_WIDTH, FastViT
from tandem.towers.parts.constants import integers
from tandem.towers.parts.description import NORM_EPSILON
from tandem.towers.parts.folding import (
    Array,
    Convolution,
    batch_norm,
    double,
    identity,
    identity_norm,
    normed_convolution,
    plain_convolution,
)
from tandem.towers.parts.openvino import merge_heads, split_heads
from tandem.towers.parts.products import convolve, linear
from tandem.towers.parts.tensors import Tensors


def features(pixels: Node, vision: FastViT, tensors: Tensors) -> Node:
    """Normalised pixels [b 3 s s] -> [b d], not of unit length."""
    x = _through_stages(pixels, vision, tensors, len(vision.layers))
    groups = vision.widths[-1]
    halves = _doubled(x, _branches(tensors, "visual.final_conv", groups), tensors, "visual.final_conv", groups)
    halves = [_gelu(half) for half in _squeezed(halves, tensors, "visual.final_conv.se.")]
    mean = op.concat([op.reduce_mean(half, integers([2, 3])) for half in halves], 1)  # [b 2c]
    weight, bias = (double(tensors, f"visual.head.fc.{part}") for part in ("weight", "bias"))
    return _product(mean, tensors, "visual.head.fc", weight[:, _halved(2 * groups)], bias)


def states(pixels: Node, vision: FastViT, tensors: Tensors, blocks: int, final_norm: bool, projection: bool) -> Node:
    """Normalised pixels [b 3 s s] -> every position after so many stages, row by row [b t c]; 0: the stem.

    There is no last norm, and no projection of a position: both are false.
    """
    return _rows(_through_stages(pixels, vision, tensors, blocks))


def _through_stages(x: Node, vision: FastViT, tensors: Tensors, stages: int) -> Node:
    width = vision.width
    for i, (stride, groups) in enumerate(((2, 1), (2, width), (1, 1))):
        name = f"visual.stem.{i}"
        x = _gelu(convolve(x, _branches(tensors, name, groups), tensors, name, stride, groups))
    for stage in range(stages):
        x = _stage(x, vision, tensors, stage)
    return x


def _stage(x: Node, vision: FastViT, tensors: Tensors, stage: int) -> Node:
    width, name = vision.widths[stage], f"visual.stages.{stage}."
    if stage:
        large, small = (
            normed_convolution(tensors, f"{name}downsample.proj.0.{size}.conv", f"{name}downsample.proj.0.{size}.bn")
            for size in ("large_conv", "small_conv")
        )
        halves = _doubled(x, large + small, tensors, f"{name}downsample.proj.0", width // 2, stride=2)
        if vision.squeeze_width(stage):
            halves = _squeezed(halves, tensors, f"{name}downsample.proj.0.se.")
        pointwise = _branches(tensors, f"{name}downsample.proj.1", 1)
        even, odd = (
            convolve(
                _gelu(half), Convolution(pointwise.kernel[:, i::2], bias), tensors, f"{name}downsample.proj.1.half{i}"
            )
            for i, (half, bias) in enumerate(zip(halves, (pointwise.bias, np.zeros(width)), strict=True))
        )
        x = _gelu(op.add(even, odd))
    attention = vision.mixes_by_attention(stage)
    if attention:
        positions = _biased(tensors, f"{name}pos_emb.pos_enc")
        x = convolve(x, positions + identity(width, width), tensors, f"{name}pos_emb", groups=width)
    for i in range(vision.layers[stage]):
        block = f"{name}blocks.{i}."
        if attention:
            x = op.add(x, _attention(x, vision, tensors, block, width))
            x = op.add(x, _mlp(x, tensors, block, "layer_scale_2.gamma", width))
        else:
            x = convolve(x, _mixer(tensors, block, width), tensors, block + "token_mixer", groups=width)
            x = op.add(x, _mlp(x, tensors, block, "layer_scale.gamma", width))
    return x


def _branches(tensors: Tensors, name: str, groups: int) -> Convolution:
    """A sum of a convolution, one of 1 x 1 and a batch norm alone, as one convolution."""
    folded = normed_convolution(tensors, f"{name}.conv_kxk.0.conv", f"{name}.conv_kxk.0.bn")
    if f"{name}.conv_scale.conv.weight" in tensors:
        folded += normed_convolution(tensors, f"{name}.conv_scale.conv", f"{name}.conv_scale.bn")
    if f"{name}.identity.weight" in tensors:
        folded += identity_norm(tensors, f"{name}.identity", groups)
    return folded


def _mixer(tensors: Tensors, block: str, width: int) -> Convolution:
    """x + scale (mixer(x) - norm(x)) as one depthwise convolution."""
    name = block + "token_mixer."
    without = identity_norm(tensors, name + "norm.identity", width).scaled(-np.ones(width))
    difference = _branches(tensors, name + "mixer", width) + without
    return difference.scaled(_gamma(tensors, name + "layer_scale.gamma")) + identity(width, width)


def _mlp(x: Node, tensors: Tensors, block: str, scale: str, width: int) -> Node:
    """What the MLP adds: the convolution's bias is in its first layer, the scale in its second."""
    mixing = normed_convolution(tensors, block + "mlp.conv.conv", block + "mlp.conv.bn")
    first, second = (_biased(tensors, f"{block}mlp.{layer}") for layer in ("fc1", "fc2"))
    bias = first.bias + first.kernel[:, :, 0, 0] @ mixing.bias
    x = convolve(x, mixing.with_bias(np.zeros(width)), tensors, block + "mlp.conv", groups=width)
    x = _gelu(convolve(x, first.with_bias(bias), tensors, block + "mlp.fc1"))
    return convolve(x, second.scaled(_gamma(tensors, block + scale)), tensors, block + "mlp.fc2")


def _attention(x: Node, vision: FastViT, tensors: Tensors, block: str, width: int) -> Node:
    """What attention adds: its norm's gains and biases are in the projections, the scale in the last one."""
    if vision.attention_norm == "batch":
        gain, shift = batch_norm(tensors, block + "norm")
    else:
        gain, shift = double(tensors, block + "norm.weight"), double(tensors, block + "norm.bias")
    y = _rows(x)  # [b t c]
    if vision.attention_norm == "layer":
        y = op.mvn(y, integers([-1]), True, NORM_EPSILON, "inside_sqrt")
    heads = width // HEAD_WIDTH
    qkv = np.split(double(tensors, block + "token_mixer.qkv.weight"), 3)
    q, k, v = (
        split_heads(_product(y, tensors, f"{block}token_mixer.{part}", weight * gain, weight @ shift), heads, width)
        for part, weight in zip("qkv", qkv, strict=True)
    )
    y = merge_heads(op.scaled_dot_product_attention(q, k, v), width)
    scale = _gamma(tensors, block + "layer_scale_1.gamma")
    weight, bias = (double(tensors, f"{block}token_mixer.proj.{part}") for part in ("weight", "bias"))
    y = _product(y, tensors, block + "token_mixer.proj", weight * scale[:, None], bias * scale)
    return op.reshape(op.transpose(y, integers([0, 2, 1])), op.shape_of(x), False)


def _doubled(x: Node, folded: Convolution, tensors: Tensors, layer: str, groups: int, stride: int = 1) -> list[Node]:
    """A convolution of each channel to two: the first of each two, and the second ones, each [b c h w].

    Two depthwise convolutions, which OpenVINO computes in a third of the time of one to twice the channels: S0 takes 6%
    less (measured).
    """
    halves = (Convolution(folded.kernel[i::2], folded.bias[i::2]) for i in (0, 1))
    return [convolve(x, half, tensors, f"{layer}.half{i}", stride, groups) for i, half in enumerate(halves)]


def _halved(channels: int) -> Array:
    """The order of channels that `_doubled` gives, if its halves are put side by side."""
    return np.concatenate([np.arange(0, channels, 2), np.arange(1, channels, 2)])


def _squeezed(halves: list[Node], tensors: Tensors, name: str) -> list[Node]:
    """Channels weighted by the mean of their positions."""
    mean = op.concat([op.reduce_mean(half, integers([2, 3]), keep_dims=True) for half in halves], 1)
    first, second = (_biased(tensors, name + layer) for layer in ("fc1", "fc2"))
    order = _halved(len(second.bias))
    inner = op.relu(convolve(mean, Convolution(first.kernel[:, order], first.bias), tensors, name + "fc1"))
    gates = op.sigmoid(convolve(inner, Convolution(second.kernel[order], second.bias[order]), tensors, name + "fc2"))
    return [op.multiply(half, gate) for half, gate in zip(halves, op.split(gates, 1, 2).outputs(), strict=True)]


def _biased(tensors: Tensors, name: str) -> Convolution:
    """A convolution with its bias."""
    return plain_convolution(tensors, name).with_bias(double(tensors, name + ".bias"))


def _product(x: Node, tensors: Tensors, layer: str, weight: Array, bias: Array) -> Node:
    return linear(x, tensors, layer, weight.astype(np.float32), bias.astype(np.float32))


def _rows(x: Node) -> Node:
    """[b c h w] -> [b t c]"""
    channels = x.get_output_partial_shape(0)[1].get_length()
    return op.transpose(op.reshape(x, integers([0, channels, -1]), True), integers([0, 2, 1]))


def _gelu(x: Node) -> Node:
    return op.gelu(x, "erf")


def _gamma(tensors: Tensors, name: str) -> Array:
    return double(tensors, name).reshape(-1)
