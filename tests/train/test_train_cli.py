"""`tandem train`: what it prints, draws, saves and answers; under torchrun too. Loggers against stand-ins."""

import csv
import io
import os
import re
import signal
import sys
import types
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import run_toys
from support.processes import TRAINING, Child, unused_port

from tandem.cli import main
from tandem.cli.commands.train import _stop_requests
from tandem.errors import ConfigError, MissingExtraError
from tandem.train.recipe import from_dict, to_dict
from tandem.train.recipe_file import read_recipe
from tandem.train.run import reporting
from tandem.train.run.curve import Curve, read, read_series
from tandem.train.run.loop import train
from tandem.train.run.reporting import Meter, RunLog, duration, step_line

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("training")]

QUICK = ("validation.zero_shot=", "validation.retrieval=")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    run_toys.write_data(tmp_path)
    return run_toys.write_recipe(tmp_path, tmp_path / "run")


# --- the log -------------------------------------------------------------------------------------------------------


def test_the_meter_gives_means_rates_and_the_share_of_waiting() -> None:
    now = [0.0]
    meter = Meter(lambda: now[0])
    for loss in (1.0, 3.0, float("nan")):
        now[0] += 2
        meter.waited(0.5)
        meter.count(10, {"loss": loss})
    assert meter.read(steps_left=6) == {"loss": 2.0, "pairs_per_s": 5.0, "wait": 0.25, "eta_s": 12.0}
    now[0] += 1
    meter.count(4, {"loss": 7.0})
    assert meter.read() == {"loss": 7.0, "pairs_per_s": 4.0, "wait": 0.0, "eta_s": 0.0}


def test_a_line_says_all_of_it() -> None:
    values = {"loss": 5.312, "contrast": 4.9, "pairs_per_s": 812.3, "wait": 0.031, "eta_s": 7500.0, "scale": 14.3,
              "learning_rate": 1.2e-3, "gradient_norm": 0.81, "memory_gb": 2.1}  # fmt: skip
    assert step_line(40, 5200, values) == (
        "step 40 of 5200  loss 5.312 (contrast 4.9)  812 pairs/s  wait 3%  rate 0.0012  scale 14.3  norm 0.81  2.1 GB"
        "  2 h 05 min left"
    )
    assert [duration(s) for s in (45, 720, 300_000)] == ["45 s", "12 min", "3 d 11 h"]


