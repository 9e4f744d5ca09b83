"""States of image tokens: every layer against transformers' vision models, ResNet stages against torch's own hooks."""

import dataclasses

import numpy as np
import pytest
from support.engine_toys import TEXT, TOYS, random_pixels, random_tensors, toys

from tandem import engine as engines
from tandem import nn, weights
from tandem.config import ModelConfig, Preprocessing, VisionTransformer
from tandem.errors import EngineError

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


ENGINES = ("openvino", "torch")


def build(name, config, tensors):
    return engines.build(config, tensors, engine=name)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def without_trivial_weights(model):
    """Biases start at 0 and gains at 1, which would hide a lost one."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def reference(model, folder):
    """Our configuration and tensors of a model that transformers saved; pixels, and what its vision model says."""
    import torch

    model.save_pretrained(folder)
    ours, tensors = weights.read_tensors(folder)
    pixels = random_pixels(ours, n=3)
    normalised = (pixels / 255 - np.array(ours.preprocessing.mean)) / np.array(ours.preprocessing.std)
    with torch.inference_mode():
        inputs = torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float()
        theirs = model.vision_model(pixel_values=inputs, output_hidden_states=True)
        return ours, tensors, pixels, theirs


TEXT_SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
CLIP_SIZES = [
    {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 32},
    {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56},
]
PATCHES = {32: 8, 56: 14}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", CLIP_SIZES, ids=["48x3", "64x2"])
def test_every_layer_of_clip(tmp_path, sizes):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    vision = {**sizes, "patch_size": PATCHES[sizes["image_size"]], "hidden_act": "quick_gelu"}
    text = {**TEXT_SIZES, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "hidden_act": "quick_gelu"}
    model = without_trivial_weights(
        transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    )
    ours, tensors, pixels, theirs = reference(model, tmp_path)
    layers = sizes["num_hidden_layers"]
    for name in ENGINES:
        engine = build(name, ours, tensors)
        for layer in (*range(layers + 1), *range(-layers - 1, -1)):
            states = engine.image_states(pixels, layer)
            np.testing.assert_allclose(states, theirs.hidden_states[layer], atol=1e-4, err_msg=f"{name}, layer {layer}")
        # transformers' last_hidden_state of CLIP is before the last norm; the pooled class token is after it
        end = engine.image_states(pixels, -1, norm=False)
        np.testing.assert_allclose(end, theirs.last_hidden_state, atol=1e-4)
        np.testing.assert_allclose(engine.image_states(pixels, -1)[:, 0], theirs.pooler_output, atol=1e-4)
        with torch.inference_mode():
            embeds = model.visual_projection(theirs.pooler_output)
            early = model.visual_projection(model.vision_model.post_layernorm(theirs.hidden_states[-2]))
            plain = model.visual_projection(theirs.hidden_states[-2])
        np.testing.assert_allclose(engine.image_states(pixels, -1, projection=True)[:, 0], embeds, atol=1e-4)
        np.testing.assert_allclose(engine.image_states(pixels, -2, projection=True), early, atol=1e-4)
        np.testing.assert_allclose(engine.image_states(pixels, -2, norm=False, projection=True), plain, atol=1e-4)
    # the comparison could fail
    assert abs(theirs.hidden_states[-1] - theirs.hidden_states[-2]).max() > 1e-2
    assert abs(theirs.hidden_states[0][:, 1] - theirs.hidden_states[0][:, 2]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("sizes", CLIP_SIZES, ids=["48x3", "64x2"])
def test_every_layer_of_siglip(tmp_path, sizes):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    vision = {**sizes, "patch_size": PATCHES[sizes["image_size"]]}
    text = {**TEXT_SIZES, "hidden_size": sizes["hidden_size"], "max_position_embeddings": 16}
    model = without_trivial_weights(
        transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    )
    ours, tensors, pixels, theirs = reference(model, tmp_path)
    layers = sizes["num_hidden_layers"]
    for name in ENGINES:
        engine = build(name, ours, tensors)
        for layer in (*range(layers + 1), *range(-layers - 1, -1)):
            states = engine.image_states(pixels, layer)
            np.testing.assert_allclose(states, theirs.hidden_states[layer], atol=1e-4, err_msg=f"{name}, layer {layer}")
        np.testing.assert_allclose(engine.image_states(pixels, -1, norm=False), theirs.hidden_states[-1], atol=1e-4)
        # here transformers' last_hidden_state is after the last norm
        np.testing.assert_allclose(engine.image_states(pixels, -1), theirs.last_hidden_state, atol=1e-4)
        np.testing.assert_allclose(engine.encode_images(pixels), unit(theirs.pooler_output.numpy()), atol=1e-4)
        with pytest.raises(EngineError, match=r"projection: this image tower \(vision_transformer\) has no projection"):
            engine.image_states(pixels, -1, projection=True)
    assert abs(theirs.hidden_states[-1] - theirs.last_hidden_state).max() > 1e-2


RESNETS = [name for name in TOYS if name.startswith("resnet")]


@pytest.mark.parametrize("which", RESNETS)
@pytest.mark.slow_if("resnet-bottleneck", "resnet-bottleneck-stem2")
def test_every_stage_of_a_resnet(which):
    """What torch's hooks see leave each stage, and what the stem's last activation is before it."""
    torch = pytest.importorskip("torch")
    toy = TOYS[which]
    tensors, pixels = random_tensors(toy), random_pixels(toy)
    model = nn.from_arrays(toy, tensors)
    seen = {}
    for k in range(1, 5):
        stage = getattr(model.visual, f"layer{k}")
        stage.register_forward_pre_hook(lambda _, x, k=k: seen.setdefault(k - 1, x[0]))
        stage.register_forward_hook(lambda _, __, y, k=k: seen.update({k: y}))
    mean, std = (np.asarray(v, np.float32) for v in (toy.preprocessing.mean, toy.preprocessing.std))
    with torch.inference_mode():
        model.encode_image(torch.from_numpy(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)).float())
    for name in ENGINES:
        engine = build(name, toy, tensors)
        for layer in (*range(5), *range(-5, 0)):
            expected = seen[layer if layer >= 0 else 5 + layer]  # [n c h w]
            layout = toy.vision.state_layout(layer if layer >= 0 else 5 + layer)
            assert expected.shape[1:] == (layout.width, layout.rows, layout.columns)
            states = engine.image_states(pixels, layer)
            scale = float(abs(expected).max())
            np.testing.assert_allclose(
                states, expected.flatten(2).transpose(1, 2), atol=1e-5 * scale, err_msg=f"{name}, stage {layer}"
            )
        assert not layout.class_token
        with pytest.raises(EngineError, match=r"norm: this image tower \(resnet\) has no last norm"):
            engine.image_states(pixels, -1, norm=True)
        with pytest.raises(EngineError, match=r"projection: this image tower \(resnet\) has no projection"):
            engine.image_states(pixels, -1, projection=True)
        with pytest.raises(EngineError, match=r"layer: expected -5..4, got 5"):
            engine.image_states(pixels, 5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [31, 33, 48, 50])
def test_the_grid_of_odd_sizes(size):
    """The stem rounds up and averaging down: the layout says what the graph gives."""
    config = dataclasses.replace(
        TOYS["resnet-basic"],
        vision=dataclasses.replace(TOYS["resnet-basic"].vision, image_size=size),
        preprocessing=Preprocessing(size),
    )
    tensors, pixels = random_tensors(config), random_pixels(config, n=1)
    for name in ENGINES:
        engine = build(name, config, tensors)
        for layer in range(5):
            layout = config.vision.state_layout(layer)
            assert engine.image_states(pixels, layer).shape == (1, layout.tokens, layout.width)


MIXED = {
    "mean, biased": {"pooling": "mean", "projection": "biased", "first_norm": False},
    "mean, norm after": {"pooling": "mean", "norm_after_pooling": True, "patch_bias": True},
    "no class token": {"pooling": "mean", "class_token": False},
    "attention, class token": {"pooling": "attention", "pool_heads": 2, "pool_mlp_width": 40},
}


@pytest.mark.parametrize("which", toys(*MIXED, without=("naflex",)))
@pytest.mark.parametrize("name", ENGINES)
def test_what_holds_for_every_tower(name, which):
    toy = TOYS.get(which) or ModelConfig(
        20, VisionTransformer(32, 8, 32, 2, 4, 128, "gelu", **MIXED[which]), TEXT, Preprocessing(32)
    )
    vision, tensors = toy.vision, random_tensors(toy)
    engine, pixels = build(name, toy, tensors), random_pixels(toy, n=35)  # more than one step of the engine
    for layer in (0, 1, -2, -1):
        layout = vision.state_layout(layer if layer >= 0 else vision.state_layers + 1 + layer)
        states = engine.image_states(pixels, layer)
        assert states.dtype == np.float32
        assert states.shape == (35, layout.tokens, layout.width)
        assert layout.class_token == getattr(vision, "class_token", False)
        scale = abs(states).max()
        np.testing.assert_allclose(engine.image_states(pixels[33:], layer), states[33:], atol=1e-5 * scale)
        as_floats = engine.image_states(pixels[:2].astype(np.float32), layer)
        np.testing.assert_allclose(as_floats, states[:2], atol=1e-5 * scale)
    nothing = engine.image_states(pixels[:0], 0)
    assert nothing.shape == (0, vision.state_layout(0).tokens, vision.state_layout(0).width)
    if vision.has_last_norm:
        gain, bias = tensors["visual.ln_post.weight"], tensors["visual.ln_post.bias"]
        before = engine.image_states(pixels[:3], -2)
        deviation = before - before.mean(axis=-1, keepdims=True)
        normed = deviation / np.sqrt(before.var(axis=-1, keepdims=True) + vision.norm_epsilon) * gain + bias
        np.testing.assert_allclose(engine.image_states(pixels[:3], -2, norm=True), normed, atol=1e-4)
    if vision.projects_states:
        projected = engine.image_states(pixels[:3], -1, projection=True)
        expected = engine.image_states(pixels[:3], -1) @ tensors["visual.proj"] + tensors.get("visual.proj_bias", 0)
        np.testing.assert_allclose(projected, expected, atol=1e-4)
        assert engine.image_states(pixels[:0], -1, projection=True).shape == (0, projected.shape[1], toy.embed_dim)
        if vision.pooling == "class":
            np.testing.assert_allclose(unit(projected[:, 0]), engine.encode_images(pixels[:3]), atol=1e-5)
    with pytest.raises(EngineError, match=r"pixels: expected uint8 or float32"):
        engine.image_states(np.zeros((1, 3, 32, 32), np.uint8))


@pytest.mark.parametrize("which", ["siglip-tiny", "siglip2-tiny", "metaclip2-tiny", "pe-core-tiny", "xlm-roberta-tiny"])
@pytest.mark.parametrize("name", ENGINES)
def test_golden_vectors_come_from_the_states(shared, name, which):
    """Pooling the last states in numpy, as the family does, gives the reference's vectors."""
    config, tensors = weights.read_tensors(shared / "golden" / "families" / which)
    expected = np.load(shared / "golden" / "families" / which / "expected.npz")
    engine = build(name, config, tensors)
    if config.vision.pooling == "class":
        vectors = engine.image_states(expected["pixels"], -1, projection=True)[:, 0]
    else:
        from tandem.towers.parts.numpy import attention, layer_norm, mlp

        states, pool = engine.image_states(expected["pixels"], -1), "visual.pool."
        query = np.broadcast_to(tensors[pool + "query"].astype(np.float32), (len(states), 1, states.shape[-1]))
        pooled = attention(query, states, tensors, pool + "attn.", config.vision.pool_heads)[:, 0]
        normed = layer_norm(pooled, tensors, pool + "ln.", config.vision.norm_epsilon)
        vectors = pooled + mlp(normed, config.vision.activation, tensors, pool)
        if config.vision.projects_states:
            vectors = vectors @ tensors["visual.proj"].astype(np.float32) + tensors.get(
                "visual.proj_bias", np.float32(0)
            )
    np.testing.assert_allclose(unit(vectors), expected["image_features"], atol=1e-5)


FAMILIES = [
    "siglip2-tiny",
    "metaclip2-tiny",
    "pe-core-tiny",
    "xlm-roberta-tiny",
    "mobileclip2-s0-tiny",
    "mobileclip2-s3-tiny",
]


@pytest.mark.slow
@pytest.mark.parametrize("which", FAMILIES)
def test_engines_agree_on_every_layer_of_every_family(shared, which):
    config, tensors = weights.read_tensors(shared / "golden" / "families" / which)
    pixels = np.load(shared / "golden" / "families" / which / "expected.npz")["pixels"]
    ours, theirs = (build(name, config, tensors) for name in ENGINES)
    for layer in (*range(config.vision.state_layers + 1), -2, -1):
        layout = config.vision.state_layout(layer if layer >= 0 else config.vision.state_layers + 1 + layer)
        states = ours.image_states(pixels, layer)
        assert states.shape == (len(pixels), layout.tokens, layout.width)
        expected = theirs.image_states(pixels, layer)
        np.testing.assert_allclose(states, expected, atol=1e-5 * abs(expected).max(), err_msg=f"layer {layer}")
