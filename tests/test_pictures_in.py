"""What a request brings as a picture: what is read, what is refused, and that no address reaches a private network."""

import asyncio
import base64
import contextlib
import io
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from toy import SIZE, picture

from tandem.config import Preprocessing
from tandem.errors import TandemError
from tandem.image import Limits, load_image, to_pixels
from tandem.serve import fetching
from tandem.serve.fetching import Fetcher, RefusedError, TooLargeError, is_public
from tandem.serve.pictures_in import PictureReader, decode_data_uri
from tandem.serve.problems import ProblemError

LIMITS = Limits(max_pixels=1_000_000, max_bytes=100_000)
LOOPBACK = ipaddress.ip_address("127.0.0.1")
PUBLIC = ipaddress.ip_address("93.184.216.34")


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@contextlib.contextmanager
def reader(**changes: object) -> Iterator[PictureReader]:
    made = PictureReader(Preprocessing(SIZE), **{"limits": LIMITS, "threads": 2, **changes})  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def read(value: str | bytes, **changes: object) -> np.ndarray:
    with reader(**changes) as pictures:
        return asyncio.run(pictures.read_picture(value))


def refused(value: str | bytes, **changes: object) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        read(value, **changes)
    return caught.value


# --- what is brought along ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_bytes_and_data_uris_give_the_pixels_that_the_library_gives(kind: str) -> None:
    content = encoded(picture(1), kind)
    wanted = to_pixels(load_image(content), Preprocessing(SIZE))
    for value in (content, data_uri(content), data_uri(content, "image/jpeg;charset=x"), data_uri(content, "")):
        pixels = read(value)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, wanted)


def test_data_uris_as_browsers_and_others_write_them() -> None:
    content = encoded(picture(2))
    wanted = read(content)
    quoted = "data:image/png," + "".join(f"%{byte:02x}" for byte in content)
    letters = base64.b64encode(content).decode()
    wrapped = "DATA:image/png;BASE64," + "\n".join(letters[i : i + 76] for i in range(0, len(letters), 76))
    bare = "data:image/png;base64," + letters.rstrip("=")
    for value in (quoted, wrapped, bare):
        np.testing.assert_array_equal(read(value), wanted)


def test_a_photo_on_its_side_is_turned_upright_as_in_the_collection() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture(3).save(file, "PNG", exif=exif)
    upright = read(file.getvalue())
    assert not np.array_equal(upright, read(file.getvalue(), orient=False))
    np.testing.assert_array_equal(upright, to_pixels(load_image(file.getvalue()), Preprocessing(SIZE)))


@pytest.mark.parametrize(
    ("value", "status", "says"),
    [
        (b"", 422, "empty"),
        ("", 422, "expected a data URI"),
        ("data:", 422, "expected a data URI"),
        ("data:,", 422, "empty"),
        ("data:image/png;base64,", 422, "empty"),
        ("data:image/png;base64,!!!", 422, "base64 is damaged"),
        ("data:image/png;base64,aaaaa", 422, "base64 is damaged"),
        ("data:image/png;base64,é", 422, "base64 is damaged"),
        ("data:image/png;base64,aGVsbG8=", 422, "not a picture"),
        ("data:text/html,<script>", 422, "not a picture"),
        ("/etc/passwd", 422, "paths are not read"),
        ("file:///etc/passwd", 422, "paths are not read"),
        ("../../secret.png", 422, "paths are not read"),
        ("ftp://example.org/a.png", 422, "paths are not read"),
        ("\x00", 422, "paths are not read"),
        (b"%!PS-Adobe", 422, "EPS"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "not a picture"),
        (encoded(picture(4, (200, 150)))[:-200], 422, "image: "),
        (encoded(picture(5), "JPEG")[:200], 422, "image: "),
        (b"x" * 100_001, 413, "more bytes than the limit of 100,000"),
        ("data:image/png;base64," + "a" * 140_000, 413, "more bytes than the limit of 100,000"),
        ("data:image/png," + "%41" * 100_010, 413, "more bytes than the limit of 100,000"),
        (encoded(Image.new("1", (20_000, 20_000))), 413, "20,000 x 20,000 pixels, more than the limit of"),
        ("http://example.org/a.png", 422, "not fetched here"),
        ("HTTPS://127.0.0.1/a.png", 422, "not fetched here"),
    ],
)
def test_what_is_refused_and_how_it_is_said(value: str | bytes, status: int, says: str) -> None:
    problem = refused(value)
    assert problem.status == status
    assert problem.detail.startswith("image: ")
    assert says in problem.detail
    assert len(problem.detail) < 400


