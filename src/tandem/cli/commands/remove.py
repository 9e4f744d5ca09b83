"""`tandem remove`: remove photos from a collection."""

import argparse
import sys
from typing import TYPE_CHECKING

from tandem.cli import known_collections, terminal
from tandem.cli.arguments import Parser, add_json, add_yes, describe
from tandem.cli.exit_codes import DONE, exit_code
from tandem.cli.inputs import read_lines
from tandem.cli.options.collection import add_collection, add_where, open_collection
from tandem.errors import TandemError
from tandem.videos.naming import shown

if TYPE_CHECKING:
    from tandem.search.stores.protocol import Records

_ID_BATCH = 1000  # removed in one commit
EXAMPLES = 3  # paths that the question shows


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Remove photos from a collection, by id, by filter, or all of them. Their files are not touched. Shows how "
        "many photos would be removed, and asks first.",
        "tandem remove photos.tandem --where \"path like '%screenshots%'\"",
        "tandem remove photos.tandem 0a1b2c3d4e5f60718293a4b5c6d7e8f9 --yes",
        "tandem remove photos.tandem --all",
        "tandem remove photos.tandem --collection",
    )
    add_collection(parser)
    parser.add_argument(
        "ids",
        nargs="*",
        metavar="ID",
        help="ids of photos, as search --json shows them; - reads a list from standard input",
    )
    add_where(parser)
    parser.add_argument("--all", action="store_true", help="remove every photo; the empty collection stays")
    parser.add_argument("--collection", action="store_true", dest="whole", help="remove the collection itself")
    add_yes(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if (bool(arguments.ids) + (arguments.where is not None) + arguments.all + arguments.whole) != 1:
        raise TandemError("expected exactly one of ids, --where, --all, --collection")
    if arguments.whole:
        return remove_collection(arguments)
    named = [id for argument in arguments.ids for id in (read_lines("-") if argument == "-" else [argument])]
    if arguments.ids and not named:
        raise TandemError("standard input is empty: expected ids of photos, one per line")
    missing: list[str] = []
    with open_collection(arguments) as photos:
        store = photos.store
        if arguments.ids:
            there: dict[str, str] = {}
            for start in range(0, len(named), _ID_BATCH):
                records = store.get(named[start : start + _ID_BATCH], columns=["path"], vectors=False)
                there |= _names(records)
            missing = [id for id in dict.fromkeys(named) if id not in there]
        else:
            there = {}
            for records in store.scan(where=arguments.where, columns=["path"], vectors=False):
                there |= _names(records)
        removed = 0
        if there:
            examples = ", ".join(
                terminal.shortened(shown(path), sys.stderr) for path in list(there.values())[:EXAMPLES]
            ) + (", ..." if len(there) > EXAMPLES else "")
            of = "all" if len(there) == photos.count() else f"of {photos.count():,}"
            terminal.confirm(
                f"remove {terminal.count_of(len(there))} ({of}) from {arguments.collection}: {examples}?",
                yes=arguments.yes,
            )
            ids = list(there)
            for start in range(0, len(ids), _ID_BATCH):
                removed += photos.delete(ids[start : start + _ID_BATCH])
        total = photos.count()
    if arguments.json:
        terminal.print_json({
            "collection": arguments.collection, "removed": removed, "not_found": missing, "total": total,
        })  # fmt: skip
    else:
        terminal.print_result(f"{arguments.collection}: {terminal.count_of(total)}; {removed:,} removed")
    sys.stdout.flush()
    for id in missing:
        terminal.complain(f"no photo {id!r} in {arguments.collection}")
    return exit_code(done=removed, skipped=len(missing)) if arguments.ids else DONE


def _names(records: "Records") -> dict[str, str]:
    """What the question calls photos, by id: their paths; images that were in memory have none."""
    return {id: str(path or id) for id, path in zip(records.ids, records.columns["path"], strict=True)}


def remove_collection(arguments: argparse.Namespace) -> int:
    """Remove the collection itself."""
    with open_collection(arguments) as photos:
        count = photos.count()
        terminal.confirm(
            f"remove {arguments.collection} with {terminal.count_of(count)}? Their files are not touched.",
            yes=arguments.yes,
        )
        photos.remove()
        known_collections.forget(photos.url)
    if arguments.json:
        terminal.print_json({"collection": arguments.collection, "removed": count, "not_found": [], "total": 0})
    else:
        terminal.print_result(f"{arguments.collection} is removed; it had {terminal.count_of(count)}")
    return DONE
