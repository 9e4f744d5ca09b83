"""How many small faults do tests notice? Mutants of what must not be wrong, each against the tests of its room.

    python bench/mutants.py [--rooms tokenizer store] [--each 16] [--seed 0]    # draws, runs, prints tables
    python bench/mutants.py --again       # only those that were not noticed the last time

From each room's files, changes are drawn by kind in turn (`mutations.py`), so that comparisons weigh as much as the far
more frequent constants. Each is written into a copy of the tree, where pytest runs the tests that execute the changed
line, cheapest first, until one fails, as many as take 20 seconds without a mutant; a line that none executes (commands
run in processes of their own) is tried with all tests of the room, the slow ones too, for two minutes. Which test
executes which line is measured once with coverage and kept, and so are outcomes: a run that was stopped goes on. One
process at a time, at low priority, forked from one that has imported what is slow to import. A mutant under which tests
take over four times their time is noticed, as one without an end.

Tests with servers, browsers, Ray, Milvus and kill loops are left out. Results: build/mutants/results.json.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mutant_rooms import ROOMS, Room
from mutations import KINDS, Mutant, mutants

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "mutants"
TREE = BUILD / "tree"
RESULTS = BUILD / "results.json"
LEFT_OUT = "not (server or browser or milvus or s3 or ray or kill{})"
SECONDS = 20  # of the tests of a mutant, as they took without one
IMPORTED = ("numpy", "torch", "openvino", "PIL.Image", "faiss", "tokenizers", "safetensors", "ftfy", "httpx", "fastapi")


@dataclass
class Outcome:
    """What became of a mutant: "noticed", "endless" or "survived"."""

    room: str
    mutant: Mutant
    outcome: str
    by: str = ""  # the test that failed
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rooms", nargs="*", default=list(ROOMS), choices=list(ROOMS), metavar="ROOM")
    parser.add_argument("--each", type=int, default=16, help="mutants of each room (default: 16)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="only those that were not noticed the last time")
    args = parser.parse_args()
    os.nice(10)
    prepare()
    kept = load() if RESULTS.exists() else []
    for room in args.rooms:
        chosen = drawn(ROOMS[room], args.each, f"{args.seed} {room}")
        known = {each.mutant: each for each in kept if each.room == room}
        missing = [each for each in chosen if each not in known or (args.again and known[each].outcome == "survived")]
        kept = [each for each in kept if each.room != room or each.mutant in chosen]
        covered = coverage_of(room) if missing else {}
        for mutant in missing:
            outcome = tried(room, mutant, covered)
            change = f"{mutant.name}: {mutant.before} -> {mutant.after}"
            print(f"{outcome.outcome:9} {outcome.seconds:5.0f} s  {change:.170}", flush=True)
            kept = [each for each in kept if (each.room, each.mutant) != (room, mutant)] + [outcome]
            RESULTS.write_text(json.dumps([asdict(each) for each in kept], indent=1))
    print(table([each for each in kept if each.room in args.rooms]))


def prepare() -> None:
    """A copy of the tree; what tests import is imported here, once."""
    shutil.rmtree(TREE, ignore_errors=True)
    for name in ("src", "tests", "docs", "recipes"):
        shutil.copytree(ROOT / name, TREE / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "Makefile", "mkdocs.yml"):
        shutil.copy2(ROOT / name, TREE / name)
    os.environ.setdefault("TANDEM_SHARED", str(ROOT.parent / "shared"))
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every mutant compiles all modules again
    sys.dont_write_bytecode = False
    os.environ["PYTHONPATH"] = str(TREE / "src")
    sys.path[:0] = [str(TREE / "src"), str(TREE / "tests")]
    for name in ("pytest", *IMPORTED):
        importlib.import_module(name)


def files_of(room: Room) -> list[str]:
    source = TREE / "src" / "tandem"
    found = {file for pattern in room.files for file in source.glob(pattern) if file.name != "__init__.py"}
    return sorted(str(file.relative_to(TREE)) for file in found)


def tests_of(patterns: tuple[str, ...]) -> list[str]:
    found = {file for pattern in patterns for file in (TREE / "tests").glob(pattern) if file.name[:5] == "test_"}
    return sorted(str(file.relative_to(TREE)) for file in found)


def drawn(room: Room, count: int, seed: str) -> list[Mutant]:
    """Changes of every kind in turn, none twice on a line, that Python can read."""
    chance = random.Random(seed)
    by_kind: dict[str, list[Mutant]] = {kind: [] for kind in KINDS}
    for file in files_of(room):
        for mutant in mutants(file, (TREE / file).read_text()):
            by_kind[mutant.kind].append(mutant)
    for of_kind in by_kind.values():
        chance.shuffle(of_kind)
    chosen: list[Mutant] = []
    lines = set()
    while len(chosen) < count and any(by_kind.values()):
        for of_kind in by_kind.values():
            while of_kind and len(chosen) < count:
                mutant = of_kind.pop()
                line = (mutant.file, mutant.start[0])
                if line not in lines and readable(mutant):
                    lines.add(line)
                    chosen.append(mutant)
                    break
    return chosen


def readable(mutant: Mutant) -> bool:
    try:
        compile(mutant.apply((TREE / mutant.file).read_text()), mutant.file, "exec")
    except SyntaxError:
        return False
    return True


# What executes what


class Contexts:
    """A plugin of pytest: coverage is told which test runs; what is made for a whole file belongs to all its tests."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self.test = ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.test = nodeid
        self.coverage.switch_context(nodeid)

    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        if fixturedef.scope != "function":
            self.coverage.switch_context(self.test.split("::")[0])
        yield
        self.coverage.switch_context(self.test)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.outcome != "passed":
            self.failed.add(report.nodeid)