def test_a_jpeg_of_many_passes_is_refused_before_it_takes_hours() -> None:
    file = io.BytesIO()
    picture(1).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    read(content)  # as programs write them
    last = content[content.rindex(b"\xff\xda") : -2]
    assert "more than 100 scans" in refused(content[:-2] + last * 100 + content[-2:]).detail


def test_a_file_that_exists_is_not_read_by_its_name(tmp_path: object) -> None:
    file = f"{tmp_path}/there.png"
    picture(1).save(file)
    assert "paths are not read" in refused(file).detail


def test_several_are_read_in_order_and_a_bad_one_stands_in_its_place() -> None:
    contents = [encoded(picture(i)) for i in range(5)]

    async def both() -> list[object]:
        with reader() as pictures:
            return list(await pictures.read_pictures([contents[0], b"bad", *contents[1:]]))

    read_, bad, *others = asyncio.run(both())
    assert isinstance(bad, ProblemError)
    assert bad.detail.startswith("images[1]: ")
    for pixels, content in zip([read_, *others], contents, strict=True):
        np.testing.assert_array_equal(pixels, read(content))  # type: ignore[arg-type]


def test_bytes_to_keep_are_the_very_bytes_and_known_to_be_a_picture() -> None:
    content = encoded(picture(1))

    async def kept(value: str | bytes) -> bytes:
        with reader() as pictures:
            return await pictures.read_bytes(value)

    assert asyncio.run(kept(data_uri(content))) == content
    with pytest.raises(ProblemError):
        asyncio.run(kept(content[:-60]))


