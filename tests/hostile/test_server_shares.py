"""What each client of a server may take: slots, requests per second, wrong keys, lines of the log, and uploads."""

import asyncio
import errno
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tandem.serve.collections.quotas import FILE, Quota, QuotaError, Uploads
from tandem.serve.http import connections
from tandem.serve.http.clients import PAGE, REMEMBERED, WORK, Caller, Rates, WrongKeys, address_of
from tandem.serve.http.guard import kind_of
from tandem.serve.http.problems import ProblemError
from tandem.serve.http.slots import SLOW_S, Slot, Slots
from tandem.serve.log_limit import LogLimit
from tandem.serve.settings import Settings


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


ANNA, BEN = Caller("192.0.2.1", "aaaa"), Caller("192.0.2.1", "bbbb")


def status_of(call: Callable[[], Any]) -> int:
    """The status of the problem that a call raises."""
    with pytest.raises(ProblemError) as caught:
        call()
    return caught.value.status


def test_a_client_has_half_of_the_slots_and_the_page_has_its_own() -> None:
    slots = Slots(Settings(concurrency=4))

    def enter(client: Caller) -> Slot:
        slot = Slot()
        slots.enter(slot, WORK)
        slots.enter_client(slot, client)
        return slot

    annas = [enter(ANNA) for _ in range(2)]
    assert status_of(lambda: slots.enter_client(Slot(), ANNA)) == 429
    for _ in range(2):  # there is room for others, from the same address too
        enter(BEN)
    assert status_of(lambda: enter(ANNA)) == 503
    slots.enter(Slot(), PAGE)
    assert slots.in_flight == 5
    slots.leave(annas[0])
    slots.leave(annas[0])  # once
    assert slots.in_flight == 4
    enter(ANNA)
    assert slots.in_flight == 5


def test_the_slowest_body_makes_room_for_those_that_are_there() -> None:
    clock = Clock()
    slots = Slots(Settings(concurrency=4), clock)

    async def slow(client: Caller) -> None:
        slot = Slot()
        slots.enter(slot, WORK)
        slots.enter_client(slot, client)
        async with asyncio.timeout(60) as until:
            with slots.receiving(slot, until):
                await asyncio.Event().wait()

    async def besiege() -> None:
        first, second = asyncio.create_task(slow(ANNA)), asyncio.create_task(slow(ANNA))
        await asyncio.sleep(0)
        assert status_of(lambda: slots.enter_client(Slot(), ANNA)) == 429  # they have just begun
        clock.now += SLOW_S
        slot = Slot()
        slots.enter(slot, WORK)
        slots.enter_client(slot, ANNA)
        with pytest.raises(TimeoutError):
            await first
        assert slots.in_flight == 2
        slots.enter_client(Slot(), ANNA)
        with pytest.raises(TimeoutError):
            await second
        clock.now += SLOW_S
        assert status_of(lambda: slots.enter_client(Slot(), ANNA)) == 429  # those are not slow, but at work

    asyncio.run(besiege())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *(("/", "page"), ("/app.js", "page"), ("/v1", "page"), ("/healthz", "health"), ("/readyz", "health")),
        *(("/metrics", "metrics"), ("/v1/search", "work"), ("/docs", "work"), ("/openapi.json", "work")),
    ],
)
def test_which_slots_a_path_takes(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_a_rate_is_of_each_client_and_comes_back_with_time() -> None:
    clock = Clock()
    rates = Rates(10, clock)
    for _ in range(20):
        rates.take(ANNA)
    assert status_of(lambda: rates.take(ANNA)) == 429
    rates.take(BEN)
    clock.now += 0.35
    for _ in range(2):
        rates.take(ANNA)
    assert status_of(lambda: rates.take(ANNA)) == 429
    for number in range(REMEMBERED + 10):  # many addresses fill no memory
        rates.take(Caller(f"a{number}"))
    assert len(rates._buckets) == REMEMBERED


def test_wrong_keys_make_an_address_wait_longer_each_time() -> None:
    clock = Clock()
    wrong = WrongKeys(clock)
    waits = []
    for _ in range(12):
        wrong.wrong("192.0.2.1")
        waits.append(wrong._failures["192.0.2.1"].until - clock.now)
        if waits[-1]:
            for _ in range(3):  # those that are refused make it no longer
                assert status_of(lambda: wrong.wrong("192.0.2.1")) == 429
        clock.now += waits[-1]
    assert waits == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60]
    wrong.wrong("192.0.2.2")
    clock.now += 61
    for _ in range(5):
        wrong.wrong("192.0.2.1")  # long ago: it begins anew
    for number in range(REMEMBERED + 10):  # many addresses fill no memory
        wrong.wrong(f"a{number}")
    assert len(wrong._failures) == REMEMBERED


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_of_ipv6_is_its_network(host: str, address: str) -> None:
    assert address_of({"client": (host, 1)}) == address
    assert address_of({}) == address_of({"client": None}) == ""


