"""`tandem watch`: follows folders, and keeps a collection up to date."""

import argparse
import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from tandem.cli import stop_signals, terminal
from tandem.cli.arguments import Parser, describe
from tandem.cli.exit_codes import DONE
from tandem.cli.options.images import add_exclude, add_limits
from tandem.cli.options.indexing import add_caption, add_fast_decode, add_target
from tandem.cli.options.model import add_model, loading
from tandem.errors import TandemError
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.search.indexing.run import IndexingReport
    from tandem.search.watching.following import Batch


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Follow folders: index what changed since the last time, then what changes from now on, a line for each batch. "
        "Files that are still being written are waited for. Ctrl-C ends it.",
        "tandem watch ~/Pictures --to photos.tandem",
        "tandem watch /mnt/nas/photos --to photos.tandem --poll 300 --prune",
    )
    parser.add_argument("sources", nargs="+", metavar="FOLDER", help="a folder, searched through")
    add_exclude(parser)
    add_limits(parser)
    add_target(parser)
    parser.missing["FOLDER"] = "no folder to follow: tandem watch ~/Pictures --to photos.tandem"
    parser.add_argument("--prune", action="store_true", help="remove photos whose files are gone")
    add_fast_decode(parser)
    add_caption(parser)
    parser.add_argument(
        "--poll",
        type=_seconds,
        metavar="SECONDS",
        help="look at the folders every so often, for network file systems, which report no changes",
    )
    parser.add_argument(
        "--settle",
        type=_seconds,
        metavar="SECONDS",
        help="how long files must be unchanged before they are read (1)",
    )
    parser.add_argument("--json", action="store_true", help="a JSON document for each batch, one a line")
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import known_collections
    from tandem.search.collection import open_collection
    from tandem.search.watching import changes
    from tandem.search.watching.following import QUIET_S, follow, relevant_in

    folders = [_folder(source) for source in arguments.sources]
    if os.path.isfile(user_path(arguments.collection, strict=False)):
        raise TandemError(f"--to {arguments.collection}: expected a folder or an address, got a file")
    stream = changes.changes(folders) if arguments.poll is None else changes.polled(folders, arguments.poll)
    photos = open_collection(arguments.collection, arguments.model, **loading(arguments))
    shown = _Shown(arguments.collection, as_json=arguments.json)

    def index() -> "IndexingReport":
        report = photos.add(
            folders,
            prune=arguments.prune,
            fast_decode=arguments.fast_decode,
            caption=arguments.caption,
            exclude=arguments.exclude,
            progress=False,
        )
        known_collections.remember(photos.url)
        return report

    batches = follow(
        index,
        stream,
        is_relevant=relevant_in(folders, photos.url),
        quiet_s=QUIET_S if arguments.settle is None else arguments.settle,
    )
    terminal.echo(f"following {', '.join(folders)}; Ctrl-C ends it")
    ends = stop_signals.handled([signal.SIGTERM], signal.default_int_handler)  # a service is stopped as with Ctrl-C
    with photos, ends, contextlib.suppress(KeyboardInterrupt), contextlib.closing(batches):
        for batch in batches:
            shown.add(batch)
    shown.end()
    return DONE


class _Shown:
    """A line for each batch that changed something, and a sum at the end."""

    def __init__(self, name: str, *, as_json: bool) -> None:
        self.name, self.as_json = name, as_json
        self.sums = dict.fromkeys(("added", "changed", "moved", "duplicates", "pruned"), 0)
        self.skipped = self.gone = 0
        self._is_first = True

    def add(self, batch: "Batch") -> None:
        is_first, self._is_first = self._is_first, False
        if batch.problem is not None:
            terminal.complain(batch.problem)
        report = batch.report
        if report is None:
            if is_first and batch.problem is None:
                terminal.echo("no photos yet: waiting for the first")
            return
        counts = {name: getattr(report, name) for name in self.sums}
        failures = [one for one in report.failures if one.retried and one.path not in batch.unsettled]
        was_gone, self.gone = self.gone, report.gone
        if not is_first and not any(counts.values()) and not failures and report.gone == was_gone:
            return
        for name, count in counts.items():
            self.sums[name] += count
        self.skipped += len(failures)
        if self.as_json:
            failed = [{"image": one.path, "error": one.reason} for one in failures]
            document = {"time": _now(), **counts, "gone": report.gone, "total": report.total}
            document |= {"moments": report.moments, "failures": failed}
            terminal.print_json(document, indent=None, flush=True)
        else:
            moments = f" ({report.moments:,} of films)" if report.moments else ""
            said = f"{_said(counts)}; {terminal.count_of(report.total)}{moments}{_gone(report.gone)}"
            time_of_it = f"{_now()}  "
            terminal.print_lines(terminal.wrapped(said, sys.stdout, time_of_it, " " * len(time_of_it)), flush=True)
        for one in failures:
            terminal.complain(f"skipped {one.path}: {one.reason}")

    def end(self) -> None:
        """What was done, all in all."""
        skipped = f"; {self.skipped:,} skipped" if self.skipped else ""
        terminal.echo(f"{self.name}: {_said(self.sums)}{skipped}; the same command goes on from here")


def _said(counts: dict[str, int]) -> str:
    words = {"pruned": "taken out"}
    return ", ".join(f"{count:,} {words.get(name, name)}" for name, count in counts.items() if count) or "nothing new"


def _gone(count: int) -> str:
    return f"; {count:,} of files that are gone (--prune removes them)" if count else ""


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _folder(source: str) -> str:
    path = os.path.abspath(user_path(source, strict=False))
    if not os.path.isdir(path):
        kind = "got a file: tandem index takes it" if os.path.exists(path) else "there is none"
        raise TandemError(f"{source}: expected a folder to follow, {kind}")
    return os.path.realpath(path)


def _seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text[:40]!r}")
    return seconds
