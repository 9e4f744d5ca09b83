"""Labelled photos beside something else: `--labelled`, and how they are opened. Knows arguments; no model."""

import argparse
from typing import TYPE_CHECKING

from tandem.cli import progress
from tandem.cli.arguments import Parser, non_negative, positive
from tandem.errors import TandemError

if TYPE_CHECKING:
    from tandem.datasets.dataset import Dataset

_OPTIONS = ("split", "layout", "label", "classes", "limit")


def add_labelled(parser: Parser, *, required: bool) -> None:
    """`--labelled`, `--shows` and the options of a data set."""
    data = parser.add_argument_group("labelled photos")
    data.add_argument(
        "--labelled", metavar="DATA", required=required, help="folders of classes, a table, a collection, ..."
    )
    data.add_argument(
        "--shows",
        action="append",
        default=[],
        metavar="CATEGORY=CLASS,CLASS",
        help="the classes whose photos show a category (default: the class of the same name)",
    )
    data.add_argument("--table", metavar="F", help="of a collection: a CSV or TSV file of photos and their labels")
    data.add_argument("--split", metavar="S", help="the split, where there are several")
    data.add_argument("--layout", metavar="L", help="how the data is laid out (default: recognised)")
    data.add_argument("--label", metavar="COLUMN", help="the column or key of labels")
    data.add_argument("--classes", metavar="F", help="a file with the names of the classes")
    data.add_argument("--limit", type=positive, metavar="N", help="use only N of them, drawn with --seed")
    data.add_argument(
        "--seed", type=non_negative, default=0, metavar="N", help="of draws, folds and resamples (%(default)s)"
    )


def shows_of(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """The classes of each category in --shows. Raises `TandemError`."""
    found: dict[str, list[str]] = {}
    for given in arguments.shows:
        name, _, classes = given.partition("=")
        listed = [each.strip() for each in classes.split(",") if each.strip()]
        if not name.strip() or not listed:
            raise TandemError(f"--shows: expected CATEGORY=CLASS,CLASS, such as people=person,crowd, got {given!r}")
        found.setdefault(name.strip(), []).extend(listed)
    return found


def check_labelled(arguments: argparse.Namespace) -> None:
    """Raise `TandemError` for options of labelled photos where there are none."""
    if arguments.labelled is None:
        for name in (*_OPTIONS, "table", "shows"):
            if getattr(arguments, name) not in (None, []):
                raise TandemError(f"--{name} goes with --labelled")


def labelled_of(arguments: argparse.Namespace) -> "Dataset":
    """The photos that --labelled names."""
    with progress.waiting("looking at the labelled photos"):
        options = {name: getattr(arguments, name) for name in (*_OPTIONS, "seed")}
        if arguments.table is None:
            from tandem.datasets.opening import open_dataset

            return open_dataset(arguments.labelled, **options)
        from tandem.datasets.labelled_collection import open_labelled_collection

        return open_labelled_collection(arguments.labelled, arguments.table, classes=arguments.classes)
