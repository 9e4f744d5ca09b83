"""Runs that begin from models of other families: what is read, resized, locked, initialised and written back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import toy

from tandem import weights
from tandem.config import ModelConfig, Preprocessing, VisionTransformer
from tandem.errors import ConfigError
from tandem.nn import CLIP, from_arrays, initialise
from tandem.towers.parts.torch import resize_grid
from tandem.train.model.initial_weights import build_model, load_initial, lock
from tandem.train.model.towers import Towers
from tandem.train.recipe import Init, Recipe, Source

FAMILIES = ("pe-core", "clipa")


def recipe(config: ModelConfig, **changes: object) -> Recipe:
    return replace(Recipe("toy", "", config, (Source("x", per_batch=1),), 1), **changes)  # type: ignore[arg-type]


def pixels(size: int = toy.SIZE) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def ids() -> torch.Tensor:
    return torch.from_numpy(toy.tokenizer()(["a cat", "do dogs"], toy.CONTEXT)).long()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_is_read_whole_gives_its_own_vectors(family: str, tmp_path: Path) -> None:
    checkpoint = toy.checkpoint(family)
    folder = str(toy.folder(tmp_path / "m", family))
    initial = load_initial(recipe(checkpoint.config, init=Init(model=folder)))
    clip, original = build_model(initial, initial.config, 0).eval(), from_arrays(checkpoint.config, checkpoint.tensors)
    assert initial.notes == ()
    assert torch.equal(clip.encode_image(pixels()), original.encode_image(pixels()))
    assert torch.equal(clip.encode_text(ids()), original.encode_text(ids()))


@pytest.mark.parametrize("class_token", [True, False])
def test_a_larger_image_size_resizes_the_table_and_keeps_the_rotary_grid(class_token: bool, tmp_path: Path) -> None:
    config = toy.config("pe-core")
    vision = replace(config.vision, class_token=class_token)
    made = replace(config, vision=vision)
    original = weights.Checkpoint(made, toy.tensors(made), toy.tokenizer(), "toy")
    folder = str(weights.write(original, tmp_path / "m", "tandem"))
    larger = replace(config, vision=replace(vision, image_size=48), preprocessing=Preprocessing(48))
    initial = load_initial(recipe(larger, init=Init(model=folder)))
    assert any("positional_embedding resized from 4 x 4 to 6 x 6" in note for note in initial.notes)
    clip = build_model(initial, initial.config, 0).eval()
    table = torch.from_numpy(original.tensors["visual.positional_embedding"])
    assert torch.equal(clip.visual.positional_embedding.data, resize_grid(table, (6, 6), int(class_token)))
    # The tower at its first size, given larger images, resizes both kinds of positions by itself: the same vectors
    small = from_arrays(original.config, original.tensors)
    torch.testing.assert_close(clip.encode_image(pixels(48)), small.encode_image(pixels(48)))


def test_another_rotary_grid_is_another_model(tmp_path: Path) -> None:
    config = toy.config("pe-core")
    folder = str(toy.folder(tmp_path / "m", "pe-core"))
    assert isinstance(config.vision, VisionTransformer)
    other = replace(config, vision=replace(config.vision, rotary_grid=7))
    with pytest.raises(
        ConfigError, match=r"model\.vision\.rotary_grid: the recipe says 7, .* has 6; leave the field out"
    ):
        load_initial(recipe(other, init=Init(model=folder)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_locked_tower_keeps_its_weights_but_for_its_last_block(family: str) -> None:
    checkpoint = toy.checkpoint(family)
    clip = from_arrays(checkpoint.config, checkpoint.tensors)
    lock(clip, ("image", "text"), unlocked_blocks=1)
    learning = {name for name, parameter in clip.state_dict(keep_vars=True).items() if parameter.requires_grad}
    assert learning - {"logit_scale"} == {
        name
        for name in checkpoint.tensors
        if ".resblocks.1." in name
        or name.startswith(("transformer.resblocks.1.", "visual.ln_post", "ln_final", "visual.pool.", "visual.proj"))
        or name == "text_projection"
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_drawn_and_gets_a_gradient(family: str) -> None:
    clip = CLIP(toy.config(family))
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.fill_(float("nan"))
        for module in clip.modules():  # norms start as torch has them
            if isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()
        clip.logit_scale.fill_(1.0)
    towers = Towers(initialise(clip, seed=1), "float32")
    assert not [name for name, parameter in towers.named_parameters() if parameter.isnan().any()]
    images, texts = towers(torch.randint(0, 256, (4, toy.SIZE, toy.SIZE, 3), dtype=torch.uint8), ids())
    (images.sum() + texts.sum()).backward()
    without = [name for name, parameter in clip.named_parameters() if parameter.grad is None]
    assert without == ["logit_scale"]
