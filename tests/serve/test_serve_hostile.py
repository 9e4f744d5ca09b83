"""A real server on loopback among people who mean harm, or no good: never a 500, every error a problem document, no
file but those it should show, and afterwards still ready.
"""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from support.hostile import FILTERS, SECRET, checked, data_uri, encoded, malformed, refused
from support.serving import Server, serving
from support.toy import folder, random_image, write_images

import tandem

IMAGES = 6
BODY_LIMIT = 300_000

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    here = tmp_path_factory.mktemp("served")
    (here / "secret.txt").write_text(SECRET)
    model = folder(here / "model")
    with tandem.open(here / "photos.tandem", model) as photos:
        photos.add(write_images(here / "photos", IMAGES))
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
        ("/v1/classify", {"image": data_uri(encoded(random_image(1))), "labels": value})
        for value in (None, 5, "a", {}, [], [5], [None], [""], ["a", ["b"]], [{}], ["a"] * 2, ["x"] * 3000)
    ),
    *(
        ("/v1/classify", {"image": data_uri(encoded(random_image(1))), "labels": ["a", "b"], "templates": value})
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


def test_wrong_types_and_values_are_reported(http: httpx.Client) -> None:
    accepted = []
    for path, body in WRONG:
        answer = checked(http.post(path, json=body))
        if answer.status_code < 400:
            accepted.append((path, body["templates"]))
    assert accepted == [("/v1/classify", ["{} {"])]  # a place for the label, and a brace that is a letter


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
def test_unusual_characters_are_embedded_or_refused(http: httpx.Client, text: str) -> None:
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
        for path in (*POSTS, "/v1/images"):
            for content in (b"{}", b"--x\r\n\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\nhi\r\n--x--\r\n"):
                refused(http.post(path, content=content, headers={"content-type": kind}))


def test_methods_and_paths_that_are_not_there(http: httpx.Client) -> None:
    for path in ("/v1/search", "/v1/nothing", "/healthz", "/v1/images/x", "/v1", "//", "/v1/search/", "/metrics/x"):
        for method in ("PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "X" * 50):
            refused(http.request(method, path))
    for path in ("/" + "a" * 10_000, "/v1/images/" + "a" * 10_000, "/?" + "a=b&" * 3000, "/v1/images/%ff%00"):
        checked(http.get(path))


# --- images -------------------------------------------------------------------------------------------------------


def bad_images() -> dict[str, bytes]:
    good = encoded(random_image(1))
    jpeg = io.BytesIO()
    random_image(2, (200, 150)).save(jpeg, "JPEG")
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
        "a slow format": encoded(random_image(1), "QOI"),  # decoding it takes seconds: off unless it is asked for
        "WebP head": b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff",
    }


@pytest.mark.parametrize("name", bad_images())
def test_bad_images_are_refused_everywhere(http: httpx.Client, name: str) -> None:
    content = bad_images()[name]
    uri = data_uri(content)
    refused(http.post("/v1/embeddings", json={"input": [uri]}), 413, 422)
    refused(http.post("/v1/search", json={"image": uri}), 413, 422)
    one = checked(http.post("/v1/classify", json={"image": uri, "labels": ["a", "b"]}))
    several = checked(http.post("/v1/classify", json={"images": [uri], "labels": ["a", "b"]}))
    for answer in (one, several):
        assert answer.status_code in (413, 422) or answer.json()["failures"]
    for field in ("file", "image", "images", "photo"):
        answer = checked(http.post("/v1/images", files={field: ("../../evil.png", content, "image/png")}))
        assert answer.status_code >= 400 or not answer.json().get("added")
    assert http.get("/v1/collections").json()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_odd_images_are_answered(http: httpx.Client, size: tuple[int, int]) -> None:
    answer = http.post("/v1/embeddings", json={"input": [data_uri(encoded(Image.new("RGB", size)))]})
    assert answer.status_code == 200, answer.text


# --- filters and ids ------------------------------------------------------------------------------------------------


def test_filters_reach_no_database(http: httpx.Client) -> None:
    for where in FILTERS:
        for path, body in (("/v1/search", {"text": "a"}), ("/v1/label", {"labels": ["a", "b"]})):
            checked(http.post(path, json={**body, "where": where}))
    refused(http.post("/v1/search", json={"text": "a", "where": FILTERS[0]}), 400, 422)
    found = http.post("/v1/search", json={"text": "a", "k": 100}).json()["hits"]
    assert len(found) == IMAGES


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
        for path in (f"/v1/images/{identifier}", f"/v1/images/{identifier}/thumbnail", f"/{identifier}"):
            answer = raw(http, path)
            assert answer.status_code in (400, 404, 414, 422, 307, 308), (path, answer.status_code)
        checked(http.request("DELETE", "/v1/images", json={"ids": [identifier]}))
    assert len(http.post("/v1/search", json={"text": "a", "k": 100}).json()["hits"]) == IMAGES


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


def test_headers_do_not_change_the_address_of_the_server(http: httpx.Client) -> None:
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
        assert "access-control-allow-origin" not in answer.headers  # off by default


# --- chance ---------------------------------------------------------------------------------------------------------


def test_five_hundred_malformed_requests(http: httpx.Client) -> None:
    chance = random.Random(7)
    seen = {checked(http.send(malformed(chance, http))).status_code for _ in range(500)}
    assert {200, 422} <= seen
    assert not seen & {500, 503}


def test_the_collection_is_what_it_was(http: httpx.Client, server: Server) -> None:
    original = http.post("/v1/search", json={"text": "a", "k": 100}).json()
    assert {Path(hit["path"]).name for hit in original["hits"]} >= {f"{i}.png" for i in range(IMAGES)}
