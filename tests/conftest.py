"""Where the reference data is, what child processes inherit, and which tests share a process when several run."""

import functools
import gc
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.expression import Expression

from tandem.engine import compiled

pytest.register_assert_rewrite("support")  # before any of it is imported

if "PYTEST_XDIST_WORKER" in os.environ:
    # One process a core: each keeps to one thread, or they would wait for one another. Before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

MEMORY_DISK = Path("/dev/shm")
ROOM = 4 << 30  # a whole test run writes less than a quarter of it


def _temporary_files_in_memory() -> None:
    """Where Linux has a disk in memory, tests write there.

    They make thousands of small collections, each written through to the disk several times: ten milliseconds each
    time. What tests kill is processes, never the machine, so that they ask nothing of a real disk.
    """
    if "TMPDIR" not in os.environ and os.access(MEMORY_DISK, os.W_OK) and shutil.disk_usage(MEMORY_DISK).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY_DISK)


def _memory_is_kept() -> None:
    """What is freed is not given back to Linux only to be asked for again, page by page: for processes started later.

    Toys allocate and free arrays of megabytes all the time, and a third of their time went into new pages.
    """
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    os.environ.setdefault("MALLOC_TOP_PAD_", str(64 << 20))


_temporary_files_in_memory()
_memory_is_kept()
os.environ["LANGUAGE"] = "C"  # argparse would look for each of its messages in each of a user's languages

# What several test files share, and is expensive to start: all its tests run in one process.
SHARED = ("milvus", "browser", "s3", "ray")
# Whose tests begin first: those that wait longest while others compute, and last those that only compute.
QUEUE = (*SHARED, "kill", "server", "slow")
# Values of a test's parameters that say what it needs.
NEEDS = {"milvus": "milvus", "milvus-lite": "milvus", "lance-s3": "s3"}


