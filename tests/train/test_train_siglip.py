"""SigLIP in training: first weights, the sigmoid loss from its own checkpoint, gradients, resuming, what is written."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import run_toys, training_toys
from support import weights_toys as toys

import tandem
from tandem import weights
from tandem.config import ModelConfig, Preprocessing
from tandem.errors import ConfigError
from tandem.nn import CLIP, from_arrays, initialise
from tandem.towers.parts.torch import resize_grid
from tandem.train.model.initial_weights import build_model, load_initial, lock
from tandem.train.model.towers import Towers
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.objective import ContrastiveObjective
from tandem.train.parallel.process import single_process
from tandem.train.recipe import Init, ObjectiveSettings, Parallel, Recipe, Source, from_dict, to_dict
from tandem.train.step.gradient import gradient
from tandem.train.step.optimiser import depths

TABLE: dict[str, Any] = {"name": "x", "folder": "x", "steps": 1, "data": [{"path": "x", "per_batch": 1}]}
SIGMOID = {"loss": "sigmoid"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SigLIP model with a scale and a bias of its own, in open_clip's layout."""
    name = "vit_base_patch16_siglip_256"
    checkpoint = toys.checkpoint(toys.siglip(timm_model=name, image_activation="gelu"))
    checkpoint.tensors["logit_scale"] = np.array(4.5, np.float32)  # type: ignore[index]
    checkpoint.tensors["logit_bias"] = np.array(-12.5, np.float32)  # type: ignore[index]
    return str(weights.write(checkpoint, tmp_path_factory.mktemp("siglip") / "model", "open_clip"))


def recipe_of(config: ModelConfig, **changes: Any) -> Recipe:
    base = Recipe("toy", "", config, (Source("x", per_batch=1),), 1, objective=ObjectiveSettings("sigmoid"))
    return dataclasses.replace(base, **changes)


def built(recipe: Recipe) -> tuple[CLIP, tuple[str, ...]]:
    initial = load_initial(recipe)
    return build_model(initial, initial.config, 0).eval(), initial.notes


# --- recipes -------------------------------------------------------------------------------------------------------


def test_a_recipe_takes_the_whole_description_from_the_checkpoint(source: str) -> None:
    config = weights.read(source).config
    recipe = from_dict({**TABLE, "init": {"model": source}, "objective": SIGMOID})
    for field in ("embed_dim", "vision", "text", "preprocessing", "logit_bias", "timm_model"):
        assert getattr(recipe.model, field) == getattr(config, field), field
    assert from_dict(to_dict(recipe)) == recipe


def test_the_loss_decides_whether_the_model_has_a_bias(source: str) -> None:
    model = dict(training_toys.MODEL)
    assert from_dict({**TABLE, "model": model, "objective": SIGMOID}).model.logit_bias
    assert not from_dict({**TABLE, "model": model}).model.logit_bias
    assert not from_dict({**TABLE, "init": {"model": source}}).model.logit_bias
    with pytest.raises(ConfigError, match=r"model.logit_bias: expected true with the loss sigmoid, got false"):
        from_dict({**TABLE, "model": {**model, "logit_bias": False}, "objective": SIGMOID})
    with pytest.raises(ConfigError, match=r"model.logit_bias: expected false with the loss infonce, got true"):
        from_dict({**TABLE, "model": {**model, "logit_bias": True}})


# --- first weights -------------------------------------------------------------------------------------------------


def test_a_run_begins_at_the_checkpoint(source: str) -> None:
    checkpoint = weights.read(source)
    clip, notes = built(recipe_of(checkpoint.config, init=Init(model=source)))
    assert notes == ()
    assert (clip.logit_scale.item(), clip.logit_bias.item()) == (4.5, -12.5)  # type: ignore[union-attr]
    for name, tensor in clip.state_dict().items():
        assert np.array_equal(tensor.numpy(), checkpoint.tensors[name]), name


def test_a_new_model_begins_at_the_papers_scale_and_bias() -> None:
    clip, _ = built(recipe_of(toys.siglip()))
    assert clip.logit_scale.exp().item() == pytest.approx(10)
    assert clip.logit_bias.item() == -10  # type: ignore[union-attr]
    both = initialise(CLIP(toys.siglip()))
    assert all(bool(parameter.isfinite().all()) for parameter in both.parameters())


