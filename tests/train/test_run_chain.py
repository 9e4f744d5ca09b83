"""Runs one after the other, and the end of a run between its first and its last weights: stopped, resumed, priced."""

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from support import run_toys
from support.processes import unused_port

import tandem
from tandem import weights
from tandem.cli import main
from tandem.errors import ConfigError, DataError
from tandem.train.interpolate import interpolate
from tandem.train.recipe import Recipe
from tandem.train.recipe_file import RecipeFile, read_chain, read_recipe
from tandem.train.run import chain as chains
from tandem.train.run import dry_run as dry_runs
from tandem.train.run import ending, loop
from tandem.train.run.chain import dry_run_chain, train_chain
from tandem.train.run.ending import finished_model
from tandem.train.run.interpolated import between, choose
from tandem.train.run.loop import train
from tandem.train.run.statistics import measure_statistics
from tandem.train.wise_ft import Point

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("training")]

SECOND = """
name = "second"
folder = "{folder}"
data_root = "{root}"
steps = 3
precision = "float32"
workers = 0
stages = [{{ start = 0.0, image_size = 32 }}]
[log]
tensorboard = false
[init]
recipe = "first.toml"
[model.vision]
image_size = 48
layers = [1, 2, 1, 1]
[[data]]
path = "names.parquet"
text = "names"
kind = "names"
per_batch = 6
[ema]
decay = 0.5
[optimiser]
learning_rate = 1e-2
warmup_steps = 1
[validation]
zero_shot = "names.parquet"
limit = 12
sets = [{{ name = "half", path = "names.parquet", kind = "zero_shot", limit = 20 }}]
best = "zero_shot_top1"
[interpolation]
alphas = [0.0, 0.5, 1.0]
statistics_images = 12
"""


