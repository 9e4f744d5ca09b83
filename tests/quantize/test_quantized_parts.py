"""Which weights are rounded, and which way the means of outputs are corrected."""

import dataclasses

import numpy as np
import pytest
from support.engine_toys import TOYS, random_ids, random_pixels, random_tensors

from tandem.engine.openvino import OpenVinoEngine
from tandem.quantize import building
from tandem.quantize.calibration import QuantizedLayer

LAYERS = {"image": "visual.transformer.resblocks.1.mlp.c_proj", "text": "transformer.resblocks.1.mlp.c_proj"}


def test_depthwise_convolutions_are_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight bits are slower there, and cost the most: each output has few weights."""
    monkeypatch.setattr(building, "_LEAST", 1)
    config = TOYS["fastvit"]
    tensors = random_tensors(config)
    names = building.weights(config, tensors)
    kernels = [tensors[name].shape for name in names if tensors[name].ndim == 4]
    assert kernels
    assert all(inputs > 1 for _, inputs, _, _ in kernels)
    left = [name for name in tensors if tensors[name].ndim == 4 and name not in names]
    assert any(tensors[name].shape[1] == 1 for name in left)


def test_a_shift_is_what_is_added_to_a_layers_outputs() -> None:
    """As if its bias were larger by it."""
    config = TOYS["vit"]
    tensors = random_tensors(config)
    random = np.random.default_rng(0)
    plain, shifted, biased = {}, {}, dict(tensors)
    for tower, name in LAYERS.items():
        bias = tensors[f"{name}.bias"]
        shift = random.normal(size=bias.shape).astype(np.float32)
        layer = QuantizedLayer(np.float32(-8), np.float32(8), None, None)
        plain[tower], shifted[tower] = {name: layer}, {name: dataclasses.replace(layer, shift=shift)}
        biased[f"{name}.bias"] = bias + shift
    names = [f"{name}.weight" for name in LAYERS.values()]
    pixels, ids = random_pixels(config), random_ids(config)

    def vectors(arrays, layers):
        engine = OpenVinoEngine(config, building.build(config, arrays, building.Plan(layers), names))
        return engine.encode_images(pixels), engine.encode_texts(ids)

    expected, without = vectors(biased, plain), vectors(tensors, plain)
    for mine, theirs, other in zip(vectors(tensors, shifted), expected, without, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
        assert np.abs(mine - other).max() > 0.01
