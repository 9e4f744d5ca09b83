"""The arithmetic of the server's limits, without a server: queues, rates, waits, ranges, bodies, keys."""

import asyncio
import gc
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tandem import prompts
from tandem.errors import TandemError
from tandem.serve import run
from tandem.serve.encoding.fair_queue import FairQueue, lane_of
from tandem.serve.http import clients, keys, loop_lag, ranges, text_limits
from tandem.serve.http.clients import WrongKeys
from tandem.serve.http.guard import RequestGuard, _Counted
from tandem.serve.http.problems import ProblemError
from tandem.serve.service import Service
from tandem.serve.settings import Settings


def test_requests_of_a_lane_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    many = ["m"] * next(count for count in range(1, 1000) if lane_of(count) == "large")
    queue.add(list("aaa"))
    queue.add(list("bb"))
    queue.add([])
    queue.add(many)
    queue.add(list("zz"), background=True)
    assert len(queue) == 7 + len(many)
    assert [queue.waiting(lane) for lane in ("small", "large", "background")] == [5, len(many), 2]
    assert [queue.ahead_of(count) for count in (1, 2, 3)] == [3, 6, 8]
    assert list(queue.firsts("small")) == ["a", "b"]
    queue.keep(lambda item: item != "m")
    assert not queue.has("large")
    assert [queue.take("small") for _ in range(6)] == [*"ababa", None]
    assert queue.clear() == ["z", "z"]
    assert (len(queue), queue.ahead_of(5), queue.take("background")) == (0, 0, None)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def wait(found: WrongKeys, address: str = "a") -> int:
    """Seconds that an address has to wait after one more wrong key, 0 for one that is answered 401."""
    try:
        found.wrong(address)
    except ProblemError as problem:
        return int(problem.retry_after_s or -1) if problem.status == 429 else -problem.status
    return 0


def test_each_further_wrong_key_doubles_the_wait() -> None:
    clock = Clock()
    found = WrongKeys(clock)
    assert [wait(found) for _ in range(clients.FREE_FAILURES + 1)] == [0] * (clients.FREE_FAILURES + 1)
    seen = []
    for _ in range(8):
        seen.append(wait(found))
        assert wait(found, "b" + str(len(seen))) == 0  # another address
        clock.now += seen[-1]
        assert wait(found) == 0
    assert seen == [1, 2, 4, 8, 16, 32, 60, 60]
    clock.now += 2 * clients.LONGEST_WAIT_S + 1
    assert [wait(found) for _ in range(clients.FREE_FAILURES + 1)] == [0] * (clients.FREE_FAILURES + 1)  # forgotten


def test_only_the_addresses_of_late_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "REMEMBERED", 3)
    found = WrongKeys(Clock())
    for address in "abcad":
        found.wrong(address)
    assert list(found._failures) == list("cad")


@pytest.mark.parametrize(
    ("header", "part", "said"),
    [("bytes=0-4", b"01234", "bytes 0-4/10"), ("bytes=3-", b"3456789", "bytes 3-9/10"),
     ("bytes=-2", b"89", "bytes 8-9/10"), ("bytes=9-20", b"9", "bytes 9-9/10"), ("bytes=4-4", b"4", "bytes 4-4/10")],
)  # fmt: skip
def test_a_part_of_a_file_is_that_part(tmp_path: Path, header: str, part: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    answer = ranges.answer(tmp_path / "a", "video/mp4", header)
    assert (answer.status_code, answer.body, answer.headers["content-range"]) == (206, part, said)
    assert (answer.headers["content-length"], answer.media_type) == (str(len(part)), "video/mp4")


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=12-13"])
def test_a_part_outside_of_a_file_is_refused(tmp_path: Path, header: str) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    with pytest.raises(ProblemError) as found:
        ranges.answer(tmp_path / "a", "video/mp4", header)
    assert found.value.status == 416


def room(held: int, own: int, more: int) -> bool:
    """Whether a request that holds `own` of the `held` bytes may hold so many more, where 100 are allowed."""
    guard = SimpleNamespace(_held=held, _settings=SimpleNamespace(max_bodies_bytes=100))
    try:
        RequestGuard._check_room(guard, more, _Counted(own))  # type: ignore[arg-type]
    except ProblemError as problem:
        return problem.status != 503
    return True


def test_bodies_share_a_room_and_one_alone_is_always_taken() -> None:
    assert room(60, 20, 40)
    assert not room(60, 20, 41)
    assert room(60, 60, 1000)  # its own limit is another
    assert room(0, 0, 1000)
    assert not room(100, 0, 1)


def filled(labels: list[str], templates: list[str], **limits: Any) -> str:
    settings = {"max_batch": 1, "max_text_characters": 10, "max_request_characters": 80, **limits}
    try:
        text_limits.check_filled(labels, templates, Settings(**settings))
    except ProblemError as problem:
        return str(problem.title) if problem.status == 413 else f"{problem.status}"
    return ""


def test_labels_in_templates_are_counted_before_they_are_filled_in() -> None:
    assert filled(["a"] * 8, ["{}"] * 2) == ""
    assert filled(["a"] * 17, ["{}"]) == "Too many at once"
    assert filled(["a"] * 9, ["{}"] * 2) == "Too many at once"
    assert filled(["a" * 10], ["{}"]) == ""
    assert filled(["a" * 11, "a"], ["{}"]) == "Text too long"
    assert filled(["a"], ["{}" + "x" * 9]) == "Text too long"
    # 2 templates of 5, 4 labels of 5: 2 x 20 + 4 x 10 characters
    assert filled(["abcde"] * 4, ["abc{}"] * 2) == ""
    assert filled(["abcde"] * 4, ["abc{}"] * 2, max_request_characters=79) == "Text too long"


@pytest.mark.parametrize("more", [0, 1])
def test_a_file_of_keys_has_its_size_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"k" * 32 + b"\n" + b"#" * 67 + b"\n" * more)
    path.chmod(0o600)
    monkeypatch.setattr(keys, "MAX_FILE_BYTES", 100)
    if more:
        with pytest.raises(TandemError, match="it has more than 100 bytes"):
            keys._read(path, False)
    else:
        assert len(keys._read(path, False)[1]) == 1


