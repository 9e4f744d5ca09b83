"""Killed anywhere and started again, a run ends in the same bits: weights, moments, averages, on one process or two."""

import json
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import run_toys
from support.processes import unused_port

import tandem

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("training")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_toys.write_data(tmp_path_factory.mktemp("resume"))


def _run(
    root: Path, name: str, *overrides: str, die: str = "", processes: int = 1, float64: bool = False
) -> list[int | None]:
    recipe = run_toys.write_recipe(root, root / name)
    if processes > 1:  # one of them may have a single text: four names are in all of the data
        overrides = ("parallel.micro_batches=1", *overrides)
    port = unused_port()
    started = [
        run_toys.start(recipe, overrides, die=die if rank == processes - 1 else "", rank=rank, processes=processes,
                       port=port, float64=float64)
        for rank in range(processes)
    ]  # fmt: skip
    return run_toys.finish(*started)


@pytest.fixture(scope="module")
def whole(root: Path) -> dict[str, Any]:
    """The end of a run that nothing disturbed, on one process."""
    assert _run(root, "whole") == [0]
    return run_toys.last_state(root / "whole")


@pytest.fixture(scope="module")
def whole_of_two(root: Path) -> dict[str, Any]:
    """The same on two processes."""
    assert _run(root, "whole-of-two", processes=2) == [0, 0]
    return run_toys.last_state(root / "whole-of-two")


@pytest.fixture(scope="module")
def float64_of_two(root: Path) -> dict[str, Any]:
    """The same on two processes, in double precision."""
    assert _run(root, "float64-of-two", processes=2, float64=True) == [0, 0]
    return run_toys.last_state(root / "float64-of-two")


def _same_but_for_rounding(a: dict[str, Any], b: dict[str, Any]) -> None:
    """After 12 steps in float64, where a difference of rounding has grown to some 1e-13; in float32, to 1e-2."""
    assert a.keys() == b.keys()
    assert a["step"] == b["step"] == 12
    assert a["towers.clip.text_projection"].dtype == torch.float64
    names = a.keys() - {"step"}
    assert not [n for n in names if not torch.allclose(a[n].double(), b[n].double(), rtol=1e-9, atol=1e-9)]


def _same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    assert a["step"] == b["step"] == 12
    different = [name for name in a if name != "step" and not torch.equal(a[name], b[name])]
    assert not different


def test_a_checkpoint_has_weights_moments_and_averages(whole: dict[str, Any]) -> None:
    for name in ("towers.clip.visual.conv1.weight", "towers.clip.logit_scale", "towers.clip.visual.bn1.running_mean"):
        assert name in whole
        assert name.replace("towers.", "average.") in whole
    assert "optimiser.towers.clip.visual.conv1.weight/exp_avg" in whole
    assert not torch.equal(whole["towers.clip.visual.conv1.weight"], whole["average.clip.visual.conv1.weight"])


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_any_step_it_ends_in_the_same_bits(root: Path, whole: dict[str, Any], workers: int) -> None:
    name = f"killed-{workers}"
    kill_steps = random.Random(workers).sample(range(1, 6), 2)
    for steps in kill_steps:
        assert _run(root, name, f"workers={workers}", die=f"step {steps}") == [-9]
    assert _run(root, name, f"workers={workers}") == [0]
    _same(run_toys.last_state(root / name), whole)


