"""The same pipeline on Ray: workers read, decode and encode entries; this process records their results.

Workers read the files themselves, so the sources must exist there under the same paths. Knows Ray; reading, preparing
and recording are in `run`, `preparing` and `recording`.
"""

import contextlib
import functools
import logging
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tandem.errors import MissingExtraError, StoreError, TandemError
from tandem.model import Model, load
from tandem.search.indexing.entries import Entry
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.local import encoded_batches
from tandem.search.indexing.preparing import DecodeOptions, InFlight, PreparedImage, prepare
from tandem.search.indexing.run import FinishedShard, IndexingOptions, IndexingReport, IndexingRun
from tandem.search.indexing.sources import Sources
from tandem.search.stores.protocol import Store

AHEAD = 2  # tasks that a worker has: the next one waits for it, it does not wait for the next one
BYTES_SENT = 2**30  # of images sent along, from Parquet and compressed tars, at one time
# Unless the user has set them. Indexing sends nothing to anyone, and Ray reports its use by default.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its processes write to our standard error
}
OBJECT_STORE_BYTES = 200 * 2**20  # of a Ray that is started here
BATCHES_A_TASK = 4  # of a worker: while one is encoded, the images of the next are decoded
# A worker that dies is started again, and what it was given is done again, here or on another machine; but not for
# ever: there may be an image that kills every worker.
RETRIES = 3


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
                cores = cores_each([node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]], workers)
                given = loader, decode_options, model.fingerprint, options.batch_size, cores
                _Pool(ray, run, lambda: _start(ray, given), workers).encode(_chain(first, unread))
        return run.finish()


def _start(ray: Any, given: tuple[Any, ...]) -> Any:
    """A worker on the cluster, started again where it dies."""
    cores = max(1, given[-1])
    return ray.remote(num_cpus=cores, max_restarts=-1, max_task_retries=RETRIES)(_Worker).remote(*given)


class _Pool:
    """Workers that live as long as the run: each is started when there is something for it, and none twice."""

    def __init__(self, ray: Any, run: IndexingRun, start: Callable[[], Any], workers: int) -> None:
        """start: gives another worker."""
        self._ray, self._run, self._start, self._most = ray, run, start, workers
        self._workers: list[Any] = []
        self._given: dict[Any, int] = {}  # what a worker has to do, a reference of its result -> its number
        self._shards: list[tuple[FinishedShard, set[Any]]] = []  # and what was under way when each of them ended

    def encode(self, items: Iterable[Entry | FinishedShard]) -> None:
        """Give entries to the workers, and record their results in the order in which they arrive."""
        try:
            for entries, shards in _tasks(items, BATCHES_A_TASK * self._run.options.batch_size, self._most):
                if entries:
                    number = self._free_worker()
                    self._given[self._workers[number].encoded.remote(entries)] = number
                self._shards += [(shard, set(self._given)) for shard in shards]
                self._record_shards()
            while self._given:
                self._record_one()
        finally:
            for worker in self._workers:
                self._ray.kill(worker)

    def _free_worker(self) -> int:
        """The number of a worker that has room for something; it is waited for, and others are recorded meanwhile."""
        while True:
            busy = Counter(self._given.values())
            number = min(range(len(self._workers)), key=lambda each: busy[each], default=-1)
            if (number < 0 or busy[number]) and len(self._workers) < self._most:
                self._workers.append(self._start())
                return len(self._workers) - 1
            if busy[number] < AHEAD:
                return number
            self._record_one()

    def _record_one(self) -> None:
        [done], _ = self._ray.wait(list(self._given), num_returns=1)
        images = self._ray.get(done)
        for start in range(0, len(images), self._run.options.batch_size):
            self._run.record(images[start : start + self._run.options.batch_size])
        del self._given[done]
        for _, under_way in self._shards:
            under_way.discard(done)
        self._record_shards()

    def _record_shards(self) -> None:
        """Those before which nothing is under way any more."""
        if ended := [shard for shard, under_way in self._shards if not under_way]:
            self._shards = [each for each in self._shards if each[1]]
            self._run.record(ended)


