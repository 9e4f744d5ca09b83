"""SigLIP and SigLIP 2 on both engines: the golden outputs, transformers' numbers, exported graphs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import weights_toys as toys

from tandem import engine as engines
from tandem import weights
from tandem.config import ModelConfig
from tandem.engine import numpy_engine
from tandem.engine.inputs import buckets

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


ENGINES = ("openvino", "torch")
GOLDEN = {"siglip-tiny": 1, "siglip2-tiny": 0}  # and what the tokenizers of the two pad with


@pytest.fixture(params=GOLDEN)
def golden(shared: Path, request: pytest.FixtureRequest) -> tuple[ModelConfig, Any, dict[str, np.ndarray]]:
    folder = shared / "golden" / "families" / request.param
    config, tensors = weights.read_tensors(folder)
    # The golden models come without a tokenizer, which would name the padding
    text = dataclasses.replace(config.text, pad_id=GOLDEN[request.param])
    return dataclasses.replace(config, text=text), tensors, dict(np.load(folder / "expected.npz"))


def logits(tensors: Any, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    scale, bias = (np.float32(tensors[name]) for name in ("logit_scale", "logit_bias"))
    return np.asarray(np.exp(scale) * images @ texts.T + bias)


@pytest.mark.parametrize("name", ENGINES)
def test_golden(golden: Any, name: Any) -> None:
    config, tensors, expected = golden
    engine = engines.build(config, tensors, engine=name)
    pixels, ids = expected["pixels"], expected["token_ids"]
    first = engine.encode_images(pixels[:1])  # openvino computes it in numpy
    images = engine.encode_images(pixels)
    np.testing.assert_allclose(first, expected["image_features"][:1], atol=1e-5)
    np.testing.assert_allclose(images, expected["image_features"], atol=1e-5)
    many = np.concatenate([pixels] * 13)  # more than a batch
    np.testing.assert_allclose(engine.encode_images(many)[-3:], expected["image_features"], atol=1e-5)
    as_floats = engine.encode_images(pixels.astype(np.float32))
    np.testing.assert_allclose(as_floats, expected["image_features"], atol=1e-5)
    texts = engine.encode_texts(ids)  # 64 tokens: in numpy
    np.testing.assert_allclose(texts, expected["text_features"], atol=1e-5)
    many_ids = np.concatenate([ids] * 30)
    np.testing.assert_allclose(engine.encode_texts(many_ids)[-4:], expected["text_features"], atol=1e-5)
    np.testing.assert_allclose(logits(tensors, images, texts), expected["logits_per_image"], atol=1e-4)


@pytest.mark.parametrize("name", ENGINES)
def test_the_model_pads_texts_itself(golden: Any, name: Any) -> None:
    """One text without padding, several cut to their longest, all at the full length: the same vectors."""
    config, tensors, expected = golden
    engine = engines.build(config, tensors, engine=name)
    ids, features = expected["token_ids"], expected["text_features"]
    for _ in range(2):  # in numpy, then compiled
        np.testing.assert_allclose(engine.encode_texts(ids[:1, :4]), features[:1], atol=1e-5)
        np.testing.assert_allclose(engine.encode_texts(ids[[0, 1, 3], :5]), features[[0, 1, 3]], atol=1e-5)
        np.testing.assert_allclose(engine.encode_texts(ids[2:3]), features[2:3], atol=1e-5)
        engine.encode_texts(np.concatenate([ids] * 9))
    wrong = dataclasses.replace(config, text=dataclasses.replace(config.text, pad_id=3))
    other = engines.build(wrong, tensors, engine=name).encode_texts(ids[:1, :4])
    assert abs(other - features[:1]).max() > 1e-3  # the padding is seen


def test_numpy_and_the_compiled_graph_agree(golden: Any) -> None:
    config, tensors, expected = golden
    np.testing.assert_allclose(
        numpy_engine.encode_images(config, tensors, expected["pixels"]), expected["image_features"], atol=1e-5
    )
    for rows, ids, last in buckets(expected["token_ids"][:, :16], config.text):
        found = numpy_engine.encode_texts(config, tensors, ids, last)
        np.testing.assert_allclose(found, expected["text_features"][rows], atol=1e-5)


# --- transformers --------------------------------------------------------------------------------------------------

SIZES: dict[str, Any] = {
    "small": {
        "vision_config": {
            "image_size": 48, "patch_size": 16, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        "text_config": {
            "vocab_size": 300, "max_position_embeddings": 16, "hidden_size": 32, "intermediate_size": 80,
            "num_hidden_layers": 3, "num_attention_heads": 2, "projection_size": 64,
        },
    },
    # heads of 72 and the odd MLP of so400m, patches that leave a border, the full 64 tokens, exact GELU
    "odd": {
        "vision_config": {
            "image_size": 60, "patch_size": 14, "hidden_size": 144, "intermediate_size": 538, "num_hidden_layers": 3,
            "num_attention_heads": 2, "hidden_act": "gelu",
        },
        "text_config": {
            "vocab_size": 500, "max_position_embeddings": 64, "hidden_size": 144, "intermediate_size": 538,
            "num_hidden_layers": 2, "num_attention_heads": 2,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=SIZES)
def reference(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    """(folder, inputs, what transformers says of them) for a model that it saved itself."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.SiglipModel(transformers.SiglipConfig(**SIZES[request.param])).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at 0 and gains at 1, which would hide a lost one
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.logit_scale.fill_(2.3)
        model.logit_bias.fill_(-7.5)
    folder = tmp_path_factory.mktemp(f"siglip-{request.param}")
    model.save_pretrained(folder)
    config, _ = weights.read_tensors(folder)
    rng = np.random.default_rng(0)
    size, text = config.vision.image_size, config.text
    pixels = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    ids = rng.integers(2, text.vocabulary_size, (5, text.context_length)).astype(np.int32)
    for row, length in zip(ids, (3, 1, text.context_length, 9, 2), strict=True):
        row[length - 1] = text.end_id
        row[length:] = text.pad_id
    with torch.inference_mode():
        answer = model(
            input_ids=torch.from_numpy(ids).long(),
            pixel_values=torch.from_numpy((pixels / 127.5 - 1).transpose(0, 3, 1, 2)).float(),
            output_hidden_states=True,
        )
    return folder, pixels, ids, answer


