"""Batches shared by requests: what goes together, what is refused, what is dropped. The encoder here is a function."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

import pytest

from tandem.serve.encoding import batching as batching_module
from tandem.serve.encoding.batching import Batcher, ClosedError, QueueFullError

LONG_S = 30.0
LIMITS = {"max_size": 32, "max_wait_s": 0.0, "max_queue": 1024, "max_queue_s": LONG_S}


class Encoder:
    """Doubles numbers; `hold` keeps a batch inside until `go` is set."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.began = threading.Semaphore(0)
        self.go = threading.Event()
        if not held:
            self.go.set()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.began.release()
        assert self.go.wait(LONG_S)
        if -1 in items:
            raise ArithmeticError("not a number that can be doubled")
        return [2 * item for item in items]


@contextmanager
def batching(encoder: Encoder, **options: float) -> Iterator["Batcher[int, int]"]:
    batcher: Batcher[int, int] = Batcher("numbers", encoder, **{**LIMITS, **options})  # type: ignore[arg-type]
    try:
        yield batcher
    finally:
        encoder.go.set()
        batcher.close()


def test_what_waits_meanwhile_goes_together_in_turns_and_comes_back_in_order() -> None:
    encoder = Encoder(held=True)
    with batching(encoder, max_size=4) as batcher:
        first = batcher.put([0], deadline_s=LONG_S)
        assert encoder.began.acquire(timeout=LONG_S)
        others = [batcher.put([i, i + 10], deadline_s=LONG_S) for i in (1, 2, 3)]  # of three requests
        encoder.go.set()
        assert [future.result(LONG_S) for future in first] == [0]
        assert [[future.result(LONG_S) for future in each] for each in others] == [[2, 22], [4, 24], [6, 26]]
    assert encoder.batches == [[0], [1, 2, 3, 11], [12, 13]]


def test_the_first_waits_for_others_but_not_once_the_batch_is_full() -> None:
    encoder = Encoder()
    with batching(encoder, max_size=3, max_wait_s=LONG_S) as batcher:
        one = batcher.put([1], deadline_s=LONG_S)[0]
        two = batcher.put([2], deadline_s=LONG_S)[0]
        assert not encoder.began.acquire(timeout=0.05)  # it still waits for a third
        batcher.put([3], deadline_s=LONG_S)
        assert (one.result(LONG_S), two.result(LONG_S)) == (2, 4)
    assert encoder.batches == [[1, 2, 3]]


def test_a_lone_item_is_not_kept_for_ever() -> None:
    encoder = Encoder()
    with batching(encoder, max_size=32, max_wait_s=0.001) as batcher:
        assert batcher.put([5], deadline_s=LONG_S)[0].result(LONG_S) == 10


def test_a_full_queue_refuses_all_of_a_request_or_nothing() -> None:
    encoder = Encoder(held=True)
    with batching(encoder, max_size=1, max_queue=3) as batcher:
        batcher.put([0], deadline_s=LONG_S)
        assert encoder.began.acquire(timeout=LONG_S)
        kept = batcher.put([1, 2], deadline_s=LONG_S)
        with pytest.raises(QueueFullError, match="2 items wait"):
            batcher.put([3, 4], deadline_s=LONG_S)
        assert len(batcher) == 2
        kept += batcher.put([5], deadline_s=LONG_S)
        encoder.go.set()
        assert [future.result(LONG_S) for future in kept] == [2, 4, 10]
    assert encoder.batches == [[0], [1], [5], [2]]


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    encoder = Encoder(held=True)
    with batching(encoder, max_size=1, max_queue_s=0.15) as batcher:
        first = batcher.put([0], deadline_s=LONG_S)[0]
        assert encoder.began.acquire(timeout=LONG_S)
        time.sleep(0.1)  # an item takes a tenth of a second, it learns
        encoder.go.set()
        first.result(LONG_S)
        encoder.go.clear()
        kept = batcher.put([1], deadline_s=LONG_S)
        assert encoder.began.acquire(timeout=LONG_S)
        for item in (2, 3, 4):
            kept += batcher.put([item], deadline_s=LONG_S)
        with pytest.raises(QueueFullError, match="3 items wait"):
            batcher.put([5], deadline_s=LONG_S)
        encoder.go.set()
        assert [future.result(LONG_S) for future in kept] == [2, 4, 6, 8]