class _Worker:
    """Runs on a worker: holds a model and turns batches of entries into prepared images with vectors."""

    def __init__(
        self,
        loader: Callable[[], Model],
        decode_options: DecodeOptions,
        fingerprint: str,
        batch_size: int,
        cores: int = 0,
    ) -> None:
        """cores: on how many of its machine's it runs, none of which another worker has; 0: on all."""
        if cores:
            self._held = take_cores(cores)
        self.batch_size = batch_size
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged EXIF is common
        self.model, self.decode_options = loader(), decode_options
        if self.model.fingerprint != fingerprint:
            raise StoreError(
                f"a worker loaded {self.model.name} {self.model.fingerprint[:12]}, and the collection is filled with "
                f"{fingerprint[:12]}: make the same model available on every machine"
            )

    def __call__(self, entries: Sequence[Entry]) -> Iterator[list[PreparedImage | FinishedShard]]:
        in_flight = InFlight()  # of these entries: other duplicates are found when they are recorded

        def prepared(entry: Entry) -> PreparedImage:
            return prepare(entry, self.decode_options, lambda id: False, in_flight)

        for images in encoded_batches(prepared, entries, self.model, self.batch_size):
            yield [_without_content(image) for image in images]

    def encoded(self, entries: Sequence[Entry]) -> list[PreparedImage | FinishedShard]:
        """All that comes of some entries."""
        return [image for images in self(entries) for image in images]


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


# --- cores ---------------------------------------------------------------------------------------------------------


def cores_each(machines: Sequence[float], workers: int) -> int:
    """The cores of each of so many workers, as many as all of them can have on machines with these numbers of cores."""
    most = int(max(machines, default=1))
    return next((n for n in range(most, 1, -1) if sum(int(cores // n) for cores in machines) >= workers), 1)


def take_cores(count: int) -> list[int]:
    """Run this process on cores of its own, as long as it lives: decoders and encoders start a thread for each core.

    The locks, open files, that say so to other workers of this machine; none where there are not so many free cores, or
    a system that does not let processes choose.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    import fcntl

    folder = os.path.join(tempfile.gettempdir(), f"tandem-cores-{os.getuid()}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    held, cores = [], []
    for core in sorted(os.sched_getaffinity(0)):
        lock = os.open(os.path.join(folder, str(core)), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        held.append(lock)
        cores.append(core)
        if len(cores) == count:
            os.sched_setaffinity(0, cores)
            return held
    for lock in held:
        os.close(lock)
    return []


# --- tasks ---------------------------------------------------------------------------------------------------------


def _chain(first: Entry | FinishedShard, others: Iterator[Entry | FinishedShard]) -> Iterator[Entry | FinishedShard]:
    yield first
    yield from others


def _tasks(
    items: Iterable[Entry | FinishedShard], size: int, workers: int
) -> Iterator[tuple[list[Entry], list[FinishedShard]]]:
    """Entries for a worker, limited by number and by the bytes that travel with them; and the shards that end there."""
    entries: list[Entry] = []
    shards: list[FinishedShard] = []
    sent = 0
    for item in items:
        if isinstance(item, FinishedShard):
            shards.append(item)
            continue
        if entries and (len(entries) >= size or (sent + _bytes_of(item)) * AHEAD * workers > BYTES_SENT):
            yield entries, shards
            entries, shards, sent = [], [], 0
        entries.append(item)
        sent += _bytes_of(item)
    if entries or shards:
        yield entries, shards


def _bytes_of(entry: Entry) -> int:
    return entry.moment.pixels.nbytes if entry.moment is not None else len(entry.content or b"")


# --- the cluster ---------------------------------------------------------------------------------------------------


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray", "indexing with Ray") from None
    return ray


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """A connection to Ray. A cluster started here is stopped at the end."""
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
        last = str(error).strip().splitlines()[-1]
        if last.startswith("tandem.errors."):  # of a worker that could not begin
            raise TandemError(last.partition(": ")[2]) from None
        if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.OutOfMemoryError):
            raise TandemError(
                f"Ray: a worker died {RETRIES + 1} times with the same images: too little memory for it? What was "
                "embedded is kept; run again with fewer --workers, or a smaller --batch-size"
            ) from error
        raise TandemError(f"Ray: {last}") from error
    finally:
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
