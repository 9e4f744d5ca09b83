"""`tandem index`: photos -> a collection that can be searched."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from tandem.cli import exit_code, screen
from tandem.cli.inputs import loading
from tandem.cli.vectors import valid_text
from tandem.errors import TandemError
from tandem.search.collection import Collection, open_collection
from tandem.search.indexing.local import Report
from tandem.search.indexing.places import SetAside


def run(arguments: argparse.Namespace) -> int:
    photos, workers = target(arguments)
    with screen.resumable(), photos, screen.indexing_progress() as on_progress:
        report = photos.add(
            arguments.sources,
            prune=arguments.prune,
            fast_decode=arguments.fast_decode,
            caption=arguments.caption,
            batch_size=arguments.batch_size,
            workers=workers,
            on_progress=on_progress,
        )
    if arguments.json:
        screen.print_json(as_document(photos, report))
    else:
        print(summary(arguments.collection, report))
    sys.stdout.flush()
    say_failures(report.failures)
    return exit_code(done=report.total, set_aside=len(report.failures))


def target(arguments: argparse.Namespace) -> tuple[Collection, int | None]:
    """The collection that is filled, and how many workers fill it; None for this process alone."""
    options = loading(arguments)
    workers: int | None = None
    if options["engine"] == "ray":
        options["engine"] = "auto"
        workers = arguments.workers or max(1, (os.cpu_count() or 2) // 2)
    elif arguments.workers is not None:
        raise TandemError("--workers goes with --engine ray; without it, one process uses all cores")
    if os.path.isfile(Path(arguments.collection).expanduser()):
        raise TandemError(f"--to {arguments.collection}: expected a folder or an address, got a file")
    return open_collection(arguments.collection, arguments.model, **options), workers


def summary(name: str, report: Report) -> str:
    """What there is now, and what this run did about it."""
    counts = {
        "added": report.added,
        "unchanged": report.unchanged,
        "duplicate" if report.duplicates == 1 else "duplicates": report.duplicates,
        "moved": report.moved,
        "changed": report.changed,
        "taken out": report.pruned,
    }
    did = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing to do"
    line = f"{name}: {screen.count_of(report.total)}; {did}"
    if report.added + report.changed:
        line += f"; {report.rate:,.0f} a second"
    if 0 < report.fast < report.total:
        line += f"; {report.fast:,} of all decoded fast"
    return line


def as_document(photos: Collection, report: Report) -> dict[str, Any]:
    """What `tandem index --json` prints."""
    notes = photos.notes
    return {
        "collection": photos.url,
        "model": {"name": notes["model_name"], "fingerprint": notes["model_fingerprint"]},
        "total": report.total,
        "added": report.added,
        "unchanged": report.unchanged,
        "duplicates": report.duplicates,
        "moved": report.moved,
        "changed": report.changed,
        "pruned": report.pruned,
        "decoded_fast": report.fast,
        "seconds": round(report.seconds, 3),
        "failures": [
            {"image": valid_text(one.path), "error": valid_text(one.reason), "retried": one.retried}
            for one in report.failures
        ],
    }


def say_failures(failures: list[SetAside]) -> None:
    """Name every file that was set aside, the new ones first; old ones are counted if they are many."""
    new = [one for one in failures if one.retried]
    old = [one for one in failures if not one.retried]
    if new:
        screen.say(f"set aside {len(new):,}:")
        for one in new:
            print(f"  {screen.line(valid_text(f'{one.path}: {one.reason}'))}", file=sys.stderr)
    if old:
        screen.say(f"set aside before, and unchanged since: {len(old):,}")
        for one in old if not new else ():
            print(f"  {screen.line(valid_text(f'{one.path}: {one.reason}'))}", file=sys.stderr)