def test_a_full_queue_is_503_and_nothing_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    content = encoded(picture(1))

    def slow(*arguments: object, **options: object) -> Image.Image:
        assert gate.wait(20)
        return picture(1)

    monkeypatch.setattr("tandem.serve.pictures_in.load_image", slow)

    async def crowd() -> None:
        with reader(queue=3, threads=1) as pictures:
            inside = [asyncio.create_task(pictures.read_picture(content)) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(ProblemError) as caught:
                await pictures.read_picture(content)
            assert caught.value.status == 503
            inside[2].cancel()  # a client that left makes room
            await asyncio.sleep(0.01)
            assert pictures.pending == 2
            gate.set()
            await asyncio.gather(inside[0], inside[1])
            assert pictures.pending == 0
            assert len(await pictures.read_pictures([content] * 9)) == 9  # larger than the queue, but alone

    asyncio.run(crowd())


# --- addresses ------------------------------------------------------------------------------------------------------


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
    """A server on loopback that answers as told and counts who came."""

    port: int
    asked: list[tuple[str, str]]


Reply = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def web(reply: Reply) -> Iterator[Web]:
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.headers["host"], self.path))
            with contextlib.suppress(OSError):
                reply(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Web(server.server_port, asked)
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
    content = encoded(picture(1))
    with web(answering(content)) as there:
        # the name exists nowhere: only the address that `resolve` gave can have been connected to
        pixels = read(f"http://photos.invalid:{there.port}/a.png?b=c", fetcher=fetcher(there, "photos.invalid"))
        np.testing.assert_array_equal(pixels, read(content))
        assert there.asked == [(f"photos.invalid:{there.port}", "/a.png?b=c")]


def test_a_host_that_is_not_named_is_not_fetched() -> None:
    with web(answering(encoded(picture(1)))) as there:
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
            assert refused(address, fetcher=allowed).status == 422, address
        assert there.asked == []


def test_an_allowed_host_that_leads_to_loopback_is_refused() -> None:
    with web(answering(encoded(picture(1)))) as there:
        real = Fetcher.of([f"localhost:{there.port}", f"127.0.0.1:{there.port}"], max_bytes=1000)
        for host in ("localhost", "127.0.0.1", "LOCALHOST"):
            problem = refused(f"http://{host}:{there.port}/a.png", fetcher=real)
            assert "not public" in problem.detail
        problem = refused(
            f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid", may_connect=False)
        )
        assert "not public" in problem.detail
        assert "127" not in problem.detail  # what is behind the name stays here
        assert there.asked == []


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    with web(answering(encoded(picture(1)))) as there:

        async def two(host: str, port: int) -> list[fetching.Address]:
            return [ipaddress.ip_address("127.0.0.3"), LOOPBACK]  # nothing listens at the first

        read(f"http://photos.invalid:{there.port}/", fetcher=replace(fetcher(there, "photos.invalid"), resolve=two))
        assert len(there.asked) == 1


def test_one_private_address_among_public_ones_is_refused() -> None:
    with web(answering(encoded(picture(1)))) as there:

        async def mixed(host: str, port: int) -> list[fetching.Address]:
            return [PUBLIC, LOOPBACK]

        allowed = replace(fetcher(there, "photos.invalid"), resolve=mixed, may_connect=is_public)
        assert "not public" in refused(f"http://photos.invalid:{there.port}/", fetcher=allowed).detail


def test_a_name_is_resolved_once_for_each_hop() -> None:
    with web(answering(encoded(picture(1)))) as there:
        names: list[str] = []

        async def changing(host: str, port: int) -> list[fetching.Address]:
            names.append(host)
            return [LOOPBACK] if len(names) == 1 else [PUBLIC]

        allowed = replace(fetcher(there, "photos.invalid"), resolve=changing)
        read(f"http://photos.invalid:{there.port}/", fetcher=allowed)
        assert names == ["photos.invalid"]


def test_a_redirect_passes_the_same_gate() -> None:
    with web(answering(encoded(picture(1)))) as private:
        for target, says in (
            (f"http://127.0.0.1:{private.port}/", "not fetched here"),
            (f"http://other.invalid:{private.port}/", "not fetched here"),
            (f"//127.0.0.1:{private.port}/", "not fetched here"),
            ("file:///etc/passwd", "no http(s) address"),
            ("gopher://photos.invalid/", "no http(s) address"),
        ):
            with web(redirecting(target)) as there:
                problem = refused(f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid"))
                assert says in problem.detail
                assert len(there.asked) == 1
        assert private.asked == []


def test_a_redirect_to_an_allowed_name_with_a_private_address_is_refused() -> None:
    with (
        web(answering(encoded(picture(1)))) as private,
        web(redirecting(f"http://inner.invalid:{private.port}/")) as there,
    ):

        async def by_name(host: str, port: int) -> list[fetching.Address]:
            return [LOOPBACK if host == "photos.invalid" else ipaddress.ip_address("127.0.0.2")]

        hosts = [f"photos.invalid:{there.port}", f"inner.invalid:{private.port}"]
        allowed = replace(
            Fetcher.of(hosts, max_bytes=100_000), resolve=by_name, may_connect=lambda address: address == LOOPBACK
        )
        problem = refused(f"http://photos.invalid:{there.port}/", fetcher=allowed)
        assert "inner.invalid leads to an address that is not public" in problem.detail
        assert private.asked == []


def test_redirects_within_the_allowed_are_followed_and_counted() -> None:
    content = encoded(picture(1))

    def reply(handler: BaseHTTPRequestHandler) -> None:
        (redirecting("/b.png") if handler.path == "/a.png" else answering(content))(handler)

    with web(reply) as there:
        read(f"http://photos.invalid:{there.port}/a.png", fetcher=fetcher(there, "photos.invalid"))
        assert [path for _, path in there.asked] == ["/a.png", "/b.png"]
    with web(redirecting("/")) as there:
        problem = refused(f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid"))
        assert "more than 5 redirects" in problem.detail
        assert len(there.asked) == 6


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
    ("reply", "status", "says"),
    [
        (answering(b"x" * 100_001), 413, "more than the limit of 100,000"),
        (endless, 413, "more bytes than the limit of 100,000"),
        (one_byte_at_a_time, 422, "not received within 0.5 s"),
        (headers_without_end, 422, "not received within 0.5 s"),
        (lambda handler: time.sleep(2), 422, "within 0.5 s"),
        (answering(b"gone", 404), 422, "answered 404"),
        (answering(b"<html>"), 422, "not a picture"),
        (packed, 422, "not a picture"),
        (lambda handler: handler.wfile.write(b"\x00\xffnonsense\r\n\r\n"), 422, "cannot be fetched"),
        (lambda handler: None, 422, "cannot be fetched"),
    ],
    ids=["oversized", "endless", "slow body", "slow headers", "silent", "404", "html", "packed", "no http", "hangs up"],
)
def test_what_an_allowed_host_does_wrong_is_cut_off(reply: Reply, status: int, says: str) -> None:
    with web(reply) as there:
        problem = refused(
            f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid", timeout_s=0.5)
        )
        assert problem.status == status
        assert says in problem.detail


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with web(answering(encoded(picture(1)))) as there, web(answering(b"", 500)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        read(f"http://photos.invalid:{there.port}/", fetcher=fetcher(there, "photos.invalid"))
        assert proxy.asked == []


def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    allowed = fetcher(Web(port, []), "photos.invalid")
    with pytest.raises(RefusedError, match="cannot be fetched"):
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
    assert issubclass(TooLargeError, RefusedError)
    assert decode_data_uri("data:,a%20b", "x", LIMITS) == b"a b"
