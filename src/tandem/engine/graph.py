"""Both towers as OpenVINO graphs, built straight from arrays.

Knows the mathematics of CLIP's encoders and OpenVINO's operators. It compiles and runs nothing, and knows no file.
Weights enter as constants that share the arrays' memory: whoever holds a graph must keep the arrays alive.

Shapes: b batch, t tokens or patches, w width, h heads, c channels, d shared dimension.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tandem.config import QUICK_GELU_SLOPE, Activation, ModelConfig, ResNet, VisionTransformer
from tandem.engine.openvino_import import Node, PartialShape, Type, op, ov
from tandem.engine.tensors import NORM_EPSILON, Tensors, split_qkv


def image_graph(config: ModelConfig, tensors: Tensors, pixels: Literal["u8", "f32"] = "u8") -> ov.Model:
    """Pixels in 0..255 [b image_size image_size 3] -> unit vectors float32 [b d]."""
    size = config.vision.image_size
    entry = op.parameter(PartialShape([-1, size, size, 3]), {"u8": Type.u8, "f32": Type.f32}[pixels], name="pixels")
    mean = 255 * np.asarray(config.preprocessing.mean, np.float32)
    std = 255 * np.asarray(config.preprocessing.std, np.float32)
    x = op.transpose(op.convert(entry, "f32"), _whole([0, 3, 1, 2]))
    x = op.divide(op.subtract(x, _array(mean.reshape(1, 3, 1, 1))), _array(std.reshape(1, 3, 1, 1)))  # [b 3 size size]
    if isinstance(config.vision, VisionTransformer):
        x = _vision_transformer(x, config.vision, tensors)
    else:
        x = _resnet(x, config.vision, tensors)
    return ov.Model([_unit(x)], [entry], "image")


def text_graph(config: ModelConfig, tensors: Tensors) -> ov.Model:
    """Token ids int32 [b t] and the place of each end token int32 [b] -> unit vectors float32 [b d]."""
    text = config.text
    token_ids = op.parameter(PartialShape([-1, -1]), Type.i32, name="token_ids")
    ends = op.parameter(PartialShape([-1]), Type.i32, name="ends")
    end_index = op.unsqueeze(ends, _whole(1))  # [b 1]
    x = _embedding(token_ids, tensors)
    mask = _causal_mask(x, text.context_length)
    for i in range(text.layers - 1):
        x = _block(x, tensors, f"transformer.resblocks.{i}.", text.heads, text.activation, mask)
    # Only the state at the end token leaves the tower, so the last block computes nothing else. What follows the end
    # token must stay unseen
    query, seen = op.gather(x, end_index, _whole(1), 1), op.gather(mask, ends, _whole(0))  # [b 1 w], [b t]
    last = f"transformer.resblocks.{text.layers - 1}."
    x = _last_block(x, query, tensors, last, text.heads, text.activation, op.unsqueeze(seen, _whole([1, 2])))
    x = op.squeeze(_layer_norm(x, tensors, "ln_final."), _whole(1))
    return ov.Model([_unit(op.matmul(x, _weight(tensors, "text_projection"), False, False))], [token_ids, ends], "text")


def text_states_graph(config: ModelConfig, tensors: Tensors, blocks: int, final_norm: bool) -> ov.Model:
    """Token ids int32 [b t] -> the state of every token after that many blocks, float32 [b t w]."""
    text = config.text
    token_ids = op.parameter(PartialShape([-1, -1]), Type.i32, name="token_ids")
    x = _embedding(token_ids, tensors)
    mask = _causal_mask(x, text.context_length)
    for i in range(blocks):
        x = _block(x, tensors, f"transformer.resblocks.{i}.", text.heads, text.activation, mask)
    if final_norm:
        x = _layer_norm(x, tensors, "ln_final.")
    return ov.Model([op.result(x, name="states")], [token_ids], "text_states")


# --- transformers ------------------------------------------------------------------------------------------------


def _vision_transformer(x: Node, vision: VisionTransformer, tensors: Tensors) -> Node:
    """Normalised pixels [b 3 s s] -> [b d]."""
    patch, width = vision.patch_size, vision.width
    x = op.convolution(x, _weight(tensors, "visual.conv1.weight"), [patch] * 2, [0, 0], [0, 0], [1, 1])
    x = op.transpose(op.reshape(x, _whole([0, width, -1]), True), _whole([0, 2, 1]))  # [b patches w]
    token = op.reshape(_weight(tensors, "visual.class_embedding"), _whole([1, 1, width]), False)
    token = op.broadcast(token, op.concat([_batch(x), _whole([1, width])], 0))
    x = op.add(op.concat([token, x], 1), _weight(tensors, "visual.positional_embedding"))  # [b 1+patches w]
    x = _layer_norm(x, tensors, "visual.ln_pre.")
    for i in range(vision.layers - 1):
        x = _block(x, tensors, f"visual.transformer.resblocks.{i}.", vision.heads, vision.activation)
    # Only the class token leaves the tower: the last block computes nothing else
    first = op.gather(x, _whole([0]), _whole(1))  # [b 1 w]
    last = f"visual.transformer.resblocks.{vision.layers - 1}."
    x = _last_block(x, first, tensors, last, vision.heads, vision.activation)
    x = op.squeeze(_layer_norm(x, tensors, "visual.ln_post."), _whole(1))
    return op.matmul(x, _weight(tensors, "visual.proj"), False, False)


def _embedding(token_ids: Node, tensors: Tensors) -> Node:
    """[b t] -> [b t w]"""
    x = op.gather(_weight(tensors, "token_embedding.weight"), token_ids, _whole(0))
    token_index = op.range(_whole(0), _length(token_ids), _whole(1), "i32")
    return op.add(x, op.gather(_weight(tensors, "positional_embedding"), token_index, _whole(0)))


def _block(x: Node, tensors: Tensors, name: str, heads: int, activation: Activation, mask: Node | None = None) -> Node:
    """A pre-norm residual attention block: x [b t w], mask [t t] -> [b t w]."""
    y = _layer_norm(x, tensors, name + "ln_1.")
    q, k, v = _projections((y, y, y), tensors, name + "attn.in_proj_", heads)
    x = op.add(x, _attention_out(_attention(q, k, v, mask), tensors, name))
    return op.add(x, _mlp(x, tensors, name, activation))


def _last_block(
    x: Node, query: Node, tensors: Tensors, name: str, heads: int, activation: Activation, mask: Node | None = None
) -> Node:
    """`_block` for one token of each row alone: x [b t w], query [b 1 w] (a row of x), mask [b 1 1 t] -> [b 1 w]."""
    y = _layer_norm(x, tensors, name + "ln_1.")
    q, k, v = _projections((_layer_norm(query, tensors, name + "ln_1."), y, y), tensors, name + "attn.in_proj_", heads)
    query = op.add(query, _attention_out(_attention(q, k, v, mask), tensors, name))
    return op.add(query, _mlp(query, tensors, name, activation))


def _projections(sources: tuple[Node, Node, Node], tensors: Tensors, name: str, heads: int) -> list[Node]:
    """What queries, keys and values are made from, each [b t w] -> q, k, v, each [b h t w/h].

    Three products, not one: as fast (measured), and weights that a file holds in three parts are never stacked.
    """
    weights, biases = (split_qkv(tensors, name + kind) for kind in ("weight", "bias"))
    return [
        _heads(_linear(source, weight, bias), heads, weight.shape[1])
        for source, weight, bias in zip(sources, weights, biases, strict=True)
    ]


def _attention(q: Node, k: Node, v: Node, mask: Node | None) -> Node:
    """q, k, v [b h t w/h], mask added to the scores -> [b h t w/h].

    A masked score is spelt out in products: as the fused operator it takes 45 ms more to compile for 12 layers, and
    3 to 6% longer to run (measured). Unmasked, both are equal, and the operator never holds all scores of a large
    image in memory.
    """
    if mask is None:
        return op.scaled_dot_product_attention(q, k, v)
    width = q.get_output_partial_shape(0)[3].get_length()
    scores = op.matmul(op.multiply(q, _array(np.float32(width**-0.5))), k, False, True)  # [b h t t]
    return op.matmul(op.softmax(op.add(scores, mask), -1), v, False, False)


def _causal_mask(x: Node, context_length: int) -> Node:
    """[t t] for x [b t w]: 0 where a token (row) may look, -inf at what follows it."""
    whole = np.triu(np.full((context_length,) * 2, -np.inf, np.float32), 1)
    length = op.gather(op.shape_of(x, "i32"), _whole([1]), _whole(0))  # [1]
    return op.slice(_array(whole), _whole([0, 0]), op.concat([length, length], 0), _whole([1, 1]), _whole([0, 1]))


def _attention_out(x: Node, tensors: Tensors, name: str) -> Node:
    """[b h t w/h] -> [b t w]"""
    width = tensors[name + "attn.out_proj.weight"].shape[1]
    return _named_linear(_merge_heads(x, width), tensors, name + "attn.out_proj")


def _mlp(x: Node, tensors: Tensors, name: str, activation: Activation) -> Node:
    x = _layer_norm(x, tensors, name + "ln_2.")
    x = _named_linear(x, tensors, name + "mlp.c_fc")
    x = _quick_gelu(x) if activation == "quick_gelu" else op.gelu(x, "erf")
    return _named_linear(x, tensors, name + "mlp.c_proj")


def _quick_gelu(x: Node) -> Node:
    """x * sigmoid(1.702 x): swish with a beta of 1.702, which fuses with the product before it."""
    return op.swish(x, _array(np.float32(QUICK_GELU_SLOPE)))


def _layer_norm(x: Node, tensors: Tensors, name: str) -> Node:
    x = op.mvn(x, _whole([-1]), True, NORM_EPSILON, "inside_sqrt")
    return op.add(op.multiply(x, _weight(tensors, name + "weight")), _weight(tensors, name + "bias"))


def _heads(x: Node, heads: int, width: int) -> Node:
    """[b t w] -> [b h t w/h]"""
    return op.transpose(op.reshape(x, _whole([0, 0, heads, width // heads]), True), _whole([0, 2, 1, 3]))


def _merge_heads(x: Node, width: int) -> Node:
    """[b h t w/h] -> [b t w]"""
    return op.reshape(op.transpose(x, _whole([0, 2, 1, 3])), _whole([0, 0, width]), True)


# --- the ResNet --------------------------------------------------------------------------------------------------


def _resnet(x: Node, vision: ResNet, tensors: Tensors) -> Node:
    """Normalised pixels [b 3 s s] -> [b d]."""
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = op.relu(_convolution(x, tensors, f"visual.conv{i}", f"visual.bn{i}", stride))
    if vision.stem_stride == 4:
        x = _average_pool(x)
    for stage, blocks in enumerate(vision.layers, start=1):
        for i in range(blocks):
            stride = 2 if stage > 1 and i == 0 else 1
            name = f"visual.layer{stage}.{i}."
            block = _bottleneck if vision.block == "bottleneck" else _basic
            x = block(x, tensors, name, stride)
    return _attention_pool(x, vision, tensors)


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
    weight = tensors[name + ".weight"].astype(np.float64)
    mean, variance = (tensors[f"{norm}.running_{part}"].astype(np.float64) for part in ("mean", "var"))
    scale = tensors[norm + ".weight"].astype(np.float64) / np.sqrt(variance + NORM_EPSILON)
    shift = tensors[norm + ".bias"].astype(np.float64) - mean * scale
    padding = [weight.shape[2] // 2] * 2
    folded = _array((weight * scale[:, None, None, None]).astype(np.float32))
    x = op.convolution(x, folded, [stride] * 2, padding, padding, [1, 1])
    return op.add(x, _array(shift.astype(np.float32).reshape(1, -1, 1, 1)))


def _average_pool(x: Node) -> Node:
    return op.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)


def _attention_pool(x: Node, vision: ResNet, tensors: Tensors) -> Node:
    """The mean position asks all positions: [b c h w] -> [b d] (Radford et al. 2021, 2.4)."""
    width = vision.pool_width
    x = op.transpose(op.reshape(x, _whole([0, width, -1]), True), _whole([0, 2, 1]))  # [b positions c]
    x = op.concat([op.reduce_mean(x, _whole([1]), keep_dims=True), x], 1)
    x = op.add(x, _weight(tensors, "visual.attnpool.positional_embedding"))
    mean = op.gather(x, _whole([0]), _whole(1))  # [b 1 c]
    q, k, v = (
        _heads(_named_linear(part, tensors, f"visual.attnpool.{name}_proj"), vision.heads, width)
        for part, name in ((mean, "q"), (x, "k"), (x, "v"))
    )
    x = op.squeeze(_merge_heads(op.scaled_dot_product_attention(q, k, v), width), _whole(1))
    return _named_linear(x, tensors, "visual.attnpool.c_proj")


# --- small parts -------------------------------------------------------------------------------------------------


def _linear(x: Node, weight: NDArray[np.generic], bias: NDArray[np.generic]) -> Node:
    """[... in] -> [... out], weight [out in]"""
    return op.add(op.matmul(x, _array(weight), False, True), _array(bias))


def _named_linear(x: Node, tensors: Tensors, name: str) -> Node:
    return _linear(x, tensors[name + ".weight"], tensors[name + ".bias"])


def _unit(x: Node) -> Node:
    return op.result(op.normalize_l2(x, _whole([1]), 1e-12, "max"), name="vectors")


def _weight(tensors: Tensors, name: str) -> Node:
    return _array(tensors[name])


def _array(array: NDArray[np.generic] | np.float32) -> Node:
    """A constant of float32, that shares the array's memory wherever it can."""
    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float16):
        array = array.astype(np.float32)  # bfloat16, which has no numpy dtype of its own
    array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    constant = op.constant(_writeable(array), shared_memory=True)
    return op.convert(constant, "f32") if array.dtype == np.float16 else constant


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


def _whole(values: int | list[int]) -> Node:
    return op.constant(np.asarray(values, np.int32))


def _batch(x: Node) -> Node:
    """The batch size, [1]."""
    return op.gather(op.shape_of(x, "i32"), _whole([0]), _whole(0))


def _length(x: Node) -> Node:
    """The number of tokens, a scalar: x [b t ...]."""
    return op.gather(op.shape_of(x, "i32"), _whole(1), _whole(0))
