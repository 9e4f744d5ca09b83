"""CLIP's ResNet as an OpenVINO graph, batch norms folded into the convolutions before them.

Shapes: b batch, c channels, s pixels a side, d shared dimension.
"""

from tandem.openvino_import import Node, op
from tandem.towers.parts.constants import constant, integers, tensor
from tandem.towers.parts.folding import normed_convolution
from tandem.towers.parts.openvino import merge_heads, split_heads
from tandem.towers.parts.products import convolve, named_linear
from tandem.towers.parts.tensors import Tensors
from tandem.towers.resnet.description import ResNet


def features(pixels: Node, vision: ResNet, tensors: Tensors) -> Node:
    """Normalised pixels [b 3 s s] -> [b d], not of unit length."""
    return _attention_pool(_stages(pixels, vision, tensors, len(vision.layers)), vision, tensors)


def states(pixels: Node, vision: ResNet, tensors: Tensors, blocks: int, final_norm: bool, projection: bool) -> Node:
    """Normalised pixels [b 3 s s] -> every position after so many stages, row by row [b positions c]; 0: the stem.

    There is no last norm, and no projection of a position: both are false.
    """
    return _positions(_stages(pixels, vision, tensors, blocks), vision.state_layout(blocks).width)


def dense(pixels: Node, vision: ResNet, tensors: Tensors) -> Node:
    """Normalised pixels [b 3 s s] -> a vector for each position [b positions d], not of unit length.

    The pooling's values of a position alone, projected (MaskCLIP for ResNets, Zhou et al. 2022).
    """
    x = _positions(_stages(pixels, vision, tensors, len(vision.layers)), vision.pool_width)
    x = op.add(x, constant(tensors["visual.attnpool.positional_embedding"][1:]))
    return named_linear(named_linear(x, tensors, "visual.attnpool.v_proj"), tensors, "visual.attnpool.c_proj")


def _stages(pixels: Node, vision: ResNet, tensors: Tensors, count: int) -> Node:
    """The stem and the first `count` stages: [b 3 s s] -> [b c h w]."""
    x = pixels
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = op.relu(_convolution(x, tensors, f"visual.conv{i}", f"visual.bn{i}", stride))
    if vision.stem_stride == 4:
        x = _average_pool(x)
    for stage, blocks in enumerate(vision.layers[:count], start=1):
        for i in range(blocks):
            stride = 2 if stage > 1 and i == 0 else 1
            name = f"visual.layer{stage}.{i}."
            block = _bottleneck if vision.block == "bottleneck" else _basic
            x = block(x, tensors, name, stride)
    return x


def _bottleneck(x: Node, tensors: Tensors, name: str, stride: int) -> Node:
    y = op.relu(_convolution(x, tensors, name + "conv1", name + "bn1"))
    y = op.relu(_convolution(y, tensors, name + "conv2", name + "bn2"))
    y = _convolution(_average_pool(y) if stride == 2 else y, tensors, name + "conv3", name + "bn3")
    return op.relu(op.add(_shortcut(_average_pool(x) if stride == 2 else x, tensors, name), y))


def _basic(x: Node, tensors: Tensors, name: str, stride: int) -> Node:
    x = _average_pool(x) if stride == 2 else x
    y = op.relu(_convolution(x, tensors, name + "conv1", name + "bn1"))
    return op.relu(op.add(_shortcut(x, tensors, name), _convolution(y, tensors, name + "conv2", name + "bn2")))


def _shortcut(x: Node, tensors: Tensors, name: str) -> Node:
    if name + "downsample.0.weight" not in tensors:
        return x
    return _convolution(x, tensors, name + "downsample.0", name + "downsample.1")


def _convolution(x: Node, tensors: Tensors, name: str, norm: str, stride: int = 1) -> Node:
    """A convolution with the batch norm that follows it, folded into one at double precision: [b c h w]."""
    return convolve(x, normed_convolution(tensors, name, norm), tensors, name, stride)


def _average_pool(x: Node) -> Node:
    return op.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)


def _positions(x: Node, width: int) -> Node:
    """[b c h w] -> [b positions c]"""
    return op.transpose(op.reshape(x, integers([0, width, -1]), True), integers([0, 2, 1]))


def _attention_pool(x: Node, vision: ResNet, tensors: Tensors) -> Node:
    """The mean position asks all positions: [b c h w] -> [b d] (Radford et al. 2021, 2.4)."""
    width = vision.pool_width
    x = _positions(x, width)
    x = op.concat([op.reduce_mean(x, integers([1]), keep_dims=True), x], 1)
    x = op.add(x, tensor(tensors, "visual.attnpool.positional_embedding"))
    mean = op.gather(x, integers([0]), integers(1))  # [b 1 c]
    q, k, v = (
        split_heads(named_linear(part, tensors, f"visual.attnpool.{name}_proj"), vision.heads, width)
        for part, name in ((mean, "q"), (x, "k"), (x, "v"))
    )
    x = op.squeeze(merge_heads(op.scaled_dot_product_attention(q, k, v), width), integers(1))
    return named_linear(x, tensors, "visual.attnpool.c_proj")
