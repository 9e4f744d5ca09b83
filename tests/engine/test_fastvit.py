"""MobileCLIP's towers: the reference's numbers, the folding of branches, states and training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support.engine_toys import TOYS, random_pixels, random_tensors

from tandem import engine, nn
from tandem.config import FastViT, ModelConfig, Preprocessing
from tandem.errors import ConfigError
from tandem.towers import tower_part
from tandem.towers.parts import folding
from tandem.weights import expected_shapes, read_tensors

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


ENGINES = ("openvino", "torch")
DATA = Path(__file__).parent.parent / "data"


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("which", ["mobileclip2-s0-tiny", "mobileclip2-s3-tiny"])
def test_golden(shared: Path, which: str, name: engine.EngineName) -> None:
    folder = shared / "golden" / "families" / which
    config, tensors = read_tensors(folder)
    built = engine.build(config, tensors, engine=name)
    expected = np.load(folder / "expected.npz")
    ids = expected["token_ids"].astype(np.int32)
    for copies in (1, 20):  # alone, and in more than one step of the engine
        images = built.encode_images(np.concatenate([expected["pixels"]] * copies))
        texts = built.encode_texts(np.concatenate([ids] * copies))
        np.testing.assert_allclose(images, np.concatenate([expected["image_features"]] * copies), atol=1e-5)
        np.testing.assert_allclose(texts, np.concatenate([expected["text_features"]] * copies), atol=1e-5)
    logits = np.exp(np.float32(tensors["logit_scale"])) * images[:3] @ texts[:4].T
    np.testing.assert_allclose(logits, expected["logits_per_image"], atol=1e-3)


@pytest.mark.parametrize("name", ENGINES)
def test_padding_reaches_the_vectors_of_texts_without_a_mask(shared: Path, name: engine.EngineName) -> None:
    folder = shared / "golden" / "families" / "mobileclip2-s0-tiny"
    config, tensors = read_tensors(folder)
    assert config.text.fixed_length
    built = engine.build(config, tensors, engine=name)
    expected = np.load(folder / "expected.npz")
    for row, vector in zip(expected["token_ids"].astype(np.int32), expected["text_features"], strict=True):
        short = row[None, : int((row == config.text.end_id).argmax()) + 1]  # the engine pads it again
        np.testing.assert_allclose(built.encode_texts(short)[0], vector, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_vision_transformer_with_a_stem_of_convolutions(name: engine.EngineName) -> None:
    """`vit_base_mci_224` of timm 1.0.31 in small; tests/data/README.md says how its vectors were made."""
    from safetensors.numpy import load_file

    from tandem.weights.names import to_original

    expected = np.load(DATA / "mobileclip-b-tiny.npz")
    tensors, naming = to_original(load_file(DATA / "mobileclip-b-tiny.safetensors"))
    assert naming == "open_clip"
    timm = tower_part(TOYS["vit"].vision, "timm")
    vision = timm.description("vit_base_mci_224", 64, {key: array.shape for key, array in tensors.items()})
    assert (vision.patch_size, vision.stem_width, vision.projection, vision.norm_epsilon) == (16, 8, "biased", 1e-6)
    embed_dim = expected["features"].shape[1]
    config = ModelConfig(embed_dim, vision, TOYS["vit"].text, Preprocessing(64, (0,) * 3, (1,) * 3))
    text = {key: array for key, array in random_tensors(config).items() if not key.startswith("visual.")}
    built = engine.build(config, {**text, **tensors}, engine=name)
    unit = expected["features"] / np.linalg.norm(expected["features"], axis=1, keepdims=True)
    for copies in (1, 2):  # one image is computed in numpy, before anything is compiled
        for image, vector in zip(expected["pixels"], unit, strict=True):
            np.testing.assert_allclose(built.encode_images(np.stack([image] * copies))[0], vector, atol=1e-5)


# --- folding -----------------------------------------------------------------------------------------------------


def test_branches_of_a_convolution_are_one_convolution() -> None:
    rng = np.random.default_rng(0)
    tensors = {
        **{
            f"{name}.weight": rng.standard_normal(shape)
            for name, shape in {"a": (6, 1, 7, 7), "b": (6, 1, 3, 3)}.items()
        },
        **{
            f"{norm}.{part}": rng.uniform(0.5, 2, 6)
            for norm in ("n", "m", "skip")
            for part in ("weight", "bias", "running_mean", "running_var")
        },
    }
    branches = (folding.normed_convolution(tensors, "a", "n"), folding.normed_convolution(tensors, "b", "m"))
    folded = branches[0] + branches[1] + folding.identity_norm(tensors, "skip", 6)
    x = torch.from_numpy(rng.standard_normal((2, 6, 9, 9)))

    def convolved(convolution: folding.Convolution) -> torch.Tensor:
        kernel, bias = torch.from_numpy(convolution.kernel), torch.from_numpy(convolution.bias)
        return torch.nn.functional.conv2d(x, kernel, bias, padding=kernel.shape[2] // 2, groups=6)

    norm = {
        part: torch.from_numpy(tensors[f"skip.{part}"]) for part in ("running_mean", "running_var", "weight", "bias")
    }
    alone = torch.nn.functional.batch_norm(x, **norm, eps=1e-5)
    torch.testing.assert_close(convolved(folded), convolved(branches[0]) + convolved(branches[1]) + alone)


def test_the_identity_of_every_grouping_leaves_its_input_alone() -> None:
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    for groups in (1, 2, 6):
        kernel = torch.from_numpy(folding.identity(6, groups).kernel)
        torch.testing.assert_close(torch.nn.functional.conv2d(x, kernel, groups=groups), x)


def test_the_graph_holds_one_convolution_for_all_branches() -> None:
    from tandem.engine.graph import image_graph

    config = TOYS["fastvit"]
    kinds = [node.get_type_name() for node in image_graph(config, random_tensors(config)).get_ops()]
    blocks = sum(config.vision.layers)
    stages = len(config.vision.layers)
    attention = config.vision.layers[-1]
    # stem 3; a downsampling 4, half of the channels each; a mixer 1, an MLP 3; positions 1; the last one 2, half of the
    # channels each; squeeze-and-excitation 2
    squeezed = 1 + config.vision.squeezed_stages
    convolutions = 3 + 4 * (stages - 1) + (blocks - attention) + 3 * blocks + 1 + 2 + 2 * squeezed
    assert kinds.count("Convolution") + kinds.count("GroupConvolution") == convolutions
    assert "BatchNormInference" not in kinds
    assert kinds.count("Multiply") == 2 * squeezed  # by the gates of both halves: no layer scale is left


# --- states ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", ["fastvit", "fastvit-large"])
@pytest.mark.slow
def test_states_are_the_positions_of_a_stage(toy: str) -> None:
    config = TOYS[toy]
    tensors, pixels = random_tensors(config), random_pixels(config, n=3)
    ours, theirs = (engine.build(config, tensors, engine=name) for name in ENGINES)
    stages = len(config.vision.layers)
    for layer in range(stages + 1):
        states = ours.image_states(pixels, layer, norm=False, projection=False)
        side, width = 64 // (4 * 2 ** max(0, layer - 1)), config.vision.widths[max(0, layer - 1)]
        assert states.shape == (3, side**2, width)
        others = theirs.image_states(pixels, layer, norm=False, projection=False)
        np.testing.assert_allclose(states, others, atol=1e-5 * abs(others).max())


# --- the torch definition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", ["fastvit", "fastvit-large", "vit-stem"])
def test_every_weight_learns_and_batch_norms_move(toy: str) -> None:
    config = TOYS[toy]
    model = nn.from_arrays(config, random_tensors(config)).train()
    before = {name: buffer.clone() for name, buffer in model.visual.named_buffers() if "running" in name}
    pixels = torch.from_numpy(random_pixels(config, n=8)).permute(0, 3, 1, 2) / 255
    model.encode_image(pixels).square().sum().backward()
    assert not [name for name, p in model.visual.named_parameters() if p.grad is None or not p.grad.any()]
    after = dict(model.visual.named_buffers())
    assert before
    assert not [name for name, buffer in before.items() if torch.equal(buffer, after[name])]


@pytest.mark.parametrize("toy", ["fastvit", "fastvit-large", "vit-stem"])
def test_module_and_shapes_name_the_same_tensors(toy: str) -> None:
    config = TOYS[toy]
    state = nn.to_arrays(nn.initialise(nn.CLIP(config)))
    assert {name: array.shape for name, array in state.items()} == expected_shapes(config)


def test_first_weights_are_drawn_and_blocks_start_as_almost_identity() -> None:
    config = TOYS["fastvit"]
    model = nn.CLIP(config)
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.fill_(float("nan"))
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm | torch.nn.BatchNorm2d):
                module.reset_parameters()
    nn.initialise(model)
    assert not [name for name, p in model.visual.named_parameters() if p.isnan().any()]
    block = model.eval().visual.blocks()[0]
    x = torch.randn(2, config.vision.width, 6, 6)
    torch.testing.assert_close(block(x), x, atol=1e-3, rtol=0)
    assert len(model.visual.blocks()) == sum(config.vision.layers)
    assert {id(p) for p in model.visual.after_blocks()} == {
        id(p) for name, p in model.visual.named_parameters() if name.startswith(("final_conv.", "head."))
    }


@pytest.mark.parametrize("toy", ["fastvit", "fastvit-large"])
def test_a_locked_tower_learns_in_its_last_blocks_only(toy: str) -> None:
    from tandem.train.model.initial_weights import lock, set_training

    config = TOYS[toy]
    model = nn.from_arrays(config, random_tensors(config))
    lock(model, ("image",), unlocked_blocks=1)
    set_training(model, training=True)
    stage = len(config.vision.layers) - 1
    free = (f"stages.{stage}.blocks.{config.vision.layers[-1] - 1}.", "final_conv.", "head.")
    learning = {name for name, p in model.visual.named_parameters() if p.requires_grad}
    assert learning == {name for name, _ in model.visual.named_parameters() if name.startswith(free)}
    before = {name: buffer.clone() for name, buffer in model.visual.named_buffers() if "running" in name}
    model.encode_image(torch.rand(8, 3, 64, 64)).sum().backward()
    moved = {name for name, buffer in model.visual.named_buffers() if name in before and not before[name].equal(buffer)}
    assert moved == {name for name in before if name.startswith(free)}


def test_layers_learn_the_slower_the_lower_their_stage() -> None:
    from tandem.train.step.optimiser import depths

    names = [f"clip.visual.{name}" for name, _ in nn.CLIP(TOYS["fastvit"]).visual.named_parameters()]
    found = {name: depth for name, (depth, _) in depths(names).items()}
    for part, depth in (("stem.", 0), ("stages.0.", 1), ("stages.3.", 4), ("final_conv.", 5), ("head.", 5)):
        assert {found[name] for name in names if name.startswith(f"clip.visual.{part}")} == {depth}


# --- descriptions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "millions"),
    # parameters of the image towers as their papers give them (Vasu et al. 2024, Faghri et al. 2025)
    [
        ("fastvit_mci0", 11.4),
        ("fastvit_mci1", 21.5),
        ("fastvit_mci2", 35.7),
        ("fastvit_mci3", 125.1),
        ("fastvit_mci4", 321.6),
    ],
)
def test_names_of_timm_give_the_published_sizes(name: str, millions: float) -> None:
    timm = tower_part(FastViT, "timm")
    vision = timm.description(name, 256, {})
    assert timm.name_of(vision) == name
    assert (vision.image_size, vision.grid) == (256, 8 if name < "fastvit_mci3" else 4)
    embed_dim = 512 if name < "fastvit_mci3" else 768
    shapes = tower_part(vision, "shapes").shapes(vision, embed_dim)
    assert timm.from_shapes(256, shapes) == vision
    parameters = sum(int(np.prod(shape)) for key, shape in shapes.items() if ".running_" not in key)
    assert parameters / 1e6 == pytest.approx(millions, rel=0.03)


def test_without_attention_its_norm_is_not_guessed() -> None:
    vision = FastViT(64, (1, 1), 8, attention_stages=0, squeezed_stages=1)
    shapes = tower_part(vision, "shapes").shapes(vision, 16)
    assert tower_part(FastViT, "timm").from_shapes(64, shapes) == vision


def test_channels_are_squeezed_to_whole_eights() -> None:
    """As timm rounds a quarter of them; at least 8."""
    vision = FastViT(64, (1, 1, 1, 1), 4, squeezed_stages=3)
    assert [vision.squeeze_width(stage) for stage in range(4)] == [0, 8, 8, 8]
    wide = dataclasses.replace(vision, width=40)
    assert [wide.squeeze_width(stage) for stage in range(4)] == [0, 24, 40, 80]  # of 80, 160 and 320


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"layers": ()}, "layers"),
        ({"layers": (1,) * 9}, "layers"),
        ({"attention_stages": 5}, "attention_stages"),
        ({"squeezed_stages": 4}, "squeezed_stages"),
        ({"width": 7}, "width"),
        ({"mlp_ratio": 0}, "mlp_ratio"),
    ],
)
def test_sizes_that_cannot_be_built_are_named(changes: dict[str, object], field: str) -> None:
    toy = TOYS["fastvit"]
    with pytest.raises(ConfigError, match=f"^vision.{field}"):
        dataclasses.replace(toy, vision=dataclasses.replace(toy.vision, **changes))
