"""Recipes that name others: what is read before them, what they take, and what is refused in one line."""

import os
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from support import run_toys

from tandem.cli import main
from tandem.errors import ConfigError
from tandem.train.model.initial_weights import check_fits, load_initial
from tandem.train.recipe import from_dict, to_dict
from tandem.train.recipe_file import read_chain, read_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def written(root: Path, name: str, **lines: str) -> Path:
    """The toy recipe under another name; `init="..."` and so on stand before its tables, or are tables themselves."""
    path = root / f"{name}.toml"
    body = run_toys.RECIPE.format(folder=f"runs/{name}", root="data")
    if "init" in lines:
        body = body.replace("vocabulary = 540\n", "").split("[model]")[0] + body[body.index("[[data]]") :]
        body += f"[init]\n{lines['init']}\n"
    path.write_text(lines.get("top", "") + body + lines.get("end", ""))
    return path


# --- chains ----------------------------------------------------------------------------------------------------------


def test_a_chain_is_read_first_to_last_and_fills_the_model(tmp_path: Path) -> None:
    first = written(tmp_path, "first")
    second = written(tmp_path, "second", init='recipe = "first.toml"')
    third = written(tmp_path, "third", init='recipe = "second.toml"')
    found = read_chain(third)
    assert [each.path for each in found] == [first, second, third]
    assert [each.recipe.folder for each in found] == ["runs/first", "runs/second", "runs/third"]
    assert found[2].recipe.model.vision == found[0].recipe.model.vision
    assert found[2].recipe.init.waits
    assert from_dict(to_dict(found[2].recipe)) == found[2].recipe
    with pytest.raises(ConfigError, match=r"init\.recipe: second\.toml is run first"):
        load_initial(found[2].recipe)


def test_overrides_of_the_machine_hold_for_all_of_a_chain_and_folders_lie_beside_each_other(tmp_path: Path) -> None:
    written(tmp_path, "first")
    second = written(tmp_path, "second", init='recipe = "first.toml"')
    overrides = ["data_root=/images", "folder=/elsewhere/x", "steps=3", "log.wandb=p", "remote.cache_gb=2", "workers=2"]
    first, last = (each.recipe for each in read_chain(second, overrides))
    assert (first.data_root, first.folder, first.steps) == ("/images", "/elsewhere/first", 12)
    assert (last.data_root, last.folder, last.steps) == ("/images", "/elsewhere/x", 3)
    assert (first.log.wandb, first.remote.cache_gb, first.workers) == ("p", 2, 2)
    with pytest.raises(ConfigError, match=r"second\.toml: folder: expected another one than that of .*first\.toml"):
        read_chain(second, ["folder=/elsewhere/first"])


def test_a_model_that_is_named_takes_precedence(tmp_path: Path) -> None:
    """Also of a recipe that is not there: what has run before need not run again."""
    last = written(tmp_path, "last", init='recipe = "first.toml"')
    [only] = read_chain(last, ["init.model=tandem-mini"])
    assert not only.recipe.init.waits
    assert only.recipe.model.text.vocabulary_size == 5000
    [only] = read_chain(last, ["init.image=tandem-mini", "init.text=tandem-mini"])
    assert not only.recipe.init.waits


