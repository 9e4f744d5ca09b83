"""`tandem check`: is a collection what was written, and what can be repaired?"""

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE, SOME_SKIPPED
from tandem.cli.indexing_report import echo_failures
from tandem.cli.options.collection import add_collection
from tandem.cli.options.model import add_model, loading
from tandem.errors import RESTORE, TandemError

if TYPE_CHECKING:
    from tandem.search.checking import Check

NAMED = 20  # images of a finding


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Read all of a collection and compare it with its checksums: the database, records, vectors, thumbnails, the "
        "index and the list of files. With --repair, sound data is kept, derived data is rebuilt, and photos "
        "whose vectors or records are damaged are read from their files again. Photos whose files cannot be read now "
        "stay in the collection but are left out of answers: repair it again when their folder is back. "
        "Exit code 0: nothing is damaged, or all of it was repaired; 1: something is damaged, missing or lost.",
        "tandem check photos.tandem",
        "tandem check photos.tandem --repair",
    )
    add_collection(parser)
    parser.add_argument(
        "--repair", action="store_true", help="restore what is damaged, reading photos again where necessary"
    )
    parser.add_argument(
        "--remove-missing",
        action="store_true",
        help="with --repair: remove photos whose vectors are lost and whose files cannot be read",
    )
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.search.collection import open_collection

    if arguments.remove_missing and not arguments.repair:
        raise TandemError("--remove-missing goes with --repair")
    if arguments.model is not None and not arguments.repair:
        raise TandemError("--model goes with --repair: without it no photo is read")
    with (
        open_collection(arguments.collection, arguments.model, **loading(arguments)) as photos,
        progress.resumable(),
        progress.indexing("repairing" if arguments.repair else "checking") as on_progress,
    ):
        found = photos.check(repair=arguments.repair, remove_missing=arguments.remove_missing, on_progress=on_progress)
    if arguments.json:
        terminal.print_json(as_document(found))
    else:
        show(found, arguments.collection)
    sys.stdout.flush()
    echo_failures(found.failures)
    return SOME_SKIPPED if found.lost or found.missing or (found.damage and not found.repaired) else DONE


def show(found: "Check", name: str) -> None:
    for finding in found.findings:
        many = f"{terminal.count_of(len(finding.ids))}: " if finding.ids else ""
        terminal.echo(f"{finding.part}: {many}{finding.what}")
        for id in finding.ids[:NAMED]:
            terminal.list_item(found.names.get(id, id))
        if len(finding.ids) > NAMED:
            terminal.list_item(f"and {len(finding.ids) - NAMED:,} more")
    named = {found.names.get(id, id) for finding in found.findings for id in finding.ids}
    unnamed = [name for name in found.read_again if name not in named]  # those of a damaged page of the database
    if unnamed:
        terminal.echo(f"read again: {terminal.count_of(len(unnamed))} of damaged records")
    for name_of in unnamed[:NAMED]:
        terminal.list_item(name_of)
    if len(unnamed) > NAMED:
        terminal.list_item(f"and {len(unnamed) - NAMED:,} more")
    if found.missing:
        terminal.complain(
            f"{terminal.count_of(len(found.missing))} left out of answers: no file as it was can be read; "
            "repair again when they are back, or add --remove-missing:"
        )
    for missing in found.missing[:NAMED]:
        terminal.list_item(missing)
    if len(found.missing) > NAMED:
        terminal.list_item(f"and {len(found.missing) - NAMED:,} more")
    for lost in found.lost:
        terminal.complain(f"lost: {lost}")
    count = terminal.count_of(found.images) if found.images >= 0 else "it cannot be opened"
    count += f" ({found.moments:,} of films)" if found.moments else ""
    if not found.damage and not found.repaired:
        terminal.print_result(f"{name}: {count}; all is well")
    elif not found.repaired and not all(finding.can_repair for finding in found.damage):
        terminal.print_result(f"{name}: {count}; damaged beyond repair: {RESTORE}")
    elif not found.repaired:
        repair = f"{terminal.program()} check {shlex.quote(name)} --repair"
        terminal.print_result(f"{name}: {count}; damaged: {repair}")
    else:
        lost = f", {len(found.missing):,} missing" if found.missing else ""
        lost += f", {len(found.lost):,} lost" if found.lost else ""
        terminal.print_result(f"{name}: {count}; repaired, {terminal.count_of(found.renewed)} read again{lost}")


def as_document(found: "Check") -> dict[str, object]:
    """What --json prints."""
    return {
        "collection": found.url,
        "images": found.images if found.images >= 0 else None,
        "moments": found.moments,
        "sound": not found.damage,
        "findings": [
            {
                "part": finding.part,
                "what": finding.what,
                "can_repair": finding.can_repair,
                "images": [{"id": id, "path": found.names.get(id)} for id in finding.ids],
            }
            for finding in found.findings
        ],
        "repaired": found.repaired,
        "read_again": found.renewed,
        "read_again_images": found.read_again,
        "missing": found.missing,
        "lost": found.lost,
        "failures": [{"image": one.path, "error": one.reason} for one in found.failures],
    }
