"""`tandem embed`: photos or texts -> vectors, in a file or as JSON."""

import argparse
import sys
from typing import Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, positive
from tandem.cli.exit_codes import exit_code
from tandem.cli.inputs import read_lines
from tandem.cli.options.images import FoundImages, add_images, find_images
from tandem.cli.options.model import add_model, load_model
from tandem.cli.options.texts import add_long
from tandem.defaults import BATCH_SIZE
from tandem.errors import TandemError
from tandem.files import user_path


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Write one vector of unit length for each photo or text, with its id and the model's fingerprint.",
        "tandem embed ~/Pictures --out vectors.parquet",
        "tandem embed --texts captions.txt --out captions.npz",
        'tandem embed --text "a bird on a railing" --json',
    )
    add_images(parser, "*")
    parser.add_argument("--texts", metavar="F", help="a file of texts, one per line (- for standard input)")
    parser.add_argument("--text", action="append", metavar="S", help="a text")
    parser.add_argument("--out", metavar="F", help="vectors.npz or vectors.parquet; optional with --json")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        metavar="N",
        help="photos encoded at once (%(default)s)",
    )
    parser.add_argument(
        "--truncate",
        action="store_const",
        const="truncate",
        dest="long",
        default="error",
        help="the same as --long truncate",
    )
    add_long(parser)
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import embedding, vector_files
    from tandem.files import display_name

    found, texts = read_inputs(arguments)
    kind = "images" if arguments.images else "texts"
    count = len(found.images) or len(texts)
    if arguments.out:
        vector_files.check_target(user_path(arguments.out))
    elif not arguments.json:
        raise TandemError("no output: give --out vectors.npz or --out vectors.parquet, or --json")
    model = load_model(arguments)

    skipped = list(found.skipped)
    document: dict[str, Any] = {
        "model": {"name": display_name(model.name), "fingerprint": model.fingerprint},
        "kind": kind,
        "dimensions": model.config.embed_dim,
    }
    with progress.counting("embedding", count) as advance:
        if kind == "images":
            rows = embedding.embed_images(model, found.images, arguments.batch_size, skipped, advance)
        else:
            rows = embedding.embed_texts(model, texts, long=arguments.long, advance=advance)
        if arguments.out:
            about = {"model": model.name, "fingerprint": model.fingerprint, "kind": kind}
            with vector_files.create(user_path(arguments.out), model.config.embed_dim, about) as file:
                for ids, some in rows:
                    file.add(ids, some)
            document |= {"count": file.count, "out": display_name(arguments.out)}
        else:
            results = [
                {"id": display_name(name), "vector": [float(f"{x:.7g}") for x in vector]}
                for ids, some in rows
                for name, vector in zip(ids, some, strict=True)
            ]
            document |= {"count": len(results), "results": results}
    document["failures"] = [
        {"image": display_name(error.source), "error": display_name(error.reason), "kind": error.kind}
        for error in skipped
    ]

    if arguments.json:
        terminal.print_json(document)
    elif document["count"]:
        terminal.print_result(
            f"{arguments.out}: {terminal.count_of(document['count'], 'vector')} "
            f"of {model.config.embed_dim} dimensions, by {model.name}"
        )
    sys.stdout.flush()
    terminal.echo_skipped(skipped, count + len(found.skipped))
    return exit_code(done=document["count"], skipped=len(skipped))


def read_inputs(arguments: argparse.Namespace) -> tuple[FoundImages, list[str]]:
    """Photos or texts, never both: a file of vectors holds one kind."""
    texts = list(arguments.text or [])
    if arguments.texts:
        texts += read_lines(arguments.texts)
    if arguments.images and (arguments.text or arguments.texts):
        raise TandemError("photos and texts cannot go into one file: run the command twice")
    if arguments.images:
        return find_images(arguments.images, arguments.exclude), []
    if texts:
        return FoundImages(), texts
    raise TandemError("nothing to embed: give photos or folders, or --texts F, or --text S")