def test_what_cannot_come_first_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "first", init='recipe = "third.toml"')
    written(tmp_path, "second", init='recipe = "first.toml"')
    third = written(tmp_path, "third", init='recipe = "second.toml"')
    circle = r"init\.recipe: third\.toml -> second\.toml -> first\.toml -> third\.toml leads back to itself"
    with pytest.raises(ConfigError, match=circle):
        read_chain(third)
    assert main(["train", str(written(tmp_path, "lost", init='recipe = "none.toml"'))]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "lost.toml: init.recipe: " in said
    assert "none.toml: no such file" in said
    with pytest.raises(ConfigError, match=r"init\.recipe: expected text, got 3"):
        read_chain(written(tmp_path, "odd", init="recipe = 3"))
    (tmp_path / "broken.toml").write_text("steps = [")
    with pytest.raises(ConfigError, match=r"broken\.toml: not a TOML file"):
        read_chain(written(tmp_path, "on-broken", init='recipe = "broken.toml"'))


def test_the_recipes_of_the_shipped_model_are_one_chain_whose_links_fit() -> None:
    found = read_chain(RECIPES / "mini-fourth.toml", ["data_root=/images"])
    names = ["mini.toml", "mini-second.toml", "mini-third.toml", "mini-fourth.toml"]
    assert [each.path.name for each in found] == names
    assert [each.recipe.data_root for each in found] == ["/images"] * 4
    assert found[1].recipe.interpolation.alphas == (0.75,)
    for one, other in pairwise(found):
        check_fits(one.recipe.model, other.recipe, one.path.name)


# --- the data of another file ----------------------------------------------------------------------------------------


def test_data_from_takes_the_sets_and_a_batch_size_shares_them_alike(tmp_path: Path) -> None:
    other = read_recipe(written(tmp_path, "other"))
    body = run_toys.RECIPE.format(folder="runs/mine", root="data")
    body = body[: body.index("[[data]]")] + body[body.index("[ema]") : body.index("[validation]")]
    mine = tmp_path / "mine.toml"
    mine.write_text('data_from = "other.toml"\n' + body)
    same = read_recipe(mine)
    assert (same.data, same.validation, same.batch_size) == (other.data, other.validation, 15)
    larger = read_recipe(mine, ["batch_size=300", "validation.every_steps=7", "validation.zero_shot="])
    assert [(source.weight, source.per_batch) for source in larger.data] == [(6, 0), (9, 0)]
    assert larger.batch_size == 300
    assert (larger.validation.every_steps, larger.validation.zero_shot) == (7, "")
    assert larger.validation.retrieval == other.validation.retrieval
    own = read_recipe(mine, ['data=[{path="x.tar", text="captions", per_batch=4}]'])
    assert [source.path for source in own.data] == ["x.tar"]
    mine.write_text('data_from = "mine.toml"\n' + body)
    with pytest.raises(ConfigError, match=r"data_from: mine\.toml -> mine\.toml leads back to itself"):
        read_recipe(mine)
    mine.write_text('data_from = "none.toml"\n' + body)
    with pytest.raises(ConfigError, match=r"data_from: .*none\.toml: no such file"):
        read_recipe(mine)


def test_the_larger_sibling_sees_what_the_shipped_one_sees_in_a_larger_batch() -> None:
    small, mini = read_recipe(RECIPES / "small.toml"), read_recipe(RECIPES / "mini-third.toml")
    assert small.batch_size == 1536
    assert [(each.path, each.weight) for each in small.data] == [(each.path, each.per_batch) for each in mini.data]
    assert small.validation == mini.validation
    assert "data_from" not in tomllib.loads((RECIPES / "mini-third.toml").read_text())


# --- what is no recipe ------------------------------------------------------------------------------------------------


def test_what_is_no_file_of_a_recipe_is_refused_at_once(tmp_path: Path) -> None:
    looping, long = tmp_path / "looping.toml", tmp_path / "long.toml"
    looping.symlink_to(looping)
    long.write_text("#" * 2**21)
    found = [(looping, "cannot read the recipe"), (long, "at most 1,048,576 bytes")]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.toml")
        found.append((tmp_path / "pipe.toml", r"cannot read the recipe \(not a regular file\)"))
    for path, message in found:
        with pytest.raises(ConfigError, match=message):
            read_recipe(path)


def test_a_row_of_recipes_without_end_is_refused(tmp_path: Path) -> None:
    for i in range(150):
        (tmp_path / f"{i}.toml").write_text(f'data_from = "{i - 1}.toml"' if i else "steps = 5")
    with pytest.raises(
        ConfigError, match=r"149\.toml: data_from: expected at most 100 recipes that lead to one another"
    ):
        read_recipe(tmp_path / "149.toml")


# --- what is asked of the end of a run --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init.model="], r"interpolation\.alphas: expected none without first weights"),
        (["interpolation.alphas=[0.5, 1.2]"], r"interpolation\.alphas\[1\]: expected a number from 0 to 1, got 1\.2"),
        (["validation.zero_shot=", "validation.retrieval="], r"interpolation\.alphas: nothing chooses among them"),
        (
            ["objective.kind=classification", 'data=[{path="a", kind="names", per_batch=2}]'],
            r"interpolation\.alphas: expected none with objective\.kind = classification",
        ),
    ],
)
def test_an_end_that_cannot_be_chosen_is_refused_by_key(tmp_path: Path, overrides: list[str], message: str) -> None:
    end = "[interpolation]\nalphas = [0.5, 1.0]\n"
    path = written(tmp_path, "run", end='[init]\nmodel = "tandem-mini"\n' + end)
    plain = ["vocabulary=0", "model={}", "stages=[]"]
    assert read_recipe(path, plain).interpolation.alphas == (0.5, 1.0)
    if overrides == ["init.model="]:
        plain = []
    with pytest.raises(ConfigError, match=message):
        read_recipe(path, [*plain, *overrides])
