"""A real server with keys among connections that are slow, many, or leave: who has a key is answered all the time, and
the log stays short.
"""

import random
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest
from support.hostile import connected, head, received
from support.serving import LONG_S, Server, serving, toy_collection

pytestmark = pytest.mark.server
KEY, OTHER, NEW = "the-key-of-the-honest", "the-key-of-someone-else", "the-key-of-a-newcomer"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"{KEY}\n{OTHER}\n{NEW}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Server]:
    collection = toy_collection(tmp_path_factory.mktemp("served"))
    with serving(collection, keys_file=keys, body_timeout_s=20.0, concurrency=16, client_rate=40) as there:
        yield there


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=LONG_S, headers={"x-api-key": KEY}) as client:
        yield client
        assert not [line for line in server.log if "Traceback" in line], "".join(server.log)[-2000:]


def answered(http: httpx.Client) -> None:
    """Whether the honest are: the page, the health, the metrics and a search."""
    for path in ("/", "/healthz", "/readyz", "/metrics", "/v1/models"):
        assert http.get(path).status_code == 200, path
    assert http.post("/v1/search", json={"text": "a cat"}).json()["hits"]


def first_line(there: socket.socket) -> bytes:
    return received(there).partition(b"\r\n")[0]


@pytest.mark.parametrize("path", ["/", "/app.js", "/v1/models", "/metrics", "/healthz", "/nowhere"])
def test_bodies_where_none_belong_are_not_waited_for(server: Server, http: httpx.Client, path: str) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connected(server))) for _ in range(20)]
        for number, there in enumerate(slow):
            how = "content-length: 100000" if number % 2 else "transfer-encoding: chunked"
            there.sendall(head("GET", path, how, f"x-api-key: {OTHER}") + b"1\r\n")
        assert {first_line(there) for there in slow[:4]} == {b"HTTP/1.1 400 Bad Request"}
        answered(http)


def test_slow_bodies_need_a_key_and_make_room_for_those_that_come_at_once(server: Server, http: httpx.Client) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connected(server))) for _ in range(60)]
        for number, there in enumerate(slow):
            key = f"x-api-key: {OTHER}" if number < 30 else "x-nothing: 1"
            there.sendall(head("POST", "/v1/search", "content-length: 100", key) + b'{"text')
        assert {first_line(there) for there in slow[30:]} == {b"HTTP/1.1 401 Unauthorized"}
        answered(http)
        until = time.monotonic() + LONG_S
        while (late := http.post("/v1/search", json={"text": "a"}, headers={"x-api-key": OTHER})).status_code == 429:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert late.status_code == 200  # of the same key
        refused = select.select(slow[:30], [], [], 0)[0]
        assert len(refused) >= 22  # a key has half of the slots
        assert {first_line(there) for there in refused} <= {
            b"HTTP/1.1 429 Too Many Requests",
            b"HTTP/1.1 408 Request Timeout",
        }


def test_who_asks_too_often_is_told_to_wait_and_others_are_not(server: Server, http: httpx.Client) -> None:
    with httpx.Client(base_url=server.url, timeout=LONG_S, headers={"x-api-key": OTHER}) as eager:
        refused = None
        for _ in range(5000):
            refused = eager.get("/v1/policies")
            if refused.status_code == 429:
                break
        assert refused is not None
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "40 requests per second" in refused.json()["detail"]
    answered(http)


def test_who_guesses_keys_has_to_wait_and_the_honest_of_the_same_address_do_not(
    server: Server, http: httpx.Client
) -> None:
    guesses = [httpx.get(f"{server.url}/v1/models", headers={"x-api-key": f"guess-{i:020}"}) for i in range(12)]
    assert [each.status_code for each in guesses[:5]] == [401] * 5
    late = [each for each in guesses if each.status_code == 429]
    assert late
    assert int(late[0].headers["retry-after"]) >= 1
    assert httpx.get(f"{server.url}/v1/models", headers={"x-api-key": NEW}).status_code == 200  # never seen before
    answered(http)


def test_those_who_leave_and_those_who_speak_no_http_cost_no_traceback_and_few_lines(
    server: Server, http: httpx.Client
) -> None:
    before, chance = len(server.log), random.Random(14)
    body = b'{"text": "a dog on the grass"}'
    for number in range(150):
        with closing(connected(server)) as there, suppress(OSError):
            if number % 3 == 0:
                there.sendall(chance.randbytes(300) + b"\r\n\r\n")
            else:
                how = f"content-length: {len(body)}"
                there.sendall(
                    head("POST", "/v1/search", how, f"x-api-key: {(KEY, OTHER)[number // 3 % 2]}")
                    + body[: len(body) - number % 2]
                )
                linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # closing is a reset
    answered(http)
    assert len(server.log) - before < 60


def becomes(status: int, http: httpx.Client, key: str) -> None:
    """Wait for a status of a key."""
    until = time.monotonic() + LONG_S
    while (found := http.get("/v1/models", headers={"x-api-key": key}).status_code) != status:
        assert time.monotonic() < until, found
        time.sleep(0.1)


def test_a_key_that_is_revoked_is_refused_and_a_bad_file_accepts_none(http: httpx.Client, keys: Path) -> None:
    """That it takes no second is in test_keys.py, by a clock."""
    keys.write_text(f"{KEY}\nthe-key-of-somebody-new")
    becomes(401, http, OTHER)
    keys.write_text("")
    becomes(503, http, KEY)
    assert http.get("/readyz").status_code == 503
    assert http.get("/").status_code == 200
    keys.unlink()
    becomes(503, http, KEY)
    keys.write_text(f"{KEY}\n")
    keys.chmod(0o600)
    becomes(200, http, KEY)
    answered(http)


def test_a_signal_reads_the_keys_anew(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    keys.chmod(0o600)
    with (
        serving(toy_collection(tmp_path), keys_file=keys, keys_checked_every_s=3600.0) as there,
        httpx.Client(base_url=there.url, timeout=LONG_S) as http,
    ):
        keys.write_text(f"{OTHER}\n")
        assert http.get("/v1/models", headers={"x-api-key": KEY}).status_code == 200  # it has not looked
        there.process.send_signal(signal.SIGHUP)
        becomes(401, http, KEY)
        becomes(200, http, OTHER)
