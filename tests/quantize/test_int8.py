"""Quantised tensors and the graphs that they make: every family, every path of a tower."""

import dataclasses

import numpy as np
import pytest
from support.engine_toys import TOYS, random_ids, random_pixels, random_tensors, toys

from tandem.config import Quantization
from tandem.engine import build as build_engine
from tandem.engine import build_text, graph
from tandem.engine.compiled import core
from tandem.engine.openvino import OpenVinoEngine
from tandem.errors import EngineError, WeightsError
from tandem.quantize import building
from tandem.quantize.calibration import QuantizedLayer, layers_of
from tandem.towers import has_part
from tandem.towers.blocks import block_of, tower_of
from tandem.towers.parts.int8 import Int8, QuantizedTensors, quantized
from tandem.weights.checkpoint import Checkpoint, fingerprint
from tandem.weights.quantized import quantized_tensors


def wide(node) -> QuantizedLayer:
    """A range that holds whatever toys compute, in few steps: what is rounded by it is far from what is not."""
    return QuantizedLayer(np.float32(-8), np.float32(8), None, None)


def layers(config, tensors):
    return {
        "image": {name: wide(node) for name, node in layers_of(graph.image_graph(config, tensors)).items()},
        "text": {name: wide(node) for name, node in layers_of(graph.text_graph(config, tensors)).items()},
    }


def cosines(a, b):
    return (a * b).sum(1)


def test_a_weight_is_rounded_by_the_largest_of_each_output():
    weight = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    weight[2] = 0
    smooth = np.linspace(0.5, 2, 10, dtype=np.float32).reshape(2, 5)
    made = quantized(weight, smooth)
    assert np.abs(made.ints).max(1).tolist() == [127, 127, 0, 127, 127, 127]
    step = made.scale[:, None] / np.repeat(smooth, 3, axis=0)
    assert (np.abs(made.array() - weight) <= step / 2 * 1.001).all()
    second = made.part(1, 2)
    np.testing.assert_array_equal(second.array(), made.array()[3:])
    np.testing.assert_allclose(made.scaled(np.full(6, -2.0)).array(), -2 * made.array(), rtol=1e-6)


@pytest.mark.parametrize("name", toys())
def test_every_family_computes_eight_bits_near_its_own_vectors(name):
    config = TOYS[name]
    tensors = random_tensors(config)
    pixels, ids = random_pixels(config), random_ids(config)
    reference = OpenVinoEngine(config, tensors)
    names = building.weights(config, tensors) or [key for key in tensors if tensors[key].ndim == 2]
    vectors = reference.encode_images(pixels), reference.encode_texts(ids)

    kept = building.build(config, tensors, building.Plan(), names)
    light = OpenVinoEngine(config, kept)
    assert light.precision == "float32"
    assert kept.layers == []
    assert any(array.dtype == np.int8 for array in kept.stored.values())
    assert cosines(light.encode_images(pixels), vectors[0]).min() > 0.99
    assert cosines(light.encode_texts(ids), vectors[1]).min() > 0.99

    whole = building.build(config, tensors, building.Plan(layers(config, tensors)), names)
    engine = OpenVinoEngine(config, whole)
    assert engine.precision == "int8"
    found = engine.encode_images(pixels), engine.encode_texts(ids)
    for mine, theirs in zip(found, vectors, strict=True):
        assert cosines(mine, theirs).min() > 0.8
        assert np.abs(mine - theirs).max() > 1e-4  # steps of 1/16 are seen
    # The states, which other models build on, are of int8 weights alone
    states = reference.text_states(ids)
    assert np.abs(engine.text_states(ids) - light.text_states(ids)).max() < 1e-3 * np.abs(states).max()


