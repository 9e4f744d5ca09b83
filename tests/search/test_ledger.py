"""The ledger remembers what was read, and is no more than a memory."""

import sqlite3
from pathlib import Path

from tandem.search.indexing.ledger import AT_ONCE, Ledger, Seen
from tandem.search.indexing.places import Stamp

STAMP = Stamp(10, 20, 30, "c")


def test_what_is_noted_is_found_also_by_the_next_who_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "files.sqlite"
    seen = [Seen(f"/p/{i:04}.jpg", Stamp(i, 2, 3), f"id{i}") for i in range(2 * AT_ONCE + 7)]
    with Ledger.open(path) as ledger:
        ledger.note(seen)
        ledger.note([Seen("/p/bad.jpg", STAMP, None, "broken")], gone=["/p/0000.jpg"])
    with Ledger.open(path) as ledger:
        asked = ["/p/nowhere.jpg", "/p/bad.jpg", *(one.path for one in seen)]
        found = ledger.lookup(asked)
        assert found == {one.path: one for one in [Seen("/p/bad.jpg", STAMP, None, "broken"), *seen[1:]]}
        assert [one.path for one in ledger.under("/p/")] == sorted(found)
        assert ledger.counts_under("/p/") == (len(seen) - 1, 1)
        assert list(ledger.under("/p/00010")) == []


def test_a_place_is_as_it_was() -> None:
    good = Seen("/a", STAMP, "id")
    assert good.is_as(STAMP)
    assert good.is_as(Stamp(10, 20, 99, "c"))  # permissions of what could be read do not matter
    assert good.is_as(Stamp(10, 20, 30))  # a source without captions
    assert not good.is_as(Stamp(10, 20, 30, "d"))
    assert not good.is_as(Stamp(11, 20, 30, "c"))
    assert not good.is_as(Stamp(10, 21, 30, "c"))
    bad = Seen("/a", STAMP, None, "permission denied")
    assert bad.is_as(STAMP)
    assert not bad.is_as(Stamp(10, 20, 31, "c"))


def test_a_batch_is_noted_as_a_whole(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.note([Seen("/a", STAMP, "1")])
        broken = Seen("/b", STAMP, object())  # type: ignore[arg-type]  # nothing SQLite can keep
        try:
            ledger.note([Seen("/a", STAMP, "2"), broken], leaving=[("/a", "1")], gone=["/a"])
        except sqlite3.Error:
            pass
        else:
            raise AssertionError("it was kept")
        assert ledger.lookup(["/a"])["/a"].id == "1"
        assert next(ledger.leaving(), None) is None


def test_what_leaves_is_told_until_it_was_let_go(tmp_path: Path) -> None:
    pairs = {(f"/{i}", "id") for i in range(AT_ONCE + 3)}
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.note(leaving=pairs)
        ledger.note(leaving=pairs)
        told = set()
        for some in ledger.leaving():
            told |= set(some)
            ledger.let_go(some)
        assert told == pairs


def test_one_that_is_damaged_or_of_another_version_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"not a database" * 100)
    with Ledger.open(path) as ledger:
        ledger.note([Seen("/a", STAMP, "1")])
        ledger.write_down({"format": "0"})
    with Ledger.open(path) as ledger:
        assert ledger.lookup(["/a"]) == {}


def test_forgetting(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.note([Seen("/good", STAMP, "1"), Seen("/bad", STAMP, None, "broken")], leaving=[("/x", "1")])
        ledger.forget_reasons()
        assert not ledger.lookup(["/bad"])["/bad"].is_as(STAMP)
        assert ledger.lookup(["/good"])["/good"].is_as(STAMP)
        ledger.forget_pictures()
        assert set(ledger.lookup(["/good", "/bad"])) == {"/bad"}
        assert next(ledger.leaving(), None) is None
