"""A run from rows to a page, with rows that cost nothing: what is kept, what is refused, what is measured again."""

from argparse import Namespace

import benchmark
import pytest
from comparison import idle, measuring, page
from comparison.machine import BusyError
from comparison.materials import Materials
from comparison.measuring import LIMITS, LIMITS_FILES
from comparison.page import BEGIN, END, Refused
from comparison.results import Measured, Results
from comparison.rows import ROWS
from comparison.sides import PeerError

MACHINE = {
    "processor": "A", "instructions": [], "cores": 2, "threads": 2, "memory_gb": 8, "system": "Linux 6", "python": "3",
}  # fmt: skip
EMPTY = f"by hand\n{BEGIN}\nnothing yet\n{END}\n"


class Bench:
    """`benchmark.run` over rows that are there at once. `busy`: others' share during a row, by key."""

    def __init__(self, home):
        self.home, self.page, self.busy = home, home / "benchmarks.md", {}
        self.measured: list[str] = []
        self.page.write_text(EMPTY)

    def measure(self, row, sides, materials, running, scale, home):
        self.measured.append(row.key)
        values = {"transformers float32": [1.0], "tandem float32": [2.0], "tandem int8": [3.0]}
        return Measured(row.key, "2030-01-02T00:00:00", values, others_during=self.busy.get(row.key, 0.0))

    def run(self, rows="", **changes):
        options = {"threads": None, "quick": False, "trial": False, "sides": "", "fresh": False, "photos": None}
        return benchmark.run(Namespace(**{**options, "rows": rows, "model": [], "page": self.page, **changes}))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    made = Bench(tmp_path)
    for name, value in {
        "HOME": tmp_path,
        "described": lambda threads: MACHINE,
        "hold_to": lambda threads: [0, 1],
        "check_idle": lambda: 0.01,
        "_prepare": lambda *given: None,
        "measure": made.measure,
        "HOW": dict.fromkeys(("photo", "search", "accuracy"), made.measure),
    }.items():
        monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setattr(benchmark.chart, "draw", lambda results, path: None)
    monkeypatch.setattr(page, "_accuracy", lambda row: "")
    return made


def test_a_run_that_was_stopped_goes_on_where_it_was(bench):
    assert bench.run("images,image") == 0
    assert bench.measured == ["images", "image"]
    bench.measured.clear()
    assert bench.run() == 0
    assert bench.measured == [key for key in ROWS if key not in ("images", "image")]
    bench.measured.clear()
    assert bench.run("image") == 0
    assert bench.measured == ["image"]
    assert "**tandem int8**" in bench.page.read_text()


def test_a_row_of_a_busy_machine_is_not_kept(bench):
    bench.busy = {"images": 0.11, "image": 0.1}
    assert bench.run("images,image") == 1
    assert list(Results(bench.home / "results.json", MACHINE).rows) == ["image"]


def test_a_machine_that_is_busy_before_a_row_ends_the_run(bench, monkeypatch):
    shares = iter([0.0, 0.02])  # before anything, and before the first row

    def check_idle():
        if (share := next(shares, None)) is None:
            raise BusyError("the machine is busy")
        return share

    monkeypatch.setattr(benchmark, "check_idle", check_idle)
    with pytest.raises(BusyError):
        bench.run("images,image")
    assert bench.measured == ["images"]
    assert Results(bench.home / "results.json", MACHINE).rows["images"].others_before == 0.02
    assert bench.page.read_text() == EMPTY


def test_no_page_is_written_of_a_busy_machine(bench):
    settings = Materials(bench.home).settings(ROWS["images"])
    Results(bench.home / "results.json", MACHINE).keep(
        Measured("images", "2030-01-01", {"tandem float32": [1.0]}, others_during=0.2, settings=settings)
    )
    with pytest.raises(Refused, match=r"images \(20%\): no page is written"):
        bench.run("image")
    assert bench.page.read_text() == EMPTY


def test_a_trial_writes_no_page_and_keeps_nothing_for_a_run(bench):
    bench.busy = {"images": 0.9}
    assert bench.run("images", trial=True) == 0
    assert bench.page.read_text() == EMPTY
    assert "these figures mean nothing" in (bench.home / "trial" / "trial.md").read_text()
    assert not (bench.home / "results.json").exists()


@pytest.mark.parametrize("limits", [LIMITS, LIMITS_FILES])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_side_that_disagrees_is_not_timed(limits, precision):
    plain, centred = limits[precision]
    assert centred >= 0.75
    measuring._check_agreement((plain, centred), limits[precision])
    for found in ((plain - 0.01, centred), (plain, centred - 0.01)):
        with pytest.raises(PeerError, match="disagree with ours"):
            measuring._check_agreement(found, limits[precision])


def test_a_busy_machine_is_refused_before_anything_is_installed(monkeypatch, capsys):
    def busy():
        raise idle.BusyError("the machine is busy")

    monkeypatch.setattr(idle, "check_idle", busy)
    assert idle.main([]) == 1
    assert "bench: the machine is busy" in capsys.readouterr().err
    assert idle.main(["--trial"]) == 0
    makefile = (benchmark.ROOT / "Makefile").read_text()
    recipe = makefile.partition("\nbench:")[2].partition("\n\n")[0]
    assert recipe.index("idle.py") < recipe.index(".venv-bench/.done")
