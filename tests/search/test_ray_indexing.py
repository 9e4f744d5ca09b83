"""Indexing on Ray Data ends in the same collection as indexing here. A real Ray, four workers on this machine."""

import contextlib
import os
import pickle
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import skip_without, toy
from support.collection_toys import contents, same, values, writing
from support.tars import tar_of
from test_sources import encoded

from tandem.engine.compiled import available_precisions
from tandem.errors import MissingExtraError, TandemError
from tandem.image_source import Limits
from tandem.model import Model, load
from tandem.search.indexing import local, on_ray
from tandem.search.indexing.entries import Entry, FileSignature
from tandem.search.indexing.progress import IndexingProgress
from tandem.search.indexing.run import IndexingOptions, IndexingReport, IndexingRun, open_sources

skip_without("ray")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=80 * 2**20,
    )
    yield
    ray.shutdown()


def run(home: Path, model: Model, *named: Path, workers: int | None = None, **options: Any) -> IndexingReport:
    """With Ray where there are workers."""
    home.mkdir(exist_ok=True)
    chosen = IndexingOptions(batch_size=4, **options)
    with writing(home) as (store, ledger), open_sources(named, chosen) as sources:
        if workers is None:
            return local.index(store, lambda: model, sources, ledger, chosen)
        return on_ray.index(store, lambda: model, sources, ledger, chosen, workers=workers)


@pytest.mark.usefixtures("cluster")
def test_four_workers_one_of_which_is_killed_end_in_the_same_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(toy.folder(tmp_path / "model"))
    images = tmp_path / "images"
    files = toy.write_images(images, 22)
    for i in range(4):
        shutil.copy(files[i], images / f"copy{i}.png")
    (images / "0.txt").write_text("zero")
    (images / "bad.jpg").write_bytes(b"these are words")
    (images / "empty.jpg").write_bytes(b"")
    tar = tar_of(tmp_path / "s.tar", {f"{i}.png": encoded(100 + i) for i in range(5)} | {"bad.png": b"bad"})
    pq.write_table(pa.table({"image": [encoded(0), encoded(200)], "caption": ["a", "b"]}), tmp_path / "t.parquet")
    named = (images, tar, tmp_path / "t.parquet")

    here = run(tmp_path / "here", model, *named)
    reports: list[IndexingProgress] = []
    died = tmp_path / "died"

    class Mortal(on_ray._Worker):
        """The first of all workers that has embedded something is killed before anybody hears of it."""

        def __call__(self, entries: Sequence[Entry]) -> Iterator[Any]:
            for answer in super().__call__(entries):
                with contextlib.suppress(FileExistsError), died.open("x") as file:
                    file.write(str(os.getpid()))
                    file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                yield answer

    with monkeypatch.context() as patched:
        patched.setattr(on_ray, "_Worker", Mortal)
        there = run(tmp_path / "there", model, *named, workers=4, on_progress=reports.append)
    assert int(died.read_text()) != os.getpid()
    assert same(contents(tmp_path / "there"), contents(tmp_path / "here"))
    for field in ("added", "duplicates", "total"):
        assert getattr(there, field) == getattr(here, field), field
    assert sorted((one.path, one.reason) for one in there.failures) == sorted(
        (one.path, one.reason) for one in here.failures
    )
    assert len(there.failures) == 3
    assert reports[-1].done == reports[-1].total == 36
    columns = ("caption", "width", "format", "bytes", "thumbnail")
    for path in (files[0], f"{tar}/3.png", f"{tmp_path}/t.parquet#1"):
        mine, theirs = values(tmp_path / "there", path), values(tmp_path / "here", path)
        assert {name: mine[name] for name in columns if name != "caption"} == {
            name: theirs[name] for name in columns if name != "caption"
        }
        assert set(str(mine["caption"]).split("\n")) == set(str(theirs["caption"]).split("\n"))

    # A second run reads nothing, here or there, and what moved keeps its vector.
    again = run(tmp_path / "there", model, *named, workers=2)
    assert (again.unchanged, again.added, again.not_retried) == (33, 0, 3)
    before = contents(tmp_path / "there")
    files[5].rename(images / "moved.png")
    moved = run(tmp_path / "there", model, *named, workers=2, prune=True)
    assert (moved.unchanged, moved.moved) == (32, 1)
    after = contents(tmp_path / "there")
    assert after.keys() == before.keys()
    assert all(after[id][1].tobytes() == before[id][1].tobytes() for id in after)


