"""`tandem info`: what a collection holds."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.cli import terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE
from tandem.cli.options.collection import add_collection, open_collection

if TYPE_CHECKING:
    from tandem.search.collection import Collection

NAMES = 13  # cells


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Where a collection is, how many photos it holds, which model it belongs to and what filters can name.",
        "tandem info photos.tandem",
        "tandem info photos.tandem --json",
    )
    add_collection(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    with open_collection(arguments) as photos:
        document = describe_collection(photos)
    if arguments.json:
        terminal.print_json(document)
        return DONE
    model = document["model"]
    rows = [
        ("collection", document["collection"]),
        ("photos", f"{document['photos']:,}"),
        ("model", f"{model['name']} ({model['dimensions']} dimensions)"),
        ("fingerprint", model["fingerprint"]),
        ("from", model["source"] or "ships inside"),
        ("columns", ", ".join(document["columns"])),
    ]
    if document["bytes"] is not None:
        rows.insert(2, ("size", f"{document['bytes'] / 1e6:,.1f} MB"))
    for name, value in rows:
        first = f"{name:<{NAMES}}" if sys.stdout.isatty() else f"{name}\t"
        print(terminal.wrapped(terminal.line(value), sys.stdout, first, " " * NAMES))
    return DONE


def describe_collection(photos: "Collection") -> dict[str, Any]:
    """What --json prints. The model is not loaded."""
    notes, store = photos.notes, photos.store
    folder = Path(photos.url)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else None
    return {
        "collection": photos.url,
        "photos": photos.count(),
        "bytes": size,
        "model": {
            "name": notes.get("model_name", ""),
            "fingerprint": notes.get("model_fingerprint", ""),
            "source": notes.get("model_source", ""),
            "dimensions": store.schema.dimensions,
        },
        "columns": list(store.schema.columns),
    }
