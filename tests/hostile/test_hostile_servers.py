"""`tandem.Client` and `fetch` against servers that mean harm: what they answer is bounded in bytes, time and form."""

import base64
import contextlib
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import tandem
from tandem import fetch, http_limits
from tandem.client import calls
from tandem.errors import ClientError, ImageError, ServerError, TandemError

Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server that answers each connection in its own way, after it has read a request's head."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def work() -> None:
            while True:
                try:
                    there, _ = listening.accept()
                except OSError:
                    return
                with there, contextlib.suppress(OSError):
                    there.settimeout(10)
                    while b"\r\n\r\n" not in there.recv(65536):
                        pass
                    answer(there)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def saying(head: str, body: bytes = b"") -> Answer:
    lines = f"HTTP/1.1 200 OK\r\n{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return lambda there: there.sendall(lines.encode() + body)


TRICKLED = {"headers": b"HTTP/1.1 200 OK\r\nx: ", "body": b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"}


def client(url: str, **more: Any) -> tandem.Client:
    return tandem.Client(url, retries=0, **more)


BOMB = gzip.compress(gzip.compress(bytes(50_000_000)))


@pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate", "br", "zstd"])
def test_no_encodings_in_encodings_are_unfolded(encoding: str) -> None:
    with serving(saying(f"content-encoding: {encoding}\r\n", BOMB)) as url:
        with pytest.raises(ClientError, match="was not asked for"), client(url) as there:
            there.models()
        with pytest.raises(ImageError, match="was not asked for"):
            fetch.fetch(url, max_bytes=10_000_000, timeout_s=5)


def test_a_gzip_is_unfolded_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SMALL_BYTES", 1_000_000)
    unfolded: list[int] = []

    class Watched:
        def __init__(self) -> None:
            self.inner = original(31)

        def decompress(self, chunk: bytes, most: int) -> bytes:
            piece = self.inner.decompress(chunk, most)
            unfolded.append(len(piece))
            return piece

    original = zlib.decompressobj
    monkeypatch.setattr(http_limits.zlib, "decompressobj", lambda bits: Watched())
    with serving(saying("content-encoding: gzip\r\n", gzip.compress(bytes(50_000_000)))) as url:
        with pytest.raises(ClientError, match="more bytes than the limit of 1,000,000"), client(url) as there:
            there.models()
        with pytest.raises(ImageError, match="more bytes than the limit of 1,000,000") as caught:
            fetch.fetch(url, max_bytes=1_000_000, timeout_s=5)
    assert caught.value.kind == "too_large"
    assert sum(unfolded) == 2 * 1_000_001


def test_an_answer_is_read_as_far_as_what_was_asked_for_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SMALL_BYTES", 1000)
    asked: list[int] = []
    read = http_limits.read_body
    monkeypatch.setattr(calls, "read_body", lambda answer, most: (asked.append(most), read(answer, most))[1])
    transport = httpx.MockTransport(lambda request: httpx.Response(404 if request.method == "GET" else 200, json={}))
    here = client("http://there", transport=transport)
    image, item = np.zeros((4, 4, 3), np.uint8), calls.ITEM_BYTES
    asks: list[tuple[Callable[[], object], int]] = [
        (lambda: here.embed_texts(["a"] * 3), 1000 + 3 * item),
        (lambda: here.search("a", k=7), 1000 + 7 * item),
        (lambda: here.label(["a", "b"], k=5), 1000 + 10 * item),
        (lambda: here.locate(image, ["a"], heat_size=100), 1000 + item + 20_000),
        (lambda: here.add([image] * 2), 1000 + 2 * item),
        (lambda: here.search("a", k=10**6), calls.MAX_BYTES),
        (lambda: here.classify(image, head="h"), 1000 + 32 * item),
        (lambda: here.delete("a"), 1000),
        (here.models, 1000),
    ]
    for ask, most in asks:
        with pytest.raises(TandemError):
            ask()
        assert asked.pop() == most
    with pytest.raises(TandemError):
        here.classify(image, [f"cat {i}" for i in range(1000)])
    assert item + 100_000 < asked.pop() < 2 * item + 200_000


def test_words_of_a_server_command_no_terminal() -> None:
    evil = "\x1b]0;owned\x07\x9b31m\u202e\n"
    problem = {"title": evil, "detail": evil, "failures": [{"image": "images[0]", "error": evil, "kind": evil}]}
    image = np.zeros((4, 4, 3), np.uint8)

    def answering(status: int, document: object) -> tandem.Client:
        body = json.dumps(document)
        return client("http://there", transport=httpx.MockTransport(lambda _: httpx.Response(status, content=body)))

    asks: list[tuple[Callable[[tandem.Client], object], int, object]] = [
        (lambda there: there.models(), 422, problem),
        (lambda there: there.classify(image, ["a"]), 422, problem),  # becomes an ImageError
        (lambda there: there.delete("a"), 200, {"deleted": evil}),
        (embed, 200, {"data": [{"index": evil}]}),
    ]
    for ask, status, document in asks:
        with pytest.raises(TandemError) as caught:
            ask(answering(status, document))
        said = [str(caught.value), *(str(value) for value in vars(caught.value).values() if isinstance(value, str))]
        assert all(each.isprintable() for each in said), said
    for line in ("404 \x1b[2J\x07", "302 Found\r\nlocation: ftp://\x1b[2J"):
        answer = f"HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
        with serving(lambda there, answer=answer: there.sendall(answer)) as url:  # type: ignore[misc]
            with pytest.raises(TandemError) as caught:
                client(url).models()
            assert str(caught.value).isprintable()
            with pytest.raises(ImageError) as caught:
                fetch.fetch(url, max_bytes=1000, timeout_s=5)
            assert str(caught.value).isprintable()


def test_an_httpx_of_other_insides_is_an_error_and_not_unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"{http_limits.KNOWN_HTTPX}"' in lines
    there = httpx.Client()
    del there._transport._pool  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"httpx .* is not one that Tandem knows: install httpx>="):
        http_limits.bounded(there)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    proxied = http_limits.bounded(httpx.Client())
    pools = [each._pool for each in (proxied._transport, *proxied._mounts.values()) if each]  # type: ignore[attr-defined]
    assert len(pools) > 1
    assert {type(pool._network_backend).__qualname__ for pool in pools} == {"_backend.<locals>.Backend"}