def coverage_of(room: str) -> dict[str, Any]:
    """For each line the tests that execute it, and the seconds of each test. Kept until files or tests change."""
    files, tests = files_of(ROOMS[room]), tests_of(ROOMS[room].tests)
    text = repr(ROOMS[room].tests).encode() + b"".join((TREE / file).read_bytes() for file in [*files, *tests])
    kept = BUILD / f"coverage-{room.replace(' ', '-')}-{hashlib.sha256(text).hexdigest()[:12]}.json"
    if not kept.exists():
        started = time.monotonic()
        code, output = forked(lambda: measure(room, files, tests, kept), seconds=3600, waits=6 * 3600)
        if not kept.exists():
            raise SystemExit(f"the tests of {room} ended with {code} and were not measured:\n{output[-3000:]}")
        print(f"{room}: what executes what was measured in {time.monotonic() - started:.0f} s", flush=True)
    result: dict[str, Any] = json.loads(kept.read_text())
    if result["failed"]:
        print(f"{room}: left out, since they fail or are skipped without a mutant: {len(result['failed'])} tests")
    return result


def measure(room: str, files: list[str], tests: list[str], kept: Path) -> int:
    import coverage
    import pytest

    measured = coverage.Coverage(
        data_file=str(BUILD / ".coverage"), config_file=False, include=[str(TREE / file) for file in files]
    )
    measured.erase()
    plugin = Contexts(measured)
    Contexts.pytest_fixture_setup = pytest.hookimpl(wrapper=True)(Contexts.pytest_fixture_setup)  # type: ignore[method-assign]
    measured.start()
    marks = LEFT_OUT.format("" if ROOMS[room].slow else " or slow")
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-m", marks, *tests], plugins=[plugin])
    measured.stop()
    if not plugin.seconds or code not in (0, 1):
        return int(code)
    data = measured.get_data()
    lines = {}
    for file in files:
        found = data.contexts_by_lineno(str(TREE / file))
        lines[file] = {line: sorted({name for name in names if name}) for line, names in found.items()}
    kept.write_text(json.dumps({"lines": lines, "seconds": plugin.seconds, "failed": sorted(plugin.failed)}))
    return int(code)


def noticing(mutant: Mutant, covered: dict[str, Any]) -> tuple[list[str], float]:
    """The tests that execute the changed lines, cheapest first, as many as the time allows, and their time.

    Of a table or a bound, which is executed when its module is imported: those that execute a line which names it.
    """
    seconds = {test: cost for test, cost in covered["seconds"].items() if test not in covered["failed"]}
    by_line = covered["lines"][mutant.file]
    lines = (TREE / mutant.file).read_text().splitlines()
    changed = list(range(mutant.start[0], mutant.end[0] + 1))
    if constant := re.match(r"([A-Za-z_]+)\b.*=", lines[mutant.start[0] - 1]):
        changed = [i for i, line in enumerate(lines, 1) if re.search(rf"\b{constant[1]}\b", line)]
    names = {name for line in changed for name in by_line.get(str(line), ())}
    found, spent = [], 0.0
    for test in sorted(seconds, key=lambda test: seconds[test]):
        if (test in names or test.split("::")[0] in names) and spent + seconds[test] < SECONDS:
            found.append(test)
            spent += seconds[test]
    return found, spent


