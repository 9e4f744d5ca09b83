"""A dry run says what a run would cost and leaves nothing behind."""

import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import run_toys, toy, training_toys

from tandem.errors import ConfigError, DataError
from tandem.train.recipe_file import read_recipe
from tandem.train.run import checkpoint
from tandem.train.run import dry_run as dry_runs
from tandem.train.run.dry_run import Timing, dry_run
from tandem.train.run.loop import train

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    run_toys.write_data(tmp_path)
    return run_toys.write_recipe(tmp_path, tmp_path / "run")


def test_it_says_what_matters_and_writes_nothing(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = sorted(tmp_path.rglob("*"))
    said = "\n".join(dry_run(read_recipe(recipe)))
    mine = [path for path in tmp_path.rglob("*") if "torchinductor" not in str(path)]  # torch makes that when it likes
    assert sorted(mine) == before
    assert re.search(r"step at 16 px: \S+ s, \d+ pairs/s, loss \d", said)
    assert re.search(r"step at 32 px: \S+ s", said)
    assert re.search(r"memory: \S+ GB on each process, of \S+ GB", said)
    assert re.search(r"time: about .* for 12 steps", said)
    assert "s a batch without workers: " in said
    assert "validation: 2 sets" in said
    assert f"nothing was written to {tmp_path / 'run'}" in said


def test_its_checkpoint_is_as_large_as_the_real_one(recipe: Path, tmp_path: Path) -> None:
    chosen = read_recipe(recipe, ["steps=3", "validation.zero_shot=", "validation.retrieval="])
    said = "\n".join(dry_run(chosen))
    assert train(chosen).model is not None
    [folder] = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")
    real = sum((folder / name).stat().st_size for name in ("trainer.safetensors", "model.safetensors"))
    promised = float(re.search(r"checkpoint: (\S+) GB each", said).group(1)) * 1e9  # type: ignore[union-attr]
    assert promised == pytest.approx(real, rel=0.1)  # it is told in two figures, and names take room too


def test_it_begins_where_the_run_stands_and_refuses_what_the_run_would(recipe: Path, tmp_path: Path) -> None:
    ended = read_recipe(recipe, ["steps=3", "validation.zero_shot=", "validation.retrieval="])
    assert train(ended).model is not None
    state = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    said = "\n".join(dry_run(read_recipe(recipe)))
    assert "for 9 steps from step 3" in said
    assert "steps was 3, is 12" in said
    with pytest.raises(DataError, match="seed was 1, is 2"):
        list(dry_run(read_recipe(recipe, ["seed=2"])))
    with pytest.raises(ConfigError, match=r"validation\.best"):
        list(dry_run(read_recipe(recipe, ["validation.best=beauty"])))
    assert state == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_unusable_data_is_refused_before_anything_else(recipe: Path) -> None:
    with pytest.raises(DataError, match="nothing"):
        list(dry_run(read_recipe(recipe, ['data=[{path="nothing-*.tar", text="captions", per_batch=4}]'])))


def test_what_data_it_reads_on_how_many_workers_and_that_one_class_teaches_nothing(
    recipe: Path, tmp_path: Path
) -> None:
    folder = training_toys.write_folder(tmp_path / "images")
    for name in list(training_toys.COLOURS)[1:]:
        shutil.rmtree(folder / f"{name}_thing")
    (folder / "loose.png").write_bytes(training_toys.all_images()[0])
    data = ['data=[{path=".", kind="names", per_batch=8}]', f"data_root={folder}", "vocabulary=0"]
    rest = ["validation.zero_shot=", "validation.retrieval=", "stages=[{start=0.0, image_size=16}]"]
    lines = list(dry_run(read_recipe(recipe, [*data, *rest, "workers=1"])))
    assert f"batch 8: {folder} 8" in lines
    assert f"warning: {folder}: one class only, 'red thing': nothing to tell apart" in lines
    assert "skipped loose.png: not in a folder that names its class" in lines
    assert any("s a batch on 1 worker: " in line for line in lines)


def test_the_time_of_a_step_has_its_data_in_it() -> None:
    timing = Timing(image_size=16, steps=10, step_s=1.0, data_s=3.0, loss=0.0)
    assert [timing.total_s(workers) for workers in (0, 1, 2, 8)] == [4.0, 3.0, 1.5, 1.0]


def test_the_time_of_an_end_is_all_measures_and_the_statistics_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch of ten took two seconds; the ends have their own statistics."""
    end = {"alphas": [0.0, 0.25, 0.5, 0.5, 1.0], "statistics_images": 60}
    whole = training_toys.recipe(
        tmp_path, training_toys.NAMED, interpolation=end, init={"model": "tandem-mini"}, validation={"zero_shot": "x"}
    )
    now, measured = [0.0], []

    def two_seconds(_: object, recipe: object, images: int, device: object) -> None:
        now[0] += 2
        measured.append(images)

    monkeypatch.setattr(dry_runs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(dry_runs, "measure_statistics", two_seconds)

    def seconds(tensors: dict[str, np.ndarray]) -> float:
        run = SimpleNamespace(
            recipe=whole, config=whole.model, tokenizer=None, written_model=lambda: SimpleNamespace(tensors=tensors),
            processes=SimpleNamespace(is_main=True, device=torch.device("cpu")),
        )  # fmt: skip
        return dry_runs._time_interpolation(run, 7.0)  # type: ignore[arg-type]

    assert seconds(toy.tensors(toy.config("resnet"))) == 4 * 7 + 2 * 2 * 60 / 10
    assert measured == [10]
    assert seconds(toy.tensors(toy.config())) == 4 * 7  # no batch norms
