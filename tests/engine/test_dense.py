"""A vector for each patch: the reference's numbers, the same from every engine, and towers that have none."""

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.engine_toys import TOYS, random_pixels, random_tensors

from tandem import engine as engines
from tandem.config import ModelConfig, Preprocessing, ResNet, TextTransformer, VisionTransformer
from tandem.errors import EngineError

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


# The golden pixels are normalised already: a mean of 0 and a std of 1/255 leave them as they are.
VIT = ModelConfig(
    48,
    VisionTransformer(64, 16, 128, 3, 2, 512, "quick_gelu"),
    TextTransformer(20, 600, 64, 2, 1, 256, "quick_gelu", 598, 599),
    Preprocessing(64, mean=(0, 0, 0), std=(1 / 255,) * 3),
)
DENSE = [which for which, toy in TOYS.items() if toy.vision.dense_method]
WITHOUT = [which for which, toy in TOYS.items() if not toy.vision.dense_method]


def build(name, config, tensors):
    return engines.build(config, tensors, engine=name, precision="float32")


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_naclip_is_the_references(shared, name):
    tensors = load_file(shared / "golden" / "vit-tiny.safetensors")
    pixels = np.load(shared / "golden" / "vit-tiny.npz")["pixels"].transpose(0, 2, 3, 1)
    expected = np.load(shared / "golden" / "naclip.npz")["patches"]
    vectors = build(name, VIT, tensors).encode_dense(np.ascontiguousarray(pixels))
    assert vectors.dtype == np.float32
    lengths = np.linalg.norm(expected, axis=-1, keepdims=True)  # the reference's are not of unit length
    np.testing.assert_allclose(vectors * lengths, expected, atol=1e-4)


@pytest.mark.parametrize("which", DENSE)
def test_engines_agree_and_do_not_mix_images(which):
    toy = TOYS[which]
    tensors = random_tensors(toy)
    pixels = random_pixels(toy, 3)
    graph, module = (build(name, toy, tensors).encode_dense(pixels) for name in ("openvino", "torch"))
    assert graph.shape == (3, toy.vision.grid**2, toy.embed_dim)
    np.testing.assert_allclose(graph, module, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(graph, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(graph[1:2], build("openvino", toy, tensors).encode_dense(pixels[1:2]), atol=1e-5)


@pytest.mark.slow
def test_a_resnets_position_is_what_its_pooling_makes_of_that_position_alone():
    config = ModelConfig(48, ResNet(96, (1, 2, 1, 1), 16, 8), VIT.text, Preprocessing(96))
    tensors = random_tensors(config)
    engine, pixels = build("openvino", config, tensors), random_pixels(config, 2)
    x = engine.image_states(pixels, -1) + tensors["visual.attnpool.positional_embedding"][1:]
    for name in ("v_proj", "c_proj"):
        x = x @ tensors[f"visual.attnpool.{name}.weight"].T + tensors[f"visual.attnpool.{name}.bias"]
    expected = x / np.linalg.norm(x, axis=-1, keepdims=True)
    np.testing.assert_allclose(engine.encode_dense(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("which", WITHOUT)
def test_other_towers_are_refused_by_name(which):
    toy = TOYS[which]
    for name in ("openvino", "torch"):
        with pytest.raises(
            EngineError, match=r"gives its patches no vectors of their own; locate with method=.windows"
        ):
            build(name, toy, random_tensors(toy)).encode_dense(random_pixels(toy, 1))
