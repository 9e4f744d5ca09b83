"""A real server on loopback among people who mean harm, or no good: never a 500, every error a problem document, no
file but those it should show, and afterwards still ready.
"""

import base64
import io
import json
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from serving import Server, serving
from toy import folder, picture, pictures

import tandem

PICTURES = 6
BODY_LIMIT = 300_000
SECRET = "what-nobody-may-read"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    here = tmp_path_factory.mktemp("served")
    (here / "secret.txt").write_text(SECRET)
    model = folder(here / "model")
    with tandem.open(here / "photos.tandem", model) as photos:
        photos.add(pictures(here / "photos", PICTURES))
    limits = {"max_body_bytes": BODY_LIMIT, "max_pixels": 1_000_000, "max_batch": 8, "body_timeout_s": 1.0}
    with serving(here / "photos.tandem", **limits) as there:
        yield there


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client
        ready = client.get("/readyz")
        assert ready.status_code == 200, ready.text
        assert client.post("/v1/search", json={"text": "a cat"}).json()["hits"]


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, known to be none of an accident, and a problem document if it is none of a success."""
    status = answer.status_code
    assert status < 500 or status == 503, answer.text
    if status >= 400 and answer.request.method != "HEAD":
        assert answer.headers["content-type"].startswith("application/problem+json"), (answer.request.url, answer.text)
        document = answer.json()
        assert document["status"] == status
        assert document["title"]
        assert len(document["detail"]) <= 1000
        assert "Traceback" not in answer.text
        assert 'File "' not in answer.text
    assert SECRET not in answer.text
    assert "root:" not in answer.text
    return answer


def refused(answer: httpx.Response, *statuses: int) -> None:
    assert checked(answer).status_code in (statuses or (400, 404, 405, 413, 415, 422)), answer.text


def data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# --- requests that say the wrong thing ------------------------------------------------------------------------------

POSTS = ("/v1/embeddings", "/v1/classify", "/v1/search", "/v1/label")
WRONG: tuple[tuple[str, Any], ...] = (
    *((path, body) for path in POSTS for body in (None, [], "text", 5, True, {}, [{}], {"x": 1})),
    *(("/v1/embeddings", {"input": value}) for value in (None, 5, {}, [None], [5], [["a"]], [{}], [], ["a"] * 9, True)),
    *(("/v1/embeddings", {"input": "a", "model": value}) for value in (5, [], {}, "no such model", "../../etc")),
    ("/v1/embeddings", {"input": "word " * 20_000}),
    *(("/v1/classify", {"image": value, "labels": ["a", "b"]}) for value in (5, [], {}, "", "x.png", "/etc/passwd")),
    *(("/v1/classify", {"images": value, "labels": ["a", "b"]}) for value in (5, "x", {}, [5], [None], [["x"]])),
    *(
        ("/v1/classify", {"image": data_uri(png(picture(1))), "labels": value})
        for value in (None, 5, "a", {}, [], [5], [None], [""], ["a", ["b"]], [{}], ["a"] * 2, ["x"] * 3000)
    ),
    *(
        ("/v1/classify", {"image": data_uri(png(picture(1))), "labels": ["a", "b"], "templates": value})
        for value in (5, {}, [5], [None], "no place", ["no place"], [""], ["{} {"], ["{0.__class__}"], ["{x}"])
    ),
    *(("/v1/search", {"text": value}) for value in (5, [], {}, ["a"], True)),
    *(("/v1/search", {"text": "a", "k": value}) for value in (0, -1, 10**9, 10**30, 1.5, "ten", None, [], {}, True)),
    *(("/v1/search", {"text": "a", "offset": value}) for value in (-1, 10**9, 10**30, 0.5, "x", [], {})),
    *(("/v1/search", {"text": "a", "where": value}) for value in (5, [], {}, True)),
    *(("/v1/search", {"text": "a", "weight": value}) for value in (-1, 2, "x", [])),
    *(("/v1/search", {"image": value}) for value in (5, [], {}, "x", "http://127.0.0.1/", "file:///etc/passwd")),
    *(("/v1/search", {"text": "a", "collection": value}) for value in ("none", "../photos", 5, [])),
    *(("/v1/label", {"labels": value}) for value in (None, 5, "a", {}, [], [5], [None], [[]])),
)


def test_wrong_types_and_values_are_told_so(http: httpx.Client) -> None:
    accepted = []
    for path, body in WRONG:
        answer = checked(http.post(path, json=body))
        if answer.status_code < 400:
            accepted.append((path, str(body)[-60:]))
    # what may be read kindly: an empty page, none for the default, a label said twice
    assert len(accepted) <= 6, accepted


BODIES = {
    "nothing": b"",
    "no JSON": b"hello",
    "half": b'{"text": "a',
    "two": b'{"text": "a"}{"text": "b"}',
    "not a number": b'{"text": "a", "k": NaN}',
    "infinity": b'{"text": "a", "weight": Infinity}',
    "too large": b'{"text": "a", "weight": 1e999}',
    "many digits": b'{"text": "a", "k": ' + b"9" * 10_000 + b"}",
    "deep lists": b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "open lists": b"[" * 200_000,
    "no UTF-8": b'{"text": "\xff\xfe"}',
    "UTF-16": '{"text": "a"}'.encode("utf-16"),
    "a null byte": b'\x00{"text": "a"}',
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_document(http: httpx.Client, name: str) -> None:
    for path in POSTS:
        refused(http.post(path, content=BODIES[name], headers={"content-type": "application/json"}), 400, 413, 422)


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "\\udfff\\ud800", "\\u202e", "\\ufffe", "🐈" * 500, " ", "\\n"])
def test_strange_letters_are_embedded_or_refused(http: httpx.Client, text: str) -> None:
    for path, body in (
        ("/v1/embeddings", '{"input": "%s"}'),
        ("/v1/search", '{"text": "%s"}'),
        ("/v1/search", '{"text": "a", "where": "path = \'%s\'"}'),
        ("/v1/search", '{"like": "%s"}'),
        ("/v1/label", '{"labels": ["%s", "b"]}'),
        ("/v1/search", '{"text": "a", "collection": "%s"}'),
    ):
        content = (body % text).encode()
        checked(http.post(path, content=content, headers={"content-type": "application/json"}))


def test_content_types_that_do_not_fit(http: httpx.Client) -> None:
    for kind in (
        "text/plain",
        "application/xml",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/json; charset=klingon",
        "é".encode("latin-1"),
        "",
    ):
        for path in (*POSTS, "/v1/pictures"):
            for content in (b"{}", b"--x\r\n\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\nhi\r\n--x--\r\n"):
                refused(http.post(path, content=content, headers={"content-type": kind}))


def test_methods_and_paths_that_are_not_there(http: httpx.Client) -> None:
    for path in ("/v1/search", "/v1/nothing", "/healthz", "/v1/pictures/x", "/v1", "//", "/v1/search/", "/metrics/x"):
        for method in ("PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "X" * 50):
            refused(http.request(method, path))
    for path in ("/" + "a" * 10_000, "/v1/pictures/" + "a" * 10_000, "/?" + "a=b&" * 3000, "/v1/pictures/%ff%00"):
        checked(http.get(path))


# --- large and slow -------------------------------------------------------------------------------------------------


def test_huge_bodies_are_refused_before_they_are_read(server: Server, http: httpx.Client) -> None:
    for path in (*POSTS, "/v1/pictures"):
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


def test_slow_clients_hold_up_nobody_and_are_let_go(server: Server, http: httpx.Client) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connected(server))) for _ in range(40)]
        for place, there in enumerate(slow):
            there.sendall(
                head("POST", "/v1/search", "content-length: 100") + b'{"text'
                if place % 2
                else b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-le"
            )
        for _ in range(5):
            assert http.post("/v1/search", json={"text": "a"}).status_code == 200
            assert http.get("/healthz").status_code == 200
        for there in slow[1::2]:  # those whose head had come
            answer = received(there)
            assert b" 408 " in answer or answer == b""


def test_clients_that_leave_early(server: Server, http: httpx.Client) -> None:
    body = json.dumps({"images": [data_uri(png(picture(i))) for i in range(8)], "labels": ["a", "b"]}).encode()
    for _ in range(30):
        with closing(connected(server)) as there:
            there.sendall(head("POST", "/v1/classify", f"content-length: {len(body)}") + body)
    for _ in range(10):
        with closing(connected(server)) as there:
            there.sendall(head("POST", "/v1/classify", f"content-length: {len(body)}") + body[:100])


def test_what_is_no_http(server: Server, http: httpx.Client) -> None:
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # someone who speaks TLS
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 1000,
        b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
        b"POST /v1/search HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ):
        with closing(connected(server)) as there, suppress(OSError):
            there.sendall(nonsense)
            there.shutdown(socket.SHUT_WR)
            assert b" 500 " not in received(there).split(b"\r\n")[0]


def connected(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=15)


def head(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: there", "content-type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode()


def received(there: socket.socket) -> bytes:
    """The first of what comes; nothing where the other side hung up."""
    with suppress(ConnectionError):
        return there.recv(4096)
    return b""


# --- pictures -------------------------------------------------------------------------------------------------------


def bad_pictures() -> dict[str, bytes]:
    good = png(picture(1))
    jpeg = io.BytesIO()
    picture(2, (200, 150)).save(jpeg, "JPEG")
    return {
        "empty": b"",
        "cut off": good[: len(good) // 2],
        "head only": good[:33],
        "cut JPEG": jpeg.getvalue()[:300],
        "bomb": bomb(50_000, 50_000),
        "wide bomb": bomb(2**31 - 1, 1),
        "no size": bomb(0, 10),
        "text": b"hello",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n(/etc/passwd) run\n",
        "zeros": bytes(1000),
        "GIF head": b"GIF89a\xff\xff\xff\xff",
        "TIFF loop": b"II*\x00\x08\x00\x00\x00\x01\x00" + b"\x00" * 12 + b"\x08\x00\x00\x00",
        "WebP head": b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff",
    }


@pytest.mark.parametrize("name", bad_pictures())
def test_bad_pictures_are_refused_everywhere(http: httpx.Client, name: str) -> None:
    content = bad_pictures()[name]
    uri = data_uri(content)
    refused(http.post("/v1/embeddings", json={"input": [uri]}), 413, 422)
    refused(http.post("/v1/search", json={"image": uri}), 413, 422)
    one = checked(http.post("/v1/classify", json={"image": uri, "labels": ["a", "b"]}))
    several = checked(http.post("/v1/classify", json={"images": [uri], "labels": ["a", "b"]}))
    for answer in (one, several):
        assert answer.status_code in (413, 422) or answer.json()["failures"]
    for field in ("file", "image", "images", "pictures"):
        answer = checked(http.post("/v1/pictures", files={field: ("../../evil.png", content, "image/png")}))
        assert answer.status_code >= 400 or not answer.json().get("added")
    assert http.get("/v1/collections").json()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_odd_pictures_are_answered(http: httpx.Client, size: tuple[int, int]) -> None:
    answer = http.post("/v1/embeddings", json={"input": [data_uri(png(Image.new("RGB", size)))]})
    assert answer.status_code == 200, answer.text


# --- filters and ids ------------------------------------------------------------------------------------------------

FILTERS = (
    "1=1; drop table records",
    "' or 1=1 --",
    "id = 'x' union select sql from sqlite_master",
    "id in (select id from records)",
    "width > (select 1)",
    "load_extension('x')",
    "attach database '/tmp/x' as y",
    "path like '%' escape '",
    "width > 1 /* comment",
    "width > 1 -- comment",
    '"width" > 1',
    "pragma table_info(records)",
    "randomblob(1000000000) is null",
    "path like '" + "%a" * 5000 + "'",
    "(" * 5000 + "width > 1" + ")" * 5000,
    "not " * 5000 + "width > 1",
    " and ".join(["width > 1"] * 5000),
    "width in (" + ",".join(["1"] * 20_000) + ")",
    "width > " + "9" * 400,
    "vector is null",
    "thumbnail is null",
    "\x00",
    "",
    " ",
)


def test_filters_reach_no_database(http: httpx.Client) -> None:
    for where in FILTERS:
        for path, asked in (("/v1/search", {"text": "a"}), ("/v1/label", {"labels": ["a", "b"]})):
            checked(http.post(path, json={**asked, "where": where}))
    refused(http.post("/v1/search", json={"text": "a", "where": FILTERS[0]}), 400, 422)
    found = http.post("/v1/search", json={"text": "a", "k": 100}).json()["hits"]
    assert len(found) == PICTURES


def test_ids_are_no_paths(http: httpx.Client) -> None:
    for identifier in (
        "../../../../etc/passwd",
        "..%2f..%2f..%2fsecret.txt",
        "..%2fsecret.txt",
        "%2e%2e/%2e%2e/secret.txt",
        "....//....//secret.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "..\\..\\secret.txt",
        "%00",
        "secret.txt%00.png",
        "' or 1=1 --",
        "*",
        "%",
        "%25",
        "file:%2f%2f%2fetc%2fpasswd",
        "a" * 3000,
        "0" * 64,
    ):
        for path in (f"/v1/pictures/{identifier}", f"/v1/pictures/{identifier}/thumbnail", f"/{identifier}"):
            answer = raw(http, path)
            assert answer.status_code in (400, 404, 414, 422, 307, 308), (path, answer.status_code)
        checked(http.request("DELETE", "/v1/pictures", json={"ids": [identifier]}))
    assert len(http.post("/v1/search", json={"text": "a", "k": 100}).json()["hits"]) == PICTURES


def raw(http: httpx.Client, path: str) -> httpx.Response:
    """Asked as it stands: no dots taken out on the way."""
    url = httpx.URL(http.base_url).copy_with(raw_path=path.encode("ascii").replace(b" ", b"%20"))
    return checked(http.send(http.build_request("GET", url)))


def test_the_files_of_the_page_are_all_that_is_shown(http: httpx.Client) -> None:
    for place in ("", "page/", "static/", "assets/", "docs/"):
        for way in ("../" * 6, "..%2f" * 6, "%2e%2e/" * 6, "..%5c" * 6, "//"):
            for goal in ("etc/passwd", "secret.txt", "app.py"):
                answer = raw(http, f"/{place}{way}{goal}")
                assert answer.status_code != 200 or "html" in answer.headers["content-type"]


def test_headers_do_not_change_who_is_asked(http: httpx.Client) -> None:
    for headers in (
        {"host": "evil.example"},
        {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https"},
        {"x-original-url": "/etc/passwd"},
        {"origin": "https://evil.example"},
        {"authorization": "Bearer " + "x" * 5000},
        {"x-api-key": "é".encode()},
        {"range": "bytes=0-" + "9" * 50},
        {"accept": "x" * 3000},
        {"if-none-match": "\x7f" * 10},
        {"content-encoding": "gzip"},
        {"expect": "100-continue"},
    ):
        answer = checked(http.post("/v1/search", json={"text": "a"}, headers=headers))  # type: ignore[arg-type]
        assert "evil" not in answer.text
        assert "access-control-allow-origin" not in answer.headers  # off unless asked for


# --- chance ---------------------------------------------------------------------------------------------------------


def junk(chance: random.Random, depth: int = 0) -> Any:
    """Some value that nobody expects."""
    kinds = [
        lambda: None,
        lambda: chance.choice([True, False]),
        lambda: chance.choice([0, -1, 1, 2**31, 2**63, 2**64, 10**40]),
        lambda: chance.choice([0.5, -1e308, 1e-320]),
        lambda: "".join(chr(chance.choice([chance.randrange(1, 128), chance.randrange(0xE000)])) for _ in range(9)),
        lambda: chance.choice(["", "data:,", "data:image/png;base64,AAAA", "../..", "http://127.0.0.1/", "'", "{}"]),
        lambda: chance.choice(FILTERS)[:200],
    ]
    if depth < 3:
        kinds += [
            lambda: [junk(chance, depth + 1) for _ in range(chance.randrange(4))],
            lambda: {
                chance.choice(["text", "k", "x", ""]): junk(chance, depth + 1) for _ in range(chance.randrange(3))
            },
        ]
    return chance.choice(kinds)()


def malformed(chance: random.Random, http: httpx.Client) -> httpx.Request:
    """A good request with something wrong in it."""
    image = data_uri(damaged(png(picture(1)), chance) if chance.random() < 0.5 else png(picture(1)))
    path, body = chance.choice(
        [
            ("/v1/embeddings", {"input": ["a", "b"], "model": "toy", "encoding_format": "float"}),
            ("/v1/embeddings", {"input": [image]}),
            ("/v1/classify", {"image": image, "labels": ["a", "b"], "templates": ["a {}"]}),
            ("/v1/classify", {"images": [image, image], "labels": ["a", "b"]}),
            ("/v1/search", {"text": "a", "k": 3, "where": "width > 1", "offset": 0, "image": image}),
            ("/v1/label", {"labels": ["a", "b"], "k": 2, "where": "width > 1"}),
            ("/v1/pictures", {"images": [image]}),
        ]
    )
    asked: dict[str, Any] = dict(body)
    for _ in range(chance.randrange(1, 3)):
        field = chance.choice([*asked, "collection", "weight", "like", "by", "dimensions", "x"])
        if chance.random() < 0.15:
            asked.pop(field, None)
        else:
            asked[field] = junk(chance)
    content = json.dumps(asked).encode()
    if chance.random() < 0.2:
        content = damaged(content, chance)
    method = chance.choices(["POST", "GET", "PUT", "DELETE"], [20, 1, 1, 1])[0]
    kind = chance.choices(["application/json", "text/plain", "multipart/form-data; boundary=b"], [20, 1, 1])[0]
    return http.build_request(method, path, content=content, headers={"content-type": kind})


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, or cut off."""
    made = bytearray(content)
    for _ in range(chance.randrange(1, 6)):
        made[chance.randrange(len(made))] = chance.randrange(256)
    return bytes(made[: chance.randrange(1, len(made))] if chance.random() < 0.3 else made)


def test_five_hundred_malformed_requests(http: httpx.Client) -> None:
    chance = random.Random(7)
    seen = {checked(http.send(malformed(chance, http))).status_code for _ in range(500)}
    assert {200, 422} <= seen
    assert not seen & {500, 503}


def test_the_collection_is_what_it_was(http: httpx.Client, server: Server) -> None:
    original = http.post("/v1/search", json={"text": "a", "k": 100}).json()
    assert {Path(hit["path"]).name for hit in original["hits"]} >= {f"{i}.png" for i in range(PICTURES)}