@pytest.mark.parametrize("name", ["vit", "naflex", "siglip", "vit-stem"])
def test_what_begins_in_numpy_rounds_as_the_graphs_do(name):
    """The first photo and the first texts of a process: no graph is compiled for them."""
    config = TOYS[name]
    tensors = random_tensors(config)
    names = building.weights(config, tensors) or [key for key in tensors if tensors[key].ndim == 2]
    whole = building.build(config, tensors, building.Plan(layers(config, tensors)), names)
    one, ids = random_pixels(config)[:1], random_ids(config)[:2]
    first, later = OpenVinoEngine(config, whole), OpenVinoEngine(config, whole)
    plain = OpenVinoEngine(config, tensors)
    later._computed_in_numpy = dict.fromkeys(later._computed_in_numpy, 10**9)
    for tower, given in (("image", one), ("text", ids)):
        if has_part(config.vision if tower == "image" else config.text, "arrays"):
            mine, graphs, exact = (getattr(each, f"encode_{tower}s")(given) for each in (first, later, plain))
            off = 1 - cosines(mine, graphs).min()
            # A kernel of patches is computed about a whole zero point, which these wide ranges do not have
            assert off < (1e-5 if tower == "text" or name == "naflex" else 0.02)
            assert 1 - cosines(mine, exact).min() > 1e-4, "rounded"
    assert not first._towers


@pytest.mark.parametrize("name", ["fastvit", "fastvit-large"])
def test_depthwise_convolutions_compute_in_floating_point(name):
    """A range that a file has for one all the same changes nothing; another layer's does."""
    config = TOYS[name]
    tensors, pixels = random_tensors(config), random_pixels(config)[:2]
    model = graph.image_graph(config, tensors)
    depthwise = [n.get_friendly_name() for n in model.get_ordered_ops() if n.get_type_name() == "GroupConvolution"]
    assert any(".half" in layer for layer in depthwise)
    assert any(layer.endswith("token_mixer") for layer in depthwise)
    assert not set(depthwise) & set(layers_of(model))
    other = next(name for name in tensors if tensors[name].ndim == 2 and not name.startswith("visual."))
    narrow = QuantizedLayer(np.float32(-0.01), np.float32(0.01), None, None)
    exact = OpenVinoEngine(config, tensors).encode_images(pixels)
    for given, same in ((depthwise, True), (list(layers_of(model))[:1], False)):
        plan = building.Plan({"image": dict.fromkeys(given, narrow), "text": {}})
        made = OpenVinoEngine(config, building.build(config, tensors, plan, [other])).encode_images(pixels)
        assert bool(cosines(made, exact).min() > 1 - 1e-6) is same


def test_an_excluded_block_stays_as_it_was():
    config = TOYS["vit"]
    tensors = random_tensors(config)
    names = [name for name in tensors if tensors[name].ndim == 2 and "resblocks" in name]
    block = "visual.transformer.resblocks.1"
    plan = building.Plan(layers(config, tensors), frozenset({block}))
    made = building.build(config, tensors, plan, names)
    inside = [name for name in names if name.startswith(block + ".")]
    assert inside
    assert all(made.stored[name].dtype == np.float32 for name in inside)
    assert not any(layer.startswith(block + ".") for layer in made.layers)
    assert made.layers
    assert all(made.stored[name].dtype == np.int8 for name in names if name not in inside)


def checkpoint(tensors, config=TOYS["vit"], quantization=None):
    class NoTokenizer:
        def to_json(self):
            return ""

    return Checkpoint(dataclasses.replace(config, quantization=quantization), tensors, NoTokenizer(), "toy")


def test_a_quantised_model_has_a_fingerprint_of_its_own_that_its_figures_do_not_change():
    config = TOYS["vit"]
    tensors = random_tensors(config)
    names = [name for name in tensors if name.endswith("mlp.c_fc.weight")]
    made = building.build(config, tensors, building.Plan(), names)
    about = Quantization("int8", "toy", "f" * 64, 100, 100, 0.995, 0.96, 0.96, 0.999, 0.99)
    mine = fingerprint(checkpoint(made, quantization=about))
    assert mine != fingerprint(checkpoint(tensors))
    assert mine == fingerprint(checkpoint(made, quantization=dataclasses.replace(about, top1=0.5)))
    moved = dict(made.stored)
    moved[names[0] + "::scale"] = moved[names[0] + "::scale"] * 2
    assert mine != fingerprint(checkpoint(QuantizedTensors(moved), quantization=about))


