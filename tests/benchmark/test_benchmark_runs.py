"""A run from rows to a page, with rows that cost nothing: what is kept, what is refused, what is measured again."""

import time
from argparse import Namespace
from types import SimpleNamespace

import benchmark
import numpy as np
import pytest
from comparison import idle, measuring, page
from comparison.materials import Materials
from comparison.measuring import LIMITS, LIMITS_FILES, Scale, measure_photo
from comparison.page import BEGIN, END, Refused
from comparison.results import Measured, Results
from comparison.rows import LEAST_ROUNDS, MOST_ROUNDS, ROWS, SIDES
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


def test_another_answer_to_the_photo_is_not_timed(tmp_path, monkeypatch):
    names = ("tandem float32", "transformers float32", "open_clip float32")
    cat = {"tandem float32": 0.9, "transformers float32": 0.86, "open_clip float32": 0.84}
    monkeypatch.setattr(measuring, "_command", lambda side, *given: side.name)
    monkeypatch.setattr(
        measuring, "_answer", lambda side, *given: dict(zip(measuring.LABELS, (cat[side.name], 0.1, 0), strict=True))
    )
    monkeypatch.setattr(measuring, "_seconds", lambda *given: 1.0)
    row = SimpleNamespace(key="photo", work="photo", model="vit-b-32", sides=names, seconds=0)
    running = SimpleNamespace(prepare=lambda *given: {}, versions={})
    materials = SimpleNamespace(photos=lambda count: ["a.jpg"])
    found = measure_photo(row, SIDES, materials, running, Scale(rounds=1), tmp_path)
    assert list(found.values) == list(names[:2])
    assert "it is not timed" in found.missing["open_clip float32"]


def test_rounds_end_with_the_seconds_but_not_before_there_are_enough():
    row, whole, long_ago = ROWS["images"], Scale(), time.perf_counter() - 1e6
    assert not whole.enough(row, LEAST_ROUNDS - 1, long_ago)
    assert whole.enough(row, LEAST_ROUNDS, long_ago)
    assert not whole.enough(row, LEAST_ROUNDS, time.perf_counter())
    assert whole.enough(row, MOST_ROUNDS, time.perf_counter())
    assert LEAST_ROUNDS >= 3


@pytest.mark.parametrize("key", ["images", "prompts", "files"])
def test_a_rate_is_what_is_done_over_the_seconds(key, tmp_path):
    materials = SimpleNamespace(pixels=lambda name: "", prompts=lambda n: ["a"] * n, photos=lambda: ["a"] * 200)
    process = SimpleNamespace(ask=lambda *given, **request: {"seconds": 4.0})
    ask = measuring._ask(ROWS[key], "vit-b-32", materials, Scale(), tmp_path)
    assert ask(process) == ROWS[key].count / 4


def test_what_pads_to_77_tokens_is_no_strongest_peer():
    values = {"transformers float32": [1.0], "transformers (77 tokens) float32": [9.0], "tandem float32": [5.0]}
    assert page.strongest(Measured("prompts", "", values), "float32") == "transformers float32"


def test_a_peer_is_faster_by_the_median():
    """Even where some rounds say otherwise."""
    values = {"transformers float32": [10.0, 10.0, 10.0], "tandem float32": [9.0, 9.0, 20.0]}
    assert [found[2] for found in page.faster_peers([Measured("images", "", values)])] == ["transformers float32"]


@pytest.mark.parametrize(("ms", "said"), [(60.0, "yes"), (61.0, "**no**")])
def test_the_aim_of_searching_is_60_milliseconds(ms, said):
    assert f"{said} |" in page._aims({"search": Measured("search", "", {"tandem float32": [ms]})})


def test_the_page_says_the_most_that_others_used(tmp_path):
    results = Results(tmp_path / "results.json", MACHINE)
    for key, share in (("images", 0.01), ("image", 0.04)):
        values = {"transformers float32": [1.0]}
        results.keep(Measured(key, "2030-01-01", values, others_before=share, others_during=2 * share))
    said = page.section(results, {"command": "", "photos": "", "weights": "", "int8": ""})
    assert "at most 4% of the cores before a row and 8% during one" in said


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


def test_vectors_of_another_shape_disagree():
    with pytest.raises(ValueError, match="expected vectors of shape"):
        measuring.agreement(np.ones((2, 3)), np.ones((2, 4)))
