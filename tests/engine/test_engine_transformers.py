"""Our numbers against transformers' CLIPModel, on a model of ViT-B/32's shape that transformers itself saved."""

import numpy as np
import pytest
from support.engine_toys import TOYS, random_tensors

from tandem import engine as engines
from tandem import weights
from tandem.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

START, END, PAD = 49406, 49407, 49407
LAYERS = (-1, -2, 5)


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """(folder, inputs, what transformers says). 151 M random weights, 605 MB on the disk until the session ends."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokens = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    torch.manual_seed(0)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=tokens, vision_config={"patch_size": 32}, projection_dim=512)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at 0 and gains at 1, which would hide a lost one
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("vit-b-32")
    model.save_pretrained(folder)
    Tokenizer.clip().save(folder)

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    pixels[0] //= 4  # a dark one
    ids = np.full((4, 77), PAD, np.int32)
    for row, length in zip(ids, (12, 2, 77, 5), strict=True):
        row[:length] = [START, *rng.integers(0, START, length - 2), END]
    config = weights.read(folder).config.preprocessing
    normalised = (pixels / 255 - np.array(config.mean)) / np.array(config.std)  # [n h w 3]
    with torch.inference_mode():
        answer = model(
            input_ids=torch.from_numpy(ids).long(),
            pixel_values=torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float(),
            output_hidden_states=True,
        )
    texts = answer.text_model_output
    states = {-1: texts.last_hidden_state} | {k: texts.hidden_states[k] for k in LAYERS if k != -1}
    expected = {
        "images": answer.image_embeds.numpy(),
        "texts": answer.text_embeds.numpy(),
        "logits": answer.logits_per_image.numpy(),
        "states": {layer: array.numpy() for layer, array in states.items()},
    }
    yield folder, pixels, ids, expected
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_vit_b_32(reference, name):
    folder, pixels, ids, expected = reference
    checkpoint = weights.read(folder)
    engine = engines.build(checkpoint.config, checkpoint.tensors, engine=name, precision="float32")
    images, texts = engine.encode_images(pixels), engine.encode_texts(ids)
    np.testing.assert_allclose(images, expected["images"], atol=1e-4)
    np.testing.assert_allclose(texts, expected["texts"], atol=1e-4)
    scale = np.exp(checkpoint.tensors["logit_scale"].astype(np.float32))
    np.testing.assert_allclose(scale * images @ texts.T, expected["logits"], atol=1e-4)
    # the comparison could fail: the inputs' vectors differ by far more than the tolerance
    assert abs(expected["images"] - expected["images"][::-1]).max() > 1e-2
    assert abs(expected["texts"] - expected["texts"][::-1]).max() > 1e-2
    for layer, states in expected["states"].items():
        np.testing.assert_allclose(engine.text_states(ids, layer), states, atol=1e-4, err_msg=f"layer {layer}")


@pytest.mark.skipif("bfloat16" not in engines.available_precisions(), reason="this CPU has no bfloat16")
def test_vit_b_32_bfloat16_is_close(reference):
    folder, pixels, ids, expected = reference
    checkpoint = weights.read(folder)
    engine = engines.build(checkpoint.config, checkpoint.tensors, engine="openvino", precision="bfloat16")
    assert (engine.encode_images(pixels) * expected["images"]).sum(axis=1).min() > 0.99
    assert (engine.encode_texts(ids) * expected["texts"]).sum(axis=1).min() > 0.99


def test_openvino_ir_runs_without_us(tmp_path):
    """What `save_ir` writes gives the engine's vectors in bare OpenVINO."""
    import openvino

    from tandem.engine.openvino import save_ir

    for which in ("vit", "resnet-bottleneck"):
        config = TOYS[which]
        tensors = random_tensors(config)
        folder = tmp_path / which
        save_ir(config, tensors, folder)
        assert sorted(file.name for file in folder.iterdir()) == ["image.bin", "image.xml", "text.bin", "text.xml"]
        engine = engines.build(config, tensors, engine="openvino")
        size = config.vision.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
        ids = np.array([[98, 5, 6, 99, 0], [98, 7, 99, 0, 0]], np.int32)
        single = {"INFERENCE_PRECISION_HINT": "f32"}  # else OpenVINO takes bfloat16 where the CPU has it
        image = openvino.compile_model(folder / "image.xml", "CPU", single)
        text = openvino.compile_model(folder / "text.xml", "CPU", single)
        np.testing.assert_allclose(image({"pixels": pixels})["vectors"], engine.encode_images(pixels), atol=1e-5)
        vectors = text({"token_ids": ids, "ends": np.array([3, 2], np.int32)})["vectors"]
        np.testing.assert_allclose(vectors, engine.encode_texts(ids), atol=1e-5)