@pytest.mark.parametrize("kill_point", ["writing 2", "flushing 9", "flushing 1", "removing 1", "removing 3"])
def test_killed_amid_a_checkpoint_it_ends_in_the_same_bits(root: Path, whole: dict[str, Any], kill_point: str) -> None:
    name = kill_point.replace(" ", "-")
    assert _run(root, name, die=kill_point) == [-9]
    assert _run(root, name) == [0]
    _same(run_toys.last_state(root / name), whole)
    left = [path.name for path in (root / name / "checkpoints").iterdir()]
    assert sorted(left) == ["step-00000009", "step-00000012"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_amid_its_first_files_it_ends_in_the_same_bits(root: Path, whole: dict[str, Any], number: int) -> None:
    """The tokenizer, the recipe as JSON and as TOML: none of them may be left half written."""
    name = f"file-{number}"
    assert _run(root, name, die=f"file {number}") == [-9]
    assert not (root / name / "checkpoints").exists() or not list((root / name / "checkpoints").glob("step-*"))
    assert _run(root, name) == [0]
    _same(run_toys.last_state(root / name), whole)


def test_killed_at_any_moment_it_ends_in_the_same_bits(root: Path, whole: dict[str, Any]) -> None:
    recipe = run_toys.write_recipe(root, root / "moments")
    chance = random.Random(3)
    for _ in range(3):
        with run_toys.start(recipe, ["workers=1"]) as process:
            time.sleep(chance.uniform(0.2, 1.5))
            process.send_signal(signal.SIGKILL)
    assert _run(root, "moments", "workers=1") == [0]
    _same(run_toys.last_state(root / "moments"), whole)


def test_killed_on_two_processes_it_ends_in_the_same_bits(root: Path, whole_of_two: dict[str, Any]) -> None:
    name = "two-killed"
    for steps in (4, 2):
        assert -9 in _run(root, name, "workers=2", die=f"step {steps}", processes=2)
    assert _run(root, name, "workers=0", processes=2) == [0, 0]  # another number of workers changes nothing
    _same(run_toys.last_state(root / name), whole_of_two)


def test_sharded_it_ends_in_the_same_bits_and_in_the_same_file(root: Path, whole_of_two: dict[str, Any]) -> None:
    """FSDP on two processes: what it saves has the names and shapes of any other run, and it resumes from it."""
    name, sharded = "sharded", 'parallel.strategy="fsdp"'
    assert -9 in _run(root, name, sharded, die="step 5", processes=2)
    assert _run(root, name, sharded, processes=2) == [0, 0]
    assert _run(root, "sharded-whole", sharded, processes=2) == [0, 0]
    mine = run_toys.last_state(root / name)
    _same(mine, run_toys.last_state(root / "sharded-whole"))
    assert {n: t.shape for n, t in mine.items() if n != "step"} == {
        n: t.shape for n, t in whole_of_two.items() if n != "step"
    }


def test_sharded_training_is_that_of_whole_weights_but_for_rounding(root: Path, float64_of_two: dict[str, Any]) -> None:
    """Every tensor: also nothing that validation does on the way leaks into the weights."""
    assert _run(root, "float64-sharded", 'parallel.strategy="fsdp"', processes=2, float64=True) == [0, 0]
    _same_but_for_rounding(run_toys.last_state(root / "float64-sharded"), float64_of_two)


def test_another_number_of_processes_is_refused_unless_allowed(root: Path, float64_of_two: dict[str, Any]) -> None:
    name = "fewer"
    assert -9 in _run(root, name, die="step 4", processes=2, float64=True)
    assert _run(root, name, "parallel.micro_batches=1", float64=True) == [2]
    said = (root / "refused.txt").read_text()
    assert "started on 2 processes, now on 1" in said
    assert "resume.allow_rounding=true" in said
    assert _run(root, name, "parallel.micro_batches=1", "resume.allow_rounding=true", float64=True) == [0]
    _same_but_for_rounding(run_toys.last_state(root / name), float64_of_two)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=2", "seed was 1, is 2"),
        ("model.text.width=32", r"model\.text\.width was 16, is 32"),
        ('data=[{path="names.parquet", text="names", kind="names", per_batch=15}]', "data was"),
        ("ema.decay=0.5", ""),
        ("steps=14", ""),
        ("workers=1", ""),
        ("optimiser.learning_rate=1e-3", ""),
        ("parallel.micro_batches=1", r"parallel\.micro_batches was 2, is 1.*resume\.allow_rounding=true"),
        ("parallel.norm_batch=0", r"parallel\.norm_batch was 4, is 0"),
        ("objective.classes=0.5", r"objective\.classes was 0.0, is 0.5"),
    ],
)
def test_what_has_changed_is_named_or_refused(root: Path, whole: dict[str, Any], override: str, message: str) -> None:
    from tandem.errors import DataError
    from tandem.train.recipe import to_dict
    from tandem.train.recipe_file import read_recipe
    from tandem.train.run import checkpoint
    from tandem.train.run.resume import resume_checks

    recipe = read_recipe(root / "whole.toml", [override])
    record, _ = checkpoint.read(max((root / "whole" / "checkpoints").glob("step-*")))
    if message:
        with pytest.raises(DataError, match=message):
            resume_checks(record.recipe, to_dict(recipe), record.layout, record.layout)
    else:
        notes = resume_checks(record.recipe, to_dict(recipe), record.layout, record.layout)
        assert len(notes) == 1
        assert notes[0].startswith(override.partition("=")[0] + " was ")