@pytest.mark.parametrize("name", ENGINES)
def test_transformers(reference: Any, name: Any) -> None:
    folder, pixels, ids, expected = reference
    config, tensors = weights.read_tensors(folder)
    assert (config.preprocessing.mean, config.preprocessing.resize_mode) == ((0.5, 0.5, 0.5), "squash")
    engine = engines.build(config, tensors, engine=name)
    for _ in range(2):  # the first image and the first 256 tokens in numpy, then compiled
        np.testing.assert_allclose(engine.encode_images(pixels[:1]), expected.image_embeds[:1], atol=1e-4)
        np.testing.assert_allclose(engine.encode_texts(ids[:2, :3]), expected.text_embeds[:2], atol=1e-4)
    images, texts = engine.encode_images(pixels), engine.encode_texts(ids)
    np.testing.assert_allclose(images, expected.image_embeds, atol=1e-4)
    np.testing.assert_allclose(texts, expected.text_embeds, atol=1e-4)
    np.testing.assert_allclose(logits(tensors, images, texts), expected.logits_per_image, atol=1e-4)
    # the comparison could fail: the inputs' vectors differ by far more than the tolerance
    assert abs(images - images[::-1]).max() > 1e-2
    assert abs(texts - texts[::-1]).max() > 1e-2


@pytest.mark.parametrize("name", ENGINES)
def test_the_states_of_tokens(reference: Any, name: Any) -> None:
    folder, _, ids, expected = reference
    engine = engines.build(*weights.read_tensors(folder), engine=name)
    output = expected.text_model_output
    for layer in (-1, 0, 1, -2):
        states = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
        np.testing.assert_allclose(engine.text_states(ids, layer), states, atol=1e-4, err_msg=f"layer {layer}")
    # without padding: the states of the tokens that are given, which have seen the padding that follows
    short = engine.text_states(ids[:1, :3], -1)
    np.testing.assert_allclose(short, output.last_hidden_state[:1, :3], atol=1e-4)


def test_what_is_written_for_transformers_opens_there(tmp_path: Path, golden: Any) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config, tensors, expected = golden
    config = dataclasses.replace(config, text=dataclasses.replace(config.text, end_id=1))
    words = toys.tokenizer(toys.vit())
    checkpoint = weights.Checkpoint(config, tensors, words, "golden")
    folder = weights.write(checkpoint, tmp_path / "out", "transformers")
    model, report = transformers.SiglipModel.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32, attn_implementation="eager"
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.inference_mode():
        answer = model(
            input_ids=torch.from_numpy(expected["token_ids"]).long(),
            pixel_values=torch.from_numpy((expected["pixels"] / 127.5 - 1).transpose(0, 3, 1, 2)).float(),
        )
    np.testing.assert_allclose(answer.logits_per_image, expected["logits_per_image"], atol=1e-4)
    processor = transformers.SiglipImageProcessor.from_pretrained(folder)
    image = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    assert processor(image, return_tensors="pt")["pixel_values"].shape == (1, 3, 64, 64)


# --- exported graphs -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_openvino_ir_runs_without_us(golden: Any, tmp_path: Path) -> None:
    import openvino

    from tandem.engine.openvino import save_ir

    config, tensors, expected = golden
    save_ir(config, tensors, tmp_path)
    single = {"INFERENCE_PRECISION_HINT": "f32"}  # else OpenVINO takes bfloat16 where the CPU has it
    image = openvino.compile_model(tmp_path / "image.xml", "CPU", single)
    text = openvino.compile_model(tmp_path / "text.xml", "CPU", single)
    np.testing.assert_allclose(image({"pixels": expected["pixels"]})["vectors"], expected["image_features"], atol=1e-5)
    assert len(text.inputs) == 1  # texts are padded to one length, and read at its end
    vectors = text({"token_ids": expected["token_ids"]})["vectors"]
    np.testing.assert_allclose(vectors, expected["text_features"], atol=1e-5)
