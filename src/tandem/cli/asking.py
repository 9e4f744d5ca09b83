"""A collection that is asked: opened as the command line says, and the reason of an answer that has nothing in it."""

import argparse

from tandem.cli import screen
from tandem.cli.inputs import loading
from tandem.search.collection import Collection, open_collection


def open_for_asking(arguments: argparse.Namespace) -> Collection:
    """The collection that is asked; its own model, computed as --device and the like say, unless --model names one."""
    return open_collection(arguments.collection, arguments.model, must_exist=True, **loading(arguments))


def say_why_empty(photos: Collection, where: str | None, *, offset: int = 0) -> None:
    """An empty answer has a reason; `offset` photos were passed over."""
    total = photos.count()
    if total == 0:
        screen.say(f"{photos.url} is empty: add photos with tandem index ~/Pictures --to {photos.url}")
    elif where is not None and photos.count(where) == 0:
        screen.say(f"none of the {total:,} photos passes the filter: {where}")
    elif offset:
        screen.say(f"no more hits after {offset:,}")
