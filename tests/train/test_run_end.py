"""The end of a run, between its first and its last weights: chosen, stopped, resumed."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import run_toys
from support.chained_runs import interrupt, no_steps, run_both, stop_after, without_end, write
from support.processes import unused_port

import tandem
from tandem import weights
from tandem.errors import ConfigError, DataError
from tandem.train.interpolate import interpolate
from tandem.train.recipe_file import read_chain, read_recipe
from tandem.train.run import ending, loop
from tandem.train.run.chain import train_chain
from tandem.train.run.ending import finished_model
from tandem.train.run.interpolated import between, choose
from tandem.train.run.statistics import measure_statistics
from tandem.train.wise_ft import Point

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("training")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_toys.write_data(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def done(root: Path) -> Path:
    return run_both(root)


@pytest.fixture
def copy(root: Path, done: Path, tmp_path: Path) -> Path:
    return without_end(root, done, tmp_path / "runs")


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
