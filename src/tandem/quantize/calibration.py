"""Ranges of the inputs of a tower's layers, by NNCF on the tower's own graph, which keeps the layers' names.

Knows graphs and arrays of inputs; no images, no texts, no files. NNCF decides where a range lies, how much of an
outlier moves into the weights (SmoothQuant) and how a bias is corrected; rounding the weights is `building`'s.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.config import ModelConfig
from tandem.errors import MissingExtraError
from tandem.towers.blocks import Tower, tower_of
from tandem.weights.names import shape_and_dtype

Arrays = Mapping[str, NDArray[Any]]
Batch = Sequence[NDArray[Any]]  # what a tower's graph takes

_PRODUCTS = ("MatMul", "Convolution")  # depthwise convolutions compute in floating point (`towers/parts/products.py`)
# Between what NNCF rounds and the product: each keeps the range
_PASSING = ("Reshape", "Transpose", "AvgPool", "Gather", "Squeeze", "Unsqueeze", "Slice", "Concat", "Broadcast")


@dataclass(frozen=True)
class QuantizedLayer:
    """What a layer of eight bits needs beside its weight (`towers/parts/int8.py`)."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    smooth: NDArray[np.float32] | None  # [i]
    shift: NDArray[np.float32] | None  # [o]


def check_installed() -> None:
    """Raise `MissingExtraError` where NNCF is not installed."""
    if find_spec("nncf") is None:
        raise MissingExtraError("nncf", "quantize", "quantising")


def smooths(tensors: Arrays, tower: Tower) -> bool:
    """Whether outliers of a tower's inputs can move into its weights: most of these are of linear layers."""
    mine = [name for name in tensors if tower_of(name) == tower]
    ranks = [len(shape_and_dtype(tensors, name)[0]) for name in mine]
    return ranks.count(2) > ranks.count(4)


def calibrate(
    config: ModelConfig,
    tensors: Arrays,
    tower: Tower,
    batches: Sequence[Batch],
    *,
    alpha: float | None = None,
    correct_bias: bool = False,
) -> dict[str, QuantizedLayer]:
    """The layers of a tower that can compute in eight bits, by name.

    alpha: SmoothQuant's strength, 0 to 1; None leaves inputs as they are. correct_bias: the mean that rounding moves
    is moved back.
    """
    check_installed()
    import nncf

    from tandem.engine import graph

    logging.getLogger("nncf").setLevel(logging.ERROR)
    build = graph.image_graph if tower == "image" else graph.text_graph
    model = build(config, tensors)
    layers = layers_of(model)
    others = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    ignored = [name for name in others if name not in layers]
    smoothing = -1.0 if alpha is None or not smooths(tensors, tower) else alpha
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        quantised = nncf.quantize(
            model,
            nncf.Dataset(batches, list),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if smooths(tensors, tower) else None,
            ignored_scope=nncf.IgnoredScope(
                names=ignored, types=["ScaledDotProductAttention", "GroupConvolution"], validate=False
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.DISABLE,
                disable_bias_correction=not correct_bias,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=smoothing, convolution=-1),
            ),
        )
    biases = {name: _bias(node) for name, node in layers.items()} if correct_bias else {}
    found: dict[str, QuantizedLayer] = {}
    for name, node in layers_of(quantised).items():
        layer = _quantized_layer(node, biases.get(name))
        if name in layers and layer is not None:
            found[name] = layer
    return found


def layers_of(model: Any) -> dict[str, Any]:
    """The products of a graph that are layers, by name. Others are named after their kind, by OpenVINO."""
    return {
        node.get_friendly_name(): node
        for node in model.get_ordered_ops()
        if node.get_type_name() in _PRODUCTS and not node.get_friendly_name().startswith(_PRODUCTS)
    }


def _quantized_layer(node: Any, bias_before: NDArray[np.float32] | None) -> QuantizedLayer | None:
    """What NNCF put before a product; None where it left it as it was."""
    before = node.input_value(0).get_node()
    while before.get_type_name() in _PASSING:
        before = before.input_value(0).get_node()
    if before.get_type_name() != "FakeQuantize":
        return None
    low, high = (_constant(before.input_value(index).get_node()) for index in (1, 2))
    if not (low < high).all():
        return None  # an input that was always the same
    divided = before.input_value(0).get_node()
    smooth: NDArray[np.float32] | None = None
    if divided.get_type_name() == "Multiply" and "smooth_quant" in divided.get_friendly_name():
        smooth = np.float32(1) / _constant(divided.input_value(1).get_node()).reshape(-1)
    shift = None
    if bias_before is not None and (bias := _bias(node)) is not None:
        shift = (bias - bias_before).reshape(-1)
    return QuantizedLayer(low, high, smooth, shift)


def _bias(node: Any) -> NDArray[np.float32] | None:
    for target in node.output(0).get_target_inputs():
        if (user := target.get_node()).get_type_name() == "Add":
            other = user.input_value(1 - target.get_index()).get_node()
            if other.get_type_name() in ("Constant", "Convert"):
                return _constant(other)
    return None


def _constant(node: Any) -> NDArray[np.float32]:
    """The value of a constant, or of one that is converted to float32."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return np.array(node.get_data(), np.float32)