@pytest.mark.parametrize(
    ("name", "under"),
    [
        ("steps", True),
        ("optimiser.learning_rate", True),
        ("validation[0].path", True),
        ("steps_per_stage", False),
        ("optimiser2.learning_rate", False),
        ("model.name", True),
        ("model.names", False),
        ("model", False),
    ],
)
def test_a_name_that_merely_begins_alike_may_not_change(name: str, under: bool) -> None:
    from tandem.train.run.resume import FREE, _is_under

    assert _is_under(name, FREE) == under


def test_training_sets_that_have_grown_are_refused(root: Path) -> None:
    assert _run(root, "grown", die="step 4") == [-9]
    other = root / "other"
    other.mkdir()
    shutil.copy(root / "captions.tar", other)
    table = pq.read_table(root / "names.parquet")
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), other / "names.parquet")
    assert _run(root, "grown", f"data_root={other}") == [2]
    assert f"names.parquet had {len(table)} samples and has {len(table) + 1}" in (root / "refused.txt").read_text()
    assert _run(root, "grown") == [0]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(root: Path, whole: dict[str, Any]) -> None:
    from tandem.train.run import checkpoint

    folder = root / "damaged"
    assert _run(root, "damaged", die="step 8") == [-9]
    path = folder / "checkpoints" / "step-00000006" / "trainer.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    said: list[str] = []
    found = checkpoint.newest_checkpoint(folder / "checkpoints", said.append)
    assert found is not None
    assert found[1].step == 3
    assert "step-00000006" in said[0]
    assert _run(root, "damaged") == [0]
    _same(run_toys.last_state(folder), whole)


def test_a_runs_folder_loads_at_any_time(root: Path, whole: dict[str, Any]) -> None:
    run = root / "loads"
    assert _run(root, "loads", "validation.zero_shot=", "validation.retrieval=", die="step 7") == [-9]
    assert not (run / "model").exists()
    newest = tandem.load(run)
    assert newest.fingerprint == tandem.load(run / "checkpoints" / "step-00000006").fingerprint
    finished = tandem.load(root / "whole")
    assert finished.fingerprint == tandem.load(root / "whole" / "model").fingerprint
    assert finished.embed_texts(["red"]).shape == (1, 8)
    (root / "empty").mkdir()
    (root / "empty" / "recipe.json").write_text("{}")
    with pytest.raises(tandem.WeightsError, match="has not saved a model yet"):
        tandem.load(root / "empty")


def test_a_checkpoint_of_before_the_first_release_resumes_in_the_same_bits(root: Path, whole: dict[str, Any]) -> None:
    """It has other names: in its record, its recipe and its tensors, and for the folder of skipped samples."""
    folder = root / "older"
    overrides = ("objective.loss=sigmoid",)
    assert _run(root, "newer", *overrides) == [0]
    assert _run(root, "older", *overrides, die="step 5") == [-9]
    [saved] = (folder / "checkpoints").glob("step-*")
    tensors = load_file(saved / "trainer.safetensors")
    bias = "towers.clip.logit_bias"
    assert bias in tensors
    assert any(name.startswith(f"optimiser.{bias}/") for name in tensors)
    del tensors["average.clip.logit_bias"]  # it was the objective's own, and not averaged
    save_file(
        {name.replace(bias, "heads.logit_bias"): tensor for name, tensor in tensors.items()},
        saved / "trainer.safetensors",
    )
    record = json.loads((saved / "trainer.json").read_text())
    record["guard"] = {"bad_in_a_row": 0, "losses": record.pop("loss_monitor")["losses"]}
    record["samples"] = record.pop("sample_counts")
    recipe = record["recipe"]
    recipe["cache_pictures"] = recipe.pop("cache_images")
    recipe["resume"] = {"elsewhere": False}
    for source in recipe["data"]:
        source["captions_per_picture"] = source.pop("captions_per_image")
    recipe["model"] |= {"format": "tandem", "version": 1}
    assert recipe["model"].pop("logit_bias") is True
    (saved / "trainer.json").write_text(json.dumps(record))
    (folder / "left-out").mkdir()
    (folder / "left-out" / "process-0.tsv").write_text("captions.tar/odd\tno image\n")
    assert _run(root, "older", *overrides) == [0]
    found, wanted = run_toys.last_state(folder), run_toys.last_state(root / "newer")
    assert found.pop("average.clip.logit_bias") < 0  # averaged from the checkpoint on
    del wanted["average.clip.logit_bias"]
    _same(found, wanted)
