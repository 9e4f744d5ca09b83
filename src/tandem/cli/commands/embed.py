"""`tandem embed`: photos or texts -> vectors, in a file or as JSON; or the states of photos, in Parquet."""

import argparse
import sys
from typing import Any

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, positive
from tandem.cli.exit_codes import exit_code
from tandem.cli.inputs import read_lines
from tandem.cli.options.images import FoundImages, add_images, find_images
from tandem.cli.options.indexing import add_fast_decode
from tandem.cli.options.model import add_model, load_model
from tandem.cli.options.texts import add_long
from tandem.defaults import BATCH_SIZE
from tandem.errors import ImageError, TandemError
from tandem.files import user_path


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Write one vector of unit length for each photo or text, with its id and the model's fingerprint.",
        "tandem embed ~/Pictures --out vectors.parquet",
        "tandem embed --texts captions.txt --out captions.npz",
        'tandem embed --text "a bird on a railing" --json',
        "tandem embed ~/Pictures --states --layer -2 --out states.parquet",
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
    add_fast_decode(parser)
    long = parser.add_mutually_exclusive_group()
    long.add_argument(
        "--truncate",
        action="store_const",
        const="truncate",
        dest="long",
        default="error",
        help="the same as --long truncate",
    )
    add_long(long)
    _add_states(parser)
    add_json(parser)
    add_model(parser)


def _add_states(parser: Parser) -> None:
    group = parser.add_argument_group("states of the image tower")
    group.add_argument("--states", action="store_true", help="write the state of every token instead of one vector")
    group.add_argument(
        "--layer",
        type=int,
        metavar="N",
        help="which states: -2 before the last block (the default), -1 the end, 0 the embedding",
    )
    group.add_argument(
        "--norm",
        action=argparse.BooleanOptionalAction,
        help="apply the last norm to states, or not (applied at layer -1 and before the projection)",
    )
    group.add_argument("--projection", action="store_true", help="project every state into the space of the vectors")
    group.add_argument("--no-class-token", action="store_true", help="write the states of the patches alone")


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import embedding, vector_files
    from tandem.files import display_name

    found, texts = read_inputs(arguments)
    if arguments.states:
        if arguments.fast_decode:
            raise TandemError("--fast-decode does not go with --states: leave one of them out")
        return _run_states(arguments, found)
    kind = "images" if arguments.images else "texts"
    if arguments.fast_decode and kind == "texts":
        raise TandemError("--fast-decode is for photos: leave it out for texts")
    count = len(found.images) or len(texts)
    if arguments.out:
        vector_files.check_target(user_path(arguments.out))
    elif not arguments.json:
        raise TandemError("no output: give --out vectors.npz or --out vectors.parquet, or --json")
    model = load_model(arguments, allow_quantized=True)

    skipped = list(found.skipped)
    document: dict[str, Any] = {
        "model": {"name": display_name(model.name), "fingerprint": model.fingerprint},
        "kind": kind,
        "dimensions": model.config.embed_dim,
    }
    if arguments.fast_decode:
        document["decoding"] = "fast"
    with progress.counting("embedding", count) as advance:
        if kind == "images":
            rows = embedding.embed_images(
                model, found.images, arguments.batch_size, skipped, advance, fast_decode=arguments.fast_decode
            )
        else:
            rows = embedding.embed_texts(model, texts, long=arguments.long, advance=advance)
        if arguments.out:
            about = {"model": model.name, "fingerprint": model.fingerprint, "kind": kind}
            if arguments.fast_decode:
                about["decoding"] = "fast"
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
    said = (
        f"{arguments.out}: {terminal.count_of(document['count'], 'vector')} "
        f"of {model.config.embed_dim} dimensions, by {model.name}"
    )
    return _report(arguments, document, said, skipped, count + len(found.skipped))


def _run_states(arguments: argparse.Namespace, found: FoundImages) -> int:
    from tandem.cli import embedding, states_file
    from tandem.files import display_name

    if not arguments.images:
        raise TandemError("--states are of photos: give photos or folders")
    if not arguments.out:
        raise TandemError("no output: give --out states.parquet; --states are too many numbers for JSON")
    target = user_path(arguments.out)
    states_file.check_target(target)
    model = load_model(arguments)
    layer = -2 if arguments.layer is None else arguments.layer
    options: dict[str, Any] = {"layer": layer, "norm": arguments.norm, "projection": arguments.projection}
    empty = model.image_states([], **options)
    about = {
        "model": display_name(model.name),
        "fingerprint": model.fingerprint,
        "kind": "image states",
        **options,
        "class_token": empty.has_class_token and not arguments.no_class_token,
    }
    width = empty.states.shape[-1]
    skipped = list(found.skipped)
    with (
        progress.counting("embedding", len(found.images)) as advance,
        states_file.StatesFile(target, width, about) as file,
    ):
        stream = embedding.image_states(model, found.images, arguments.batch_size, skipped, advance, **options)
        for name, states in stream:
            file.add(name, states.without_class_token() if arguments.no_class_token else states)
    document: dict[str, Any] = {
        "model": {"name": about["model"], "fingerprint": model.fingerprint},
        **{key: about[key] for key in ("kind", "layer", "norm", "projection", "class_token")},
        "dimensions": width,
        "count": file.count,
        "out": display_name(arguments.out),
    }
    said = (
        f"{arguments.out}: states of {terminal.count_of(file.count, 'photo')} at layer {layer}, "
        f"{width} dimensions each, by {model.name}"
    )
    return _report(arguments, document, said, skipped, len(found.images) + len(found.skipped))


def _report(
    arguments: argparse.Namespace, document: dict[str, Any], said: str, skipped: list[ImageError], count: int
) -> int:
    from tandem.files import display_name

    document["failures"] = [
        {"image": display_name(error.source), "error": display_name(error.reason), "kind": error.kind}
        for error in skipped
    ]
    if arguments.json:
        terminal.print_json(document)
    elif document["count"]:
        terminal.print_result(said)
    sys.stdout.flush()
    terminal.echo_skipped(skipped, count)
    return exit_code(done=document["count"], skipped=len(skipped))


def read_inputs(arguments: argparse.Namespace) -> tuple[FoundImages, list[str]]:
    """Photos or texts, never both: a file of vectors holds one kind."""
    texts = list(arguments.text or [])
    if arguments.texts:
        texts += read_lines(arguments.texts)
    of_states = {
        "--layer": arguments.layer is not None,
        "--norm": arguments.norm is not None,
        "--projection": arguments.projection,
        "--no-class-token": arguments.no_class_token,
    }
    if not arguments.states and any(of_states.values()):
        raise TandemError(f"{next(name for name, given in of_states.items() if given)} goes with --states: add it")
    if arguments.images and (arguments.text or arguments.texts):
        raise TandemError("photos and texts cannot go into one file: run the command twice")
    if arguments.images:
        return find_images(arguments.images, arguments.exclude), []
    if texts:
        return FoundImages(), texts
    raise TandemError("nothing to embed: give photos or folders, or --texts F, or --text S")
