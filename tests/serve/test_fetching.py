"""Images by address: only from hosts that are allowed, and never from a private network."""

import asyncio
import contextlib
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from support.processes import unused_port
from support.reading import LIMITS, encoded, read, refused
from support.serving import LONG_S
from support.toy import random_image

from tandem.errors import ImageError, TandemError
from tandem.serve.encoding import fetching
from tandem.serve.encoding.fetching import Fetcher, is_public
from tandem.serve.encoding.images import decode_data_uri

LOOPBACK = ipaddress.ip_address("127.0.0.1")
PUBLIC = ipaddress.ip_address("93.184.216.34")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@dataclass
class Web:
    """A server on loopback with one answer; `requests` lists the host and path of each request."""

    port: int
    requests: list[tuple[str, str]]


Reply = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def web(reply: Reply) -> Iterator[Web]:
    requests: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.headers["host"], self.path))
            with contextlib.suppress(OSError):
                reply(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Web(server.server_port, requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answering(body: bytes, status: int = 200, **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def redirecting(to: str) -> Reply:
    return answering(b"", 302, location=to)


def fetcher(web_: Web, *hosts: str, may_connect: bool = True, timeout_s: float = 10) -> Fetcher:
    """One that may fetch from the names given, all of which lead to the server on loopback."""
    made = Fetcher.of([f"{host}:{web_.port}" for host in hosts], max_bytes=LIMITS.max_bytes, timeout_s=timeout_s)

    async def everything_here(host: str, port: int) -> list[fetching.Address]:
        return [LOOPBACK]

    allowed: Callable[[fetching.Address], bool] = (lambda _: True) if may_connect else is_public
    return replace(made, resolve=everything_here, may_connect=allowed)


def test_an_allowed_host_is_fetched_by_the_address_that_was_checked() -> None:
    content = encoded(random_image(1))
    with web(answering(content)) as there:
        # the name exists nowhere: only the address that `resolve` gave can have been connected to
        pixels = read(f"http://photos.invalid:{there.port}/a.png?b=c", fetcher=fetcher(there, "photos.invalid"))
        np.testing.assert_array_equal(pixels, read(content))
        assert there.requests == [(f"photos.invalid:{there.port}", "/a.png?b=c")]


@pytest.mark.slow
def test_a_host_that_is_not_named_is_not_fetched() -> None:
    with web(answering(encoded(random_image(1)))) as there:
        allowed = fetcher(there, "photos.invalid")
        for address in (
            f"http://other.invalid:{there.port}/",
            f"http://sub.photos.invalid:{there.port}/",
            f"http://photos.invalid.evil.invalid:{there.port}/",
            f"http://evilphotos.invalid:{there.port}/",
            "http://photos.invalid/",  # another port
            f"http://127.0.0.1:{there.port}/",
            f"http://2130706433:{there.port}/",
            f"http://photos.invalid:{there.port}@other.invalid/",
            f"http://other.invalid\\@photos.invalid:{there.port}/",
            f"http://user:word@photos.invalid:{there.port}/",
            f"http://photos.invalid#@other.invalid:{there.port}/",
            "http:///nothing",
            "http://[::1/",
            "http://photos.invalid:999999/",
            f"http://photos.invalid:{there.port}/" + "a" * 3000,
        ):
            assert refused(address, fetcher=allowed).kind in ("forbidden", "not_found", "invalid"), address
        assert there.requests == []


def test_an_allowed_host_that_leads_to_loopback_is_refused() -> None:
    with web(answering(encoded(random_image(1)))) as there:
        real = Fetcher.of([f"localhost:{there.port}", f"127.0.0.1:{there.port}"], max_bytes=1000)
        for host in ("localhost", "127.0.0.1", "LOCALHOST"):
            error = refused(f"http://{host}:{there.port}/a.png", fetcher=real)
            assert "not public" in error.reason
        error = refused(
            f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid", may_connect=False)
        )
        assert "not public" in error.reason
        assert "127" not in error.reason  # what is behind the name stays here
        assert there.requests == []


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    with web(answering(encoded(random_image(1)))) as there:

        async def two(host: str, port: int) -> list[fetching.Address]:
            return [ipaddress.ip_address("127.0.0.3"), LOOPBACK]  # nothing listens at the first

        read(f"http://photos.invalid:{there.port}/", fetcher=replace(fetcher(there, "photos.invalid"), resolve=two))
        assert len(there.requests) == 1


def test_one_private_address_among_public_ones_is_refused() -> None:
    with web(answering(encoded(random_image(1)))) as there:

        async def mixed(host: str, port: int) -> list[fetching.Address]:
            return [PUBLIC, LOOPBACK]

        allowed = replace(fetcher(there, "photos.invalid"), resolve=mixed, may_connect=is_public)
        assert "not public" in refused(f"http://photos.invalid:{there.port}/", fetcher=allowed).reason


def test_a_name_is_resolved_once_for_each_hop() -> None:
    with web(answering(encoded(random_image(1)))) as there:
        names: list[str] = []

        async def changing(host: str, port: int) -> list[fetching.Address]:
            names.append(host)
            return [LOOPBACK] if len(names) == 1 else [PUBLIC]

        allowed = replace(fetcher(there, "photos.invalid"), resolve=changing)
        read(f"http://photos.invalid:{there.port}/", fetcher=allowed)
        assert names == ["photos.invalid"]


def test_a_redirect_passes_the_same_gate() -> None:
    with web(answering(encoded(random_image(1)))) as private:
        for target, says in (
            (f"http://127.0.0.1:{private.port}/", "not fetched here"),
            (f"http://other.invalid:{private.port}/", "not fetched here"),
            (f"//127.0.0.1:{private.port}/", "not fetched here"),
            ("file:///etc/passwd", "no http(s) address"),
            ("gopher://photos.invalid/", "no http(s) address"),
        ):
            with web(redirecting(target)) as there:
                error = refused(f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid"))
                assert says in error.reason
                assert len(there.requests) == 1
        assert private.requests == []


def test_a_redirect_to_an_allowed_name_with_a_private_address_is_refused() -> None:
    with (
        web(answering(encoded(random_image(1)))) as private,
        web(redirecting(f"http://inner.invalid:{private.port}/")) as there,
    ):

        async def by_name(host: str, port: int) -> list[fetching.Address]:
            return [LOOPBACK if host == "photos.invalid" else ipaddress.ip_address("127.0.0.2")]

        hosts = [f"photos.invalid:{there.port}", f"inner.invalid:{private.port}"]
        allowed = replace(
            Fetcher.of(hosts, max_bytes=100_000), resolve=by_name, may_connect=lambda address: address == LOOPBACK
        )
        error = refused(f"http://photos.invalid:{there.port}/", fetcher=allowed)
        assert "inner.invalid leads to an address that is not public" in error.reason
        assert private.requests == []


def test_redirects_within_the_allowed_are_followed_and_counted() -> None:
    content = encoded(random_image(1))

    def reply(handler: BaseHTTPRequestHandler) -> None:
        (redirecting("/b.png") if handler.path == "/a.png" else answering(content))(handler)

    with web(reply) as there:
        read(f"http://photos.invalid:{there.port}/a.png", fetcher=fetcher(there, "photos.invalid"))
        assert [path for _, path in there.requests] == ["/a.png", "/b.png"]
    with web(redirecting("/")) as there:
        error = refused(f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid"))
        assert "more than 5 redirects" in error.reason
        assert len(there.requests) == 6


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def one_byte_at_a_time(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    drip(handler)


def headers_without_end(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
    drip(handler)


def drip(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(200):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def packed(handler: BaseHTTPRequestHandler) -> None:
    import gzip

    answering(gzip.compress(bytes(10_000_000)), content_encoding="gzip")(handler)


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (answering(b"x" * 100_001), "too_large", "more than the limit of 100,000"),
        (endless, "too_large", "more bytes than the limit of 100,000"),
        (one_byte_at_a_time, "timeout", "not received within 0.5 s"),
        (headers_without_end, "timeout", "not received within 0.5 s"),
        (lambda handler: time.sleep(2), "timeout", "within 0.5 s"),
        (answering(b"gone", 404), "not_found", "answered 404"),
        (answering(b"<html>"), "unsupported", "not an image"),
        (packed, "unsupported", "not an image"),
        (lambda handler: handler.wfile.write(b"\x00\xffnonsense\r\n\r\n"), "not_found", "cannot be fetched"),
        (lambda handler: None, "not_found", "cannot be fetched"),
    ],
    ids=["oversized", "endless", "slow body", "slow headers", "silent", "404", "html", "packed", "no http", "hangs up"],
)
def test_what_an_allowed_host_does_wrong_is_cut_off(reply: Reply, kind: str, says: str) -> None:
    timeout_s = 0.5 if kind == "timeout" else LONG_S  # the others are not cut off by a slow machine
    with web(reply) as there:
        error = refused(
            f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid", timeout_s=timeout_s)
        )
        assert error.kind == kind
        assert says in error.reason


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with web(answering(encoded(random_image(1)))) as there, web(answering(b"", 500)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        read(f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid"))
        assert proxy.requests == []


def test_nothing_listens() -> None:
    port = unused_port()
    allowed = fetcher(Web(port, []), "photos.invalid")
    with pytest.raises(ImageError, match="cannot be fetched"):
        asyncio.run(allowed.fetch(f"http://photos.invalid:{port}/"))


@pytest.mark.parametrize(
    "host", ["", "http://example.org", "example.org/path", "*.example.org", "a@b", "a b", "a:b", "a/"]
)
def test_what_is_no_host_is_refused_at_the_start(host: str) -> None:
    with pytest.raises(TandemError, match="allow-fetch: expected a host"):
        Fetcher.of([host], max_bytes=1)


def test_hosts_as_they_are_written() -> None:
    hosts = ["Example.ORG", "example.org:8443", "bücher.example", "[2606:4700::1111]:80"]
    assert Fetcher.of(hosts, max_bytes=1).allowed == {
        "example.org",
        "example.org:8443",
        "xn--bcher-kva.example",
        "2606:4700::1111:80",
    }
    assert decode_data_uri("data:,a%20b", "x", LIMITS) == b"a b"
