"""Tandem beside transformers, sentence-transformers, ONNX Runtime, optimum-intel and open_clip: `make bench`.

    python bench/benchmark.py [--rows images,files] [--quick] [--trial] [--fresh] [--photos DIR] [--model vit-b-32=DIR]

Each library runs in a process of its own, held to the same cores; what it computes is compared with ours, then all are
timed in turn. A row's figures are kept when it is done (build/bench/results.json), so that a run that was stopped goes
on where it was; --rows measures those anew. docs/benchmarks.md gets them all, unless the machine was busy: other
processes may use at most 5% of the cores before a row, and 10% during it.

--trial shows that everything works, on a machine that is busy too: a little of each row, nothing in docs; what the
section looks like is build/bench/trial/trial.md. --quick: three rounds of each row.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from comparison import chart, page
from comparison.machine import BusyError, check_idle, described
from comparison.materials import Materials
from comparison.measuring import Open, Scale, measure, measure_photo
from comparison.ours_alone import measure_mini, measure_search
from comparison.results import Measured, Results
from comparison.rows import ROWS, SIDES, Row, chosen
from comparison.sides import ROOT, PeerError, Process, hold_to

HOME = ROOT / "build" / "bench"
HOW: dict[str, Callable[..., Measured]] = {"photo": measure_photo, "search": measure_search, "accuracy": measure_mini}
TRIAL, QUICK, WHOLE = Scale(1, 0.1), Scale(3), Scale()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", default="", metavar="R,...", help=f"of: {', '.join(ROWS)} (default: those not done yet)"
    )
    parser.add_argument("--threads", type=int, help="cores for every side (default: all)")
    parser.add_argument("--quick", action="store_true", help="three rounds of each row")
    parser.add_argument(
        "--trial", action="store_true", help="a little of each row, on a busy machine too; writes no page"
    )
    parser.add_argument("--sides", default="", metavar="S,...", help="in a trial: only sides whose names begin so")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured and quantised before")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="a folder of at least 1,000 JPEGs, instead of crops")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=DIR",
        help="published weights of a row's model (vit-b-32, vit-l-14) in transformers' layout, instead of random ones",
    )  # fmt: skip
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    arguments = parsed()
    try:
        return run(arguments)
    except (BusyError, PeerError, page.Refused, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped; rows that were done are kept", file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> int:
    rows = chosen(arguments.rows)
    if arguments.sides and not arguments.trial:
        raise ValueError("--sides: only in a --trial; a row that is written has all its sides")
    beginnings = tuple(arguments.sides.split(","))
    rows = [replace(row, sides=tuple(name for name in row.sides if name.startswith(beginnings))) for row in rows]
    threads = len(hold_to(arguments.threads or len(os.sched_getaffinity(0))))
    home = HOME / "trial" if arguments.trial else HOME
    path = home / "results.json"
    if arguments.fresh or arguments.trial:
        path.unlink(missing_ok=True)
    results = Results(path, described(threads))
    materials = Materials(HOME, arguments.photos and arguments.photos.expanduser(), _models(arguments.model))
    if arguments.fresh and not arguments.trial:
        materials.forget_quantized()
    wanted = [row for row in rows if arguments.rows or row.key not in results.rows]
    results.check(
        {row.key: materials.settings(row) for row in ROWS.values()},
        current_versions(results, home / "logs"),
        [row.key for row in wanted],
    )
    if not arguments.trial:
        check_idle()  # before minutes of opening libraries; and again before each row
    scale = TRIAL if arguments.trial else QUICK if arguments.quick else WHOLE
    failed = measure_rows(wanted, materials, results, scale, home, threads, check=not arguments.trial)
    write(results, materials, arguments, home)
    return 1 if failed else 0


def measure_rows(
    rows: list[Row], materials: Materials, results: Results, scale: Scale, home: Path, threads: int, check: bool
) -> list[str]:
    """Each row, kept when it is done. Gives those that could not be measured."""
    home.mkdir(parents=True, exist_ok=True)
    running, model, failed, commit = Open(materials, threads, home / "logs"), "", [], current_commit()
    try:
        for row in rows:
            began = time.perf_counter()
            if row.model != model:
                running.close()  # several gigabytes
                model = row.model
            try:
                _prepare(row, materials, running)
                before = check_idle() if check else 0.0
                measured = HOW.get(row.work, measure)(row, SIDES, materials, running, scale, home)
            except PeerError as error:
                print(f"{row.key}: {error}", flush=True)
                failed.append(row.key)
                continue
            measured.others_before = before
            measured.settings, measured.commit = materials.settings(row), commit
            print(f"{page.table(measured)}\n", flush=True)
            for name, reason in measured.missing.items():
                print(f"not in this row: {name}: {reason}")
            said = f"{measured.others_during:.0%} of the cores used by others"
            print(f"{row.key}: {time.perf_counter() - began:.0f} s, {said}\n", flush=True)
            if check and measured.is_busy():
                print(f"{row.key}: not kept, the machine was busy", flush=True)
                failed.append(row.key)
                continue
            results.keep(measured)
    finally:
        running.close()
    return failed


def _prepare(row: Row, materials: Materials, running: Open) -> None:
    """What takes long and is done once: models, exports, quantised ones; before the machine is looked at."""
    for name in row.sides:
        try:
            running.get(SIDES[name], row.model) if row.work in ("images", "texts", "files") else running.prepare(
                SIDES[name], row.model
            )
        except PeerError:
            continue  # the row says so


def write(results: Results, materials: Materials, arguments: argparse.Namespace, home: Path) -> None:
    models = dict.fromkeys(row.model for row in ROWS.values())
    drawn = [name for name in models if materials.is_random(name)]
    about = {
        "command": "make bench",
        "photos": materials.photos_note(),
        "weights": "; ".join(map(materials.weights, models)),
        "int8": page.int8_note(drawn),
    }
    if arguments.trial:
        target = home / "trial.md"
        (home / "images").mkdir(exist_ok=True)
        target.write_text("A trial: these figures mean nothing.\n\n" + page.section(results, about), encoding="utf-8")
        chart.draw(results, home / page.CHART)
        print(f"wrote {target}; a trial writes no page")
        return
    page.check_writable(results)
    chart.draw(results, arguments.page.parent / page.CHART)
    page.write(arguments.page, page.section(results, about))
    print(f"wrote {arguments.page} and its chart")


def current_versions(results: Results, logs: Path) -> dict[str, dict[str, str]]:
    """Of the libraries of each side that has been measured; a side that is not there now has none."""
    found: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(side for row in results.rows.values() for side in row.versions):
        try:
            with Process.of(SIDES[name], logs / "versions.log") as process:
                found[name] = process.ask("versions")
        except PeerError:
            continue
    return found


def current_commit() -> str:
    """Of the sources that are measured; with a + where files differ from it."""
    said = [
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short=10", "HEAD"], ["status", "--porcelain", "-uno", "--", "src", "bench"])
    ]
    return (said[0] or "unknown") + ("+" if said[1] else "")


def _models(given: list[str]) -> dict[str, Path]:
    """Raises `ValueError` for what is not NAME=DIR, and for models that no row has."""
    models: dict[str, Path] = {}
    for each in given:
        name, _, folder = each.partition("=")
        if name not in {row.model for row in ROWS.values()} or not folder:
            raise ValueError(f"--model: expected NAME=DIR with a model of a row (vit-b-32, vit-l-14), got {each!r}")
        models[name] = Path(folder).expanduser()
    return models


if __name__ == "__main__":
    sys.exit(main())