def test_the_curve_grows_columns_and_drops_what_is_past_the_step(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    curve = Curve(path, 0)
    for step in (1, 2, 3):
        curve.write({"step": step, "loss": step / 10})
    curve.write({"step": 3, "beauty": 1.0})
    with path.open("a") as file:
        file.write("4,0.")  # killed amid a line
    again = Curve(path, 2)
    again.write({"step": 3, "loss": 0.5, "beauty": 2.0})
    assert read_series(path)["loss"] == [(1, 0.1), (2, 0.2), (3, 0.5)]
    assert read_series(path)["beauty"] == [(3, 2.0)]
    assert read(path)[0].count("beauty") == 1


def test_tensorboard_has_the_curve(recipe: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    chosen = read_recipe(recipe, ["steps=3", "log.tensorboard=true", *QUICK])
    assert train(chosen).model is not None
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = {event.step: event.value for event in events.Scalars("loss")}
    assert logged == pytest.approx(dict(read_series(tmp_path / "run" / "curve.csv")["loss"]))
    assert {"scale", "wait", "gradient_norm", "pairs_per_s", "memory_gb"} <= set(events.Tags()["scalars"])


def test_without_tensorboard_it_says_so_once_and_goes_on(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporting, "_installed", lambda package: False)
    log = RunLog(read_recipe(recipe, ["log.tensorboard=true"]), tmp_path, 0)
    log.step(1, 2, {"loss": 1.0})
    log.close()
    said = capfd.readouterr().err
    assert said.count("TensorBoard is not installed") == 1
    assert read_series(tmp_path / "curve.csv")["loss"] == [(1, 1.0)]
    with pytest.raises(MissingExtraError, match=r"tandem-clip\[wandb\]"):
        RunLog(read_recipe(recipe, ["log.wandb=project"]), tmp_path, 0)


def test_weights_and_biases_hears_every_line_under_one_id(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a stand-in with the three verbs that are used."""
    begun, logged, finished = [], [], []

    class StandIn(types.ModuleType):
        @staticmethod
        def init(**options: object) -> object:
            begun.append(options)
            return types.SimpleNamespace(
                id=options["id"] or "abc",
                log=lambda values, step: logged.append((step, values)),
                finish=lambda: finished.append(True),
            )

    monkeypatch.setitem(sys.modules, "wandb", StandIn("wandb"))
    monkeypatch.setattr(reporting, "_installed", lambda package: True)
    chosen = read_recipe(recipe, ["log.wandb=project", "log.tensorboard=false"])
    for step in (0, 5):
        log = RunLog(chosen, tmp_path, step)
        log.step(step + 1, 10, {"loss": 1.0, "eta_s": 3.0})
        log.measures(step + 1, {"zero_shot_top1": 0.5})
        log.close()
    assert [options["id"] for options in begun] == [None, "abc"]
    assert begun[0]["project"] == "project"
    assert begun[0]["config"] == to_dict(chosen)
    assert logged[:2] == [(1, {"loss": 1.0}), (1, {"zero_shot_top1": 0.5})]
    assert logged[2][0] == 6
    assert len(finished) == 2


# --- validation and what is kept -----------------------------------------------------------------------------------


def test_several_sets_are_measured_and_a_named_measure_chooses_the_best(recipe: Path, tmp_path: Path) -> None:
    sets = 'validation.sets=[{name="small", path="names.parquet", kind="zero_shot", limit=8}]'
    best = 'validation.best="small/zero_shot_top1"'
    assert train(read_recipe(recipe, ["steps=4", "validation.every_steps=1", sets, best])).model is not None
    series = read_series(tmp_path / "run" / "curve.csv")
    for name in ("zero_shot_top1", "text_to_image_r10", "image_to_text_r10", "small/zero_shot_top1"):
        assert [step for step, _ in series[name]] == [1, 2, 3, 4]
    assert (tmp_path / "run" / "best" / "config.json").exists()
    with pytest.raises(ConfigError, match=r"validation\.best: expected sum or one of zero_shot_top1"):
        train(read_recipe(recipe, ["validation.best=beauty", f"folder={tmp_path / 'other'}"]))


def test_the_saved_configuration_is_complete(recipe: Path, tmp_path: Path) -> None:
    import json

    chosen = read_recipe(recipe, ["steps=1", *QUICK])
    assert train(chosen).model is not None
    assert from_dict(json.loads((tmp_path / "run" / "recipe.json").read_text())) == chosen
    assert read_recipe(tmp_path / "run" / "recipe.toml") == chosen


# --- the command ---------------------------------------------------------------------------------------------------


def test_curves_are_drawn_alone_and_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        curve = Curve(tmp_path / name / "curve.csv", 0)
        for step in range(1, 120):
            curve.write({"step": step, "loss": 5 / step, "scale": 14.0, "wait": 0.1, "gradient_norm": 1.0})
        curve.write({"step": 119, "zero_shot_top1": 0.5})
    out = tmp_path / "c.png"
    assert main(["train", "--plot", str(tmp_path / "one"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"drew {out}\n"
    alone = Image.open(out).copy()
    assert main(["train", "--plot", str(tmp_path / "one"), "--plot", str(tmp_path / "other"), "--out", str(out)]) == 0
    assert Image.open(out).size == alone.size
    assert Image.open(out).tobytes() != alone.tobytes()
    assert main(["train", "--plot", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "expected the folder of a run, with curve.csv" in capsys.readouterr().err


def test_a_recipe_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "expected a recipe" in capsys.readouterr().err


def test_the_end_names_the_model_and_some_of_its_classes(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "run" / "model"
    assert main(["train", str(recipe), "steps=1", *QUICK]) == 0
    assert capsys.readouterr().out.endswith(f"classify PHOTO --model {model} --labels red,green,blue,white\n")
    captions = ["vocabulary=0", 'data=[{path="captions.tar", text="captions", per_batch=8}]']
    assert main(["train", str(recipe), "steps=1", *captions, f"folder={tmp_path / 'other'}", *QUICK]) == 0
    assert capsys.readouterr().out.endswith("--labels cat,dog\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGUSR1, 75)])
def test_a_signal_saves_and_leaves_with_a_code_that_schedulers_know(
    recipe: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with Child(TRAINING, "tandem", "train", str(recipe), "steps=100000", "workers=1", *QUICK) as process:
        seen = next(line for line in process.stderr if line.startswith("step 2 "))
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(60) == code, (seen, rest)
    assert "resumes from there" in rest
    [*_, newest] = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert int(newest.name[5:]) % 3 or "step 3 " in rest  # saved at the step it was at


def test_a_signal_in_the_middle_of_a_line_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A handler that printed would end the run there: a buffered stream refuses a write within a write."""
    heard = tmp_path / "heard"

    class Interrupted(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def fileno(self) -> int:
            return descriptor

        def write(self, content: object) -> int:
            signal.raise_signal(signal.SIGTERM)
            return len(content)  # type: ignore[arg-type]

    with heard.open("wb") as file:
        descriptor = file.fileno()
        with _stop_requests() as received, monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(Interrupted()), line_buffering=True))
            print("step 2", file=sys.stderr)
    assert received == [signal.SIGTERM]
    assert heard.read_text() == "tandem: saving after this step (again: exit at once)\n"


def test_under_torchrun_it_is_the_run_of_two_processes(recipe: Path, tmp_path: Path) -> None:
    """The documented command, in full: stopped on the way, resumed, and the same bits as started by hand."""
    chosen = ["parallel.micro_batches=1", "steps=6", *QUICK]
    arguments = ("--standalone", "--nproc-per-node", "2", "-m", "tandem", "train", str(recipe), *chosen)
    torchrun = "import runpy; runpy.run_module('torch.distributed.run', run_name='__main__', alter_sys=True)"
    with Child(TRAINING, torchrun, *arguments, environment={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        said, err = process.stdout.read(), process.stderr.read()
        assert process.wait() == 0, err
    assert "on 2 x cpu" in err
    assert said.count("tandem: done") == 1  # one of them speaks
    assert len(re.findall(r"^step 6 of 6", err, re.MULTILINE)) == 1
    by_hand = run_toys.write_recipe(tmp_path, tmp_path / "by-hand")
    port = unused_port()
    started = [run_toys.start(by_hand, chosen, rank=rank, processes=2, port=port) for rank in range(2)]
    assert run_toys.finish(*started) == [0, 0]
    mine, other = run_toys.last_state(tmp_path / "run"), run_toys.last_state(tmp_path / "by-hand")
    assert all(torch.equal(mine[name], other[name]) for name in mine if name != "step")
    with (tmp_path / "run" / "curve.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == [str(step) for step in range(1, 7)]