# Running


def tried(room: str, mutant: Mutant, covered: dict[str, Any]) -> Outcome:
    """Write the change, run the tests, take it back."""
    started = time.monotonic()
    file = TREE / mutant.file
    plain, times = file.read_bytes(), file.stat()
    file.write_text(mutant.apply(plain.decode()))
    os.utime(
        file, (time.time(), time.time() + random.random() * 1e6)
    )  # no compiled file of another mutant has its time
    try:
        direct, spent = noticing(mutant, covered)
        outcome = run_tests(room, mutant, direct or tests_of(ROOMS[room].tests), 20 + int(4 * spent) if direct else 120)
        if outcome.outcome == "survived" and (apart := tests_of(ROOMS[room].apart)):
            outcome = run_tests(room, mutant, apart, 120)
    finally:
        file.write_bytes(plain)
        os.utime(file, (times.st_atime, times.st_mtime))
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def run_tests(room: str, mutant: Mutant, tests: list[str], seconds: int) -> Outcome:
    """`tests`: by name, or whole files, whose slow tests come last."""
    import pytest

    place = {test.split("::")[0]: i for i, test in reversed(list(enumerate(tests)))}

    class Order:
        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            """A file's tests stay together, with what they share."""
            items.sort(key=lambda item: (bool(item.get_closest_marker("slow")), place[item.nodeid.split("::")[0]]))

    command = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", LEFT_OUT.format(""), *tests]
    code, output = forked(lambda: int(pytest.main(command, plugins=[Order()])), seconds, waits=4 * seconds)
    failed = [line.split(" ")[1] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if failed or code in (1, 2, 3, 4):
        return Outcome(room, mutant, "noticed", failed[0] if failed else f"pytest ends with {code}")
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        # By name they end in time without a mutant; all tests of a room may well take longer.
        return Outcome(room, mutant, "endless" if "::" in tests[0] else "survived")
    if code < 0:
        return Outcome(room, mutant, "noticed", signal.Signals(-code).name)
    return Outcome(room, mutant, "survived")


def forked(work: Callable[[], int], seconds: int, waits: int) -> tuple[int, str]:
    """What a function returns in a process of its own, or the signal that ended it; and what it wrote.

    `seconds` of processor time; `waits`: seconds to wait for it, in which the time that this process was stopped does
    not count.
    """
    log = BUILD / "output.txt"
    process = os.fork()
    if process == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(TREE)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        code = 3
        try:
            code = work()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    for _ in range(waits * 20):
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # also what the tests have started
    if not done:
        _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")


# Results


def load() -> list[Outcome]:
    kept = json.loads(RESULTS.read_text())
    for each in kept:
        mutant = each["mutant"]
        each["mutant"] = Mutant(**{**mutant, "start": tuple(mutant["start"]), "end": tuple(mutant["end"])})
    return [Outcome(**each) for each in kept]


def table(outcomes: list[Outcome]) -> str:
    """Markdown: a row for each room, and those that were not noticed."""
    rows = ["| room | mutants | noticed | of them endless | survived |", "|---|---|---|---|---|"]
    for room in [*dict.fromkeys(each.room for each in outcomes), "all"]:
        of_room = [each.outcome for each in outcomes if room in (each.room, "all")]
        endless, survived = of_room.count("endless"), of_room.count("survived")
        noticed = len(of_room) - survived
        rows.append(
            f"| {room} | {len(of_room)} | {noticed} ({noticed / max(1, len(of_room)):.0%}) | {endless} | {survived} |"
        )
    left = [each.mutant for each in outcomes if each.outcome == "survived"]
    rows += ["", "| survivor | kind | change |", "|---|---|---|"]
    rows += [f"| `{each.file}:{each.start[0]}` | {each.kind} | `{each.before}` -> `{each.after}` |" for each in left]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
