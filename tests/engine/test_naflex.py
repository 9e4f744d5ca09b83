"""SigLIP 2 NaFlex: sizes, patches and vectors of images of any aspect ratio, as transformers has them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy
from support import weights_toys as toys

from tandem import engine as engines
from tandem import weights
from tandem.config import ModelConfig, NaFlex, Preprocessing, from_dict, to_dict
from tandem.engine import numpy_engine
from tandem.errors import ConfigError, EngineError, WeightsError
from tandem.model import load
from tandem.pixels import patch_grid, preprocess
from tandem.towers import tower_part
from tandem.towers.naflex.positions import interpolation
from tandem.train.objective.clip_teacher import ClipTeacher
from tandem.train.recipe import from_dict as recipe_from_dict
from tandem.weights import Checkpoint

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


ENGINES = ("openvino", "torch")
# Width and height: landscape, portrait, square, panoramas, one patch high, tiny
SIZES = ((300, 200), (120, 333), (64, 64), (1000, 90), (37, 2000), (3000, 10), (5, 7), (640, 481))
TINY: dict[str, Any] = {
    "few patches": {
        "vision_config": {
            "patch_size": 4, "num_patches": 9, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        "text_config": {
            "vocab_size": 519, "max_position_embeddings": 16, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 1, "num_attention_heads": 2,
        },
        "max_num_patches": 24,
    },
    "all 256": {
        "vision_config": {
            "patch_size": 16, "num_patches": 256, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
            "num_attention_heads": 3, "hidden_act": "gelu",
        },
        "text_config": {
            "vocab_size": 519, "max_position_embeddings": 64, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 1, "num_attention_heads": 2, "projection_size": 48,
        },
        "max_num_patches": 256,
    },
}  # fmt: skip


def config() -> ModelConfig:
    vision = NaFlex(4, 3, 24, 32, 2, 2, 48, "gelu_tanh")
    half = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing(16, half, half, "naflex", "bilinear", patch_size=4, max_patches=24)
    base = toys.siglip()
    return ModelConfig(32, vision, base.text, preprocessing, "toy-naflex", logit_bias=True)


def checkpoint(dtype: Any = np.float32) -> Checkpoint:
    described = config()
    return Checkpoint(described, toys.tensors(described, dtype), toys.tokenizer(described), "toy")


@pytest.fixture(scope="module", params=TINY)
def reference(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    """(folder, images, what transformers says of them) for a model that it saved itself."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    described = dict(TINY[request.param])
    most = described.pop("max_num_patches")
    torch.manual_seed(0)
    model = transformers.Siglip2Model(transformers.Siglip2Config(**described)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-9.0)
    folder = tmp_path_factory.mktemp("naflex")
    model.save_pretrained(folder)
    processor = transformers.models.siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil(
        patch_size=described["vision_config"]["patch_size"], max_num_patches=most
    )
    processor.save_pretrained(folder)
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in SIZES]
    ids = rng.integers(2, 519, (3, described["text_config"]["max_position_embeddings"])).astype(np.int32)
    inputs = processor(images, return_tensors="pt")
    with torch.inference_mode():
        answer = model(input_ids=torch.from_numpy(ids).long(), output_hidden_states=True, **inputs)
    return folder, images, ids, inputs, answer


def columns_of(pixels: np.ndarray) -> np.ndarray:
    """Of each image's grid. torch interpolates positions of a single column wrongly on CPUs: no reference there."""
    return pixels[:, 0, -2].astype(int) * 256 + pixels[:, 0, -1]


@pytest.mark.slow
def test_sizes_and_patches_are_those_of_transformers(reference: Any) -> None:
    folder, images, _, inputs, _ = reference
    preprocessing = weights.read_tensors(folder)[0].preprocessing
    for i, image in enumerate(images):
        array = preprocess(image, preprocessing)
        assert array.shape == preprocessing.pixel_shape
        rows, columns = inputs["spatial_shapes"][i].tolist()
        assert patch_grid(*image.size, preprocessing.patch_size, preprocessing.max_patches) == (rows, columns)
        assert (array[:, -4:] == (0, rows, 0, columns)).all() or max(rows, columns) == 256
        theirs = inputs["pixel_values"][i, : rows * columns].numpy()
        np.testing.assert_allclose(array[: rows * columns, :-4] / 127.5 - 1, theirs, atol=1e-6)
        assert not array[rows * columns :, :-4].any()
        assert inputs["pixel_attention_mask"][i].sum() == rows * columns


