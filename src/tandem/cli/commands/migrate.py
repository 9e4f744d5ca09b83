"""`tandem migrate`: a collection moves to another model."""

import argparse

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, positive
from tandem.cli.exit_codes import DONE, NOT_DONE, SOME_SKIPPED
from tandem.cli.indexing_report import echo_failures
from tandem.cli.options.collection import add_collection
from tandem.cli.options.model import add_model, load_model
from tandem.defaults import BATCH_SIZE
from tandem.errors import TandemError


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Embed every photo of a collection again with another model, beside the old vectors, and switch over at the "
        "end. If it is stopped half-way, the collection is unchanged and the same command resumes.",
        "tandem migrate photos.tandem --model ViT-B/32",
    )
    add_collection(parser)
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        metavar="N",
        help="photos encoded at once (%(default)s)",
    )
    parser.add_argument(
        "--drop-missing", action="store_true", help="switch over even if some photos can no longer be read"
    )
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import known_collections
    from tandem.search import collection
    from tandem.search.migration import migrate

    if arguments.model is None:  # the default of other commands would replace the encoder by a smaller one
        raise TandemError("--model: expected the model to move to, for example --model ViT-B/32")
    with collection.open_collection(arguments.collection, must_exist=True) as photos:
        url = photos.url
    known_collections.remember(url)
    model = load_model(arguments)
    with progress.resumable(), progress.indexing() as on_progress:
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
            "images": moved.images,
            "lost": moved.lost,
            "failures": [{"image": one.path, "error": one.reason} for one in moved.missing],
        }
        terminal.print_json(document)
    elif moved.done:
        number = terminal.count_of(moved.images)
        terminal.print_result(f"{arguments.collection}: {number}, now with {moved.after} (before: {moved.before})")
    echo_failures(moved.missing)
    if not moved.done:
        terminal.echo(
            f"{terminal.count_of(moved.lost)} can no longer be read, so {arguments.collection} stays with "
            f"{moved.before}: bring them back, or leave them out with --drop-missing; the work so far is kept"
        )
        return NOT_DONE
    return SOME_SKIPPED if moved.lost else DONE
