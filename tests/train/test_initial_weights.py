"""Where a run begins: read towers keep their vectors, what does not fit is refused, what is locked stays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import toy

import tandem
from tandem.config import ModelConfig, Preprocessing, TextTransformer
from tandem.errors import ConfigError
from tandem.nn import CLIP, from_arrays
from tandem.towers.parts.torch import resize_grid
from tandem.train.model.initial_weights import build_model, check_fits, load_initial, lock, set_training
from tandem.train.objective import clip_teacher
from tandem.train.objective.clip_teacher import ClipTeacher
from tandem.train.recipe import Init, Recipe, Source, from_dict, to_dict
from tandem.train.recipe_file import read_recipe
from tandem.weights import Checkpoint, write

TABLE = {"name": "x", "folder": "x", "steps": 1, "data": [{"path": "x", "per_batch": 1}]}


def _recipe(config: ModelConfig | None = None, **changes: object) -> Recipe:
    base = Recipe("toy", "", config or toy.config(), (Source("x", per_batch=1),), 1)
    return replace(base, **changes)  # type: ignore[arg-type]


def _built(recipe: Recipe, seed: int = 0) -> CLIP:
    initial = load_initial(recipe)
    return build_model(initial, initial.config, seed).eval()


def _pixels(size: int = toy.SIZE) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def _ids(texts: tuple[str, ...] = ("a cat", "do dogs")) -> torch.Tensor:
    return torch.from_numpy(toy.tokenizer()(list(texts), toy.CONTEXT)).long()


def _original(vision: str = "vit", seed: int = 0) -> CLIP:
    checkpoint = toy.checkpoint(vision, seed)
    return from_arrays(checkpoint.config, checkpoint.tensors)


@pytest.mark.parametrize("vision", ["vit", "resnet", "bottleneck"])
def test_a_model_that_is_read_whole_gives_its_own_vectors(vision: str, tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m", vision))
    clip = _built(_recipe(toy.config(vision), init=Init(model=folder)))
    original = _original(vision)
    assert torch.equal(clip.encode_image(_pixels()), original.encode_image(_pixels()))
    assert torch.equal(clip.encode_text(_ids()), original.encode_text(_ids()))
    assert clip.logit_scale.item() == original.logit_scale.item()
    assert load_initial(_recipe(toy.config(vision), init=Init(model=folder))).notes == ()


def test_nothing_named_is_drawn_from_the_seed() -> None:
    a, b, c = (_built(_recipe(), seed).encode_text(_ids()) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_each_tower_from_another_checkpoint(tmp_path: Path) -> None:
    one, other = (str(toy.folder(tmp_path / str(seed), seed=seed)) for seed in (1, 2))
    clip = _built(_recipe(init=Init(image=one, text=other)))
    assert torch.equal(clip.encode_image(_pixels()), _original(seed=1).encode_image(_pixels()))
    assert torch.equal(clip.encode_text(_ids()), _original(seed=2).encode_text(_ids()))
    assert clip.logit_scale.item() == pytest.approx(np.log(1 / 0.07))  # of two that never met: as at the start
    both = _built(_recipe(init=Init(model=one, text=other)))
    assert torch.equal(both.encode_image(_pixels()), clip.encode_image(_pixels()))
    assert torch.equal(both.encode_text(_ids()), clip.encode_text(_ids()))


def test_one_tower_of_another_width_gets_a_fresh_projection(tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m"))
    recipe = _recipe(replace(toy.config(), embed_dim=20), init=Init(image=folder), locked=("image",))
    initial = load_initial(recipe)
    assert "visual.proj" in initial.notes[0]
    assert "20 dimensions instead of 12" in initial.notes[0]
    clip = build_model(initial, initial.config, 0).eval()
    assert clip.encode_image(_pixels()).shape == (2, 20)
    assert torch.equal(clip.visual.conv1.weight, _original().visual.conv1.weight)
    assert initial.tokenizer is None
    lock(clip, recipe.locked, read_names=initial.tensors)
    learning = {name for name, p in clip.named_parameters() if p.requires_grad and name.startswith("visual.")}
    assert learning == {"visual.proj"}  # what was drawn afresh learns, locked or not


@pytest.mark.parametrize(("vision", "size"), [("vit", 48), ("resnet", 64)])
def test_another_resolution_resizes_the_positions(vision: str, size: int, tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m", vision))
    before = toy.config(vision)
    config = replace(before, vision=replace(before.vision, image_size=size), preprocessing=Preprocessing(size))
    initial = load_initial(_recipe(config, init=Init(model=folder)))
    assert len(initial.notes) == 1
    assert "resized" in initial.notes[0]
    name = "visual.positional_embedding" if vision == "vit" else "visual.attnpool.positional_embedding"
    grid = config.vision.grid
    original = _original(vision)
    torch.testing.assert_close(initial.tensors[name], resize_grid(original.state_dict()[name], (grid, grid)))
    clip = build_model(initial, initial.config, 0).eval()
    # The original, given larger images, resizes its positions on the way: the same vectors.
    torch.testing.assert_close(clip.encode_image(_pixels(size)), original.encode_image(_pixels(size)))


def test_a_shorter_context_keeps_the_vectors_of_what_fits_and_a_longer_one_stretches(tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m"))
    config = toy.config()
    shorter = _built(_recipe(replace(config, text=replace(config.text, context_length=9)), init=Init(model=folder)))
    ids = _ids()[:, :9]
    assert torch.equal(shorter.encode_text(ids), _original().encode_text(ids))
    longer = _built(_recipe(replace(config, text=replace(config.text, context_length=153)), init=Init(model=folder)))
    resized, before = longer.text.positional_embedding, _original().text.positional_embedding
    torch.testing.assert_close(resized[::2], before, rtol=0, atol=1e-5)
    torch.testing.assert_close(resized[1], (before[0] + before[1]) / 2, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": 600}, r"vocabulary: 600 entries would be learnt, but the text tower of .* its own 517"),
        ({"vocabulary_size": 600}, r"model\.text\.vocabulary_size: the recipe says 600, .* has 517"),
        ({"width": 32}, r"model\.text\.width: the recipe says 32, .* has 16"),
        ({"activation": "quick_gelu"}, r"model\.text\.activation"),
    ],
)
def test_a_text_tower_that_does_not_fit_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m"))
    config, recipe_change = toy.config(), {}
    if "vocabulary" in change:
        recipe_change = change
    else:
        config = replace(config, text=replace(config.text, **change))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        load_initial(_recipe(config, init=Init(text=folder), **recipe_change))


def test_an_image_tower_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m"))
    config = toy.config()
    with pytest.raises(ConfigError, match=r"model\.vision\.layers: the recipe says 3"):
        load_initial(_recipe(replace(config, vision=replace(config.vision, layers=3)), init=Init(image=folder)))  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"vision_transformer, the recipe's \[model\.vision\] a resnet"):
        load_initial(_recipe(toy.config("resnet"), init=Init(image=folder)))
    with pytest.raises(ConfigError, match="would stay at random weights"):
        load_initial(_recipe(config, locked=("image",), init=Init(text=folder)))


def test_a_model_of_which_only_the_configuration_is_known_is_checked_too() -> None:
    """Both towers, but for one that comes from elsewhere."""
    config = toy.config()
    for tower, init in (("vision", {"image": "another"}), ("text", {"text": "another"})):
        other = replace(config, **{tower: replace(getattr(config, tower), layers=9)})  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=rf"model\.{tower}\.layers: the recipe says 9, first\.toml has 2"):
            check_fits(config, _recipe(other, init=Init(recipe="first.toml")), "first.toml")
        check_fits(config, _recipe(other, init=Init(recipe="first.toml", **init)), "first.toml")


def test_the_text_towers_tokenizer_is_the_runs(tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m"))
    initial = load_initial(_recipe(init=Init(text=folder)))
    assert initial.tokenizer is not None
    assert initial.tokenizer.to_json() == toy.tokenizer().to_json()


def test_a_recipe_without_a_model_takes_the_checkpoints(tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m"))
    recipe = from_dict({**TABLE, "init": {"model": folder}})
    assert (recipe.model.vision, recipe.model.text) == (toy.config().vision, toy.config().text)
    assert recipe.model.licence == "CC0"
    larger = from_dict({**TABLE, "init": {"model": folder}, "model": {"vision": {"image_size": 48}}})
    assert larger.model.vision == replace(toy.config().vision, image_size=48)
    assert larger.model.preprocessing.image_size == 48
    (tmp_path / "m").rename(tmp_path / "gone")
    assert from_dict(to_dict(larger)) == larger  # a complete recipe needs no checkpoint to be read


def test_one_towers_table_is_taken_and_the_other_written(tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m"))
    words = {"context_length": 16, "vocabulary_size": 600, "width": 8, "layers": 1, "heads": 1, "mlp_width": 8}
    words |= {"activation": "gelu", "start_id": 1, "end_id": 2}
    recipe = from_dict({**TABLE, "init": {"image": folder}, "model": {"text": words}})
    assert recipe.model.vision == toy.config().vision
    assert recipe.model.text == TextTransformer(**words)
    assert recipe.model.embed_dim == toy.DIMENSIONS


@pytest.mark.slow
def test_the_shipped_recipe_of_fine_tuning_begins_with_the_model_that_ships() -> None:
    recipe = read_recipe(Path(__file__).resolve().parents[2] / "recipes" / "finetune.toml")
    initial = load_initial(recipe)
    shipped = tandem.load("tandem-mini", engine="torch")
    clip = build_model(initial, initial.config, 0).eval()
    for name, array in shipped.tensors.items():
        assert np.array_equal(clip.state_dict()[name].numpy(), array.astype(np.float32)), name


# --- locked towers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_a_locked_tower_has_no_gradient_and_moves_no_statistics(vision: str) -> None:
    clip = _original(vision)
    lock(clip, ("image",))
    set_training(clip, True)
    before = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    images, texts = clip.encode_image(_pixels()), clip.encode_text(_ids())
    assert not images.requires_grad
    (images.sum() * texts.sum()).backward()
    optimiser = torch.optim.AdamW([p for p in clip.parameters() if p.grad is not None], lr=0.1)
    optimiser.step()
    changed = {name for name, tensor in clip.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not any(name.startswith("visual.") for name in changed)


def test_the_last_blocks_of_a_locked_tower_may_learn() -> None:
    for vision, wanted in (
        ("vit", {"visual.transformer.resblocks.1", "visual.ln_post", "visual.proj"}),
        ("resnet", {"visual.layer4.0", "visual.attnpool"}),
    ):
        clip = _original(vision)
        lock(clip, ("image",), unlocked_blocks=1)
        learning = {n for n, p in clip.named_parameters() if p.requires_grad and n.startswith("visual.")}
        assert learning == {n for n, _ in clip.named_parameters() if n.startswith(tuple(wanted))}
    clip = _original()
    lock(clip, ("text",), unlocked_blocks=1)
    weights = clip.state_dict(keep_vars=True)
    learning = {n for n, p in weights.items() if p.requires_grad and not n.startswith("visual.")}
    wanted = {"transformer.resblocks.1", "ln_final", "text_projection", "logit_scale"}
    assert learning == {n for n in weights if n.startswith(tuple(wanted))}


def test_norms_of_parts_that_learn_are_in_training() -> None:
    clip = _original("resnet")
    lock(clip, ("image",), unlocked_blocks=1)
    set_training(clip, True)
    assert clip.visual.layer4[0].bn1.training
    assert not clip.visual.layer1[0].bn1.training
    set_training(clip, False)
    assert not clip.visual.layer4[0].bn1.training


# --- a CLIP as teacher ------------------------------------------------------------------------------------------


def test_a_clip_teachers_vectors_are_those_of_the_loaded_model(tmp_path: Path) -> None:
    folder = toy.folder(tmp_path / "m")
    teacher = ClipTeacher(str(folder), "float32", torch.device("cpu"))
    model = tandem.load(folder, engine="torch")
    pixels = np.random.default_rng(0).integers(0, 256, (3, toy.SIZE, toy.SIZE, 3), np.uint8)
    np.testing.assert_allclose(teacher.images(torch.from_numpy(pixels)), model.engine.encode_images(pixels), atol=1e-5)
    np.testing.assert_allclose(teacher.texts(["a cat", "do"]), model.embed_texts(["a cat", "do"]), atol=1e-5)
    assert teacher.scale == pytest.approx(model.logit_scale)
    flat = torch.full((1, 50, 50, 3), 90, dtype=torch.uint8)  # of any size: a plain colour stays one
    wanted = model.engine.encode_images(np.full((1, toy.SIZE, toy.SIZE, 3), 90, np.uint8))
    np.testing.assert_allclose(teacher.images(flat), wanted, atol=1e-4)


def test_a_clip_teacher_sees_every_image_and_text_within_the_range_of_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = toy.folder(tmp_path / "teacher")
    teacher = ClipTeacher(str(folder), "float32", torch.device("cpu"))
    pixels = torch.randint(0, 256, (5, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    texts = ["a cat", "do", "a dog", "b", "cat"]
    images, vectors = teacher.images(pixels), teacher.texts(texts)
    monkeypatch.setattr(clip_teacher, "IMAGES_PER_PASS", 2)
    monkeypatch.setattr(clip_teacher, "TEXTS_PER_PASS", 2)
    torch.testing.assert_close(teacher.images(pixels), images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(teacher.texts(texts), vectors, rtol=1e-4, atol=1e-5)
    board = 255 * (torch.arange(40)[:, None, None] // 4 % 2).expand(40, 40, 3).to(torch.uint8)[None]
    resized = teacher._resized(board)
    assert (float(resized.min()), float(resized.max())) == (0, 255)  # bicubic overshoots at an edge


@pytest.mark.parametrize("vision", ["resnet", "bottleneck"])
def test_a_deeper_image_tower_begins_as_the_one_that_is_read(vision: str, tmp_path: Path) -> None:
    folder = str(toy.folder(tmp_path / "m", vision))
    config = toy.config(vision)
    layers = tuple(depth + more for depth, more in zip(config.vision.layers, (0, 1, 2, 1), strict=True))
    recipe = _recipe(replace(config, vision=replace(config.vision, layers=layers)), init=Init(model=folder))
    clip = _built(recipe)
    assert len(clip.visual.blocks()) == sum(config.vision.layers) + 4
    torch.testing.assert_close(clip.encode_image(_pixels()), _original(vision).encode_image(_pixels()))
    [note] = load_initial(recipe).notes
    now, before = recipe.model.vision.summary, config.vision.summary
    assert note == f"{folder}: {now} instead of {before}; new blocks start as identity"
    clip.train()
    clip.encode_image(_pixels()).square().sum().backward()
    assert clip.visual.layer3[-1].last_norm.weight.grad.abs().sum() > 0, "they learn"


def test_a_tower_with_fewer_blocks_than_the_one_that_is_read_is_refused(tmp_path: Path) -> None:
    config = toy.config("resnet")
    deep = replace(config, vision=replace(config.vision, layers=(1, 2, 1, 1)))
    write(Checkpoint(deep, toy.tensors(deep), toy.tokenizer(), "here"), tmp_path / "m", "tandem")
    for layers in ((1, 1, 1, 1), (2, 1, 1, 2)):
        recipe = _recipe(replace(config, vision=replace(config.vision, layers=layers)))
        with pytest.raises(ConfigError, match=r"model\.vision\.layers: the recipe says .*, .* has \(1, 2, 1, 1\)"):
            load_initial(replace(recipe, init=Init(model=str(tmp_path / "m"))))