def test_sizes_of_all_kinds_of_images() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.models.siglip2.image_processing_pil_siglip2.get_image_size_for_max_num_patches
    rng = np.random.default_rng(0)
    for _ in range(200):
        width, height = (int(2 ** rng.uniform(0, 14)) for _ in range(2))
        patch, most = int(rng.choice([14, 16, 32])), int(rng.choice([16, 256, 784, 1024]))
        rows, columns = patch_grid(width, height, patch, most)
        assert (rows * patch, columns * patch) == theirs(height, width, patch, most)
        assert 1 <= rows * columns <= most


def test_positions_are_interpolated_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    table = torch.randn(1, 1, 1, 16, generator=torch.Generator().manual_seed(0)).double()
    weights_of = interpolation(256, 16)
    for n in (1, 2, 7, 15, 16, 17, 40, 255, 256):
        wanted = torch.nn.functional.interpolate(table, (1, n), mode="bilinear", align_corners=False, antialias=True)
        found = weights_of[n * (n - 1) // 2 : n * (n + 1) // 2] @ table.numpy()[0, 0, 0]
        np.testing.assert_allclose(found, wanted.numpy()[0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.slow
def test_transformers(reference: Any, name: Any) -> None:
    folder, images, ids, _, expected = reference
    described, tensors = weights.read_tensors(folder)
    assert isinstance(described.vision, NaFlex)
    engine = engines.build(described, tensors, engine=name)
    pixels = np.stack([preprocess(image, described.preprocessing) for image in images])
    comparable = columns_of(pixels) > 1
    assert comparable.sum() >= len(SIZES) - 1
    theirs = expected.image_embeds.numpy()
    np.testing.assert_allclose(engine.encode_images(pixels[3:4]), theirs[3:4], atol=1e-4)  # in numpy
    vectors, texts = engine.encode_images(pixels), engine.encode_texts(ids)
    as_floats = engine.encode_images(pixels.astype(np.float32))
    for found in (vectors, as_floats):
        np.testing.assert_allclose(found[comparable], theirs[comparable], atol=1e-4)
    np.testing.assert_allclose(texts, expected.text_embeds, atol=1e-4)
    logits = np.exp(np.float32(tensors["logit_scale"])) * vectors @ texts.T + tensors["logit_bias"]
    np.testing.assert_allclose(logits[comparable], expected.logits_per_image.numpy()[comparable], atol=1e-4)
    np.testing.assert_allclose(numpy_engine.encode_images(described, tensors, pixels), vectors, atol=1e-5)
    # the comparison could fail: images differ, and so do their positions
    assert abs(vectors - vectors[::-1]).max() > 1e-2
    turned = pixels.copy()
    turned[..., -4:-2], turned[..., -2:] = pixels[..., -2:], pixels[..., -4:-2]
    assert abs(engine.encode_images(turned)[0] - vectors[0]).max() > 1e-3


@pytest.mark.skipif("bfloat16" not in engines.available_precisions(), reason="this CPU has no bfloat16")
def test_bfloat16_finds_the_same_positions(reference: Any) -> None:
    folder, images, _, _, expected = reference
    described, tensors = weights.read_tensors(folder)
    engine = engines.build(described, tensors, precision="bfloat16")
    pixels = np.stack([preprocess(image, described.preprocessing) for image in images])
    cosines = (engine.encode_images(pixels) * expected.image_embeds.numpy()).sum(axis=1)
    assert cosines[columns_of(pixels) > 1].min() > 0.99


@pytest.mark.parametrize("name", ENGINES)
def test_any_array_is_safe_and_padding_is_not_seen(name: Any) -> None:
    one = checkpoint()
    engine = engines.build(one.config, one.tensors, engine=name)
    image = toy.random_image(0, (90, 40))
    pixels = preprocess(image, one.config.preprocessing)
    rows, columns = pixels[0, -3], pixels[0, -1]
    noisy = pixels.copy()
    noisy[rows * columns :, :-4] = 77
    vectors = engine.encode_images(np.stack([pixels, noisy]))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    for value in (0, 1, 255):  # grids of none, and of far more patches than there are
        assert np.isfinite(engine.encode_images(np.full((1, *pixels.shape), value, np.uint8))).all()
    with pytest.raises(EngineError, match="a NaFlex model gives no image states: its grid differs from image to image"):
        engine.image_states(pixels[None])
    with pytest.raises(EngineError, match=r"pixels: expected uint8 or float32 \[n 24 52\] in 0..255, got uint8 \[1 16"):
        engine.encode_images(np.zeros((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_layouts(tmp_path: Path, dtype: Any) -> None:
    one = checkpoint(dtype)
    for to in ("transformers", "tandem"):
        back = weights.read(weights.write(one, tmp_path / to, to))  # type: ignore[arg-type]
        toys.same(back.tensors, one.tensors)
        assert weights.fingerprint(back) == weights.fingerprint(one)
        assert back.config.notes == {}
    with pytest.raises(WeightsError, match="NaFlex"):
        weights.write(one, tmp_path / "open_clip", "open_clip")
    (file,) = (tmp_path / "transformers").glob("*.safetensors")
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=r"how many patches its images have \(NaFlex\).* its config.json"):
        weights.read(alone)


def test_what_is_written_opens_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = weights.write(checkpoint(), tmp_path / "out", "transformers")
    _, report = transformers.Siglip2Model.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert json.loads((folder / "preprocessor_config.json").read_text())["max_num_patches"] == 24


def test_photos_of_any_shape_through_the_whole_library(tmp_path: Path) -> None:
    model = load(weights.write(checkpoint(), tmp_path / "out"))
    images = [toy.random_image(i, size) for i, size in enumerate(SIZES)]
    vectors = model.embed_images(images, batch_size=3)
    assert vectors.shape == (len(SIZES), 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert model.classify(images[:2], ["a cat", "a dog"]).probabilities.shape == (2, 2)
    with pytest.raises(EngineError, match="a NaFlex model gives no image states: its grid differs from image to image"):
        model.image_states(images)


@pytest.mark.slow
def test_the_exported_graph(tmp_path: Path) -> None:
    import openvino

    from tandem.engine.openvino import save_ir

    one = checkpoint()
    pixels = np.stack([preprocess(toy.random_image(i, size), one.config.preprocessing) for i, size in enumerate(SIZES)])
    expected = engines.build(one.config, one.tensors, engine="torch").encode_images(pixels)
    save_ir(one.config, one.tensors, tmp_path)
    image = openvino.compile_model(tmp_path / "image.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(image({"pixels": pixels})["vectors"], expected, atol=1e-5)


def test_configurations_that_do_not_fit_are_refused() -> None:
    good = config()
    assert from_dict(to_dict(good)) == good
    square = Preprocessing(16)
    for preprocessing in (square, dataclasses.replace(good.preprocessing, max_patches=25)):
        with pytest.raises(ConfigError, match="expected naflex with 4 and 24 for this image encoder"):
            dataclasses.replace(good, preprocessing=preprocessing)
    with pytest.raises(ConfigError, match="naflex is for an image encoder of type naflex"):
        dataclasses.replace(toys.siglip(), preprocessing=dataclasses.replace(good.preprocessing, image_size=32))
    with pytest.raises(ConfigError, match=r"vision.width: a naflex tower has no projection"):
        dataclasses.replace(good, embed_dim=48)


def test_an_array_without_a_grid_is_safe_for_the_first_photo() -> None:
    made = checkpoint()
    pixels = np.zeros((1, *made.config.preprocessing.pixel_shape), np.uint8)
    assert np.isfinite(numpy_engine.encode_images(made.config, made.tensors, pixels)).all()


def test_what_follows_the_last_block_is_the_norm_and_the_pooling() -> None:
    tower = tower_part(NaFlex, "module").Module(config().vision, 32)
    after = {id(parameter) for parameter in tower.after_blocks()}
    names = {name.partition(".")[0] for name, parameter in tower.named_parameters() if id(parameter) in after}
    assert names == {"ln_post", "pool"}
    assert len(after) == sum(name.startswith(("ln_post.", "pool.")) for name, _ in tower.named_parameters())


def test_training_is_refused_by_name(tmp_path: Path) -> None:
    folder = str(weights.write(checkpoint(), tmp_path / "out"))
    table = {"name": "x", "folder": "x", "steps": 1, "data": [{"path": "x", "per_batch": 1}]}
    with pytest.raises(ConfigError, match="naflex cannot be trained, since batches are of square images"):
        recipe_from_dict({**table, "init": {"model": folder}, "objective": {"loss": "sigmoid"}})
    torch = pytest.importorskip("torch")
    with pytest.raises(ConfigError, match=r"distillation.model: .* \(naflex\)"):
        ClipTeacher(folder, "float32", torch.device("cpu"))