@pytest.mark.usefixtures("cluster")
def test_a_model_that_workers_cannot_load_is_reported(tmp_path: Path) -> None:
    toy.write_images(tmp_path / "images", 2)
    model = load(toy.folder(tmp_path / "model"))
    toy.folder(tmp_path / "other", seed=1)
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "other").rename(tmp_path / "model")
    with pytest.raises(TandemError, match="make the same model available") as raised:
        run(tmp_path / "home", model, tmp_path / "images", workers=1)
    assert "\n" not in str(raised.value)
    assert contents(tmp_path / "home") == {}


@pytest.mark.usefixtures("cluster")
def test_images_that_kill_every_worker_end_the_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.write_images(tmp_path / "images", 2)
    model = load(toy.folder(tmp_path / "model"))

    class Doomed(on_ray._Worker):
        def __init__(self, *_: Any) -> None:
            pass

        def __call__(self, entries: Sequence[Entry]) -> Iterator[Any]:
            os.kill(os.getpid(), signal.SIGKILL)
            yield entries

    monkeypatch.setattr(on_ray, "_Worker", Doomed)
    monkeypatch.setattr(on_ray, "RETRIES", 0)
    with pytest.raises(TandemError, match=r"a worker died 1 times with the same images: .* fewer --workers") as raised:
        run(tmp_path / "home", model, tmp_path / "images", workers=1)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot choose their cores here")
def test_workers_have_cores_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as all of them can have on the machines that there are, and none that another worker has."""
    assert on_ray.cores_each([64, 64], 4) == 32
    assert on_ray.cores_each([64, 64], 3) == 32
    assert on_ray.cores_each([64, 16], 5) == 16
    assert on_ray.cores_each([4], 3) == 1
    assert on_ray.cores_each([2], 8) == 1
    before = os.sched_getaffinity(0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    taken, held = [], []
    for _ in before:
        held += on_ray.take_cores(1)
        taken.append(os.sched_getaffinity(0))
        os.sched_setaffinity(0, before)
    assert sorted(core for (core,) in taken) == sorted(before)
    assert on_ray.take_cores(1) == []  # none is free
    assert os.sched_getaffinity(0) == before
    os.close(held.pop())  # as when a worker ends
    held += on_ray.take_cores(1)
    assert os.sched_getaffinity(0) == taken[-1]
    os.sched_setaffinity(0, before)
    for lock in held[1:]:
        os.close(lock)
    # Only one is taken now: too few are free for a worker of as many as there are, and it leaves them to others.
    assert on_ray.take_cores(len(before)) == []
    assert os.sched_getaffinity(0) == before
    rest = on_ray.take_cores(len(before) - 1) if len(before) > 1 else []
    assert len(rest) == len(before) - 1
    assert os.sched_getaffinity(0) == (set().union(*taken[1:]) or before)
    os.sched_setaffinity(0, before)
    for lock in [*held[:1], *rest]:
        os.close(lock)


@pytest.mark.usefixtures("cluster")
def test_workers_are_started_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images there are; tasks are small, and shards end behind all of theirs."""
    model = load(toy.folder(tmp_path / "model"))
    toy.write_images(tmp_path / "images", 13)
    tar = tar_of(tmp_path / "s.tar", {f"{i}.png": encoded(100 + i) for i in range(5)})
    began = tmp_path / "began"

    class Counted(on_ray._Worker):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            with began.open("a") as file:
                file.write("x")

    monkeypatch.setattr(on_ray, "_Worker", Counted)
    monkeypatch.setattr(on_ray, "BATCHES_A_TASK", 1)
    named = (tmp_path / "images", tar)
    report = run(tmp_path / "home", model, *named, workers=2)
    assert (report.added, report.total) == (18, 18)
    assert began.read_text() == "xx"
    assert run(tmp_path / "home", model, *named, workers=2).unchanged == 18  # the shard counts as read


