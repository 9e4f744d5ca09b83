"""A real server and connections that are slow, many, or speak no HTTP, over each of uvicorn's protocols; by which names
it may be reached, and how much of bodies it holds.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from support.hostile import checked, connected, head, received, refused
from support.serving import Server, serving
from support.toy import folder, write_images

import tandem
from tandem.errors import ConfigError
from tandem.serve.http.hosts import Hosts

BODY_LIMIT = 300_000
PROTOCOLS = [
    "h11",
    pytest.param("httptools", marks=pytest.mark.skipif(find_spec("httptools") is None, reason="no httptools")),
]
LATE_S = 1.0

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("served")
    with tandem.open(here / "photos.tandem", folder(here / "model")) as opened:
        opened.add(write_images(here / "photos", 3))
    return here / "photos.tandem"


@pytest.fixture(scope="module", params=PROTOCOLS)
def server(photos: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    limits = {"max_body_bytes": BODY_LIMIT, "max_bodies_bytes": 400_000, "max_connections": 40, "concurrency": 20}
    with serving(photos, http=request.param, body_timeout_s=LATE_S, **limits) as there:
        yield there


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client
        ready = client.get("/readyz")
        assert ready.status_code == 200, ready.text
        assert client.post("/v1/search", json={"text": "a cat"}).json()["hits"]


def all_of(there: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    content = b""
    with suppress(ConnectionError):
        while part := there.recv(65536):
            content += part
    return content


# --- large and slow -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/search", "/v1/images"])
def test_huge_bodies_are_refused_before_they_are_read(server: Server, http: httpx.Client, path: str) -> None:
    refused(http.post(path, content=b'{"text": "' + b"a" * BODY_LIMIT + b'"}'), 413)
    with closing(connected(server)) as there:
        there.sendall(head("POST", path, "content-length: 1000000000000") + b"{")
        assert b" 413 " in received(there)
    with closing(connected(server)) as there:
        there.sendall(head("POST", path, "transfer-encoding: chunked"))
        chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        with suppress(OSError):  # it may hang up while we speak
            for _ in range(20):
                there.sendall(chunk)
        assert b" 413 " in received(there)


def test_huge_bodies_where_no_route_is_are_answered_and_not_read(server: Server, http: httpx.Client) -> None:
    for how in ("content-length: 1000000000000", "transfer-encoding: chunked"):
        with closing(connected(server)) as there:
            there.sendall(head("POST", "/nowhere", how) + b"1\r\n{\r\n")  # and nothing more
            answer = all_of(there)  # it hangs up
        assert b"connection: close" in answer.lower()
        assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    assert http.get("/healthz").status_code == 200


def test_a_body_without_end_is_not_read_for_ever(server: Server, http: httpx.Client) -> None:
    with closing(connected(server)) as there:
        there.sendall(head("POST", "/v1/search", "transfer-encoding: chunked"))
        sent = 0
        with suppress(OSError):  # the other side hangs up
            while sent < 2000:
                there.sendall(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
                sent += 1
        assert sent < 2000


def test_slow_clients_hold_up_nobody_and_are_let_go(server: Server, http: httpx.Client) -> None:
    with ExitStack() as stack:
        bodies, heads, silent = ([stack.enter_context(closing(connected(server))) for _ in range(7)] for _ in range(3))
        for there in bodies:
            there.sendall(head("POST", "/v1/search", "content-length: 100") + b'{"text')
        for there in heads:
            there.sendall(b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-le")
        second: list[socket.socket] = []
        for _ in range(20):  # slow from their second request on; on a busy machine their first may be late too
            there = stack.enter_context(closing(connected(server)))
            there.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            if b" 200 " in received(there) and len(second) < 7:
                there.sendall(b"POST /v1/sea")
                second.append(there)
        assert len(second) == 7
        stop = threading.Event()

        def drip() -> None:  # it is no help that something comes all the time
            while not stop.wait(0.1):
                with suppress(OSError):
                    heads[0].send(b"x")

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        for _ in range(5):
            assert http.post("/v1/search", json={"text": "a"}).status_code == 200
            assert http.get("/healthz").status_code == 200
        for there in (*bodies, *heads):
            answer = received(there)
            assert b" 408 " in answer or answer == b""
            assert b"problem+json" in answer or answer == b""
        for there in (*silent, *heads, *second):
            assert b"200" not in all_of(there)  # ends: it has been closed
        stop.set()
        dripping.join()


def test_more_connections_than_there_may_be_push_out_idle_ones(server: Server, http: httpx.Client) -> None:
    with ExitStack() as stack:
        many = [stack.enter_context(closing(connected(server))) for _ in range(100)]
        for _ in range(5):
            with httpx.Client(base_url=server.url) as fresh:
                assert fresh.get("/healthz").status_code == 200
        assert all_of(many[0]) == b""
    with ExitStack() as stack:  # those that are at work are not pushed out
        busy = [stack.enter_context(closing(connected(server))) for _ in range(39)]
        for there in busy:
            there.sendall(head("POST", "/v1/search", "content-length: 10") + b"{")
        assert http.get("/healthz").status_code == 200


def test_bodies_together_are_bounded_and_one_that_is_alone_fits(server: Server, http: httpx.Client) -> None:
    refusals: list[bytes] = []
    for _ in range(5):  # on a busy machine the first may be given up as late before the others come
        fits(http)
        with ExitStack() as stack:
            held = [stack.enter_context(closing(connected(server))) for _ in range(3)]
            for there in held:  # 250 KB each, but for the last byte
                there.sendall(head("POST", "/v1/search", "content-length: 250000") + b'{"text": "' + b"a" * 249_900)
            refusals += [answer for answer in map(received, held[1:]) if b" 503 " in answer]
            assert http.get("/readyz").status_code == 200
            assert http.post("/v1/search", json={"text": "a"}).status_code == 200  # there is room for small ones
        if refusals:
            break
    assert b"retry-after: " in refusals[0].lower()
    fits(http)


def fits(http: httpx.Client) -> None:
    """Soon, once those who left are noticed, the largest body is taken."""
    large = b'{"text": "' + b"a" * (BODY_LIMIT - 20) + b'"}'
    until = time.monotonic() + 15
    while (answer := http.post("/v1/search", content=large)).status_code == 503 and time.monotonic() < until:
        time.sleep(0.05)
    assert answer.status_code == 413
    assert answer.json()["title"] == "Text too long"


def test_an_answer_that_is_not_read_is_given_up(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In a process of its own the time is 10 s; here it is a unit.
    from tandem.serve.http import connections
    from tandem.serve.settings import Settings

    class Loop:
        def call_later(self, _: float, work: object) -> object:
            calls.append(work)
            return type("Handle", (), {"cancel": lambda self: None})()

    class Transport:
        left = 1_000_000
        aborted = False

        def get_write_buffer_size(self) -> int:
            return self.left

        def abort(self) -> None:
            self.aborted = True

    calls: list[object] = []
    limited = connections.protocol(Settings(http="h11"))
    assert issubclass(limited, connections.Limited)
    there = limited.__new__(limited)
    there.loop, there.transport = Loop(), Transport()  # type: ignore[assignment]
    there.connections = {there}
    there.flow = type("Flow", (), {"pause_writing": lambda self: None, "resume_writing": lambda self: None})()
    there.pause_writing()
    there.transport.left = 500_000  # type: ignore[attr-defined]
    calls.pop()()  # type: ignore[operator]
    assert not there.transport.aborted  # type: ignore[attr-defined]
    there.transport.left = 499_000  # type: ignore[attr-defined]
    calls.pop()()  # type: ignore[operator]
    assert there.transport.aborted  # type: ignore[attr-defined]
    assert not calls


def test_clients_that_leave_early(server: Server, http: httpx.Client) -> None:
    body = b'{"text": "' + b"a" * 1000 + b'"}'
    for sent in (body, body[:100]):
        for _ in range(20):
            with closing(connected(server)) as there:
                there.sendall(head("POST", "/v1/search", f"content-length: {len(body)}") + sent)


# --- no HTTP --------------------------------------------------------------------------------------------------------

NONSENSE = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no version": b"GET\r\n\r\n",
    "a version": b"GET / HTTP/9.9\r\n\r\n",
    "zeros": b"\x00" * 1000,
    "a long header": b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
    "a header without end": b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000,
    "a path without end": b"GET /" + b"y" * 200_000,
    "negative length": b"POST /v1/search HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: -5\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n123456",
    "smuggling": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a long chunk": b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "no path": b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a proxy's": b"CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "another scheme": b"GET gopher://x:99999999/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "no ASCII": b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "an upgrade": b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_what_is_no_http(server: Server, http: httpx.Client, name: str) -> None:
    with closing(connected(server)) as there:
        with suppress(OSError):
            there.sendall(NONSENSE[name])
            there.shutdown(socket.SHUT_WR)
        answer = all_of(there)
    line, _, _ = answer.partition(b"\r\n")
    assert b" 500 " not in line
    if b" 4" in line:
        assert b"application/problem+json" in answer


def test_a_head_without_end_is_cut_off_in_a_second_request_too(server: Server, http: httpx.Client) -> None:
    with closing(connected(server)) as there:
        there.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 200 " in received(there)
        with suppress(OSError):
            there.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * (BODY_LIMIT - 50_000))
        answer = all_of(there)
        assert b" 200 " not in answer


def test_requests_in_a_row_before_any_answer(server: Server, http: httpx.Client) -> None:
    one = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with closing(connected(server)) as there:
        there.sendall(one * 5)
        content = part = received(there)
        while part and content.count(b" 200 ") < 5:
            part = received(there)
            content += part
        assert content.count(b" 200 ") == 5
    with closing(connected(server)) as there, suppress(OSError):
        for _ in range(20):
            there.sendall(one * 5000)


# --- by which names it may be reached ---------------------------------------------------------------------------------


def test_another_sites_name_that_leads_here_is_refused(server: Server, http: httpx.Client) -> None:
    for path in ("/", "/healthz", "/v1/collections", "/metrics", "/openapi.json"):
        refused(http.get(path, headers={"host": "evil.example"}), 421)
    refused(http.post("/v1/search", json={"text": "a"}, headers={"host": "127.0.0.1.evil.example:8000"}), 421)
    assert "--allow-host" in http.get("/", headers={"host": "evil.example"}).json()["detail"]
    assert http.get("/healthz", headers={"host": "localhost:1"}).status_code == 200


def test_pages_of_other_origins_change_nothing(server: Server, http: httpx.Client) -> None:
    own = server.url.removeprefix("http://")
    for headers, status in (
        ({}, 200),
        ({"origin": f"http://{own}"}, 200),
        ({"origin": f"http://{own}", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://localhost:1"}, 403),  # another server of this machine
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://[x"}, 403),
        ({"origin": f"http://{own}", "sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ):
        answer = checked(http.post("/v1/search", json={"text": "a"}, headers=headers))
        assert answer.status_code == status, headers
    assert http.get("/healthz", headers={"sec-fetch-site": "cross-site"}).status_code == 200


LOOPBACK = ("localhost", "LOCALHOST:8000", "localhost.", "a.localhost", "127.0.0.1:80", "127.9.9.9", "[::1]", "[::1]:1")
NUMBERS = ("192.168.1.5", "192.168.1.5:8000", "[fe80::1]:80", "8.8.8.8", "0.0.0.0")
NOTHING = ("", " ", ":", ":80", "a b", "user@localhost", "localhost:x", "localhost/", "[::1", "localhost, evil.example")
FOREIGN = ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.1", "evil.local")


def test_names_of_a_server_that_only_this_machine_reaches() -> None:
    near = Hosts.of("127.0.0.1", (), on_loopback=True)
    assert all(near.admit(name) for name in LOOPBACK)
    assert not [name for name in (*NUMBERS, *NOTHING, *FOREIGN, "box") if near.admit(name)]
    named = Hosts.of("127.0.0.1", ("Photos.Example.org:443",), on_loopback=True)
    assert named.admit("photos.example.org")
    assert not named.admit("evil.example")
    assert named.from_own_page("127.0.0.1:8000", "https://photos.example.org", None)
    assert Hosts.of("127.0.0.1", ("*",), on_loopback=True).admit("evil.example")
    with pytest.raises(ConfigError, match="allow_hosts"):
        Hosts.of("127.0.0.1", ("https://photos/",), on_loopback=True)


def test_names_of_a_server_that_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Box.house.lan")
    wide = Hosts.of("0.0.0.0", (), on_loopback=False)
    own = ("box.house.lan:8000", "tandem", "tandem:8000")
    assert all(wide.admit(name) for name in (*LOOPBACK, *NUMBERS, *own))
    assert not [name for name in (*NOTHING, *FOREIGN) if wide.admit(name)]
    assert Hosts.of("photos.lan", (), on_loopback=False).admit("photos.lan:8000")


# --- what is used of uvicorn's inside -------------------------------------------------------------------------------


@pytest.mark.parametrize("http_name", PROTOCOLS)
def test_what_is_used_of_uvicorn_is_there(http_name: str) -> None:
    """`connections` stands on methods and attributes that uvicorn does not promise. Where this fails, they moved."""
    import asyncio

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from tandem.serve.http import connections
    from tandem.serve.settings import Settings

    async def check() -> None:
        made = connections.protocol(Settings(http=http_name))
        config = Config(lambda scope: None, log_level="critical")
        config.load()
        there = made(config=config, server_state=ServerState(), app_state={})  # type: ignore[call-arg]
        read, _ = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: there, sock=read)
        for name in connections.USED_ATTRIBUTES:
            assert hasattr(there, name), f"{http_name}: no {name}"
        assert there.cycle is None  # type: ignore[attr-defined]
        transport.abort()

    asyncio.run(check())


def test_an_incompatible_uvicorn_is_reported_before_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    from tandem.serve.http import connections
    from tandem.serve.settings import Settings

    monkeypatch.delattr(H11Protocol, "send_400_response")
    with pytest.raises(ConfigError, match=r"uvicorn [\d.]+ has no send_400_response"):
        connections.protocol(Settings(http="h11"))