def test_a_gzip_that_is_whole_is_read() -> None:
    body = gzip.compress(json.dumps({"data": [{"id": "m"}]}).encode())
    with serving(saying("content-encoding: gzip\r\ncontent-type: application/json\r\n", body)) as url:
        assert client(url).models() == [{"id": "m"}]
        assert b"data" in fetch.fetch(url, max_bytes=1000, timeout_s=5)
    cut = saying("content-encoding: gzip\r\n", body[:-10])
    with serving(cut) as url, pytest.raises(ClientError, match="ends in the middle"):
        client(url).models()


@pytest.mark.parametrize("part", TRICKLED)
def test_what_trickles_ends_in_time(part: str) -> None:
    """An answer that never ends, each letter of it in time, is left by who asked."""
    left = threading.Semaphore(0)

    def trickle(there: socket.socket) -> None:
        with there, contextlib.suppress(OSError):
            there.sendall(TRICKLED[part])
            while True:
                there.sendall(b"a")
                time.sleep(0.02)
        left.release()

    with serving(trickle) as url:
        with pytest.raises(TandemError, match=r"no answer within 0\.3 s"):
            client(url, timeout_s=0.3).models()
        with pytest.raises(ImageError, match="within") as caught:
            fetch.fetch(url, max_bytes=10**6, timeout_s=0.3)
        assert left.acquire(timeout=60)
        assert left.acquire(timeout=60)
    assert caught.value.kind == "timeout"


