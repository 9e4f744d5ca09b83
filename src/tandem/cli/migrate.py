"""`tandem migrate`: a collection moves to another model."""

import argparse

from tandem.cli import DONE, NOT_DONE, SOME_SET_ASIDE, screen
from tandem.cli.index import say_failures
from tandem.cli.inputs import load_model
from tandem.cli.vectors import valid_text
from tandem.search.collection import open_collection
from tandem.search.migration import migrate


def run(arguments: argparse.Namespace) -> int:
    with open_collection(arguments.collection, must_exist=True) as photos:
        url = photos.url
    model = load_model(arguments)
    with screen.resumable(), screen.indexing_progress() as on_progress:
        moved = migrate(
            url,
            model,
            drop_missing=arguments.drop_missing,
            batch_size=arguments.batch_size,
            on_progress=on_progress,
        )
    if arguments.json:
        document = {
            "collection": url,
            "before": moved.before,
            "after": moved.after,
            "switched": moved.done,
            "pictures": moved.pictures,
            "lost": moved.lost,
            "failures": [{"image": valid_text(one.path), "error": valid_text(one.reason)} for one in moved.missing],
        }
        screen.print_json(document)
    elif moved.done:
        number = screen.count_of(moved.pictures)
        print(f"{arguments.collection}: {number}, now with {moved.after} (before: {moved.before})")
    say_failures(moved.missing)
    if not moved.done:
        screen.say(
            f"{screen.count_of(moved.lost)} can no longer be read, so {arguments.collection} stays with "
            f"{moved.before}: bring them back, or leave them out with --drop-missing; the work so far is kept"
        )
        return NOT_DONE
    return SOME_SET_ASIDE if moved.lost else DONE
