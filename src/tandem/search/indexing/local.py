"""Sources -> a collection: walked, read, decoded, encoded and recorded, all at the same time.

The stages and their threads: the decoders (`preparing`), the encoder, and the caller's own thread, which alone writes
(`recording`). What waits between them is bounded, so memory does not grow with the number of files. Knows no command
line and no screen.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import EngineError
from tandem.prefetch import in_order, in_thread
from tandem.search.indexing.entries import Entry
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.preparing import DecodeOptions, PreparedImage, described, prepare
from tandem.search.indexing.recording import with_vectors
from tandem.search.indexing.run import FinishedShard, IndexingOptions, IndexingReport, IndexingRun
from tandem.search.indexing.sources import Sources
from tandem.search.stores.protocol import Store

if TYPE_CHECKING:
    from tandem.model import Model

BATCHES_AHEAD = 2  # of the writer
_Unread = TypeVar("_Unread", bound=Entry | FinishedShard)


def index(
    store: Store,
    load_model: "Callable[[], Model]",
    sources: Sources,
    ledger: Ledger,
    options: IndexingOptions,
) -> IndexingReport:
    """Put the images of the sources into a collection; what is there and has not changed is not read.

    Args:
        store: open for writing, with the columns of `image_record.COLUMNS`. Written to in the caller's thread only.
        load_model: called when there is something to read.
        sources: from `run.open_sources`, with the same options.
        ledger: the collection's own.

    Raises: `EngineError`, `StoreError`. What is wrong with single images is in the report. Stopped at any moment, what
    was committed stays, and running again ends in the same collection.
    """
    with IndexingRun(store, sources, ledger, options) as run:
        batches = _batches(run, load_model)
        with contextlib.closing(in_thread(batches, ahead=BATCHES_AHEAD, meanwhile=run.report_progress)) as images:
            for batch in images:
                run.record(batch)
        return run.finish()


def _batches(
    run: IndexingRun, load_model: "Callable[[], Model]"
) -> Generator[list[PreparedImage | FinishedShard], None, None]:
    """Unread entries, prepared in threads and encoded."""
    unread = run.unread()
    first = next(unread, None)
    if first is None:
        return
    model = load_model()
    decode_options = DecodeOptions.of(model, fast_decode=run.options.fast_decode, caption=run.options.caption)
    batch_size = run.options.batch_size

    def known(id: str) -> bool:
        return id in with_vectors(run.store, [id])

    def prepared(item: Entry | FinishedShard) -> PreparedImage | FinishedShard:
        return item if isinstance(item, FinishedShard) else prepare(item, decode_options, known, run.in_flight)

    def everything() -> Iterator[Entry | FinishedShard]:
        yield first
        yield from unread

    yield from encoded_batches(prepared, everything(), model, batch_size)


def encoded_batches(
    prepared: Callable[[_Unread], PreparedImage | FinishedShard],
    unread: Iterable[_Unread],
    model: "Model",
    batch_size: int,
) -> Generator[list[PreparedImage | FinishedShard], None, None]:
    """What is unread, prepared in threads while batches of it are encoded; in order, with vectors."""

    def begun() -> Iterator[Callable[[], list[PreparedImage | FinishedShard]]]:
        batch: list[PreparedImage | FinishedShard] = []
        fresh = 0
        for outcome in prepared_images:
            batch.append(outcome)
            fresh += isinstance(outcome, PreparedImage) and outcome.pixels is not None
            if fresh == batch_size or len(batch) >= 8 * batch_size:
                yield _begun(batch, model)
                batch, fresh = [], 0
        if batch:
            yield _begun(batch, model)

    with contextlib.closing(in_order(prepared, unread, ahead=2 * batch_size)) as prepared_images:
        yield from model.finished(begun())


def encoded(batch: Sequence[PreparedImage | FinishedShard], model: "Model") -> list[PreparedImage | FinishedShard]:
    """The same, with vectors in the place of pixels. An image that gets no vector is skipped, with the reason.

    Raises `EngineError` where that is so of all of several.
    """
    return _begun(batch, model)()


def _begun(
    batch: Sequence[PreparedImage | FinishedShard], model: "Model"
) -> Callable[[], list[PreparedImage | FinishedShard]]:
    """`encoded`, in two steps: what this returns waits for the vectors."""
    pixels = [item.pixels for item in batch if isinstance(item, PreparedImage) and item.pixels is not None]
    if not pixels:
        return partial(list, batch)
    try:
        vectors = model.begin_pixels(np.stack(pixels))  # [n h w 3] -> [n d]
    except (EngineError, MemoryError) as error:
        vectors = partial(_raise, error)  # when the batch's turn has come

    def finish() -> list[PreparedImage | FinishedShard]:
        rows: Sequence[Vectors | str]
        try:
            rows = list(vectors())
        except (EngineError, MemoryError) as error:
            rows = [_vector_or_reason(model, each) for each in pixels]
            if len(rows) > 1 and all(isinstance(row, str) for row in rows):
                raise EngineError(str(error) or "not enough memory for any image") from None
        found = iter(rows)
        return [
            _with(item, next(found)) if isinstance(item, PreparedImage) and item.pixels is not None else item
            for item in batch
        ]

    return finish


def _raise(error: Exception) -> Vectors:
    raise error


def _vector_or_reason(model: "Model", pixels: NDArray[np.uint8]) -> Vectors | str:
    """The vector of one image by itself, or why it has none."""
    try:
        vector: Vectors = model.encode_pixels(pixels[None])[0]
        return vector
    except (EngineError, MemoryError) as error:
        return f"cannot be encoded: {described(error)}"


def _with(image: PreparedImage, vector: Vectors | str) -> PreparedImage:
    if isinstance(vector, str):
        return replace(image, pixels=None, values=None, reason=vector, transient=True)
    return replace(image, pixels=None, vector=vector)