def test_a_length_that_is_too_large_is_not_waited_for() -> None:
    with (
        serving(lambda there: there.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n")) as url,
        pytest.raises(ClientError, match="more than the limit"),
    ):
        client(url).models()


def row(index: int, vector: Any) -> dict[str, Any]:
    content = np.asarray(vector, "<f4").tobytes()
    return {"index": index, "embedding": base64.b64encode(content).decode()}


GOOD = [1.0, 0.0]
MODEL = {"name": "m", "fingerprint": "f"}
SEARCH = {"query": {}, "model": MODEL, "hits": [], "threshold": None, "offset": 0, "nothing_matches": False}
HIT = {"id": "a", "score": 0.5, "relevance": None, "path": "p", "metadata": {}}


def embed(there: tandem.Client) -> object:
    return there.embed_texts(["a", "b"])


def search(there: tandem.Client) -> object:
    return there.search("x", k=1)


def classify(there: tandem.Client) -> object:
    return there.classify(np.zeros((4, 4, 3), np.uint8), ["a", "b"])


WRONG: list[tuple[Callable[[tandem.Client], object], object]] = [
    (embed, {"data": [row(0, GOOD)]}),  # too few
    (embed, {"data": [row(0, GOOD), row(0, GOOD)]}),  # one twice
    (embed, {"data": [row(0, GOOD), row(2, GOOD)]}),
    (embed, {"data": [row(0, GOOD), row(1, [np.nan, 0])]}),
    (embed, {"data": [row(0, GOOD), row(1, [3.0, 0])]}),  # no unit length
    (embed, {"data": [row(0, GOOD), row(1, [1.0, 0, 0])]}),
    (embed, {"data": [row(0, GOOD), {"index": 1, "embedding": "%%"}]}),
    (embed, {"data": [row(0, GOOD), {"index": "x", "embedding": "AAAA"}]}),
    (embed, {"data": 5}),
    (embed, {"data": [1, 2]}),
    (embed, ["data"]),
    (search, SEARCH | {"hits": [HIT, HIT]}),  # more than were asked for
    (search, SEARCH | {"hits": [HIT | {"score": "0.5"}]}),
    (search, SEARCH | {"hits": [{"id": "a"}]}),
    (search, SEARCH | {"hits": [HIT | {"id": 7}]}),
    (search, SEARCH | {"model": None}),
    (search, {"hits": []}),
    (classify, {"model": MODEL, "labels": ["a", "b"], "results": [], "failures": []}),
    (classify, {"model": MODEL, "labels": ["a"], "results": [{"logits": {"a": 1}}], "failures": []}),
    (classify, {"model": MODEL, "labels": ["a", "b"], "results": [{"logits": {"a": 1}}], "failures": []}),
    (classify, {"model": MODEL, "labels": ["a", "b"], "results": [], "failures": [{"image": "images[9]"}]}),
    (lambda there: there.delete("x"), {"deleted": "many"}),
    (lambda there: there.models(), {"data": [3]}),
    (lambda there: there.label(["a"]), {"labels": []}),
    (lambda there: there.correct(b"x", "a"), {"labels": ["x"]}),
    (lambda there: there.add(b"x"), {"added": 3}),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_malformed_answers_are_client_errors(number: int) -> None:
    ask, document = WRONG[number]
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=json.dumps(document)))
    with client("http://there", transport=transport) as there, pytest.raises(ClientError, match=r"v1.* answered"):
        ask(there)


@pytest.mark.parametrize("text", ['{"data": NaN}', '{"data": ' + "[" * 200_000, '{"data": [-Infinity]}', "\xff", ""])
def test_what_is_no_json_is_a_client_error(text: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=text.encode("latin-1")))
    with client("http://there", transport=transport) as there, pytest.raises(ClientError, match="no document with"):
        there.models()


def test_right_answers_are_right() -> None:
    answers = {"/v1/embeddings": {"data": [row(1, [0, 1]), row(0, GOOD)]}, "/v1/search": SEARCH | {"hits": [HIT]}}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answers[request.url.path]))
    with client("http://there", transport=transport) as there:
        assert there.embed_texts(["a", "b"]).tolist() == [GOOD, [0, 1]]
        assert [hit.id for hit in there.search("x", k=1).hits] == ["a"]


def test_what_was_added_before_a_refusal_is_reported() -> None:
    batches = iter(
        [
            httpx.Response(200, json={"added": [{"id": "a"}], "failures": []}),
            httpx.Response(403, json={"title": "Quota"}),
        ]
    )
    transport = httpx.MockTransport(lambda _: next(batches))
    with client("http://there", transport=transport) as there, pytest.raises(ServerError, match="Quota") as caught:
        there.add([np.zeros((4, 4, 3), np.uint8)] * 33)
    assert caught.value.members["reports"] == [{"added": [{"id": "a"}], "failures": []}]