@pytest.mark.parametrize(
    ("top1", "neighbours", "mixed", "good", "mixes"),
    [
        (0.99, 0.95, 0.95, True, True),
        (0.989, 1, 1, False, False),
        (1, 0.949, 1, False, False),
        (1, 1, 0.9, True, False),
    ],
)
def test_what_is_called_good(top1, neighbours, mixed, good, mixes):
    about = Quantization("int8", "toy", "", 9, 9, top1, neighbours, mixed, 1.0, 1.0)
    assert (about.is_good, about.mixes) == (good, mixes)


def test_precisions_and_engines_that_a_quantised_model_has_not_are_refused():
    config = TOYS["vit"]
    tensors = random_tensors(config)
    made = building.build(config, tensors, building.Plan(layers(config, tensors)), [])
    for precision in ("float32", "bfloat16"):
        with pytest.raises(EngineError, match="quantised and computes in int8"):
            build_engine(config, made, precision=precision)
    with pytest.raises(EngineError, match="tandem quantize"):
        build_engine(config, tensors, precision="int8")
    light = building.build(config, tensors, building.Plan(), ["visual.transformer.resblocks.0.mlp.c_fc.weight"])
    with pytest.raises(EngineError, match="only keeps its weights in int8"):
        build_engine(config, light, precision="int8")
    for quantised in (made, light):
        with pytest.raises(EngineError, match="computed by openvino"):
            build_engine(config, quantised, engine="torch")
        with pytest.raises(EngineError, match="computed by openvino"):
            build_text(config.text, config.embed_dim, quantised, engine="torch")


def test_int8_weights_of_linear_layers_stay_int8_in_memory_and_those_of_convolutions_do_not():
    """What docs/quantize.md says of --weights-only: a fact of OpenVINO's, which other versions may change."""
    from tandem.openvino_import import PartialShape, Type, op, ov

    def weight(*shape):
        scale = np.full((32, *(1,) * (len(shape) - 1)), 0.5, np.float32)
        return op.multiply(op.convert(op.constant(np.ones(shape, np.int8)), "f32"), op.constant(scale))

    flat, square = (op.parameter(PartialShape(shape), Type.f32) for shape in ([-1, 64], [-1, 64, 4, 4]))
    for entry, product, kept in (
        (flat, op.matmul(flat, weight(32, 64), False, True), True),
        (square, op.convolution(square, weight(32, 64, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]), False),
    ):
        compiled = core().compile_model(ov.Model([product], [entry], "one"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        nodes = compiled.get_runtime_model().get_ordered_ops()
        constants = [node for node in nodes if node.get_rt_info()["layerType"].astype(str) == "Const"]
        assert any(node.get_output_element_type(0) == Type.i8 for node in constants) == kept


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("visual.transformer.resblocks.3.attn.in_proj_q", "visual.transformer.resblocks.3"),
        ("transformer.resblocks.0.mlp.c_fc.weight", "transformer.resblocks.0"),
        ("visual.layer2.1.conv1", "visual.layer2.1"),
        ("visual.stages.1.blocks.2.mlp.fc1", "visual.stages.1.blocks.2"),
        ("visual.proj", "image ends"),
        ("text_projection", "text ends"),
    ],
)
def test_names_tell_blocks_and_towers(name, block):
    assert block_of(name) == block
    assert tower_of(block) == tower_of(name) == ("text" if block.startswith(("text", "trans")) else "image")


GOOD = {
    "w.weight": np.zeros((4, 3), np.int8),
    "w.weight::scale": np.ones(4, np.float32),
    "w.weight::smooth": np.ones((1, 3), np.float32),
    "w::input": np.array([-1, 1], np.float32),
    "w::shift": np.zeros(4, np.float32),
    "plain": np.zeros(2, np.float32),
}