@pytest.mark.parametrize(("took", "late"), [(0.1, 0.0), (0.35, 0.25), (0.05, 0.0), (3.1, 3.0)])
def test_the_lag_of_the_loop_is_what_it_comes_back_too_late(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, took: float, late: float
) -> None:
    clock, seen = Clock(), list[float]()

    async def sleep(seconds: float) -> None:
        assert seconds == loop_lag.EVERY_S
        if seen:
            raise asyncio.CancelledError
        clock.now += took

    monkeypatch.setattr(loop_lag.asyncio, "sleep", sleep)
    metrics = SimpleNamespace(loop_lag=SimpleNamespace(observe=seen.append))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(loop_lag.watch(metrics, clock))  # type: ignore[arg-type]
    assert seen == [pytest.approx(late)]
    assert ("was blocked" in caplog.text) is (late >= loop_lag.SAID_FROM_S)


@pytest.mark.parametrize(("soft", "spare"), [(1024, 1024 - run.OTHER_FILES), (20, 16), (-1, 2**31)])
def test_connections_leave_room_for_other_files(monkeypatch: pytest.MonkeyPatch, soft: int, spare: int) -> None:
    limits = SimpleNamespace(RLIMIT_NOFILE=7, RLIM_INFINITY=-1, getrlimit=lambda kind: (soft, soft))
    monkeypatch.setitem(sys.modules, "resource", limits)
    assert run._files_to_spare() == spare
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert run._files_to_spare() == 2**31


def test_a_server_leaves_what_it_began_with_out_of_garbage_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [[number] for number in range(1000)]
    monkeypatch.setattr(gc, "unfreeze", lambda: None)  # other tests' objects stay frozen, too
    before, thresholds = sys.getswitchinterval(), gc.get_threshold()
    with run.short_pauses():
        assert gc.get_threshold() == run.GC_THRESHOLDS
        assert not any(each is kept for each in gc.get_objects()), "the next full collection would search it"
        assert sys.getswitchinterval() <= before / 5
    assert sys.getswitchinterval() == before
    assert gc.get_threshold() == thresholds


def test_a_server_runs_with_short_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    seen: list[float] = []
    monkeypatch.setattr(gc, "unfreeze", lambda: None)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: seen.append(sys.getswitchinterval()))
    run.serve([], Settings(port=0), say=lambda line: None)
    assert seen == [run.SWITCH_INTERVAL_S]


def test_labels_are_counted_before_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing labels of two megabytes takes 20 ms, in which no other request is answered."""
    compared: list[list[str]] = []
    monkeypatch.setattr(prompts, "check_labels", lambda labels: compared.append(labels) or labels)
    service: Any = SimpleNamespace(settings=Settings(max_request_characters=100))
    few, many = ["a" * 60, "b" * 40], ["a" * 60, "b" * 41]
    assert Service.checked_labels(service, few) == few
    with pytest.raises(ProblemError) as refused:
        Service.checked_labels(service, many)
    assert refused.value.status == 413
    assert compared == [few]
