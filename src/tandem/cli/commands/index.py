"""`tandem index`: photos -> a collection that can be searched."""

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, positive
from tandem.cli.exit_codes import exit_code
from tandem.cli.indexing_report import as_document, echo_failures, echo_gone, echo_unread_films, summary
from tandem.cli.inputs import check_list
from tandem.cli.options.images import add_exclude, add_limits
from tandem.cli.options.indexing import add_caption, add_fast_decode, add_target
from tandem.cli.options.model import add_model, loading
from tandem.defaults import BATCH_SIZE
from tandem.engine import ENGINES
from tandem.errors import TandemError
from tandem.files import user_path
from tandem.videos.naming import EVERY_S

if TYPE_CHECKING:
    from tandem.search.collection import Collection


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Add photos, and moments of films, to a collection, with their vectors. Files that are already in it and have "
        "not changed are skipped. If it is stopped half-way, the same command resumes.",
        "tandem index ~/Pictures --to photos.tandem",
        "tandem index holiday.mp4 films/ --to films.tandem --every 10",
        "tandem index 'shards/*.tar' table.parquet --to milvus://localhost:19530/photos",
        "find . -name '*.jpg' -print0 | tandem index - --to photos.tandem --fast-decode",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a folder (searched through), a glob in quotes, a photo, a film, a WebDataset tar, a Parquet file with "
        "images or paths, or - for a list of paths on standard input",
    )
    add_exclude(parser)
    add_limits(parser)
    add_target(parser)
    parser.add_argument(
        "--any-path",
        action="store_true",
        help="also read photos that a Parquet file names outside of its own folder",
    )
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help=f"of films, keep a moment this often within a scene ({EVERY_S:g}); scene changes are kept anyway",
    )
    parser.add_argument("--prune", action="store_true", help="remove photos that are no longer among the sources")
    add_fast_decode(parser)
    add_caption(parser)
    parser.add_argument("--workers", type=positive, metavar="N", help="with --engine ray: number of encoders")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        metavar="N",
        help="photos encoded at once (%(default)s)",
    )
    add_json(parser)
    add_model(parser, engines=(*ENGINES, "ray"))


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import known_collections
    from tandem.search.indexing.sources import NothingPrunedError

    if "-" in arguments.sources:
        check_list()
    photos, workers = target(arguments)
    with progress.resumable(), photos, progress.indexing() as on_progress:
        try:
            report = photos.add(
                arguments.sources,
                prune=arguments.prune,
                fast_decode=arguments.fast_decode,
                caption=arguments.caption,
                exclude=arguments.exclude,
                every=arguments.every,
                any_path=arguments.any_path,
                batch_size=arguments.batch_size,
                workers=workers,
                on_progress=on_progress,
            )
        except NothingPrunedError as error:
            remove = f"{terminal.program()} remove {shlex.quote(photos.url)} --all"
            raise TandemError(f"{error.reason}: to take out every photo, {remove}") from None
        known_collections.remember(photos.url)
    if arguments.json:
        terminal.print_json(as_document(photos, report))
    else:
        terminal.print_result(summary(arguments.collection, report))
    sys.stdout.flush()
    echo_gone(report.gone)
    echo_unread_films(report.unread_films)
    echo_failures(report.failures)
    return exit_code(done=report.total, skipped=len(report.failures))


def target(arguments: argparse.Namespace) -> "tuple[Collection, int | None]":
    """The collection that is filled, and how many workers fill it; None for this process alone."""
    from tandem.search.collection import open_collection

    options = loading(arguments)
    workers: int | None = None
    if options["engine"] == "ray":
        options["engine"] = "auto"
        workers = arguments.workers or max(1, (os.cpu_count() or 2) // 2)
    elif arguments.workers is not None:
        raise TandemError("--workers goes with --engine ray; without it, one process uses all cores")
    if os.path.isfile(user_path(arguments.collection, strict=False)):
        raise TandemError(f"--to {arguments.collection}: expected a folder or an address, got a file")
    return open_collection(arguments.collection, arguments.model, **options), workers