def test_a_small_request_passes_a_large_one_that_fills_the_queue() -> None:
    encoder = Encoder(held=True)
    with batching(encoder, max_size=4, max_queue=8) as batcher:
        batcher.put([0], deadline_s=LONG_S)
        assert encoder.began.acquire(timeout=LONG_S)
        large = batcher.put(list(range(100, 200)), deadline_s=LONG_S)  # alone in the queue: taken whatever its size
        with pytest.raises(QueueFullError, match="100 items wait"):
            batcher.put([1, 2, 3, 4, 5], deadline_s=LONG_S)
        small = batcher.put([6], deadline_s=LONG_S)
        encoder.go.set()
        assert [future.result(LONG_S) for future in (*small, *large)] == [12, *range(200, 400, 2)]
    assert encoder.batches[1:3] == [[6, 100], [101, 102]]  # of a large one half batches: who comes waits for less


def test_small_requests_together_and_large_ones_together_are_bounded() -> None:
    encoder = Encoder(held=True)
    with batching(encoder, max_size=4, max_queue=8) as batcher:
        batcher.put([0], deadline_s=LONG_S)
        assert encoder.began.acquire(timeout=LONG_S)
        batcher.put(list(range(1000)), deadline_s=LONG_S)  # the first large one
        for count in (1, 1, 1, 1, 1, 2):
            batcher.put([1] * count, deadline_s=LONG_S)
        batcher.put([1], deadline_s=LONG_S)
        for count in (1, 2, 5):  # eight items of small requests wait, and more than eight of large ones
            with pytest.raises(QueueFullError, match="1,008 items wait"):
                batcher.put([1] * count, deadline_s=LONG_S)
        assert len(batcher) == 1008
        encoder.go.set()


def test_the_background_stands_back_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(held=True)
    with batching(encoder, max_size=2, max_queue=2) as batcher:
        batcher.put([0], deadline_s=LONG_S)
        assert encoder.began.acquire(timeout=LONG_S)
        behind = batcher.put([1, 2, 3, 4], deadline_s=LONG_S, background=True)  # more than the queue has room for
        people = batcher.put([5, 6], deadline_s=LONG_S)
        encoder.go.set()
        assert [future.result(LONG_S) for future in (*people, *behind)] == [10, 12, 2, 4, 6, 8]
        encoder.go.clear()
        monkeypatch.setattr(batching_module, "BACKGROUND_EVERY_S", 0.0)  # long ago, it says
        held = batcher.put([7], deadline_s=LONG_S)
        while len(encoder.batches) < 5:
            assert encoder.began.acquire(timeout=LONG_S)
        late = batcher.put([8], deadline_s=LONG_S, background=True)
        people = batcher.put([9], deadline_s=LONG_S)
        encoder.go.set()
        assert [future.result(LONG_S) for future in (*held, *people, *late)] == [14, 18, 16]
    assert encoder.batches == [[0], [5, 6], [1, 2], [3, 4], [7], [8], [9]]


def test_those_who_left_make_room_and_are_not_computed() -> None:
    encoder = Encoder(held=True)
    with batching(encoder, max_size=2, max_queue=2) as batcher:
        batcher.put([0], deadline_s=LONG_S)
        assert encoder.began.acquire(timeout=LONG_S)
        for future in batcher.put([1, 2], deadline_s=LONG_S):
            future.cancel()
        stays = batcher.put([3], deadline_s=LONG_S)[0]
        encoder.go.set()
        assert stays.result(LONG_S) == 6
    assert encoder.batches == [[0], [3]]


def test_cancelling_the_one_who_awaits_drops_the_work() -> None:
    encoder = Encoder(held=True)

    async def ask(batcher: "Batcher[int, int]") -> None:
        busy = asyncio.create_task(batcher.map([0], deadline_s=LONG_S))
        await asyncio.to_thread(encoder.began.acquire)
        left = asyncio.create_task(batcher.map([1, 2], deadline_s=LONG_S))
        stayed = asyncio.create_task(batcher.map([3], deadline_s=LONG_S))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        encoder.go.set()
        assert await busy == [0]
        assert await stayed == [6]

    with batching(encoder, max_size=1) as batcher:
        asyncio.run(ask(batcher))
    assert encoder.batches == [[0], [3]]


