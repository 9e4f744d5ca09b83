"""Open collections and their encoders: who waits for whom, what is opened once, what is closed after its last user."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import toy
from support.serving import LONG_S, toy_collection

import tandem
from tandem.search.collection import Collection
from tandem.search.migration import migrate
from tandem.search.stores.embedded.store import EmbeddedStore
from tandem.serve.collections.handle import CollectionHandle, OpenCollection
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.encoding.pool import EncoderPool
from tandem.serve.metrics import Metrics
from tandem.serve.settings import Settings


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(toy_collection(tmp_path))


class Encoders:
    """Gives encoders and counts them; `pool` makes real ones."""

    def __init__(self, linger_s: float = 0.05) -> None:
        self.pool = EncoderPool(lambda model: Encoder(model, Settings(), Metrics()), linger_s=linger_s)
        self.acquired = 0

    def acquire(self, collection: Collection) -> Encoder:
        self.acquired += 1
        found = self.pool.acquire(collection.notes["model_fingerprint"])
        if found is not None:
            return found
        with tandem.open(collection.url) as plain:
            return self.pool.add(plain.model)


@pytest.fixture
def encoders() -> Iterator[Encoders]:
    made = Encoders()
    yield made
    made.pool.close()


@pytest.fixture
def handle(url: str, encoders: Encoders) -> Iterator[CollectionHandle]:
    made = CollectionHandle("photos", url, encoders.acquire, encoders.pool.release)
    yield made
    made.close()


def until(is_so: Callable[[], bool], otherwise: str = "it never came to be so") -> None:
    end = time.monotonic() + LONG_S
    while not is_so():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)


def test_while_one_asks_a_remote_store_whether_it_moved_nobody_waits(
    handle: CollectionHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle.is_shared = True
    with handle.lease() as leased:
        leased._checked = -1e9  # long ago
    started, go = threading.Event(), threading.Event()

    def slow(_: EmbeddedStore) -> bool:
        started.set()
        assert go.wait(LONG_S)
        return False

    monkeypatch.setattr(EmbeddedStore, "is_stale", slow)
    with ThreadPoolExecutor(2) as threads:

        def lease() -> int:
            with handle.lease() as leased:
                return leased.collection.count()

        first = threads.submit(lease)
        assert started.wait(LONG_S)
        assert threads.submit(lease).result(LONG_S) == 9  # the first one still asks
        assert not first.done()
        go.set()
        assert first.result(LONG_S) == 9


def test_a_shared_store_that_was_seen_to_be_stale_is_stale_to_all() -> None:
    answers = [False, True, True]
    store = SimpleNamespace(is_stale=lambda: answers.pop(0))
    opened = OpenCollection("photos", SimpleNamespace(store=store), SimpleNamespace(), is_shared=True)  # type: ignore[arg-type]
    assert not opened.is_stale()  # used a moment ago
    assert len(answers) == 3
    assert not opened.is_stale(surely=True)
    assert not opened.is_stale()
    assert opened.is_stale(surely=True)
    assert opened.is_stale()
    assert not answers


@pytest.mark.slow
def test_after_a_migration_it_is_opened_once_and_the_old_one_closed_after_its_last_user(
    handle: CollectionHandle, encoders: Encoders, tmp_path: Path
) -> None:
    with handle.lease() as old:
        model = weakref.ref(old.encoder.model)
        migrate(handle.url, tandem.load(toy.folder(tmp_path / "other", seed=5, name="other")))
        together = threading.Barrier(8)

        def lease(_: int) -> str:
            together.wait(LONG_S)
            with handle.lease() as leased:
                return leased.encoder.model.name

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(lease, range(8))) == {"other"}
        assert encoders.acquired == 2
        assert old.collection.count() == 9  # whoever was in the midst of it goes on
        assert len(encoders.pool.encoders) == 2
        assert old.users == 1
    assert old.users == 0
    until(lambda: [each.model.name for each in encoders.pool.encoders] == ["other"])
    del old

    def is_freed() -> bool:  # the thread that closes the encoder, and those of the pool, may hold it a moment longer
        gc.collect()
        return model() is None

    until(is_freed, "the old model is still in memory")


def test_an_encoder_that_cannot_be_used_after_all_is_given_back(
    handle: CollectionHandle, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Collection) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(Collection, "model", property(refused))
    with pytest.raises(RuntimeError), handle.lease():
        pass
    until(lambda: not encoders.pool.encoders)


# --- counting, with encoders that are none -------------------------------------------------------------------------


def pool_of(closed: list[str], linger_s: float) -> EncoderPool:
    def make(model: Any) -> Any:
        return SimpleNamespace(model=model, close=lambda: closed.append(model.fingerprint))

    return EncoderPool(make, linger_s=linger_s)


def test_an_encoder_is_shared_and_closed_once_after_its_last_user() -> None:
    closed: list[str] = []
    pool = pool_of(closed, 0.02)
    model: Any = SimpleNamespace(fingerprint="a")
    assert pool.acquire("a") is None
    first, second = pool.add(model), pool.add(model)
    assert first is second is pool.acquire("a")
    for _ in range(2):
        pool.release(first)
    time.sleep(0.1)
    assert closed == []
    pool.release(first)
    until(lambda: closed == ["a"])
    assert pool.encoders == []
    pool.release(first)  # once too often, after all was closed: nothing happens
    assert closed == ["a"]


def test_one_that_is_wanted_again_while_it_lingers_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the time was up at that moment."""
    timers: list[Any] = []

    class Timer:
        cancelled = False

        def __init__(self, interval_s: float, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
            self.interval_s, self.end = interval_s, lambda: work(*arguments)
            timers.append(self)

        def start(self) -> None: ...

        def cancel(self) -> None:
            self.cancelled = True

    monkeypatch.setattr(threading, "Timer", Timer)
    closed: list[str] = []
    pool = pool_of(closed, 0.2)
    encoder = pool.add(SimpleNamespace(fingerprint="a"))  # type: ignore[arg-type]
    pool.release(encoder)
    assert pool.acquire("a") is encoder
    (timer,) = timers
    assert timer.interval_s == 0.2
    assert timer.cancelled
    timer.end()
    assert closed == []
    pool.release(encoder)
    pool.close()  # does not wait for what lingers
    assert closed == ["a"]
