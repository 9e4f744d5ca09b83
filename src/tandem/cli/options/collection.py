"""The collection that a command works with."""

import argparse
from typing import TYPE_CHECKING

from tandem.cli import terminal
from tandem.cli.arguments import Parser
from tandem.cli.options.model import loading
from tandem.defaults import ADDRESS_FORMS

if TYPE_CHECKING:
    from tandem.search.collection import Collection


def add_collection(parser: Parser) -> None:
    """COLLECTION."""
    complete_collections(parser.add_argument("collection", metavar="COLLECTION", help=ADDRESS_FORMS))


def complete_collections(argument: argparse.Action) -> None:
    """Let shells offer the collections of `tandem list` beside files."""

    def complete(prefix: str, **_: object) -> list[str]:
        from argcomplete.completers import FilesCompleter

        from tandem.cli import known_collections

        urls = [each.url for each in known_collections.known() if each.url.startswith(prefix)]
        known = [url for url in urls if not known_collections.is_gone(url)]
        return [*known, *FilesCompleter()(prefix)]

    argument.completer = complete  # type: ignore[attr-defined]  # what argcomplete looks for


def add_where(parser: Parser) -> None:
    """`--where`."""
    parser.add_argument(
        "--where",
        metavar="EXPR",
        help="keep only photos that match, for example: width > 1000 and path like '%%2023%%'",  # argparse formats it
    )


def open_collection(arguments: argparse.Namespace) -> "Collection":
    """A collection that exists; with its own model, computed as --device and the like say, unless --model names one."""
    from tandem.cli import known_collections
    from tandem.search import collection

    options = loading(arguments) if hasattr(arguments, "model") else {}
    model = getattr(arguments, "model", None)
    opened = collection.open_collection(arguments.collection, model, must_exist=True, **options)
    known_collections.remember(opened.url)
    return opened


def explain_empty(photos: "Collection", where: str | None, *, page: int = 1, top: int = 1) -> None:
    """Explain why a search returned nothing. `page` counts pages of `top` hits, from 1."""
    total = photos.count()
    passing = total if where is None else photos.count(where)
    if total == 0:
        terminal.echo(f"{photos.url} is empty: add photos with {terminal.program()} index ~/Pictures --to {photos.url}")
    elif passing == 0:
        terminal.echo(f"none of the {total:,} photos matches the filter: {where}")
    elif page > 1:
        pages = -(-passing // top)
        terminal.echo(
            f"no page {page:,}: {terminal.count_of(passing)} {'make' if passing > 1 else 'makes'} "
            f"{terminal.count_of(pages, 'page')} of {top:,}"
        )
