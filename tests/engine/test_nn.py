"""The torch definition against the original's outputs, and its first weights against what the paper says of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tandem.config import ModelConfig, Preprocessing, ResNet, TextTransformer, VisionTransformer
from tandem.errors import WeightsError
from tandem.nn import CLIP, from_arrays, initialise, to_arrays
from tandem.towers.parts.torch import resize_grid

VIT = ModelConfig(
    48,
    VisionTransformer(64, 16, 128, 3, 2, 512, "quick_gelu"),
    TextTransformer(20, 600, 64, 2, 1, 256, "quick_gelu", 598, 599),
    Preprocessing(64),
)
RESNET = ModelConfig(48, ResNet(96, (1, 2, 1, 1), 16, 8), VIT.text, Preprocessing(96))


@pytest.mark.parametrize(("name", "config"), [("vit-tiny", VIT), ("resnet-tiny", RESNET)])
def test_it_computes_what_the_original_computes(shared: Path, name: str, config: ModelConfig) -> None:
    tensors = load_file(shared / "golden" / f"{name}.safetensors")
    model = from_arrays(config, {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")})
    golden = np.load(shared / "golden" / f"{name}.npz")
    with torch.no_grad():
        images = model.encode_image(torch.from_numpy(golden["pixels"])).numpy()
        texts = model.encode_text(torch.from_numpy(golden["token_ids"])).numpy()
    np.testing.assert_allclose(images, golden["image_features"], atol=1e-5)
    np.testing.assert_allclose(texts, golden["text_features"], atol=1e-5)


@pytest.mark.parametrize("config", [VIT, RESNET])
def test_weights_go_out_and_in_unchanged(config: ModelConfig) -> None:
    tensors = to_arrays(initialise(CLIP(config), seed=3))
    again = to_arrays(from_arrays(config, tensors))
    assert tensors.keys() == again.keys()
    assert all(np.array_equal(tensors[name], again[name]) for name in tensors)


def test_a_wrong_shape_is_refused_by_name() -> None:
    tensors = to_arrays(initialise(CLIP(VIT)))
    tensors["ln_final.bias"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError, match=r"ln_final\.bias: expected shape \(64,\), got \(3,\)"):
        from_arrays(VIT, tensors)
    del tensors["ln_final.bias"]
    with pytest.raises(WeightsError, match=r"ln_final\.bias: missing"):
        from_arrays(VIT, tensors)


def test_first_weights_have_the_published_scales_and_no_weight_is_left_undrawn() -> None:
    model = CLIP(VIT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
        for module in model.modules():  # norms and linear biases start as torch has them
            if isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()
        model.logit_scale.fill_(np.log(1 / 0.07))
    initialise(model)
    assert not [name for name, p in model.named_parameters() if p.isnan().any()]
    block = model.text.transformer.resblocks[0]
    for tensor, std in (
        (model.text.token_embedding.weight, 0.02),
        (model.text.positional_embedding, 0.01),
        (block.attn.in_proj_weight, 64**-0.5),
        (block.attn.out_proj.weight, 64**-0.5 * 4**-0.5),
        (block.mlp.c_fc.weight, 128**-0.5),
    ):
        assert tensor.std().item() == pytest.approx(std, rel=0.1)


def test_a_residual_block_starts_as_identity() -> None:
    model = initialise(CLIP(RESNET)).eval()
    block = model.visual.layer2[1]
    x = torch.rand(2, 128, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_positions_keep_the_summary_token_and_a_constant_grid() -> None:
    positions = torch.cat([torch.full((1, 4), 9.0), torch.full((9, 4), 2.0)])
    resized = resize_grid(positions, (5, 4))
    assert resized.shape == (21, 4)
    torch.testing.assert_close(resized[0], positions[0])
    torch.testing.assert_close(resized[1:], torch.full((20, 4), 2.0))


def test_text_states_are_read_at_the_requested_depth() -> None:
    model = initialise(CLIP(VIT)).eval()
    ids = torch.tensor([[598, 5, 6, 599, 0, 0]])
    with torch.no_grad():
        last = model.text_states(ids, 2, True)
        torch.testing.assert_close(model.text.ln_final(model.text_states(ids, 2, False)), last)
        assert not torch.allclose(model.text_states(ids, 1, False), model.text_states(ids, 2, False))
        assert not torch.allclose(model.text_states(ids, 0, False), model.text_states(ids, 1, False))
        torch.testing.assert_close(last[:, 3] @ model.text.text_projection, model.encode_text(ids))