# Collection makes objects by the hundred thousand, which stay: to look for garbage among them took a sixth of its time.
gc.disable()
_modules = 0
HOME = tempfile.TemporaryDirectory(prefix="tandem-home-")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden outputs and data, beside the project or where TANDEM_SHARED says.

    Tests that need it are skipped, with a message, where it is absent.
    """
    folder = Path(os.environ.get("TANDEM_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "golden").is_dir():
        pytest.skip(f"needs the reference data in {folder} (set TANDEM_SHARED)")
    return folder


def pytest_configure() -> None:
    """What child processes inherit: `support` can be imported, and Ctrl-C is heard.

    A shell starts what is to run in the background with Ctrl-C ignored, and so would be what the tests start.
    """
    tests = str(Path(__file__).parent)
    os.environ.setdefault("TANDEM_HOME", HOME.name)  # no test writes among its user's own data
    os.environ.setdefault("TANDEM_CACHE", os.path.join(HOME.name, "cache"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file of which `-m` leaves out every test, by its first mark, is not imported, which may take seconds."""
    if not config.option.markexpr or collection_path.suffix != ".py":
        return None
    marked = re.search(
        r"^pytestmark = \[?\s*pytest\.mark\.(\w+)", collection_path.read_text(encoding="utf-8"), re.MULTILINE
    )
    wanted = Expression.compile(config.option.markexpr)
    # With this mark alone, and whatever else a test of the file may have.
    if marked and not any(
        wanted.evaluate(each) for each in (lambda name, **_: name == marked[1], lambda *_, **__: True)
    ):
        return True
    return None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark what a parameter says a test needs; group tests for the processes of pytest-xdist; put them in a queue."""
    groups: dict[pytest.Item, str] = {}
    waits: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        for need in (*needs(item), *slow(item)):
            item.add_marker(need)
        marks = {mark.name for mark in item.iter_markers()}
        groups[item] = group(item, marks)
        item.add_marker(pytest.mark.xdist_group(groups[item]))
        waits[groups[item]].update(marks)
    # Whoever ends first takes the next group: those with most of such tests begin, and the short ones fill the end.
    order = {name: (*(-marks[each] for each in QUEUE), name) for name, marks in waits.items()}
    items.sort(key=lambda item: order[groups[item]])
    yield
    if config.getoption("loadgroup", False):
        keep_groups(items, groups)


def pytest_collection_finish() -> None:
    """Garbage is collected from here on, without going through all that was imported and collected each time."""
    compiled.core = _core_that_remembers  # type: ignore[assignment]
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


def seed_all(name: str) -> None:
    """What is drawn without a generator of its own depends on a name alone: not on the tests before, nor on a clock."""
    number = zlib.crc32(name.encode())
    random.seed(number)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(number)
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(number)  # torch's own function also notes where it was called, in 2 ms


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    seed_all(item.nodeid.partition("@")[0])
    _leave_out_what_was_imported()


def _leave_out_what_was_imported() -> None:
    """Garbage is not looked for among the objects of libraries that a test has imported, a million after some."""
    global _modules
    if len(sys.modules) > _modules + 100:
        gc.freeze()
        _modules = len(sys.modules)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any) -> None:
    """What several tests share is the same for whichever of them comes first."""
    if fixturedef.scope != "function":
        seed_all(f"{fixturedef.baseid}::{fixturedef.argname}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Again: whether this test was the first to ask for a fixture makes no difference to it."""
    seed_all(item.nodeid.partition("@")[0])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Milvus is stopped after the last test that needs it: until the end of the run it would take its share."""
    yield
    if item.get_closest_marker("milvus") and not (nextitem and nextitem.get_closest_marker("milvus")):
        from support.milvus_server import stop_shared_server

        stop_shared_server()


@functools.cache
def _core_that_remembers() -> Any:
    """OpenVINO, which compiles the same graph of the same weights once in a test run: no part of a toy costs more."""
    from tandem.openvino_import import ov

    core = ov.Core()
    core.set_property({"CACHE_DIR": os.path.join(HOME.name, "openvino")})
    return core


def keep_groups(items: list[pytest.Item], groups: dict[pytest.Item, str]) -> None:
    """Write its group at the end of each test's id, where pytest-xdist's scheduler reads it.

    pytest-xdist does so itself, but up to 3.8 into an attribute that pytest 9.2 no longer has: then tests went to
    whichever process was free, and each process started every server, browser and model again (its issue 1386).
    """
    for item in items:
        wanted = f"{item.nodeid.removesuffix('@' + groups[item])}@{groups[item]}"
        if item.nodeid != wanted:
            path, *names = wanted.split("::")
            item._id = type(item._id)(path=path, names=tuple(names))  # type: ignore[attr-defined]
        if item.nodeid != wanted:
            raise pytest.UsageError(f"pytest {pytest.__version__} has moved the id of tests: see tests/conftest.py")


def needs(item: pytest.Item) -> Iterator[str]:
    return (NEEDS[value] for value in parameters(item) if isinstance(value, str) and value in NEEDS)


def slow(item: pytest.Item) -> Iterator[str]:
    """`slow`, where the marker `slow_if` names one of the test's parameters."""
    named = [value for mark in item.iter_markers("slow_if") for value in mark.args]
    values = [getattr(value, "__name__", value) for value in parameters(item)]
    return ("slow" for value in values if isinstance(value, str | int) and value in named)


def parameters(item: pytest.Item) -> list[object]:
    callspec = getattr(item, "callspec", None)
    return list(callspec.params.values()) if callspec else []


def group(item: pytest.Item, marks: set[str]) -> str:
    """A file's tests stay together, with its fixtures; those that share a server or a browser, across files.

    So do those of a group that they name: `training` shares a process that has imported all of torch, to fork from.
    """
    named = [str(mark.args[0]) for mark in item.iter_markers("xdist_group")]
    return next((name for name in SHARED if name in marks), named[0] if named else item.location[0])
