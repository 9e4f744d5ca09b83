"""`tandem models`: what can be loaded by name, how large it is, under which licence, and whether it is here."""

import argparse
import sys

from tandem.cli import terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE
from tandem.cli.tables import Cell, Column, print_table

COLUMNS = (
    Column(),
    Column("name", least=44, keep_end=True),
    Column("weights", right=True),
    Column("pixels", right=True, drop=2),
    Column("download", right=True, drop=1),
    Column("licence", least=8, drop=3),
)


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "List the names that --model takes, with size and licence, and whether each is already on this machine. When "
        "piped, each line is here or -, name, weights, pixels, bytes to download and licence, separated by tabs.",
        "tandem models",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem import weights

    models = weights.known_models()
    if arguments.json:
        terminal.print_json({"models": [vars(model) for model in models]})
        return DONE
    print_table(
        COLUMNS,
        [
            (
                Cell("●" if model.cached else " ", plain="here" if model.cached else "-", style=terminal.ACCENT),
                Cell(model.name, style="bold" if model.cached else ""),
                Cell(f"{model.parameters / 1e6:,.0f} M", plain=str(model.parameters)),
                str(model.image_size),
                Cell(
                    _download(model.download_bytes),
                    plain="" if model.download_bytes is None else str(model.download_bytes),
                ),
                model.licence,
            )
            for model in models
        ],
    )
    sys.stdout.flush()
    if sys.stdout.isatty():
        terminal.echo("● marks models on this machine. --model also takes any other folder, file or hub name.")
    return DONE


def _download(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""  # known when the hub is asked, not before
    return f"{size_bytes / 1e6:,.0f} MB" if size_bytes else "inside"
