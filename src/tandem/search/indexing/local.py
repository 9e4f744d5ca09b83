"""Sources -> a collection: walked, read, decoded, encoded and recorded, all at the same time.

The stages and their threads: the decoders (`preparing`), the encoder, and the caller's own thread, which alone writes
(`recording`). What waits between them is bounded, so memory does not grow with the number of files. Knows no command
line and no screen.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tandem.errors import EngineError
from tandem.model import Model
from tandem.prefetch import in_order, in_thread
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.places import Entry
from tandem.search.indexing.preparing import Outcome, Recipe, prepare
from tandem.search.indexing.progress import Progress
from tandem.search.indexing.run import Finished, Options, Report, Run
from tandem.search.stores.protocol import Store

__all__ = ["Options", "Progress", "Report", "encoded", "index"]

BATCHES_AHEAD = 2  # of the writer

ModelOrLoader: TypeAlias = Model | Callable[[], Model]


def index(
    store: Store,
    model: ModelOrLoader,
    sources: Sequence[str | Path],
    ledger: Ledger,
    options: Options,
) -> Report:
    """Put the pictures of the sources into a collection; what is there and has not changed is not read.

    Args:
        store: open for writing, with the columns of `picture.COLUMNS`. Written to in the caller's thread only.
        model: a model, or what loads one: it is called when there is something to read.
        sources: folders, globs, files, tars, Parquet, `-` for a list of paths on standard input.
        ledger: the collection's own.

    Raises: `TandemError` for sources that cannot be used, before anything is done; `EngineError`, `StoreError`. What
    is wrong with single pictures is in the report. Stopped at any moment, what was committed stays, and running again
    ends in the same collection.
    """
    with Run(store, sources, ledger, options) as run:
        batches = _batches(run, model)
        with contextlib.closing(in_thread(batches, ahead=BATCHES_AHEAD, meanwhile=run.tell)) as made:
            for batch in made:
                run.record(batch)
        return run.finish()


def _batches(run: Run, model: ModelOrLoader) -> Generator[list[Outcome | Finished], None, None]:
    """What has to be read, prepared in threads and encoded."""
    unread = run.unread()
    first = next(unread, None)
    if first is None:
        return
    loaded = model if isinstance(model, Model) else model()
    recipe = Recipe.of(loaded, fast_decode=run.options.fast_decode, caption=run.options.caption)
    batch_size = run.options.batch_size

    def known(id: str) -> bool:
        return len(run.store.get([id], columns=[], vectors=False)) > 0

    def prepared(item: Entry | Finished) -> Outcome | Finished:
        return item if isinstance(item, Finished) else prepare(item, recipe, known, run.claims)

    def everything() -> Iterator[Entry | Finished]:
        yield first
        yield from unread

    with contextlib.closing(in_order(prepared, everything(), ahead=2 * batch_size)) as outcomes:
        batch: list[Outcome | Finished] = []
        fresh = 0
        for outcome in outcomes:
            batch.append(outcome)
            fresh += isinstance(outcome, Outcome) and outcome.pixels is not None
            if fresh == batch_size or len(batch) >= 8 * batch_size:
                yield encoded(batch, loaded)
                batch, fresh = [], 0
        if batch:
            yield encoded(batch, loaded)


def encoded(batch: Sequence[Outcome | Finished], model: Model) -> list[Outcome | Finished]:
    """The same, with vectors in the place of pixels. Raises `EngineError` for vectors that are not finite."""
    pixels = [item.pixels for item in batch if isinstance(item, Outcome) and item.pixels is not None]
    if not pixels:
        return list(batch)
    vectors = model.engine.encode_images(np.stack(pixels))  # [n h w 3] -> [n d]
    if not np.isfinite(vectors).all():
        raise EngineError(
            f"{model.name}: its vectors are not finite; the weights are damaged, or overflow in "
            f"{model.engine.precision}: try precision float32"
        )
    rows = iter(vectors)
    return [
        replace(item, pixels=None, vector=next(rows)) if isinstance(item, Outcome) and item.pixels is not None else item
        for item in batch
    ]
