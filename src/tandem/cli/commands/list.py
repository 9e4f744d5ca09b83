"""`tandem list`: the collections that were opened or made on this machine."""

import argparse
import sys
import time
from datetime import datetime

from tandem.cli import known_collections, terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE
from tandem.cli.tables import Cell, Column, print_table

COLUMNS = (
    Column("collection", least=16, keep_end=True),
    Column("photos", right=True),
    Column("model", least=8, drop=1),
    Column("last used", drop=2),
)
STATES = {"ok": "", "gone": "gone", "unreachable": "not reachable"}


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "List the collections that you opened or created on this machine, most recently used first. Those that no "
        "longer exist are marked. When piped, each line is collection, number of photos (or what is wrong with it), "
        "model and time, separated by tabs.",
        "tandem list",
        "tandem list --forget-missing",
    )
    parser.add_argument(
        "--forget-missing",
        action="store_true",
        help="remove collections that are gone from the list; no collection is touched",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    found = [described(each) for each in known_collections.known()]
    if arguments.forget_missing:
        for each in found:
            if each["state"] == "gone":
                known_collections.forget(str(each["url"]))
                terminal.echo(f"no longer listed: {each['url']}")
        found = [each for each in found if each["state"] != "gone"]
    if arguments.json:
        terminal.print_json({"collections": found})
        return DONE
    print_table(COLUMNS, [row(each) for each in found])
    sys.stdout.flush()
    if not found:
        terminal.echo(f"no collections yet: make one with {terminal.program()} index ~/Pictures --to photos.tandem")
    return DONE


def described(each: known_collections.KnownCollection) -> dict[str, object]:
    """What --json prints of a collection: looked at now, since others may have moved or filled it."""
    from tandem.errors import TandemError
    from tandem.search.collection import open_collection
    from tandem.search.stores import backends

    state, count, model = "ok", None, None
    try:
        if not backends.exists(each.url):
            state = "gone"
        else:
            with open_collection(each.url, must_exist=True) as opened:
                info = opened.info()
                count, model = info.count, info.model
    except (TandemError, OSError) as error:
        state = "unreachable"
        terminal.detail(str(error))
    used = datetime.fromtimestamp(each.used).astimezone().isoformat(timespec="seconds")
    return {"url": each.url, "state": state, "images": count, "model": model, "used": used}


def row(each: dict[str, object]) -> tuple[Cell, ...]:
    """A line of the table."""
    state, count = STATES[str(each["state"])], each["images"]
    counted = Cell(f"{count:,}" if isinstance(count, int) else state, plain=state or str(count))
    used = str(each["used"])
    style = terminal.QUIET if state else ""
    return (
        Cell(str(each["url"]), style=style),
        counted,
        Cell(str(each["model"] or "")),
        Cell(ago(time.time() - datetime.fromisoformat(used).timestamp()), plain=used),
    )


def ago(seconds: float) -> str:
    """How long since, in one unit."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{terminal.count_of(int(seconds // length), unit)} ago"
    return "just now"