def test_tasks_are_bounded_by_number_and_bytes() -> None:
    def entry(number: int, size: int) -> Entry:
        return Entry(str(number), FileSignature(0, 0, 0), "", content=bytes(size) if size else None)

    def numbers(items: Any, workers: int = 1) -> list[list[int]]:
        return [[int(each.path) for each in entries] for entries, _ in on_ray._tasks(items, 4, workers)]

    assert numbers(entry(number, 0) for number in range(6)) == [[0, 1, 2, 3], [4, 5]]
    quarter = on_ray.BYTES_SENT // on_ray.AHEAD // 4
    assert numbers((entry(number, quarter) for number in range(3)), workers=2) == [[0, 1], [2]]


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"tandem-clip\[ray\]"):
        on_ray.index(None, None, None, None, IndexingOptions())  # type: ignore[arg-type]


@pytest.mark.parametrize("chosen", [None, "1"])
def test_ray_sends_no_usage_statistics_by_default(monkeypatch: pytest.MonkeyPatch, chosen: str | None) -> None:
    import ray
    from ray._common.usage import usage_lib

    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    if chosen is not None:
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", chosen)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    enabled = []
    monkeypatch.setattr(ray, "init", lambda **_: enabled.append(usage_lib.usage_stats_enabled()))
    with on_ray._cluster(ray):
        pass
    assert enabled == [chosen == "1"]
    assert os.environ.get("RAY_USAGE_STATS_ENABLED") == chosen


@pytest.mark.filterwarnings("ignore:computing with quick_gelu")
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_workers_get_the_model_as_it_is_computed_here(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is sent to them: a name of an engine alone, which another machine can load the same model with."""
    pytest.importorskip(engine)
    precision: Any = "bfloat16" if engine == "torch" else available_precisions("CPU")[-1]  # not what auto gives
    how: dict[str, Any] = {"orient": False, "limits": Limits(max_pixels=4000), "activation": "quick_gelu"}
    here = load(toy.folder(tmp_path / "model"), engine=engine, device="cpu", precision=precision, **how)
    sent: list[Any] = []

    class Pool:
        def __init__(self, ray: Any, run: IndexingRun, start: Callable[[], Any], workers: int) -> None:
            self.encode = lambda items: start()

    monkeypatch.setattr(on_ray, "_Pool", Pool)
    monkeypatch.setattr(on_ray, "_start", lambda ray, given: sent.append(given))
    monkeypatch.setattr(on_ray, "_cluster", lambda ray: contextlib.nullcontext())
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}])
    toy.write_images(tmp_path / "images", 1)
    chosen = IndexingOptions(batch_size=4)
    (tmp_path / "home").mkdir()
    with writing(tmp_path / "home") as (store, ledger), open_sources([tmp_path / "images"], chosen) as sources:
        on_ray.index(store, lambda: here, sources, ledger, chosen, workers=2)
    [(loader, *rest, cores)] = sent
    assert cores == 2
    assert (loader.keywords["engine"], loader.keywords["device"]) == (engine, "cpu")
    there = on_ray._Worker(pickle.loads(pickle.dumps(loader)), *rest).model  # as it arrives on another machine
    assert (there.engine.name, there.engine.precision) == (engine, precision)
    assert (there.orient, there.limits, there.config.activation) == tuple(how.values())
    assert there.fingerprint == here.fingerprint
