"""A run of `make bench` whose rows are measured by a toy: what is measured again, what is kept, what is written."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmark
import pytest
from comparison import page
from comparison.machine import BusyError, described
from comparison.results import Measured, Results
from comparison.rows import BASE, ROWS

HAND = f"by hand\n{page.BEGIN}\nold\n{page.END}\n"
OURS = "tandem float32"


class Bench:
    """The script, in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.page = home / "docs" / "benchmarks.md"
        self.page.parent.mkdir()
        self.page.write_text(HAND)
        self.home = home / "build"
        self.measured: list[str] = []
        self.busy: set[str] = set()  # rows during which others use the machine

    def measure(self, row: Any, *_: Any) -> Measured:
        self.measured.append(row.key)
        return done(row.key, 0.11 if row.key in self.busy else 0.1)

    def results(self, home: str = "") -> Results:
        return Results(self.home / home / "results.json", described(1))


def done(key: str, busy: float = 0.0) -> Measured:
    settings = benchmark.Materials(Path("nowhere")).settings(ROWS[key])
    values = {OURS: [2.0, 2.0], "tandem int8": [2.0, 2.0]} | ({BASE: [1.0, 1.0]} if key != "mini" else {})
    notes = ["Food", "Pets"] if key == "mini" else []
    return Measured(key, "2030-01-02T03:04:05", values, settings=settings, others_during=busy, notes=notes)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    monkeypatch.setattr(benchmark, "HOME", made.home)
    monkeypatch.setattr(benchmark, "HOW", {row.work: made.measure for row in ROWS.values()})
    monkeypatch.setattr(benchmark, "_prepare", lambda *_: None)  # opens libraries
    monkeypatch.setattr(benchmark, "check_idle", lambda: 0.0)
    monkeypatch.setattr(benchmark, "hold_to", lambda threads: [0])
    monkeypatch.setattr(benchmark.chart, "draw", lambda results, target: None)
    monkeypatch.setattr(benchmark, "current_commit", lambda: "abc")
    return made


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments, "--page", str(bench.page)])
        return benchmark.main()

    return call


def test_a_run_that_was_stopped_goes_on_where_it_was(bench: Bench, run: Callable[..., int]) -> None:
    kept = replace(done("image"), when="2030-01-01T00:00:00")
    bench.results().keep(kept)
    assert run() == 0
    assert bench.measured == [key for key in ROWS if key != "image"]
    assert bench.results().rows["image"] == kept
    assert "ViT-B/32, one image at a time" in bench.page.read_text()


def test_rows_that_are_named_are_measured_anew_and_the_others_kept(bench: Bench, run: Callable[..., int]) -> None:
    for key in ("images", "image", "prompts"):
        bench.results().keep(replace(done(key), when="2030-01-01T00:00:00"))
    assert run("--rows", "image") == 0
    assert bench.measured == ["image"]
    assert {key: row.when[:10] for key, row in bench.results().rows.items()} == {
        "images": "2030-01-01", "image": "2030-01-02", "prompts": "2030-01-01",
    }  # fmt: skip
    bench.measured.clear()
    assert run("--rows", "image", "--fresh") == 0
    assert list(bench.results().rows) == bench.measured == ["image"]


def test_rows_of_a_busy_machine_are_not_kept(bench: Bench, run: Callable[..., int], capsys: Any) -> None:
    bench.busy = {"image"}
    assert run("--rows", "images,image") == 1
    assert list(bench.results().rows) == ["images"]
    assert "image: not kept, the machine was busy" in capsys.readouterr().out
    assert ROWS["image"].title not in bench.page.read_text().partition("### What could not take part")[0]


def test_no_page_is_written_of_figures_of_a_busy_machine(bench: Bench, run: Callable[..., int], capsys: Any) -> None:
    """Of an earlier run, by which they were kept."""
    bench.results().keep(done("image", 0.11))
    assert run("--rows", "images") == 1
    assert "other processes used the machine during image (11%): no page is written" in capsys.readouterr().err
    assert bench.page.read_text() == HAND


def test_a_machine_that_is_busy_before_a_row_ends_the_run(
    bench: Bench, run: Callable[..., int], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def second_time_busy() -> float:
        asked.append(0.0)
        if len(asked) == 3:  # before anything, before the first row, and now
            raise BusyError("the machine is busy")
        return 0.01

    monkeypatch.setattr(benchmark, "check_idle", second_time_busy)
    assert run("--rows", "images,image") == 1
    assert bench.measured == ["images"]
    assert bench.results().rows["images"].others_before == 0.01
    assert "bench: the machine is busy" in capsys.readouterr().err
    assert bench.page.read_text() == HAND


def test_a_trial_writes_no_page_and_touches_no_figures(
    bench: Bench, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.results().keep(done("image"))
    before = bench.results().rows
    bench.busy = {"images"}  # and it does not look
    monkeypatch.setattr(benchmark, "check_idle", lambda: pytest.fail("a trial runs on a busy machine, too"))
    assert run("--rows", "images", "--trial") == 0
    assert bench.page.read_text() == HAND
    assert bench.results().rows == before
    assert list(bench.results("trial").rows) == ["images"]
    assert "A trial: these figures mean nothing." in (bench.home / "trial" / "trial.md").read_text()
