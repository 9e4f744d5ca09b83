"""Runs one after the other: stopped, resumed, priced."""

import json
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from support import run_toys
from support.chained_runs import SECOND, no_steps, run_both, stop_after, without_end, write

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
from tandem.train.run.loop import train
from tandem.train.run.statistics import measure_statistics

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
