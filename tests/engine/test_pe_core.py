"""PE-Core: the reference's numbers, its tower from the published formulas, other image sizes, and its training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.engine_toys import TOYS, random_pixels, random_tensors
from torch import Tensor

from tandem import engine as engines
from tandem.config import ModelConfig, VisionTransformer
from tandem.engine import numpy_engine
from tandem.engine.graph import image_states_graph
from tandem.engine.inputs import read_positions
from tandem.errors import ConfigError
from tandem.nn import from_arrays
from tandem.openvino_import import ov
from tandem.towers.vision_transformer import arrays, rotary, timm
from tandem.weights import expected_shapes, read_tensors

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


TOY_NAMES = ("pe-core", "pe-core-patches")
PUBLISHED = {
    "vit_pe_core_tiny_patch16_384": VisionTransformer(384, 16, 192, 12, 3, 768, "gelu"),
    "vit_pe_core_small_patch16_384": VisionTransformer(384, 16, 384, 12, 6, 1536, "gelu"),
    "vit_pe_core_base_patch16_224": VisionTransformer(224, 16, 768, 12, 12, 3072, "gelu"),
    "vit_pe_core_large_patch14_336": VisionTransformer(336, 14, 1024, 24, 16, 4096, "gelu"),
    "vit_pe_core_gigantic_patch14_448": VisionTransformer(448, 14, 1536, 50, 16, 8960, "gelu", class_token=False),
}


@pytest.mark.parametrize("engine", ["openvino", "torch", "numpy"])
def test_golden(shared: Path, engine: str) -> None:
    folder = shared / "golden" / "families" / "pe-core-tiny"
    config, tensors = read_tensors(folder)
    golden = np.load(folder / "expected.npz")
    ids = golden["token_ids"].astype(np.int32)
    if engine == "numpy":
        images = numpy_engine.encode_images(config, tensors, golden["pixels"])
        texts = numpy_engine.encode_texts(config, tensors, ids, read_positions(ids, config.text))
    else:
        built = engines.build(config, tensors, engine=engine)
        # More than the first few: OpenVINO's engine compiles for them
        images = built.encode_images(np.concatenate([golden["pixels"]] * 12))[:3]
        texts = built.encode_texts(np.concatenate([ids] * 30))[:4]
    np.testing.assert_allclose(images, golden["image_features"], atol=1e-5)
    np.testing.assert_allclose(texts, golden["text_features"], atol=1e-5)
    logits = np.exp(np.float32(tensors["logit_scale"])) * images @ texts.T
    np.testing.assert_allclose(logits, golden["logits_per_image"], atol=2e-4)


def test_golden_to_the_last_digits(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs were made with cosines and sines rounded to float16, as the weights: 5e-6 come from that."""
    folder = shared / "golden" / "families" / "pe-core-tiny"
    config, tensors = read_tensors(folder)
    golden = np.load(folder / "expected.npz")
    rounded = rotary.rotation(config.vision).astype(np.float16).astype(np.float32)
    monkeypatch.setattr(arrays, "rotation", lambda vision: rounded)
    images = numpy_engine.encode_images(config, tensors, golden["pixels"])
    np.testing.assert_allclose(images, golden["image_features"], atol=5e-7)


# --- the image tower from the published formulas -----------------------------------------------------------------


