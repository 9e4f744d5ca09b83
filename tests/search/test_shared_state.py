"""Two threads in one place at once: locks that are there, seen by making each step of the work slow."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.embedded_toys import filled

from tandem.search.indexing.preparing import InFlight
from tandem.search.stores.embedded import snapshots


class Slow(str):
    """A text that lets other threads run whenever a set or a mapping looks for it."""

    __slots__ = ()

    def __hash__(self) -> int:
        threading.Event().wait(0.01)
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        threading.Event().wait(0.01)
        return super().__eq__(other)


def at_once(work: Callable[[int], Any], threads: int = 4) -> list[Any]:
    """What several threads got that began together."""
    barrier = threading.Barrier(threads)

    def one(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


def test_of_several_threads_one_claims_a_content() -> None:
    in_flight = InFlight()
    assert sorted(at_once(lambda number: in_flight.claim(Slow("id")))) == [False, False, False, True]
    in_flight.release(["id"])
    assert in_flight.claim("id")
    assert not in_flight.claim("id")


def test_why_a_content_failed_is_known_to_the_others() -> None:
    in_flight = InFlight()
    assert in_flight.failed("id") is None
    in_flight.fail("id", "truncated")
    assert at_once(lambda number: in_flight.failed(Slow("id"))) == ["truncated"] * 4


@pytest.mark.parametrize("late", [False, True])
def test_a_filter_that_is_forgotten_while_it_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """One thread finds what another is about to make room with: it gets it, or finds it anew.

    late: the other one has looked for its own filter before, and only has to write down what it found.
    """
    monkeypatch.setattr(snapshots, "CACHED_FILTERS", 1)
    looking, other_done, parse = threading.Event(), threading.Event(), snapshots.parse

    class SlowToSay(OrderedDict[Any, Any]):
        def __contains__(self, key: object) -> bool:
            there = super().__contains__(key)
            if there:
                looking.set()
                other_done.wait(0.1)  # for a thread that must not come between
            return there

    def slow(*given: Any) -> Any:
        looking.wait(0.2)
        return parse(*given)

    with filled(str(tmp_path / "photos.tandem"), 5) as photos:
        photos.count("number < 3")
        photos.snapshots._filters = SlowToSay(photos.snapshots._filters)
        monkeypatch.setattr(snapshots, "parse", slow)

        def read(number: int) -> int:
            if late is (number == 0):
                threading.Event().wait(0.03)
            if number:
                count = photos.count("number < 2")
                other_done.set()
                return count
            return photos.count("number < 3")

        assert at_once(read, 2) == [3, 2]
        assert len(photos.snapshots._filters) == 1


def test_a_read_only_folder_whose_database_is_gone_has_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(str(tmp_path / "photos.tandem"), 3) as photos:
        assert photos.snapshots._read_only_stamp() is None
        monkeypatch.setattr(snapshots.records_database, "is_read_only", lambda folder: True)
        before = photos.snapshots._read_only_stamp()
        assert before is not None
        database = photos.folder / snapshots.records_database.FILE
        database.touch()
        assert photos.snapshots._read_only_stamp() != before
        monkeypatch.setattr(snapshots.records_database, "FILE", "no-such-file")
        assert photos.snapshots._read_only_stamp() is None