def write(root: Path, runs: Path) -> Path:
    """The two recipes, over data that is there already; returns the second."""
    runs.mkdir(exist_ok=True)
    first = run_toys.RECIPE.format(folder=runs / "first", root=root).replace("steps = 12", "steps = 2")
    (runs / "first.toml").write_text(first.replace('retrieval = "captions.tar"', "").replace("micro_batches = 2", ""))
    (runs / "second.toml").write_text(SECOND.format(folder=runs / "second", root=root))
    return runs / "second.toml"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_toys.write_data(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def done(root: Path) -> Path:
    """The folder of both runs, ended."""
    result, recipe = train_chain(read_chain(write(root, root / "done")))
    assert recipe.name == "second"
    assert recipe.init.model == str(root / "done" / "first" / "model")
    assert (result.model, result.step) == (root / "done" / "second" / "model", 3)
    return root / "done"


@pytest.fixture
def copy(root: Path, done: Path, tmp_path: Path) -> Path:
    """Such a folder to be changed, its second run at its last step but without an end; returns the second recipe."""
    recipe = write(root, tmp_path / "runs")
    for name in ("first", "second"):
        shutil.copytree(done / name, tmp_path / "runs" / name)
    shutil.rmtree(tmp_path / "runs" / "second" / "model")
    return recipe


def stop_after(asked: int) -> Callable[[], bool]:
    """Asks to stop at that question and all after it."""
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count >= asked

    return stop


def no_steps(*given: object) -> None:
    raise AssertionError("a step was taken")


def interrupt(*given: object) -> None:
    raise KeyboardInterrupt


# --- the end of a run ------------------------------------------------------------------------------------------------


def test_the_first_weights_are_those_of_the_run_before_fitted_to_the_tower(done: Path) -> None:
    before, initial = weights.read(str(done / "first")), weights.read(str(done / "second" / "initial"))
    for name, tensor in before.tensors.items():
        if "attnpool.positional_embedding" not in name:  # of a larger image
            assert np.array_equal(initial.tensors[name], tensor), name
    fresh = initial.tensors.keys() - before.tensors.keys()
    assert fresh
    assert all(name.startswith("visual.layer2.1.") for name in fresh)


def test_the_end_is_what_interpolating_and_measuring_by_hand_gives(root: Path, done: Path) -> None:
    run = done / "second"
    with (run / "interpolation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["alpha"]) for row in rows] == [0, 0.5, 1]
    measured = [float(row["zero_shot_top1"]) for row in rows]
    best = (0.0, 0.5, 1.0)[int(np.argmax(measured))]
    initial, trained = weights.read(str(run / "initial")), weights.read(str(run / "trained"))
    assert weights.fingerprint(initial) != weights.fingerprint(trained)
    saved = weights.read(str(max((run / "checkpoints").iterdir())))
    assert all(np.array_equal(tensor, saved.tensors[name]) for name, tensor in trained.tensors.items())
    recipe = read_recipe(run / "recipe.toml")
    middle = measure_statistics(interpolate(initial, trained, 0.5), recipe, 12)
    by_hand = {0.0: initial, 0.5: middle, 1.0: trained}[best]
    found = weights.read(str(run))
    assert all(np.array_equal(tensor, found.tensors[name]) for name, tensor in by_hand.tensors.items())
    assert found.config.name == "second"
    assert tandem.load(run, engine="torch").embed_texts(["red"]).shape == (1, 8)


def test_an_image_tower_that_stayed_as_it_was_keeps_its_statistics(done: Path, tmp_path: Path) -> None:
    """Nothing was averaged, so nothing is measured: there are no images here."""
    run = done / "second"
    initial, trained = weights.read(str(run / "initial")), weights.read(str(run / "trained"))
    images = {name: tensor for name, tensor in initial.tensors.items() if name.startswith("visual.")}
    locked = dataclasses.replace(trained, tensors={**trained.tensors, **images})
    recipe = read_recipe(run / "recipe.toml", [f"data_root={tmp_path}"])
    found = between(initial, locked, 0.5, recipe, torch.device("cpu"))
    assert all(np.array_equal(found.tensors[name], tensor) for name, tensor in images.items())
    with pytest.raises(DataError, match="no such file"):
        between(initial, trained, 0.5, recipe, torch.device("cpu"))


def test_a_small_alpha_is_near_the_first_weights_and_may_average_their_statistics(done: Path, tmp_path: Path) -> None:
    initial, trained = (weights.read(str(done / "second" / name)) for name in ("initial", "trained"))
    plain = ["interpolation.statistics_images=0", f"data_root={tmp_path}"]  # there are no images here
    recipe = read_recipe(done / "second" / "recipe.toml", plain)
    found = between(initial, trained, 0.25, recipe, torch.device("cpu"))
    for name, tensor in found.tensors.items():
        by_hand = 0.75 * initial.tensors[name].astype(np.float64) + 0.25 * trained.tensors[name]
        np.testing.assert_allclose(tensor, by_hand, rtol=1e-3, atol=1e-6, err_msg=name)
    assert found.config == trained.config


def test_what_is_chosen_is_the_best_of_those_that_are_good_enough(root: Path, done: Path) -> None:
    points = [Point(0.2, {"a": 0.5, "b": 0.1}), Point(0.5, {"a": 0.4, "b": 0.5}), Point(0.9, {"a": 0.1, "b": 0.8})]
    overrides = [f"data_root={root}", "init.model=tandem-mini", "model={}", "stages=[]"]

    def chosen(*more: str) -> Point | None:
        return choose(points, read_recipe(done / "second.toml", [*overrides, *more]))

    assert chosen("validation.best=a") is points[0]
    assert chosen("validation.best=sum") is points[1]  # of equal ones the first
    assert chosen("validation.best=b") is points[2]
    assert chosen("validation.best=b", "interpolation.at_least.a=0.4") is points[1]
    assert chosen("validation.best=b", "interpolation.at_least.a=0.6") is None


def test_a_run_that_is_stopped_at_its_end_goes_on_there(
    done: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", no_steps)
    result, _ = train_chain(read_chain(copy), stop_after(2))
    assert (result.model, result.step, result.saved_step) == (None, 3, 3)
    run = copy.parent / "second"
    assert not (run / "model").exists()
    result, _ = train_chain(read_chain(copy))
    assert result.model == run / "model"
    one, other = (weights.read(str(folder / "model")) for folder in (done / "second", run))
    assert weights.fingerprint(one) == weights.fingerprint(other)
    # Once more: it is there, and nothing is measured again.
    monkeypatch.setattr(ending, "write_interpolated", no_steps)
    assert train_chain(read_chain(copy))[0].model == run / "model"


def test_limits_that_nothing_reaches_are_said_and_can_be_lowered(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "train_step", no_steps)

    def limits(name: str, least: float) -> list[str]:
        return ["interpolation.alphas=[0.0, 1.0]", f'interpolation.at_least={{"{name}"={least}}}']

    curve = copy.parent / "second" / "interpolation.csv"
    curve.unlink()
    with pytest.raises(DataError, match=r"at_least: no alpha reaches half/zero_shot_top1 1\.5; .*interpolation\.csv"):
        train_chain(read_chain(copy, limits("half/zero_shot_top1", 1.5)))
    assert curve.read_text().count("\n") == 3  # which limits can be reached
    with pytest.raises(ConfigError, match=r"interpolation\.at_least: expected some of zero_shot_top1.*got 'beauty'"):
        train_chain(read_chain(copy, limits("beauty", 0)))
    assert train_chain(read_chain(copy, limits("half/zero_shot_top1", 0)))[0].model is not None


def test_a_run_can_be_given_another_end_later(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that was started without: its first weights are those of the model that it was started from."""
    run = copy.parent / "second"
    before = weights.fingerprint(weights.read(str(run / "initial")))
    shutil.rmtree(run / "initial")
    monkeypatch.setattr(loop, "train_step", no_steps)
    first = copy.parent / "first" / "model"
    other = shutil.copytree(first, copy.parent / "other")
    # The copy was made of a run whose model lay elsewhere.
    [newest] = (run / "checkpoints").glob("step-*")
    record = json.loads((newest / "trainer.json").read_text())
    record["recipe"]["init"]["model"] = str(first)
    (newest / "trainer.json").write_text(json.dumps(record))
    for key in ("model", "image"):
        with pytest.raises(DataError, match=rf"initial: the first weights .* were not kept, and init\.{key} was"):
            train_chain(read_chain(copy, [f"init.{key}={other}"]))
    assert train_chain(read_chain(copy, ["interpolation.alphas=[1.0]"]))[0].model is not None
    assert weights.fingerprint(weights.read(str(run / "initial"))) == before
    one, trained = (weights.fingerprint(weights.read(str(run / name))) for name in ("model", "trained"))
    assert one == trained
    assert train_chain(read_chain(copy, ["interpolation.alphas=[0.0]"]))[0].model is not None
    assert weights.fingerprint(weights.read(str(run / "model"))) == before
    # Stopped or killed at yet another end, it has not come to it.
    stopped = read_chain(copy, ["interpolation.alphas=[0.5, 1.0]"])
    assert train_chain(stopped, stop_after(2))[0].model is None
    assert finished_model(stopped[-1].recipe) is None
    with monkeypatch.context() as patched:
        patched.setattr(ending, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_chain(read_chain(copy, ["interpolation.alphas=[1.0]"]))
    assert weights.fingerprint(weights.read(str(run / "model"))) == trained
    assert finished_model(read_chain(copy, ["interpolation.alphas=[0.0]"])[-1].recipe) is None  # no longer


def test_a_run_that_starts_anew_keeps_no_first_weights_of_another_start(copy: Path) -> None:
    """One that was stopped before its first checkpoint has left them, and now it starts from another model."""
    run = copy.parent / "second"
    shutil.rmtree(run / "checkpoints")
    chain = read_chain(copy, ["init.model=" + str(run / "trained"), "interpolation.alphas=[0.0]", "steps=1"])
    assert train_chain(chain)[0].model == run / "model"
    one, other = (weights.fingerprint(weights.read(str(run / name))) for name in ("model", "trained"))
    assert one == weights.fingerprint(weights.read(str(run / "initial")))
    assert one != other


def test_two_processes_end_together(root: Path, done: Path, tmp_path: Path) -> None:
    recipe = write(root, tmp_path / "runs")
    port, first = unused_port(), f"init.model={done / 'first'}"
    started = [run_toys.start(recipe, ["steps=1", first], rank=rank, processes=2, port=port) for rank in range(2)]
    assert run_toys.finish(*started) == [0, 0]
    assert finished_model(read_recipe(recipe, ["steps=1", first])) == tmp_path / "runs" / "second" / "model"
    assert (tmp_path / "runs" / "second" / "interpolation.csv").read_text().count("\n") == 4


# --- one after the other ---------------------------------------------------------------------------------------------


def names_of_runs(chain: Sequence[RecipeFile], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which recipes of a chain would be run."""
    names: list[str] = []

    def noted(recipe: Recipe, *others: object) -> ending.TrainResult:
        names.append(Path(recipe.folder).name)
        return ending.TrainResult(chain[-1].path.parent / "first" / "model", 1, 1)

    with monkeypatch.context() as patched:
        patched.setattr(chains, "train", noted)
        train_chain(chain)
    return names


def test_what_has_ended_is_not_run_again(done: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names_of_runs(read_chain(copy), monkeypatch) == ["second"]
    recipe = read_recipe(copy.parent / "first.toml")
    assert finished_model(recipe) == copy.parent / "first" / "model"
    assert finished_model(read_recipe(copy.parent / "first.toml", ["workers=1", "log_every_steps=3"])) is not None
    for other in ("steps=3", "seed=2", "optimiser.beta2=0.9", "batch_size=15"):
        ended = finished_model(read_recipe(copy.parent / "first.toml", [other])) is not None
        assert ended == (other == "batch_size=15"), other  # which is what it was
    assert finished_model(read_recipe(copy.parent / "first.toml", ["validation.every_steps=9"])) is not None
    second = read_chain(done / "second.toml")[-1].recipe
    assert finished_model(second) == done / "second" / "model"
    for other in ("ema.decay=0.6", "validation.best=half/zero_shot_top1", "interpolation.alphas=[0.0, 1.0]"):
        assert finished_model(read_chain(done / "second.toml", [other])[-1].recipe) is None, other
    ended = copy.parent / "first" / "finished.json"
    whole = json.loads(ended.read_text())
    foreign = [{**whole, "recipe": other} for other in ({}, [], 5, {"model": 5}, {**whole["recipe"], "new_key": 1})]
    for text in (*map(json.dumps, foreign), "", "[" * 100_000, "[]", "\0", "{"):
        ended.write_text(text)
        assert finished_model(recipe) is None, text[:80]
    assert names_of_runs(read_chain(copy), monkeypatch) == ["first", "second"]
    # Without its end marked, it ends again at its last step, and takes none.
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", no_steps)
        assert train(recipe).model == copy.parent / "first" / "model"
    assert finished_model(recipe) is not None


def test_the_last_that_has_ended_is_what_the_next_starts_from(
    root: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = write(root, tmp_path / "runs").with_name("third.toml")
    text = SECOND.format(folder=tmp_path / "runs" / "third", root=root)
    third.write_text(text.replace('recipe = "first.toml"', 'recipe = "second.toml"'))
    started: list[tuple[str, str]] = []

    def noted(recipe: Recipe, *others: object) -> ending.TrainResult:
        started.append((Path(recipe.folder).name, Path(recipe.init.model).parent.name))
        return ending.TrainResult(done / "second" / "model", 1, 1)

    monkeypatch.setattr(chains, "train", noted)
    # What was before the last one is not needed any more.
    for ended, last in ((["first"], "first"), (["first", "second"], "second"), (["second"], "second")):
        models = {str(tmp_path / "runs" / name): done / name / "model" for name in ended}
        monkeypatch.setattr(chains, "finished_model", lambda recipe, models=models: models.get(recipe.folder))
        started.clear()
        train_chain(read_chain(third))
        assert started == [("second", "first"), ("third", "second")][last == "second" :]


def test_a_chain_that_is_stopped_goes_on_where_it_was(root: Path, tmp_path: Path) -> None:
    recipe = write(root, tmp_path / "runs")
    result, stopped = train_chain(read_chain(recipe), stop_after(1))
    assert (result.model, result.step, Path(stopped.folder).name) == (None, 1, "first")
    result, stopped = train_chain(read_chain(recipe), stop_after(2))
    assert (result.model, result.step, Path(stopped.folder).name) == (None, 1, "second")


def test_what_cannot_start_later_is_refused_before_the_first_run(root: Path, tmp_path: Path) -> None:
    recipe = write(root, tmp_path / "runs")
    with pytest.raises(
        ConfigError, match=r"second\.toml: model\.vision\.width: the recipe says 6, .*first\.toml has 4"
    ):
        train_chain(read_chain(recipe, ["model.vision.width=6"]))
    with pytest.raises(DataError, match=r"second\.toml: lost\.tar: no such file"):
        train_chain(read_chain(recipe, ['data=[{path="lost.tar", text="captions", per_batch=6}]']))
    with pytest.raises(DataError, match=r"second\.toml: .*gone\.parquet: no such file or folder to validate on"):
        train_chain(read_chain(recipe, ["validation.zero_shot=gone.parquet"]))
    with pytest.raises(ConfigError, match=r"second\.toml: validation\.best: expected sum or one of .* got 'beauty'"):
        train_chain(read_chain(recipe, ["validation.best=beauty"]))
    (tmp_path / "runs" / "first").mkdir()
    (tmp_path / "runs" / "first" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"first is a model, no run; to start from it say init\.model="):
        train_chain(read_chain(recipe))
    assert not (tmp_path / "runs" / "second").exists()


def test_a_dry_run_prices_all_of_it_and_writes_nothing(
    root: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write(root, tmp_path / "new")
    before = sorted(tmp_path.rglob("*"))
    end = dry_runs._time_interpolation
    monkeypatch.setattr(dry_runs, "_time_interpolation", lambda *given: end(*given) + 50 * 3600)
    lines = list(dry_run_chain(read_chain(recipe)))
    assert sorted(path for path in tmp_path.rglob("*") if "torchinductor" not in str(path)) == before
    assert lines[0] == f"{tmp_path / 'new' / 'first.toml'}:"
    assert [line for line in lines if line.startswith("interpolation: ") and line.endswith("for 3 alphas")]
    assert any("1-2-1-1" in line and "instead of" in line and "1-1-1-1" in line for line in lines)
    assert lines[-1] == "time: about 2 d 2 h for first.toml, then second.toml"
    tried: list[Recipe] = []
    model = copy.parent / "first" / "model"
    monkeypatch.setattr(chains, "dry_run", lambda recipe, _, write_to: priced(tried, recipe, write_to, model))
    assert list(dry_run_chain(read_chain(copy))) == [f"{copy.parent / 'first.toml'}: ended before, with {model}"]
    assert [recipe.init.model for recipe in tried] == [str(model)]
    assert list(dry_run_chain(read_chain(recipe)))[-1] == "time: about 2 h 00 min for first.toml, then second.toml"


def priced(tried: list[Recipe], recipe: Recipe, write_to: Path, model: Path) -> Generator[str, None, float]:
    tried.append(recipe)
    shutil.copytree(model, write_to)
    yield from ()
    return 3600.0


def test_the_command_runs_both(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write(root, tmp_path / "runs")
    quick = ["interpolation.alphas=[0.5]", "validation.zero_shot=", "validation.sets=[]", "steps=1"]
    assert main(["train", str(recipe), "validation.best=sum", *quick]) == 0
    out, err = capsys.readouterr()
    assert f"done, the model is in {tmp_path / 'runs' / 'second' / 'model'}" in out
    assert "first.toml: run 1 of 2" in err
    assert "interpolation: alpha 0.5 is chosen\n" in err
    assert not (tmp_path / "runs" / "second" / "interpolation.csv").exists()  # nothing was measured
    run = tmp_path / "runs" / "second"
    ends = (weights.read(str(run / name)) for name in ("initial", "trained"))
    by_hand = measure_statistics(interpolate(*ends, 0.5), read_recipe(run / "recipe.toml"), 12)
    assert weights.fingerprint(weights.read(str(run))) == weights.fingerprint(by_hand)
