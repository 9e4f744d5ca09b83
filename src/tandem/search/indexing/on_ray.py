"""The same pipeline on Ray Data: workers read, decode and encode entries; this process records their results.

Workers read the files themselves, so the sources must exist there under the same paths. Knows Ray; reading, preparing
and recording are in `run`, `preparing` and `recording`.
"""

import contextlib
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tandem.errors import MissingExtraError, StoreError, TandemError
from tandem.model import Model, load
from tandem.search.indexing.entries import Entry
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.local import encoded
from tandem.search.indexing.preparing import DecodeOptions, InFlight, PreparedImage, prepare
from tandem.search.indexing.reconciling import chunks
from tandem.search.indexing.run import FinishedShard, IndexingOptions, IndexingReport, IndexingRun
from tandem.search.indexing.sources import Sources
from tandem.search.stores.protocol import Store

# Entries sent in one round: bounds this process's memory. Each round starts its workers again.
ENTRIES_A_ROUND = 100_000
BYTES_A_ROUND = 2**30  # of images sent along, from Parquet and compressed tars
# Unless the user has set them. Indexing sends nothing to anyone, and Ray reports its use by default.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its processes write to our standard error
}
OBJECT_STORE_BYTES = 200 * 2**20  # of a Ray that is started here


def index(
    store: Store,
    load_model: Callable[[], Model],
    sources: Sources,
    ledger: Ledger,
    options: IndexingOptions,
    *,
    workers: int = 2,
) -> IndexingReport:
    """As `indexing.index`, with `workers` encoders on a Ray cluster: the one that RAY_ADDRESS names or that this
    process is connected to, else one that is started on this machine and stopped at the end.

    Each worker loads the model from where this one was loaded; `TandemError` for one that came from no file or name.
    Images that are in the collection already are encoded again by the workers, and keep their vectors.
    """
    ray = _ray()
    with IndexingRun(store, sources, ledger, options) as run:
        unread = run.unread()
        first = next(unread, None)
        if first is not None:
            model = load_model()
            decode_options = DecodeOptions.of(model, fast_decode=options.fast_decode, caption=options.caption)
            loader = _loader(model)
            with _cluster(ray):
                for some in _rounds(_chain(first, unread)):
                    _round(ray, run, some, loader, decode_options, model.fingerprint, workers)
        return run.finish()


def _round(
    ray: Any,
    run: IndexingRun,
    items: Sequence[Entry | FinishedShard],
    loader: Callable[[], Model],
    decode_options: DecodeOptions,
    fingerprint: str,
    workers: int,
) -> None:
    """Send entries to the workers and record their results in the order in which they arrive."""
    entries = [item for item in items if isinstance(item, Entry)]
    batch_size = run.options.batch_size
    if entries:
        workers = min(workers, len(entries))
        blocks = max(workers, -(-len(entries) // (4 * batch_size)))
        batches = ray.data.from_items([{"entry": entry} for entry in entries], override_num_blocks=blocks).map_batches(
            _Worker,
            fn_constructor_args=(loader, decode_options, fingerprint),
            batch_size=batch_size,
            compute=ray.data.ActorPoolStrategy(size=workers),
            zero_copy_batch=False,
        )
        for batch in batches.iter_batches(batch_size=batch_size, batch_format="numpy", prefetch_batches=1):
            run.record(list(batch["image"]))
    run.record(item for item in items if isinstance(item, FinishedShard))


class _Worker:
    """Runs on a worker: holds a model and turns batches of entries into prepared images with vectors."""

    def __init__(self, loader: Callable[[], Model], decode_options: DecodeOptions, fingerprint: str) -> None:
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged EXIF is common
        self.model, self.decode_options = loader(), decode_options
        if self.model.fingerprint != fingerprint:
            raise StoreError(
                f"a worker loaded {self.model.name} {self.model.fingerprint[:12]}, and the collection is filled with "
                f"{fingerprint[:12]}: make the same model available on every machine"
            )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        in_flight = InFlight()  # of this batch: duplicates across batches are found when they are recorded
        images = [prepare(entry, self.decode_options, lambda id: False, in_flight) for entry in batch["entry"]]
        column = np.empty(len(images), dtype=object)
        for at, image in enumerate(encoded(images, self.model)):
            column[at] = _without_content(image)
        return {"image": column}


def _without_content(image: PreparedImage | FinishedShard) -> PreparedImage | FinishedShard:
    """Without the image's bytes, which have been read."""
    if isinstance(image, PreparedImage) and image.entry.content is not None:
        return replace(image, entry=replace(image.entry, content=None))
    return image


def _loader(model: Model) -> Callable[[], Model]:
    """A function that loads the same model on another machine."""
    source = model.checkpoint.source
    if os.path.exists(source):
        source = os.path.abspath(source)
    return functools.partial(
        load,
        source,
        engine=model.engine.name,  # type: ignore[arg-type]  # one of those that load takes
        device=model.engine.device.lower(),
        precision=model.engine.precision,  # type: ignore[arg-type]  # one of those that load takes
        activation=model.config.activation,
        orient=model.orient,
        limits=model.limits,
    )


# --- rounds --------------------------------------------------------------------------------------------------------


def _chain(first: Entry | FinishedShard, others: Iterator[Entry | FinishedShard]) -> Iterator[Entry | FinishedShard]:
    yield first
    yield from others


def _rounds(items: Iterator[Entry | FinishedShard]) -> Iterator[list[Entry | FinishedShard]]:
    """Lists of items, limited by number and by the bytes that travel with them."""
    some: list[Entry | FinishedShard] = []
    size = 0
    for part in chunks(items, 64):
        some += part
        size += sum(_bytes_of(item) for item in part if isinstance(item, Entry))
        if len(some) >= ENTRIES_A_ROUND or size >= BYTES_A_ROUND:
            yield some
            some, size = [], 0
    if some:
        yield some


def _bytes_of(entry: Entry) -> int:
    return entry.moment.pixels.nbytes if entry.moment is not None else len(entry.content or b"")


# --- the cluster ---------------------------------------------------------------------------------------------------


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "ray", "indexing with Ray Data") from None
    return ray


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """A connection to Ray. A cluster started here is stopped at the end."""
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    started = not ray.is_initialized()
    missing = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        if started and os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        elif started:
            with _silenced():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=OBJECT_STORE_BYTES,
                )
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, TandemError):
            raise cause from None
        raise TandemError(f"Ray: {str(error).strip().splitlines()[-1]}") from error
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before
        if started:
            ray.shutdown()
        for name in missing:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Ray's core prints its log level to the file descriptor itself, past Python."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