def turned(x: Tensor, vision: VisionTransformer, grid: int) -> Tensor:
    """Queries or keys [n h t w/h] as complex numbers, each multiplied by exp(i angle); a class token by 1."""
    n, h, t, width = x.shape
    bands = width // 4
    factors = torch.ones(t, width // 2, dtype=torch.complex128)
    for row in range(grid):
        for column in range(grid):
            for band in range(bands):
                frequency = 10000.0 ** (-band / bands)
                for k, position in ((band, column), (bands + band, row)):
                    stretched = (position + vision.rotary_offset) / grid * vision.rotary_grid
                    angle = torch.tensor(stretched * frequency, dtype=torch.float64)
                    token = int(vision.class_token) + row * grid + column
                    factors[token, k] = torch.polar(torch.ones_like(angle), angle)
    pairs = torch.view_as_complex(x.reshape(n, h, t, width // 2, 2))
    return torch.view_as_real(pairs * factors).reshape(x.shape)


def reference(x: Tensor, config: ModelConfig, tensors: Mapping[str, Tensor]) -> Tensor:
    """Normalised pixels [n 3 s s], float64 -> [n d], not of unit length."""
    vision = config.vision
    assert isinstance(vision, VisionTransformer)
    get = {name.removeprefix("visual."): tensor for name, tensor in tensors.items()}
    width = (vision.width,)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, width, get[f"{name}.weight"], get[f"{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, get[f"{name}.weight"], get[f"{name}.bias"])

    x = F.conv2d(x, get["conv1.weight"], stride=vision.patch_size)
    n, grid = len(x), x.shape[-1]
    x = x.flatten(2).transpose(1, 2)
    if vision.class_token:
        x = torch.cat([get["class_embedding"].expand(n, 1, -1), x], dim=1)
    x = norm(x + get["positional_embedding"], "ln_pre")
    for i in range(vision.layers):
        name = f"transformer.resblocks.{i}"
        y = F.linear(norm(x, f"{name}.ln_1"), get[f"{name}.attn.in_proj_weight"], get[f"{name}.attn.in_proj_bias"])
        q, k, v = (each.unflatten(-1, (vision.heads, -1)).transpose(1, 2) for each in y.chunk(3, dim=-1))
        q, k = turned(q, vision, grid), turned(k, vision, grid)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        x = x + linear((weights @ v).transpose(1, 2).flatten(2), f"{name}.attn.out_proj")
        x = x + linear(F.gelu(linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")), f"{name}.mlp.c_proj")
    x = norm(x, "ln_post").transpose(0, 1)
    pooled, _ = F.multi_head_attention_forward(
        get["pool.query"].expand(1, n, -1), x, x, vision.width, vision.pool_heads,
        get["pool.attn.in_proj_weight"], get["pool.attn.in_proj_bias"], None, None, False, 0.0,
        get["pool.attn.out_proj.weight"], get["pool.attn.out_proj.bias"], training=False, need_weights=False,
    )  # fmt: skip
    pooled = pooled[0]
    pooled = pooled + linear(F.gelu(linear(norm(pooled, "pool.ln"), "pool.mlp.c_fc")), "pool.mlp.c_proj")
    return pooled @ get["proj"] + get["proj_bias"]


def double(tensors: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array).double() for name, array in tensors.items() if name.startswith("visual.")}


def normalised(pixels: np.ndarray, config: ModelConfig) -> Tensor:
    mean, std = (
        torch.tensor(each, dtype=torch.float64) for each in (config.preprocessing.mean, config.preprocessing.std)
    )
    return ((torch.from_numpy(pixels).double() / 255 - mean) / std).permute(0, 3, 1, 2)


@pytest.mark.parametrize("toy", TOY_NAMES)
def test_both_engines_and_the_first_photo_compute_the_published_formulas(toy: str) -> None:
    config, pixels = TOYS[toy], random_pixels(TOYS[toy])
    tensors = random_tensors(config)
    expected = F.normalize(reference(normalised(pixels, config), config, double(tensors))).numpy()
    found = {
        "openvino": engines.build(config, tensors).encode_images(np.concatenate([pixels] * 12))[: len(pixels)],
        "torch": engines.build(config, tensors, engine="torch").encode_images(pixels),
        "numpy": numpy_engine.encode_images(config, tensors, pixels),
    }
    for name, vectors in found.items():
        np.testing.assert_allclose(vectors, expected, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("field", ["rotary_offset", "rotary_grid"])
def test_rotary_positions_reach_the_vector(field: str) -> None:
    """Else the other tests could not tell a wrong grid from a right one."""
    config = TOYS["pe-core"]
    other = replace(config, vision=replace(config.vision, **{field: getattr(config.vision, field) + 1}))
    tensors, pixels = random_tensors(config), random_pixels(config)
    one, two = (numpy_engine.encode_images(each, tensors, pixels) for each in (config, other))
    assert abs(one - two).max() > 1e-3


@pytest.mark.parametrize("toy", [*TOY_NAMES, "rotary-class"])
@pytest.mark.slow
def test_states_are_the_same_on_both_engines(toy: str) -> None:
    config, pixels = TOYS[toy], random_pixels(TOYS[toy])
    tensors = random_tensors(config)
    model = from_arrays(config, tensors)
    for blocks in range(config.vision.layers + 1):
        last = blocks == config.vision.layers
        graph = image_states_graph(config, tensors, blocks, final_norm=last, projection=last)
        compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        with torch.no_grad():
            states = model.visual.states(normalised(pixels, config).float(), blocks, last, last)
        np.testing.assert_allclose(compiled(pixels)[0], states.numpy(), atol=2e-5)


# --- names -------------------------------------------------------------------------------------------------------


def published(name: str) -> VisionTransformer:
    plain = PUBLISHED[name]
    return replace(
        plain,
        pooling="attention",
        pool_heads=8,
        pool_mlp_width=4 * plain.width,
        projection="biased",
        rotary_grid=plain.grid,
        rotary_offset=int(plain.class_token),
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_timms_names_tell_what_tensors_do_not(name: str) -> None:
    config = replace(
        TOYS["vit"],
        vision=published(name),
        preprocessing=replace(TOYS["vit"].preprocessing, image_size=published(name).image_size),
    )
    assert timm.description(name, config.vision.image_size, expected_shapes(config)) == config.vision
    assert timm.name_of(config.vision) == name
    assert timm.settings(config.vision) == {"timm_pool": "map", "timm_proj": None}


def test_another_image_size_keeps_name_and_rotary_grid() -> None:
    larger = replace(published("vit_pe_core_base_patch16_224"), image_size=336)
    assert timm.name_of(larger) == "vit_pe_core_base_patch16_224"
    assert (larger.grid, larger.rotary_grid) == (21, 14)
    assert timm.name_of(replace(larger, rotary_grid=21)) is None


def test_impossible_rotary_positions_are_refused_by_name() -> None:
    vit = VisionTransformer(32, 8, 12, 1, 2, 8, "gelu")
    with pytest.raises(
        ConfigError, match=r"^rotary_grid: expected heads of a multiple of 4, .* got 6 \(width 12, heads 2\)"
    ):
        replace(vit, rotary_grid=4).check(8)
    with pytest.raises(ConfigError, match=r"^rotary_offset: expected 0 without a rotary_grid, got 1"):
        replace(vit, rotary_offset=1).check(8)


# --- other image sizes, kept patches, gradients ------------------------------------------------------------------


def resized(tensors: Mapping[str, Tensor], before: int, side: int, to: int) -> dict[str, Tensor]:
    """The learned positions of another grid: bicubic with antialiasing, as timm resizes them."""
    table = tensors["visual.positional_embedding"]
    grid = table[before:].T.reshape(1, -1, side, side)
    grid = F.interpolate(grid, size=(to, to), mode="bicubic", antialias=True, align_corners=False)
    return {**tensors, "visual.positional_embedding": torch.cat([table[:before], grid.flatten(2)[0].T])}


@pytest.mark.parametrize("toy", TOY_NAMES)
def test_another_image_size_resizes_both_kinds_of_positions(toy: str) -> None:
    config, tensors = TOYS[toy], random_tensors(TOYS[toy])
    vision = config.vision
    assert isinstance(vision, VisionTransformer)
    side = vision.grid + 2
    pixels = torch.randn(2, 3, side * vision.patch_size, side * vision.patch_size, dtype=torch.float64)
    expected = reference(pixels, config, resized(double(tensors), int(vision.class_token), vision.grid, side))
    model = from_arrays(config, tensors).double()
    torch.testing.assert_close(model.visual(pixels), expected)
    wide = model.visual(pixels[:, :, : vision.patch_size * vision.grid])  # fewer rows than columns
    assert wide.isfinite().all()


def kept_patches(config: ModelConfig, count: int) -> Tensor:
    random = np.random.default_rng(5)
    return torch.from_numpy(np.stack([random.permutation(config.vision.grid**2)[:count] for _ in range(5)]))


@pytest.mark.parametrize("toy", [*TOY_NAMES, "rotary-class"])
def test_kept_patches_keep_their_positions(toy: str) -> None:
    config = TOYS[toy]
    model = from_arrays(config, random_tensors(config)).double()
    pixels = normalised(random_pixels(config), config)
    everything = kept_patches(config, config.vision.grid**2)  # in another order for each image
    torch.testing.assert_close(model.visual(pixels, everything), model.visual(pixels))
    some = kept_patches(config, 7)
    together = model.visual(pixels, some)
    torch.testing.assert_close(together[2:3], model.visual(pixels[2:3], some[2:3]))
    torch.testing.assert_close(together, model.visual(pixels, some.flip(1)))
    assert (together - model.visual(pixels)).abs().max() > 1e-3


@pytest.mark.parametrize("toy", TOY_NAMES)
def test_gradients_are_those_of_the_published_formulas(toy: str) -> None:
    config, tensors = TOYS[toy], random_tensors(TOYS[toy])
    pixels = normalised(random_pixels(config, n=3), config)
    model = from_arrays(config, tensors).double().train()
    weight = torch.randn(3, config.embed_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (F.normalize(model.visual(pixels)) * weight).sum().backward()
    leaves = {name: tensor.requires_grad_() for name, tensor in double(tensors).items()}
    (F.normalize(reference(pixels, config, leaves)) * weight).sum().backward()
    ours = {f"visual.{name}": parameter.grad for name, parameter in model.visual.named_parameters()}
    assert ours.keys() == leaves.keys()
    for name, leaf in leaves.items():
        torch.testing.assert_close(
            ours[name], leaf.grad, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )
