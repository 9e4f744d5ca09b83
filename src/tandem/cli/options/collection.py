"""The collection that a command works with."""

import argparse
import os
from typing import TYPE_CHECKING

from tandem.cli import terminal
from tandem.cli.arguments import Group, Parser
from tandem.cli.options.model import loading
from tandem.defaults import ADDRESS_FORMS
from tandem.errors import StoreNotFoundError, did_you_mean

if TYPE_CHECKING:
    from tandem.search.collection import Collection


MENTIONED = 3  # collections that are named where another one is not found


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


def add_where(parser: Parser | Group) -> None:
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
    try:
        opened = collection.open_collection(arguments.collection, model, must_exist=True, **options)
    except StoreNotFoundError as error:
        raise StoreNotFoundError(f"{error}{_others(arguments.collection)}") from None
    known_collections.remember(opened.url)
    return opened


def _others(name: str) -> str:
    """Appended to the error about a missing collection: a suggestion, or the collections that exist."""
    from tandem.cli import known_collections
    from tandem.search.stores.backends import is_store_folder

    with os.scandir() as entries:
        here = sorted(each.name for each in entries if each.is_dir() and is_store_folder(each.path, os.listdir(each)))
    listed = [each.url for each in known_collections.known() if not known_collections.is_gone(each.url)]
    relative = [os.path.relpath(url) if os.path.isabs(url) and os.path.relpath(url) in here else url for url in listed]
    there = list(dict.fromkeys([*here, *relative]))
    near = did_you_mean(name, there)
    if near or not there:
        return near
    more = f" and {len(there) - MENTIONED:,} more (tandem list)" if len(there) > MENTIONED else ""
    return f"; there {'is' if len(there) == 1 else 'are'} {', '.join(there[:MENTIONED])}{more}"


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