def test_past_its_deadline_an_item_is_not_computed() -> None:
    encoder = Encoder(held=True)
    with batching(encoder) as batcher:
        batcher.put([0], deadline_s=LONG_S)
        assert encoder.began.acquire(timeout=LONG_S)
        late = batcher.put([1], deadline_s=0.0)[0]
        good = batcher.put([2], deadline_s=LONG_S)[0]
        encoder.go.set()
        with pytest.raises(TimeoutError):
            late.result(LONG_S)
        assert good.result(LONG_S) == 4
    assert encoder.batches == [[0], [2]]


def test_a_failed_batch_fails_its_own_requests_and_the_next_is_computed() -> None:
    encoder = Encoder()
    with batching(encoder) as batcher:
        with pytest.raises(ArithmeticError):
            batcher.map_from_thread([-1], deadline_s=LONG_S)
        assert batcher.map_from_thread([4, 5], deadline_s=LONG_S) == [8, 10]


def test_closing_finishes_what_is_computed_and_refuses_the_rest() -> None:
    encoder = Encoder(held=True)
    with batching(encoder) as batcher:
        begun = batcher.put([1], deadline_s=LONG_S)[0]
        assert encoder.began.acquire(timeout=LONG_S)
        waiting, cancelled = batcher.put([2, 3], deadline_s=LONG_S)
        cancelled.cancel()
        closing = threading.Thread(target=batcher.close)
        closing.start()
        with pytest.raises(ClosedError):
            waiting.result(LONG_S)
        encoder.go.set()
        closing.join(LONG_S)
        assert begun.result(0) == 2
        with pytest.raises(CancelledError):
            cancelled.result(0)
        with pytest.raises(ClosedError):
            batcher.put([4], deadline_s=LONG_S)
    assert encoder.batches == [[1]]


def test_each_batch_is_reported_to_the_observer() -> None:
    seen: list[int] = []
    batcher: Batcher[int, int] = Batcher(
        "numbers", Encoder(), **LIMITS, observe=lambda size, seconds: seen.append(size)
    )  # type: ignore[arg-type]
    try:
        batcher.map_from_thread([1, 2, 3], deadline_s=LONG_S)
    finally:
        batcher.close()
    assert seen == [3]


def test_an_observer_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(size: int, seconds: float) -> None:
        raise RuntimeError("no metrics today")

    batcher: Batcher[int, int] = Batcher("numbers", list, **LIMITS, observe=broken)  # type: ignore[arg-type]
    try:
        for number in range(3):
            assert batcher.map_from_thread([number], deadline_s=20) == [number]
        until = time.monotonic() + 20
        while len(caplog.records) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(caplog.records) == 3
    finally:
        batcher.close()


def test_many_items_of_a_thread_leave_room_for_requests() -> None:
    encoder = Encoder(held=True)
    with batching(encoder, max_size=4, max_queue=8) as batcher:
        results: list[list[int]] = []
        many = list(range(1, 101))  # far more than the queue holds
        background = threading.Thread(
            target=lambda: results.append(batcher.map_from_thread(many, deadline_s=LONG_S)), daemon=True
        )
        background.start()
        assert encoder.began.acquire(timeout=LONG_S)
        (request,) = batcher.put([1000], deadline_s=LONG_S)  # not refused
        encoder.go.set()
        assert request.result(LONG_S) == 2000
        background.join(LONG_S)
        assert results == [[2 * item for item in many]]
        assert max(len(batch) for batch in encoder.batches) <= 4
        assert 1000 in encoder.batches[1]  # it waited for one batch, not for all


def test_few_items_wait_for_those_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching_module, "WAIT_FOR_OTHERS_S", LONG_S)
    monkeypatch.setattr(batching_module, "FEW", 3)
    encoder, coming = Encoder(), [5]
    with batching(encoder, max_wait_s=1e-6, on_their_way=lambda: coming[0]) as batcher:  # type: ignore[arg-type]
        futures = [batcher.put([i], deadline_s=LONG_S)[0] for i in (1, 2, 3)]
        assert [future.result(LONG_S) for future in futures] == [2, 4, 6]
        assert encoder.batches == [[1, 2, 3]]
        coming[0] = 0
        assert batcher.put([4], deadline_s=LONG_S)[0].result(LONG_S / 3) == 8