def test_stored_arrays_are_read_by_what_they_are():
    made = quantized_tensors(GOOD, "f")
    assert list(made) == ["w.weight", "plain"]
    assert isinstance(made.int8("w.weight"), Int8)
    assert made.int8("plain") is None
    assert made.range_of("other") is None
    assert made.range_of("w").low == -1
    assert made.shape_and_dtype("w.weight") == ((4, 3), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w.weight::scale": None}, "int8 without its scales"),
        ({"w.weight::scale": np.ones(3, np.float32)}, "expected a positive number for each channel"),
        ({"w.weight::scale": np.zeros(4, np.float32)}, "expected a positive number for each channel"),
        ({"w.weight::scale": np.full(4, 1e30, np.float32)}, "expected numbers up to 1e.09, got 1e.30"),
        (
            {"w.weight::scale": None, "w.weight::smooth": None, "w.weight::column_scale": np.ones(3, np.float32)},
            "beside visual.proj and text_projection alone",
        ),
        ({"w.weight::smooth": np.ones((2, 3), np.float32)}, r"expected positive numbers \[1, 3\]"),
        ({"w.weight::smooth": np.full((1, 3), 1e-45, np.float32)}, "expected positive numbers"),
        ({"w::input": np.array([1, -1], np.float32)}, "expected the ends of a range, the lower one first"),
        ({"w::input": np.array([0, 1e-45], np.float32)}, "expected the ends of a range, the lower one first"),
        ({"w::input": np.array([-3e38, 3e38], np.float32)}, "expected numbers up to 1e.09"),
        ({"w::input": np.array([0, np.nan], np.float32)}, "expected finite float32"),
        *(
            (
                {"w::input": np.stack([np.zeros(shape), np.ones(shape)]).astype(np.float32)},
                "expected the two ends of a ra",
            )
            for shape in ((7,), (3,), (0,), (3, 5, 7), (3, 1, 1), (1, 1, 1, 1, 1))
        ),
        ({"w::input": None}, "expected .* beside w::input"),
        ({"w::shift": np.zeros(7, np.float32)}, r"expected \[4\] beside w::input, got \[7\]"),
        ({"w::shift": np.zeros(0, np.float32)}, r"expected \[4\] beside w::input, got \[0\]"),
        ({"nowhere::input": np.array([-1, 1], np.float32)}, "there is no layer nowhere"),
        ({"plain::scale": np.ones(2, np.float32)}, "there is no int8 tensor plain"),
        ({"w.weight::code": np.ones(2, np.float32)}, "expected one of ::scale"),
    ],
)
def test_damaged_scales_and_ranges_are_refused(change, message):
    stored = {name: array for name, array in {**GOOD, **change}.items() if array is not None}
    with pytest.raises(WeightsError, match=message):
        quantized_tensors(stored, "f")


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (1, 1, 1, 1)], ids=str)
def test_ranges_may_have_axes_of_one(shape):
    ends = np.stack([np.zeros(shape), np.ones(shape)]).astype(np.float32)
    change = {"w.weight": np.zeros((4, 3, 2, 2), np.int8), "w::input": ends}
    stored = {name: array for name, array in {**GOOD, **change}.items() if not name.endswith("smooth")}
    assert quantized_tensors(stored, "f").layers == ["w"]


def test_a_range_with_more_axes_than_its_input_is_computed_as_one_number():
    config = TOYS["vit"]
    tensors, ids = random_tensors(config), random_ids(config)
    made = building.build(config, tensors, building.Plan(layers(config, tensors)))
    name = "text_projection::input"
    more = quantized_tensors({**made.stored, name: made.stored[name].reshape(2, 1, 1, 1, 1)}, "f")
    found = [OpenVinoEngine(config, each).encode_texts(np.tile(ids, (100, 1))) for each in (made, more)]
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("name", ["\x1b[2J" + "x" * 5_000_000, "y"])
def test_what_is_said_of_a_name_is_short_and_plain(name):
    for mark in ("::scale", "::input", "::shift"):
        with pytest.raises(WeightsError) as raised:
            quantized_tensors({**GOOD, name + mark: np.array([-1, 1], np.float32)}, "f")
        assert len(str(raised.value)) < 400
        assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", TOYS)
def test_the_sites_of_every_family_are_known(name):
    config = TOYS[name]
    made = building.build(config, random_tensors(config), building.Plan(layers(config, random_tensors(config))))
    assert quantized_tensors(made.stored, "f").layers == made.layers != []
