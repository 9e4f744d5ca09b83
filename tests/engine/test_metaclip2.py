"""MetaCLIP 2: transformers' numbers at two sizes on both engines, and open_clip's, out of the folders they wrote."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tandem import engine as engines
from tandem import weights

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


ENGINES = ("openvino", "torch")
START, PAD, END = 0, 1, 2
SIZES: dict[str, dict[str, Any]] = {
    "quick": {
        "projection_dim": 24,
        "text_config": {
            "vocab_size": 120, "hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 20, "hidden_act": "quick_gelu",
        },
        "vision_config": {
            "image_size": 32, "patch_size": 8, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 3, "hidden_act": "quick_gelu",
        },
    },
    "gelu": {
        "projection_dim": 64,
        "text_config": {
            "vocab_size": 3000, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
            "num_attention_heads": 4, "max_position_embeddings": 77, "hidden_act": "gelu",
        },
        "vision_config": {
            "image_size": 84, "patch_size": 14, "hidden_size": 160, "intermediate_size": 640, "num_hidden_layers": 3,
            "num_attention_heads": 2, "hidden_act": "gelu",
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=SIZES)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(folder that transformers wrote, pixels, ids, its outputs)."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    size = SIZES[request.param]
    tokens = {"bos_token_id": START, "pad_token_id": PAD, "eos_token_id": END}
    torch.manual_seed(0)
    made = transformers.MetaClip2Config(**{**size, "text_config": {**size["text_config"], **tokens}})
    model = transformers.MetaClip2Model(made).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at 0 and gains at 1, which would hide a lost one
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    side, length = size["vision_config"]["image_size"], size["text_config"]["max_position_embeddings"]
    square = {"height": side, "width": side}
    squashed = {"size": square, "do_center_crop": False, "crop_size": square}
    shortest = {"size": {"shortest_edge": side}, "do_center_crop": True, "crop_size": square}
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "resample": 3,
        **(squashed if request.param == "gelu" else shortest),  # as the models of 378 pixels, and of 224
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    ids = np.full((5, length), PAD, np.int32)
    for row, count in zip(ids, (12, 2, length, 5, 8), strict=True):
        row[:count] = [START, *rng.integers(3, size["text_config"]["vocab_size"], count - 2), END]
    ids[4, 3] = END  # the first one counts
    preprocessing = weights.read_tensors(folder)[0].preprocessing
    normalised = (pixels / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)  # [n h w 3]
    with torch.inference_mode():
        answer = model(
            input_ids=torch.from_numpy(ids).long(),
            pixel_values=torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float(),
            output_hidden_states=True,
        )
    return folder, pixels, ids, answer


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.slow
def test_transformers_vectors_logits_and_states(reference: Any, name: Any) -> None:
    folder, pixels, ids, answer = reference
    config, tensors = weights.read_tensors(folder)
    assert config.notes == {}
    assert (config.text.start_id, config.text.end_id, config.text.pad_id) == (START, END, PAD)
    assert (config.text.cleaning, config.text.causal, config.text.pooling) == ("whitespace", True, "end")
    assert config.preprocessing.resize_mode == ("squash" if folder.name.startswith("gelu") else "shortest")
    engine = engines.build(config, tensors, engine=name)
    images, texts = engine.encode_images(pixels), engine.encode_texts(ids)
    np.testing.assert_allclose(images, answer.image_embeds.numpy(), atol=1e-4)
    np.testing.assert_allclose(texts, answer.text_embeds.numpy(), atol=1e-4)
    np.testing.assert_allclose(engine.encode_texts(np.concatenate([ids] * 60))[-5:], texts, atol=1e-5)
    for row, vector in zip(ids, texts, strict=True):
        own = row[: int((row == END).argmax()) + 1]  # without its padding, and what follows its first end token
        np.testing.assert_allclose(engine.encode_texts(own[None])[0], vector, atol=1e-5)
    logits = np.exp(tensors["logit_scale"].astype(np.float32)) * images @ texts.T
    np.testing.assert_allclose(logits, answer.logits_per_image.numpy(), atol=1e-4)
    assert abs(answer.text_embeds - answer.text_embeds.flip(0)).max() > 1e-2  # the comparison could fail
    states = [state.numpy() for state in answer.text_model_output.hidden_states]
    assert len(states) == config.text.layers + 1
    for layer, state in enumerate(states):
        np.testing.assert_allclose(engine.text_states(ids, layer), state, atol=1e-4, err_msg=f"layer {layer}")
    last = answer.text_model_output.last_hidden_state.numpy()
    np.testing.assert_allclose(engine.text_states(ids), last, atol=1e-4)


@pytest.mark.parametrize("name", ENGINES)
def test_golden(shared: Path, name: Any) -> None:
    folder = shared / "golden" / "families" / "metaclip2-tiny"
    config, tensors = weights.read_tensors(folder)
    assert (config.text.start_id, config.text.end_id, config.text.pad_id) == (START, END, PAD)
    expected = np.load(folder / "expected.npz")
    engine = engines.build(config, tensors, engine=name)
    images, texts = engine.encode_images(expected["pixels"]), engine.encode_texts(expected["token_ids"])
    np.testing.assert_allclose(images, expected["image_features"], atol=1e-5)
    np.testing.assert_allclose(texts, expected["text_features"], atol=1e-5)
    many = np.concatenate([expected["token_ids"]] * 40)
    np.testing.assert_allclose(engine.encode_texts(many)[-4:], expected["text_features"], atol=1e-5)
    logits = np.exp(tensors["logit_scale"].astype(np.float32)) * images @ texts.T
    np.testing.assert_allclose(logits, expected["logits_per_image"], atol=1e-4)