def test_one_tower_of_siglip_locked_beside_a_new_one(source: str) -> None:
    config = weights.read(source).config
    clip, _ = built(recipe_of(config, init=Init(image=source), locked=("image",)))
    assert clip.logit_scale.exp().item() == pytest.approx(10)  # of two that never met: as at the start
    lock(clip, ("image",))
    learning = {name for name, parameter in clip.named_parameters() if parameter.requires_grad}
    assert learning
    assert not any(name.startswith("visual.") for name in learning)
    lock(both := built(recipe_of(config, init=Init(model=source)))[0], ("image", "text"), unlocked_blocks=1)
    learning = {name for name, parameter in both.named_parameters() if parameter.requires_grad}
    assert {"logit_scale", "logit_bias", "visual.pool.query", "text.text_projection_bias"} <= learning
    assert "visual.transformer.resblocks.1.mlp.c_fc.weight" in learning
    assert "visual.transformer.resblocks.0.mlp.c_fc.weight" not in learning


def test_siglips_image_tower_gets_a_projection_for_another_width(source: str) -> None:
    config = weights.read(source).config
    vision = dataclasses.replace(config.vision, projection="linear")
    recipe = recipe_of(dataclasses.replace(config, vision=vision, embed_dim=40), init=Init(model=source))
    clip, notes = built(recipe)
    assert any("visual.proj initialised anew, for 40 dimensions instead of 128" in note for note in notes)
    assert any("text_projection, text_projection_bias initialised anew" in note for note in notes)
    assert clip.encode_image(torch.zeros(1, 3, 32, 32)).shape == (1, 40)


def test_another_resolution_resizes_positions_without_a_class_token(source: str) -> None:
    config = weights.read(source).config
    vision = dataclasses.replace(config.vision, image_size=48)
    preprocessing = Preprocessing(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "squash")
    larger = dataclasses.replace(config, vision=vision, preprocessing=preprocessing)
    clip, notes = built(recipe_of(larger, init=Init(model=source)))
    table = torch.from_numpy(np.array(weights.read(source).tensors["visual.positional_embedding"]))
    assert torch.equal(clip.visual.positional_embedding, resize_grid(table, (6, 6), before=0))  # type: ignore[arg-type]
    assert "resized from 4 x 4 to 6 x 6" in notes[0]


def test_another_context_is_said_to_change_every_vector(source: str) -> None:
    config = weights.read(source).config
    shorter = dataclasses.replace(config, text=dataclasses.replace(config.text, context_length=8))
    _, notes = built(recipe_of(shorter, init=Init(model=source)))
    assert any("padded to 16 tokens, here to 8: all their vectors change" in note for note in notes)


def test_parameters_after_the_blocks_learn_at_the_full_rate() -> None:
    found = depths([name for name, _ in CLIP(toys.siglip()).named_parameters()])
    for name in ("visual.pool.query", "visual.pool.mlp.c_fc.weight", "logit_bias", "text.text_projection_bias"):
        depth, top = found[name]
        assert depth == top, name
    assert found["visual.conv1.bias"][0] == 0


# --- gradients -----------------------------------------------------------------------------------------------------


def batch(config: ModelConfig, n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(3)
    size, text = config.vision.image_size, config.text
    pixels = random.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    ids = random.integers(2, 90, (n, 7))
    ids[0, 3:] = text.pad_id
    ids[-1, 5:] = text.pad_id
    return torch.from_numpy(pixels), torch.from_numpy(ids)


def ours(clip: CLIP, config: ModelConfig, micro_batches: int = 1) -> dict[str, torch.Tensor]:
    """The loss and the gradients of a step in float64."""
    towers = Towers(clip, "float32").double()
    objective = ContrastiveObjective(clip, recipe_of(config)).double()
    pixels, ids = batch(config)
    step = DeviceBatch(pixels, ids, len(ids), len(ids))
    losses = gradient(towers, objective, step, Parallel("none", micro_batches), single_process())
    return {"loss": losses["loss"], **{name: p.grad for name, p in clip.named_parameters() if p.grad is not None}}


@pytest.mark.slow
def test_gradients_are_those_of_transformers() -> None:
    """Loss and gradient of every parameter in float64; texts are padded by the model, not by the batch."""
    transformers = pytest.importorskip("transformers")
    from tandem.weights.names import renamed_to
    from tandem.weights.transformers_config import config_to
    from tandem.weights.transformers_types import MODEL_TYPES

    config = toys.siglip(pad_id=1)
    tensors = toys.tensors(config)
    found = ours(from_arrays(config, tensors).train(), config)
    described = transformers.SiglipConfig.from_dict(config_to(config))
    model = transformers.SiglipModel._from_config(described, attn_implementation="eager").double()
    names = MODEL_TYPES["siglip"].names
    state = {name: torch.from_numpy(np.array(array)).double() for name, array in renamed_to(tensors, names).items()}
    model.load_state_dict(state, strict=False)
    pixels, ids = batch(config)
    padded = torch.nn.functional.pad(ids, (0, config.text.context_length - ids.shape[1]), value=config.text.pad_id)
    answer = model(input_ids=padded, pixel_values=(pixels.permute(0, 3, 1, 2).double() / 127.5 - 1), return_loss=True)
    answer.loss.backward()
    torch.testing.assert_close(found["loss"], answer.loss.detach(), rtol=1e-9, atol=1e-9)
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    mine = {name.removeprefix("text."): g.numpy() for name, g in found.items() if name != "loss"}
    wanted = renamed_to(mine, names)
    assert wanted.keys() == gradients.keys()
    for name, array in wanted.items():
        theirs = gradients[name].reshape(array.shape)
        assert abs(array).max() > 0 or "k_proj.bias" in name, name
        np.testing.assert_allclose(array, theirs, atol=1e-9 * max(1.0, abs(theirs).max()), err_msg=name)


def test_micro_batches_and_patch_dropout() -> None:
    config = toys.siglip()
    whole = ours(from_arrays(config, toys.tensors(config)).train(), config)
    parts = ours(from_arrays(config, toys.tensors(config)).train(), config, micro_batches=3)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-9, atol=1e-12, msg=name)
    clip = from_arrays(config, toys.tensors(config))
    pixels = torch.randn(2, 3, 32, 32)
    everything = torch.arange(16).expand(2, 16)
    torch.testing.assert_close(clip.encode_image(pixels, everything), clip.encode_image(pixels))
    assert clip.encode_image(pixels, everything[:, :5]).shape == (2, 128)


