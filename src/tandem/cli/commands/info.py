"""`tandem info`: what a collection holds."""

import argparse
import sys
from dataclasses import asdict

from tandem.cli import terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE
from tandem.cli.options.collection import add_collection, open_collection

NAMES = 13  # cells


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Show where a collection is, what was indexed, how many photos it holds, which model it belongs to, and which "
        "columns filters can use. The model is not loaded. When piped, each line is name and value with a tab between.",
        "tandem info photos.tandem",
        "tandem info photos.tandem --json",
    )
    add_collection(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with open_collection(arguments) as photos:
        info = photos.info()
    if arguments.json:
        terminal.print_json(asdict(info))
        return DONE
    size = None if info.size_bytes is None else f"{info.size_bytes / 1e6:,.1f} MB"
    rows = {
        "collection": info.url,
        "photos": f"{info.count:,}" + (f" ({info.moments:,} of films)" if info.moments else ""),
        "size": size,
        "folders": ", ".join(info.roots),
        "made": info.created,
        "model": f"{info.model} ({info.dimensions} dimensions)",
        "from": info.model_source or "ships inside",
        "fingerprint": info.fingerprint,
        "columns": ", ".join(info.columns),
    }
    for name, value in rows.items():
        if value:
            first = f"{name:<{NAMES}}" if sys.stdout.isatty() else f"{name}\t"
            terminal.print_lines(terminal.wrapped(terminal.line(value), sys.stdout, first, " " * NAMES))
    return DONE
