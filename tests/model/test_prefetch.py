"""Work in threads ahead of its use: in order, within bounds, ended when nobody wants it any more."""

import threading
import time
from collections.abc import Generator, Iterator

import pytest

from tandem.prefetch import in_order, in_thread


def test_results_come_in_order_whatever_takes_longest() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * number

    assert list(in_order(slow_first, range(50), threads=4)) == [n * n for n in range(50)]


def test_no_more_than_ahead_wait() -> None:
    begun: list[int] = []
    results = in_order(lambda number: begun.append(number) or number, range(100), threads=2, ahead=5)
    for taken in range(20):
        assert next(results) == taken
        assert len(begun) <= taken + 1 + 5
    results.close()
    assert len(begun) < 40


def test_what_drawing_raises_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("no more")

    results = in_order(lambda number: number, items(), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(results)


def counting(made: list[int], closed: threading.Event, stop: int = 1000) -> Generator[int, None, None]:
    try:
        for number in range(stop):
            made.append(number)
            yield number
    finally:
        closed.set()


def test_items_of_a_thread_come_in_order_and_only_a_few_ahead() -> None:
    made: list[int] = []
    closed = threading.Event()
    others = set(threading.enumerate())  # threads of earlier tests may end at any time
    items = in_thread(counting(made, closed), ahead=3)
    for taken in range(10):
        assert next(items) == taken
        time.sleep(0.005)
        assert len(made) <= taken + 1 + 3 + 1
    (own,) = set(threading.enumerate()) - others
    items.close()
    assert closed.is_set()
    assert not own.is_alive()
    assert list(in_thread(counting([], threading.Event(), 7))) == list(range(7))


def test_what_the_thread_raises_is_raised_where_it_is_used() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise KeyError("lost")

    results = in_thread(items())
    assert next(results) == 1
    with pytest.raises(KeyError, match="lost"):
        next(results)


def test_the_waiting_caller_can_work_meanwhile() -> None:
    go = threading.Event()

    def items() -> Generator[int, None, None]:
        go.wait(10)
        yield 1

    assert list(in_thread(items(), meanwhile=go.set)) == [1]
    assert go.is_set()