class Transport:
    """What a connection writes to, with so much that the client has not read."""

    def __init__(self, unread: int) -> None:
        self.unread, self.aborted = unread, False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True


def test_answers_that_nobody_reads_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_UNREAD", 100)
    protocol = connections.protocol(Settings(http="h11"))
    assert issubclass(protocol, connections.Limited)
    everyone: set[object] = set()

    def paused(since: float, unread: int) -> Transport:
        there = protocol.__new__(protocol)
        assert isinstance(there, connections.Limited)
        transport = Transport(unread)
        there.transport, there.connections = transport, everyone  # type: ignore[assignment]
        there.unread_since, there._reading = since, object()  # type: ignore[assignment]
        everyone.add(there)
        return transport

    oldest, old, recent = paused(1, 40), paused(2, 30), paused(3, 30)
    now = protocol.__new__(protocol)
    assert isinstance(now, connections.Limited)
    now.transport, now.connections = Transport(0), everyone  # type: ignore[assignment]
    now._bound_unread()
    assert not any(each.aborted for each in (oldest, old, recent))
    now.transport.unread = 35  # type: ignore[attr-defined]
    now._bound_unread()
    assert [each.aborted for each in (oldest, old, recent)] == [True, False, False]


def test_lines_that_are_alike_are_left_out_and_counted() -> None:
    clock = Clock()
    limit = LogLimit(most=3, per_s=60, clock=clock)

    def said(text: str, *values: object) -> str | None:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, text, values, None)
        return record.getMessage() if limit.filter(record) else None

    assert [said("failed %d", i) for i in range(5)] == ["failed 0", "failed 1", "failed 2", None, None]
    assert said("other") == "other"
    clock.now += 61
    assert said("failed %d", 9) == "failed 9 (2 more like it were left out)"
    assert said("failed %d", 10) == "failed 10"


QUOTA = Quota(images=3, bytes=100, folder_bytes=150)


def test_what_a_key_may_store_is_bounded_in_images_and_bytes_and_outlives_the_server(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, QUOTA)
    assert kept(uploads, "anna", {"a": 10, "b": 10})
    with pytest.raises(QuotaError, match=r"at most 3 images; this one has added 2"):
        uploads.check("anna", {"c": 1, "d": 1})
    uploads.check("anna", {"a": 10, "b": 10, "c": 1})  # what is there already costs nothing
    uploads.check("ben", {"c": 1, "d": 1})
    again = Uploads(tmp_path, QUOTA)  # the next server
    with pytest.raises(QuotaError, match="a key may add at most 0 MB"):
        again.check("anna", {"c": 81})
    kept(again, "ben", {"c": 90})
    with pytest.raises(QuotaError, match="the server keeps at most"):
        again.check("carl", {"d": 50})
    with pytest.raises(QuotaError, match="the server keeps at most"):
        again.check(None, {"d": 50})
    again.check(None, {"d": 1, "e": 1, "f": 1, "g": 1})  # without keys there is only the total
    again.remove(["a", "b"])
    again.check("anna", {"c2": 20, "d2": 20})


def kept(uploads: Uploads, key: str, new: dict[str, int]) -> bool:
    uploads.check(key, new)
    for id, size in new.items():
        (uploads.folder / id[:2]).mkdir(exist_ok=True)
        (uploads.folder / id[:2] / f"{id}.png").write_bytes(bytes(size))
    uploads.add(key, new)
    return True


def test_originals_that_nobody_counted_are_found(tmp_path: Path) -> None:
    (tmp_path / "aa").mkdir()
    (tmp_path / "aa" / "aaa.png").write_bytes(bytes(140))  # of an earlier version
    uploads = Uploads(tmp_path, QUOTA)
    with pytest.raises(QuotaError, match="the server keeps at most"):
        uploads.check("anna", {"b": 11})
    (tmp_path / "aa" / "aaa.png").unlink()  # by hand
    Uploads(tmp_path, QUOTA).check("anna", {"b": 11})
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(OSError, match="the list of uploads") as caught:
        Uploads(tmp_path, QUOTA)
    assert caught.value.errno == errno.EIO
    assert isinstance(caught.value.__cause__, sqlite3.Error)
