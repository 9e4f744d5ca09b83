"""Recipes: complete, printable, and refused by the name of the key where a value is impossible."""

import copy
import dataclasses
import inspect
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from support import run_toys, toy, training_toys

from tandem.cli import main
from tandem.config import ResNet, VisionTransformer
from tandem.errors import ConfigError, DataError
from tandem.fields import Range
from tandem.train.data.loader import Loader
from tandem.train.recipe import Recipe, Source, from_dict, to_dict, to_toml
from tandem.train.recipe_file import read_chain, read_recipe
from tandem.train.run.resume import resume_checks

MINI = Path(__file__).resolve().parents[2] / "recipes" / "mini.toml"
RECIPES = sorted(MINI.parent.glob("*.toml"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    run_toys.write_data(tmp_path)
    return run_toys.write_recipe(tmp_path, tmp_path / "run")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_what_is_printed_reads_back_as_the_same_recipe(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--print", str(path), "seed=7"]) == 0
    printed = capsys.readouterr().out
    recipe = read_recipe(path, ["seed=7"])
    assert from_dict(tomllib.loads(printed)) == recipe
    assert "clip_norm = " in printed  # complete: what the file leaves out too
    assert from_dict(to_dict(recipe)) == recipe


def test_what_a_file_says_itself_comes_before_the_data_that_it_takes(recipe: Path) -> None:
    mine, body = recipe.with_name("mine.toml"), recipe.read_text()
    mine.write_text('data_from = "run.toml"\n' + body[: body.index("[[data]]")] + "[validation]\nevery_steps = 9\n")
    found = read_recipe(mine)
    assert found.data == read_recipe(recipe).data
    assert (found.validation.every_steps, found.validation.zero_shot) == (9, "")  # its own table, whole


def test_a_chain_runs_on_one_machine_and_each_keeps_the_tower_that_it_names(recipe: Path, tmp_path: Path) -> None:
    init = '[init]\nrecipe = "run.toml"\nimage = "tandem-mini"\n'
    recipe.with_name("second.toml").write_text(recipe.read_text().replace("vocabulary = 540\n", "") + init)
    machine = ["device=cpu", "cache_images=true", "cache_folder=/fast", "log_every_steps=7"]
    more = [f"folder={tmp_path / 'second'}", "resume.allow_rounding=true", "seed=9"]
    first, second = read_chain(recipe.with_name("second.toml"), [*machine, *more])
    for each in (first.recipe, second.recipe):
        assert (each.device, each.cache_images, each.cache_folder, each.log_every_steps) == ("cpu", True, "/fast", 7)
        assert each.resume.allow_rounding
    assert (first.recipe.seed, second.recipe.seed) == (1, 9)
    after = second.after(tmp_path / "run" / "model")
    assert (after.init.image, after.init.model) == ("tandem-mini", str(tmp_path / "run" / "model"))
    assert dataclasses.replace(after, init=second.recipe.init) == second.recipe


def test_strings_of_any_kind_survive(recipe: Path) -> None:
    odd = 'a "quoted" \\ line\nand Ünïcode \u007f \u2028 {}'
    values = tomllib.loads(recipe.read_text())
    values["data"][0]["templates"] = [odd]
    values["data"][0]["broader"] = {"a word": ["x", "y z"], 'a "b" = c': ["d"]}
    parsed = from_dict(values)
    assert from_dict(tomllib.loads(to_toml(parsed))) == parsed
    assert parsed.data[0].templates == (odd,)


def test_the_recipe_of_the_shipped_model_means_what_it_meant() -> None:
    recipe = read_recipe(MINI)
    assert recipe.batch_size == 280
    assert [source.per_batch for source in recipe.data] == [192, 64, 12, 12]
    assert (recipe.objective.loss, recipe.ema.decay, recipe.parallel.micro_batches) == ("infonce", 0.0, 1)
    with_more = read_recipe(MINI, ["objective.classes=1.0", "ema.decay=0.999"])
    assert (with_more.objective.classes, with_more.ema.decay) == (1.0, 0.999)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch_size=9", r"batch_size: expected 15, the sum of the sources' per_batch, got 9"),
        ('data=[{path="a", weight=1.0}]', "batch_size: missing"),
        ('data=[{path="a", weight=1.0}, {path="b", per_batch=3}]', r"data\[1\]: expected per_batch on every source"),
        ("data=[]", "data: expected at least one"),
        ('data=[{path="a", per_batch=1, crop=[0.9, 0.5]}]', r"data\[0\]\.crop: .*the smaller first, got \[0.9, 0.5\]"),
        ('data=[{path="a", per_batch=1, templates=["a"]}]', r"data\[0\]\.templates: expected one \{\} .*got 'a'"),
        ('data=[{path="a", per_batch=1, templates=["{name}"]}]', r"data\[0\]\.templates: expected one \{\}"),
        ('data=[{path="a", per_batch=1, templates=["{.x}"]}]', r"data\[0\]\.templates: expected one \{\}"),
        ('data=[{path="a", per_batch=1, templates=["{[x]}"]}]', r"data\[0\]\.templates: expected one \{\}"),
        ("checkpoints=3", "checkpoints: expected a mapping"),
        ("model=3", "model: expected a mapping"),
        ("init.model=3", r"init\.model: expected text, got 3"),
        ('data=[{path="a", kind="names", per_batch=1, templates=[]}]', r"data\[0\]\.templates: expected at least one"),
        ('data=[{path="a", per_batch=1, kolor=1}]', r"data\[0\]\.kolor: unknown key"),
        ("patch_dropout=0.5", "patch_dropout: expected 0 for a resnet, which has no patches, got 0.5"),
        ("stages=[{start=0.5, image_size=32}, {start=0.2, image_size=16}]", r"stages\[1\]\.start: expected more than"),
        ("stages=[{start=0.0, image_size=8}]", r"stages\[0\]\.image_size: expected at least 16, got 8"),
        ("objective.loss=hinge", "objective.loss: expected one of infonce, sigmoid, got 'hinge'"),
        ("log.wandb.project=x", "log.wandb: expected text"),
        ("steps.more=1", r"steps\.more: steps is a single value, not a table"),
        ("model.vision.kernel=3", r"model\.vision\.kernel: unknown key"),
        ("model.color=3", r"model\.color: unknown key"),
        (
            "model.vision.type=resnet50",
            r"model\.vision\.type: expected one of .*resnet.*, got 'resnet50'; did you mean",
        ),
        ("model.vision.width=5", "vision.width: expected an even number, got 5|not divisible"),
        ("optimizer.learning_rate=1", "optimizer: unknown key; did you mean 'optimiser'"),
        ("optimiser.warmup=1", r"optimiser\.warmup: unknown key; did you mean 'warmup_steps'"),
        ("log_every_steps=0", "log_every_steps: expected a whole number of at least 1, got 0"),
        ("nonsense", "expected key=value, got 'nonsense'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_by_key(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        read_recipe(recipe, [override])
    assert str(refused.value).startswith(str(recipe))
    assert "\n" not in str(refused.value)


# --- every field -----------------------------------------------------------------------------------------------------


def _bad_values(hint: Any) -> list[Any]:
    """Values that a field of this annotation must refuse: of another type, and on both sides of its range."""
    kind, extras = (typing.get_args(hint)[0], hint.__metadata__) if typing.get_origin(hint) is Annotated else (hint, ())
    origin = typing.get_origin(kind)
    if origin is Literal:
        return ["nonsense", True]
    if kind is bool:
        return ["perhaps", 1]
    if kind is str:
        return [3, ["a"]]
    if kind in (int, float):
        limits = next((extra for extra in extras if isinstance(extra, Range)), Range())
        beyond = [limits.least - 1] if limits.least is not None else []
        beyond += [limits.most + 1] if limits.most is not None else []
        beyond += [limit for limit in (limits.above, limits.below) if limit is not None]
        return ["many", True, *([1.5] if kind is int else [math.inf, math.nan]), *beyond]
    if origin is tuple:
        return ["word", 3]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return [3, "word"]
    assert origin in (types.UnionType, typing.Union), f"no impossible value is known for {hint}"
    return [3.5]


def _fields(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, annotation) of every field of a recipe, those of one item of each list included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for name, hint in ((each.name, hints[each.name]) for each in dataclasses.fields(kind)):
        bare = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
        items = [each for each in typing.get_args(bare) if inspect.isclass(each) and dataclasses.is_dataclass(each)]
        if inspect.isclass(bare) and dataclasses.is_dataclass(bare):
            yield from _fields(bare, f"{prefix}{name}.")
        elif typing.get_origin(bare) is tuple and items:
            yield f"{prefix}{name}", bare
            yield from _fields(items[0], f"{prefix}{name}[0].")
        elif items:
            for each in items:
                yield from _fields(each, f"{prefix}{name}:{each.__name__}.")
        else:
            yield prefix + name, hint


CASES = [
    (key, value)
    for key, hint in _fields(Recipe)
    for value in _bad_values(hint)
    if not key.startswith("model.quantization")  # refused as a whole
]


# Towers of the kinds that no recipe of these tests has
TOWERS: dict[str, dict[str, Any]] = {
    "FastViT": {"type": "fastvit", "image_size": 16, "layers": [1, 1], "width": 16, "squeezed_stages": 1},
    "NaFlex": {
        **{"type": "naflex", "patch_size": 4, "grid": 4, "max_patches": 16},
        **{"width": 8, "layers": 1, "heads": 2, "mlp_width": 16, "activation": "gelu"},
    },
    "Bert": {
        **{"type": "bert", "context_length": 16, "vocabulary_size": 540, "width": 16},
        **{"layers": 1, "heads": 2, "mlp_width": 32, "positions": 20},
    },
}


def _complete(folder: Path, vision: type) -> dict[str, Any]:
    """A recipe with an item in every list, as plain values."""
    plain = copy.deepcopy(tomllib.loads(run_toys.RECIPE.format(folder=folder, root=folder)))
    if vision is VisionTransformer:
        plain["model"] = copy.deepcopy(training_toys.MODEL)
    else:
        assert vision is ResNet
    plain["validation"]["sets"] = [{"name": "more", "path": "names.parquet", "kind": "zero_shot"}]
    return to_dict(from_dict({**plain, "stages": [{"start": 0.0, "image_size": 16}]}))


def test_every_field_of_a_recipe_is_tried() -> None:
    keys = {key for key, _ in CASES}
    assert len(keys) > 90
    assert {"steps", "data[0].weight", "stages[0].start", "validation.sets[0].limit", "optimiser.beta2"} <= keys
    assert {"model.vision:ResNet.width", "model.vision:VisionTransformer.layers"} <= keys
    assert {"model.vision:FastViT.layers", "model.text:TextTransformer.heads", "model.text:Bert.heads"} <= keys


def test_a_quantised_model_is_not_trained(tmp_path: Path) -> None:
    plain = _complete(tmp_path, ResNet)
    plain["model"]["quantization"] = {
        **{"method": "int8", "source": "toy", "source_fingerprint": "0", "images": 1, "texts": 1},
        **{"top1": 1.0, "neighbours": 1.0, "mixed_neighbours": 1.0, "mean_cosine": 1.0, "least_cosine": 1.0},
    }
    with pytest.raises(ConfigError, match=r"^model.quantization: expected none"):
        from_dict(plain)


@pytest.mark.slow
def test_an_impossible_value_is_refused_by_name(tmp_path: Path) -> None:
    """Hundreds of them in one test: each by itself would cost more in pytest than here."""
    complete = {vision: _complete(tmp_path, vision) for vision in (VisionTransformer, ResNet)}
    wrong = []
    for case, value in CASES:
        plain = copy.deepcopy(complete[VisionTransformer if ":VisionTransformer" in case else ResNet])
        if named := re.match(r"model\.(\w+):(FastViT|NaFlex|Bert)\.", case):
            plain["model"][named[1]] = copy.deepcopy(TOWERS[named[2]])
        key = re.sub(r":\w+", "", case)
        at: Any = plain
        *parents, last = re.findall(r"\w+", key)
        for parent in parents:
            at = at[int(parent)] if parent.isdigit() else at[parent]
        at[last] = value
        try:
            from_dict(plain)
            message = "accepted"
        except ConfigError as refused:
            message = str(refused)
        if not message.startswith(f"{key}: expected ") or repr(value)[:20] not in message:
            wrong.append(f"{case} = {value!r}: {message}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "override",
    [
        "steps=-1", "steps=0", "steps=1.5", "steps=many", "seed=-1", "workers=-1", "log_every_steps=0", "vocabulary=-5",
        "optimiser.learning_rate=-1e-3", "optimiser.learning_rate=0", "optimiser.learning_rate=inf",
        "optimiser.warmup_steps=-1", "optimiser.beta1=1.0", "optimiser.epsilon=0", "optimiser.layer_decay=0",
        "ema.decay=1.0", "parallel.micro_batches=0", "parallel.norm_batch=-2", "checkpoints.every_steps=0",
        "checkpoints.keep_last=0", "validation.every_steps=0", "guards.max_bad=0", "guards.median_steps=0",
        "distillation.soften=1.5", "distillation.temperature=0", "patch_dropout=1.0", "unlocked_blocks=-1",
        "locked=image", "precision=float16", "model.text.layers=0", "model.text.width=-16", "model.embed_dim=0",
        "model.vision.layers=[1, 1, 1]", "model.vision.layers=[0, 1, 1, 1]",
    ],
)  # fmt: skip
def test_an_impossible_override_is_refused_by_name(recipe: Path, override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{re.escape(key)}(\[\d\])?: expected ") as refused:
        read_recipe(recipe, [override])
    assert str(refused.value).startswith(f"{recipe}: {key}")


def test_the_command_says_it_in_one_line(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(recipe), "workers=-1"]) == 2
    said = capsys.readouterr().err.strip()
    assert "workers: expected a whole number of at least 0, got -1" in said
    assert "\n" not in said


# --- names of before the first release -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override",
    [
        f"steps={'9' * 5000}",
        f"steps=0x{'f' * 5000}",
        f"name={'[' * 5000}",
        f"name={'[' * 5000}{']' * 5000}",
        f"{'k' * 5000}=1",
        f"name={[['x' * 9000]]}",
        "steps=2024-13-01",
    ],
    ids=lambda override: override[:8],
)
def test_what_is_too_large_to_read_or_show_is_one_short_line(recipe: Path, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_recipe(recipe, [override])
    message = str(caught.value).removeprefix(str(recipe))
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=1\nseed=2", r"steps: expected one value, got '1\\nseed=2'$"),
        ("folder=", "folder: expected the name of a folder for the run, got ''$"),
        (r'folder="a\u0000b"', r"folder: expected the name of a folder for the run, got 'a\\x00b'$"),
    ],
)
def test_what_could_only_be_a_slip_is_not_taken(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_recipe(recipe, [override])


@pytest.mark.parametrize("broader", [{"": ["*"]}, {"a": []}, {"a": ["*", "b"]}])
def test_a_broader_word_holds_for_names_or_for_all(broader: dict[str, list[str]]) -> None:
    with pytest.raises(ConfigError, match=r"^broader: expected a word with names, or \['\*'\] for all, got "):
        Source("x", broader={word: tuple(names) for word, names in broader.items()})


@pytest.mark.parametrize("table", ["vision", "text", "preprocessing"])
def test_a_table_that_is_none_is_refused_also_where_a_model_has_it(recipe: Path, table: str) -> None:
    with pytest.raises(ConfigError, match=f"model.{table}: expected a mapping of keys to values, got 5"):
        read_recipe(recipe, ["model={}", "init.model=tandem-mini", f"model.{table}=5"])


def test_a_file_of_endless_brackets_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(f"name = {'[' * 100_000}")
    with pytest.raises(ConfigError, match="nested too deep"):
        read_recipe(path)


def test_recipes_of_before_the_first_release_can_be_read(recipe: Path) -> None:
    text = recipe.read_text()
    old = text.replace("steps = 12", "steps = 12\ncheckpoint_every_steps = 7\ncache_pictures = true", 1)
    old = old.replace('path = "captions.tar"', 'path = "captions.tar"\ncaptions_per_picture = 2')
    old = old.replace("[checkpoints]\nevery_steps = 3", "[resume]\nelsewhere = true\n[checkpoints]")
    recipe.write_text(old)
    parsed = read_recipe(recipe)
    assert (parsed.checkpoints.every_steps, parsed.checkpoints.keep_last) == (7, 2)
    assert parsed.cache_images
    assert parsed.data[1].captions_per_image == 2
    assert parsed.resume.allow_rounding
    assert "cache_images = true" in to_toml(parsed)
    assert "pictur" not in to_toml(parsed)
    assert not read_recipe(recipe, ["cache_images=false"]).cache_images  # what is given by its new name counts


def test_another_device_rounds_otherwise_and_is_allowed_by_name_alone(recipe: Path) -> None:
    plain = to_dict(read_recipe(recipe))
    layouts = {"processes": 1, "device": "cpu", "threads": 2}, {"processes": 1, "device": "cuda", "threads": 4}
    assert resume_checks(plain, plain, layouts[0], layouts[0]) == []
    with pytest.raises(DataError, match=r"^started on cpu, now on cuda: .* resume\.allow_rounding=true"):
        resume_checks(plain, plain, *layouts)
    allowed = to_dict(read_recipe(recipe, ["resume.allow_rounding=true"]))
    device, threads = resume_checks(plain, allowed, *layouts)
    assert device.startswith("started on cpu, now on cuda: ")
    assert threads.startswith("threads were 2, are 4: ")


def test_a_stage_begins_at_its_share_of_the_steps(recipe: Path) -> None:
    parsed = read_recipe(recipe, ["steps=12", "stages=[{start=0.25, image_size=16}, {start=0.5, image_size=32}]"])
    before = parsed.model.vision.image_size
    assert [parsed.image_size_at(step) for step in (0, 2, 3, 5, 6, 11)] == [before, before, 16, 16, 32, 32]


# --- recipes that ship -----------------------------------------------------------------------------------------------


def test_fine_tuning_takes_the_folder_of_folders_that_it_is_given(tmp_path: Path) -> None:
    """`tandem train recipes/finetune.toml data_root=FOLDER`, with FOLDER/NAME/photo.jpg."""
    folder = training_toys.write_folder(tmp_path / "photos")
    chosen = read_recipe(
        MINI.parent / "finetune.toml", [f"data_root={folder}", f"folder={tmp_path / 'run'}", "workers=0"]
    )
    batch = Loader(chosen, toy.tokenizer()).batch(0)
    assert len(batch.pixels) == 64
    assert {name for text in batch.texts for name in training_toys.COLOURS if f"{name} thing" in text} == set(
        training_toys.COLOURS
    )


def test_a_source_is_checked_however_it_is_made() -> None:
    with pytest.raises(ConfigError, match="crop"):
        Source("a", crop=(0.9, 0.1))
