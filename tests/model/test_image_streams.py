"""Many images decoded ahead, in order, and images fetched from addresses."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.images import SQUARE, encoded, scene
from support.serving import LONG_S

from tandem.errors import ImageError
from tandem.image import Limits, decode_stream, load_image, preprocess

# --- addresses -----------------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = encoded(scene(), "PNG")
        if self.path.startswith("/redirect"):
            left = int(self.path.split("/")[2])
            self.send_response(302)
            self.send_header("location", f"/redirect/{left - 1}" if left else "/scene.png")
            self.end_headers()
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("location", "file:///etc/passwd")
            self.end_headers()
        elif self.path == "/large":
            self.send_response(200)
            self.send_header("content-length", str(10**12))
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(65536))
        elif self.path in ("/slow", "/silent"):
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(40):
                    if self.path == "/slow":
                        self.wfile.write(b"x")
                    time.sleep(0.05)
        elif self.path == "/missing":
            self.send_error(404)
        elif self.path == "/page":
            self.send_response(200)
            self.send_header("content-type", "image/png")
            self.end_headers()
            self.wfile.write(b"<html>not an image at all, though the header says so</html>")
        else:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_an_image_from_an_address(site: str) -> None:
    for path in ("/scene.png", "/redirect/2"):
        assert (np.asarray(load_image(site + path)) == np.asarray(scene())).all()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "404"),
        ("/redirect/20", "redirects"),
        ("/elsewhere", "no http"),
        ("/large", "1,000,000,000,000 bytes, more than the limit"),
        ("/endless", "more bytes than the limit"),
        ("/slow", "time limit"),
        ("/silent", "no answer within"),
        ("/page", "not an image: a text that begins '<html>"),
    ],
)
def test_an_address_that_gives_none(site: str, path: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(max_bytes=2_000_000, timeout_s=0.6 if path == "/silent" else LONG_S)
    if path == "/slow":
        clock = itertools.count(step=LONG_S / 3)
        monkeypatch.setattr("tandem.fetch.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(ImageError) as caught:
        load_image(site + path, limits=limits)
    assert caught.value.source == site + path
    assert reason in caught.value.reason


def test_addresses_can_be_forbidden_and_unreachable(site: str) -> None:
    with pytest.raises(ImageError, match="not fetched here"):
        load_image(site + "/scene.png", limits=Limits(allow_urls=False))
    for address in ("http://127.0.0.1:9/x.png", "http://[broken/x.png"):
        with pytest.raises(ImageError, match="cannot be fetched"):
            load_image(address)


# --- streams -------------------------------------------------------------------------------------------------------


def test_a_stream_keeps_the_order_and_skips_failures() -> None:
    good = encoded(scene(), "PNG")
    sources = [good, b"", good, "missing.jpg", good] * 7
    results = list(decode_stream(sources, SQUARE, threads=3, ahead=4))
    assert [i for i, _ in results] == list(range(35))
    expected = preprocess(scene(), SQUARE)
    for i, result in results:
        if i % 5 in (1, 3):
            assert isinstance(result, ImageError)
            assert result.source == ("<bytes>" if i % 5 == 1 else "missing.jpg")
        else:
            assert isinstance(result, np.ndarray)
            assert (result == expected).all()


def test_a_stream_draws_lazily_and_within_bounds() -> None:
    drawn = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal drawn
        while True:
            drawn += 1
            yield scene(8, 8)

    stream = decode_stream(endless(), SQUARE, threads=2, ahead=10)
    assert drawn == 0
    next(stream)
    assert drawn <= 4
    for given in range(2, 60):
        next(stream)
        assert drawn - given <= 10
    assert drawn >= 60
    stream.close()  # type: ignore[attr-defined]


def test_closing_a_stream_ends_its_threads() -> None:
    before = set(threading.enumerate())
    stream = decode_stream((scene() for _ in range(1000)), SQUARE, threads=4)
    next(stream)
    assert set(threading.enumerate()) - before
    stream.close()  # type: ignore[attr-defined]
    assert not set(threading.enumerate()) - before


def test_what_came_before_broken_sources_is_given_first() -> None:
    def sources() -> Iterator[Image.Image]:
        yield scene()
        yield scene()
        raise RuntimeError("the list ends in the middle")

    stream = decode_stream(sources(), SQUARE, threads=1)
    assert [next(stream)[0], next(stream)[0]] == [0, 1]
    with pytest.raises(RuntimeError, match="in the middle"):
        next(stream)


def test_an_empty_stream() -> None:
    assert list(decode_stream([], SQUARE)) == []
