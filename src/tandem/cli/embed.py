"""`tandem embed`: photos or sentences -> vectors, in a file or as JSON."""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tandem.answer import Failure
from tandem.cli import exit_code, screen, vectors
from tandem.cli.inputs import find_pictures, load_model, read_lines
from tandem.errors import ImageError, TandemError
from tandem.model import Model

SENTENCES_AT_ONCE = 4096

Rows = Iterator[tuple[list[str], NDArray[np.float32]]]


def run(arguments: argparse.Namespace) -> int:
    kind, names = read_inputs(arguments)
    if arguments.out:
        vectors.check_target(Path(arguments.out))
    elif not arguments.json:
        raise TandemError("where to? give --out vectors.npz or --out vectors.parquet, or --json")
    model = load_model(arguments)

    failures: list[Failure] = []
    document: dict[str, Any] = {
        "model": {"name": vectors.valid_text(model.name), "fingerprint": model.fingerprint},
        "kind": kind,
        "dimensions": model.config.embed_dim,
    }
    with screen.progress("embedding", len(names)) as advance:
        if kind == "images":
            rows = embed_pictures(model, names, arguments.batch_size, failures, advance)
        else:
            rows = embed_sentences(model, names, truncate=arguments.truncate, advance=advance)
        if arguments.out:
            about = {"model": model.name, "fingerprint": model.fingerprint, "kind": kind}
            with vectors.create(Path(arguments.out), model.config.embed_dim, about) as file:
                for ids, some in rows:
                    file.add(ids, some)
            document |= {"count": file.count, "out": vectors.valid_text(arguments.out)}
        else:
            results = [
                {"id": vectors.valid_text(name), "vector": [float(f"{x:.7g}") for x in vector]}
                for ids, some in rows
                for name, vector in zip(ids, some, strict=True)
            ]
            document |= {"count": len(results), "results": results}
    document["failures"] = [
        {"image": vectors.valid_text(failure.source), "error": vectors.valid_text(failure.error.reason)}
        for failure in failures
    ]

    if arguments.json:
        screen.print_json(document)
    elif document["count"]:
        print(f"{arguments.out}: {document['count']:,} vectors of {model.config.embed_dim} dimensions, by {model.name}")
    sys.stdout.flush()
    screen.say_set_aside(failures, len(names))
    return exit_code(done=document["count"], set_aside=len(failures))


def read_inputs(arguments: argparse.Namespace) -> tuple[Literal["images", "texts"], list[str]]:
    """Photos or sentences, never both: a file of vectors holds one kind."""
    sentences = list(arguments.text or [])
    if arguments.texts:
        sentences += read_lines(arguments.texts)
    if arguments.pictures and (arguments.text or arguments.texts):
        raise TandemError("photos or sentences, not both: run the command twice")
    if arguments.pictures:
        photos = find_pictures(arguments.pictures)
        if photos:
            return "images", photos
    elif sentences:
        return "texts", sentences
    raise TandemError("nothing to embed: give photos or folders, or --texts F, or --text S")


def embed_pictures(
    model: Model, photos: list[str], batch_size: int, failures: list[Failure], advance: Callable[[int], None]
) -> Rows:
    """Batches of names and vectors [n d]; what cannot be read goes to `failures`."""
    ids: list[str] = []
    some: list[NDArray[np.float32]] = []
    for index, item in model.iter_embed_images(photos, batch_size=batch_size):
        advance(1)
        if isinstance(item, ImageError):
            failures.append(Failure(index, item))
            continue
        ids.append(photos[index])
        some.append(item)
        if len(ids) == batch_size:
            yield ids, np.stack(some)
            ids, some = [], []
    if ids:
        yield ids, np.stack(some)


def embed_sentences(model: Model, sentences: list[str], *, truncate: bool, advance: Callable[[int], None]) -> Rows:
    """Batches of sentences and their vectors [n d]."""
    for start in range(0, len(sentences), SENTENCES_AT_ONCE):
        chunk = sentences[start : start + SENTENCES_AT_ONCE]
        yield chunk, model.embed_texts(chunk, truncate=truncate)
        advance(len(chunk))
