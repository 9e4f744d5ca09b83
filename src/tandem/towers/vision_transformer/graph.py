"""The Vision Transformer as an OpenVINO graph.

Shapes: b batch, s pixels a side, g patches along a side, t tokens, w width, d shared dimension.
"""

from tandem.openvino_import import Node, op
from tandem.towers.parts.constants import integers, tensor
from tandem.towers.parts.folding import normed_convolution, plain_convolution
from tandem.towers.parts.neighbours import closeness
from tandem.towers.parts.openvino import (
    activate,
    attention_pool,
    batch_size,
    block,
    last_block,
    layer_norm,
    neighbour_attention,
)
from tandem.towers.parts.products import convolve, project
from tandem.towers.parts.tensors import Tensors
from tandem.towers.vision_transformer.description import VisionTransformer
from tandem.towers.vision_transformer.rotary import rotation


def features(pixels: Node, vision: VisionTransformer, tensors: Tensors) -> Node:
    """Normalised pixels [b 3 s s] -> [b d], not of unit length."""
    x, rotary = _embed(pixels, vision, tensors), rotation(vision)
    for i in range(vision.layers - 1):
        x = block(x, vision, tensors, _block_name(i), rotary=rotary)
    last, epsilon = _block_name(vision.layers - 1), vision.norm_epsilon
    if vision.pooling == "class":
        # Only the class token leaves the tower: the last block computes nothing else
        x = last_block(x, op.gather(x, integers([0]), integers(1)), vision, tensors, last, rotary=rotary)
        return _project(op.squeeze(layer_norm(x, tensors, "visual.ln_post.", epsilon), integers(1)), vision, tensors)
    x = block(x, vision, tensors, last, rotary=rotary)
    if vision.pooling == "attention":
        return _project(
            attention_pool(layer_norm(x, tensors, "visual.ln_post.", epsilon), vision, tensors), vision, tensors
        )
    if vision.class_token:
        x = op.slice(x, integers([1]), integers([2**31 - 1]), integers([1]), integers([1]))
    if not vision.norm_after_pooling:
        return _project(
            op.reduce_mean(layer_norm(x, tensors, "visual.ln_post.", epsilon), integers([1])), vision, tensors
        )
    x = op.reduce_mean(x, integers([1]))
    return _project(layer_norm(x, tensors, "visual.ln_post.", epsilon), vision, tensors)


def states(
    pixels: Node, vision: VisionTransformer, tensors: Tensors, blocks: int, final_norm: bool, projection: bool
) -> Node:
    """Normalised pixels [b 3 s s] -> the state of every token after so many blocks [b t w], a class token first.

    With `projection` every token goes through the tower's own: [b t d].
    """
    x, rotary = _embed(pixels, vision, tensors), rotation(vision)
    for i in range(blocks):
        x = block(x, vision, tensors, _block_name(i), rotary=rotary)
    x = layer_norm(x, tensors, "visual.ln_post.", vision.norm_epsilon) if final_norm else x
    return _project(x, vision, tensors) if projection else x


def dense(pixels: Node, vision: VisionTransformer, tensors: Tensors) -> Node:
    """Normalised pixels [b 3 s s] -> a vector for each patch [b g*g d], not of unit length (`naclip`)."""
    x, name = _embed(pixels, vision, tensors), _block_name(vision.layers - 1)
    for i in range(vision.layers - 1):
        x = block(x, vision, tensors, _block_name(i))
    y = layer_norm(x, tensors, name + "ln_1.", vision.norm_epsilon)
    x = neighbour_attention(y, closeness(vision.grid, vision.grid, vision.class_token), vision, tensors, name + "attn.")
    if vision.class_token:
        x = op.slice(x, integers([1]), integers([2**31 - 1]), integers([1]), integers([1]))
    return _project(layer_norm(x, tensors, "visual.ln_post.", vision.norm_epsilon), vision, tensors)


def _block_name(i: int) -> str:
    return f"visual.transformer.resblocks.{i}."


def _embed(x: Node, vision: VisionTransformer, tensors: Tensors) -> Node:
    """[b 3 s s] -> [b t w]"""
    patch, width = vision.patch_size, vision.width
    if vision.stem:
        x = _stem(x, vision, tensors)
    else:
        x = convolve(x, plain_convolution(tensors, "visual.conv1"), tensors, "visual.conv1", patch, padding=0)
    x = op.transpose(op.reshape(x, integers([0, width, -1]), True), integers([0, 2, 1]))  # [b patches w]
    if vision.patch_bias:
        x = op.add(x, tensor(tensors, "visual.stem.2.conv.bias" if vision.stem else "visual.conv1.bias"))
    if not vision.class_position:
        x = op.add(x, tensor(tensors, "visual.positional_embedding"))
    if vision.class_token:
        token = op.reshape(tensor(tensors, "visual.class_embedding"), integers([1, 1, width]), False)
        token = op.broadcast(token, op.concat([batch_size(x), integers([1, width])], 0))
        x = op.concat([token, x], 1)
    if vision.class_position:
        x = op.add(x, tensor(tensors, "visual.positional_embedding"))
    return layer_norm(x, tensors, "visual.ln_pre.", vision.norm_epsilon) if vision.first_norm else x


def _stem(x: Node, vision: VisionTransformer, tensors: Tensors) -> Node:
    """[b 3 s s] -> [b w g g], the last convolution's bias left out."""
    for i, (_, _, side) in enumerate(vision.stem):
        name = f"visual.stem.{i}."
        if i == len(vision.stem) - 1:
            return convolve(x, plain_convolution(tensors, name + "conv"), tensors, name + "conv", side, padding=0)
        folded = normed_convolution(tensors, name + "conv", name + "bn")
        x = convolve(x, folded, tensors, name + "conv", side, padding=0)
        x = activate(x, vision.activation)
    return x


def _project(x: Node, vision: VisionTransformer, tensors: Tensors) -> Node:
    if vision.projection == "none":
        return x
    return project(x, tensors, "visual.proj", "visual.proj_bias" if vision.projection == "biased" else None)