# --- whole runs ----------------------------------------------------------------------------------------------------


def run(root: Path, name: str, source: str, *overrides: str, die: str = "") -> list[int | None]:
    path = root / f"{name}.toml"
    path.write_text(
        f"""
name = "siglip"
folder = "{root / name}"
data_root = "{root}"
steps = 6
precision = "float32"
log_every_steps = 1
workers = 0
[init]
model = "{source}"
[objective]
loss = "sigmoid"
[log]
tensorboard = false
[[data]]
path = "captions.tar"
text = "captions"
per_batch = 8
[ema]
decay = 0.9
[checkpoints]
every_steps = 2
keep_last = 2
[optimiser]
learning_rate = 1e-3
warmup_steps = 1
[validation]
every_steps = 3
retrieval = "captions.tar"
"""
    )
    return run_toys.finish(run_toys.start(path, overrides, die=die))


@pytest.mark.slow
@pytest.mark.xdist_group("training")
def test_a_run_from_a_checkpoint_resumes_in_the_same_bits_and_writes_the_bias(source: str, tmp_path: Path) -> None:
    run_toys.write_data(tmp_path)
    assert run(tmp_path, "whole", source) == [0]
    assert run(tmp_path, "killed", source, die="step 4") == [-9]
    assert run(tmp_path, "killed", source) == [0]
    whole, killed = (run_toys.last_state(tmp_path / name) for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(name == "step" or torch.equal(tensor, killed[name]) for name, tensor in whole.items())
    bias = whole["towers.clip.logit_bias"].item()
    assert 0 < abs(bias + 12.5) < 0.1  # it began at the checkpoint's, and learns
    written = tandem.load(tmp_path / "whole" / "model")
    before = weights.read(source)
    assert written.config.vision == before.config.vision
    assert written.config.text == before.config.text
    assert written.config.timm_model == before.config.timm_model
    assert written.logit_bias == pytest.approx(whole["average.clip.logit_bias"].item(), abs=0.01)
    assert math.log(written.logit_scale) == pytest.approx(whole["average.clip.logit_scale"].item(), abs=0.01)
    for to in ("open_clip", "transformers"):
        back = weights.read(weights.write(written.checkpoint, tmp_path / to, to))  # type: ignore[arg-type]
        assert weights.fingerprint(back) == written.fingerprint


@pytest.mark.slow
def test_a_clip_fine_tuned_with_the_sigmoid_loss_has_a_bias(tmp_path: Path) -> None:
    run_toys.write_data(tmp_path)
    clip = toys.checkpoint(toys.vit())
    folder = weights.write(clip, tmp_path / "clip")
    assert run(tmp_path, "run", str(folder), "steps=2") == [0]
    written = tandem.load(tmp_path / "run" / "model")
    assert written.config.logit_bias
    assert -10.1 < written.logit_bias < -9.9
    assert math.log(written.logit_scale) == pytest.approx(float(clip.tensors["logit_scale"]), abs=0.01)
    assert run(tmp_path, "plain", str(folder), "steps=2", 'objective.loss="infonce"') == [0]
    assert tandem.load(tmp_path / "plain" / "model").logit_bias == 0
