"""A server and single requests that cost little to send: each is refused by one problem document, within two seconds of
processor time (more on slow machines) and 300 MB, and everybody else is answered meanwhile.
"""

import json
import random
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from typing import Any

import httpx
import pytest
from PIL import ExifTags, Image
from support import costs, toy
from support.costs import MB
from support.hostile import checked, connected, data_uri, encoded, head, junk, received
from support.serving import LONG_S, Server, metric, serving, toy_collection

pytestmark = [pytest.mark.server, costs.known]
CPU_S, MEMORY = 2.0, 300 * MB
IMAGE = data_uri(encoded(toy.random_image(1)))
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    here = tmp_path_factory.mktemp("served")
    settings: dict[str, Any] = {"policies": ["people"], "corrections": here / "corrections", "body_timeout_s": 5.0}
    with serving(toy_collection(here), **settings) as there:
        with httpx.Client(base_url=there.url, timeout=LONG_S) as client:  # what is made once is made before
            client.post("/v1/classify", json={"image": IMAGE, "labels": ["a", "b"], "templates": ["é {}"]})
            client.post("/v1/locate", json={"image": IMAGE, "texts": ["a", "b"]})
            client.post("/v1/search", json={"text": "a"})
        costs.limit_memory(there.process.pid, 2048 * MB)  # threads reserve addresses that they never use
        yield there


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=LONG_S) as client:
        with costs.measured(server.process.pid) as cost:
            yield client
        assert cost.cpu_s < CPU_S or cost.cpu_s < CPU_S * costs.slowness(), cost
        assert cost.memory_bytes < MEMORY, cost
        assert client.get("/readyz").status_code == 200
        assert not [line for line in server.log if "Traceback" in line], "".join(server.log)[-2000:]


def many(value: str, count: int) -> str:
    return "[" + ",".join([value] * count) + "]"


LONG_LABELS = [f"{i:03} " + "word " * 1999 for i in range(250)]  # 2.5 MB
TEMPLATES = [f"{i} {'x ' * 4000} {{}}" for i in range(16)]
ODD = "\u0315\u0300" * 5000  # cleaning it takes forty times as long as English

BODIES: dict[str, tuple[str, bytes, int]] = {
    "long labels": ("/v1/classify", json.dumps({"image": IMAGE, "labels": LONG_LABELS}).encode(), 413),
    "long labels of a collection": ("/v1/label", json.dumps({"labels": LONG_LABELS}).encode(), 413),
    "long templates": (
        "/v1/label",
        json.dumps({"labels": [f"label {i}" for i in range(256)], "templates": TEMPLATES}).encode(),
        413,
    ),
    "labels times templates": (
        "/v1/label",
        json.dumps(
            {"labels": [f"label {i}" for i in range(256)], "templates": [f"{i} {{}}" for i in range(256)]}
        ).encode(),
        413,
    ),
    "images of labels": ("/v1/label", json.dumps({"labels": [f"{i}" for i in range(256)], "k": 1000}).encode(), 413),
    "labels of images": (
        "/v1/label",
        json.dumps({"labels": [f"{i}" for i in range(256)], "by": "image", "k": 256, "limit": 1000}).encode(),
        413,
    ),
    "64 long sentences": ("/v1/embeddings", json.dumps({"input": ["word " * 1800] * 64}).encode(), 413),
    "64 to split": ("/v1/embeddings", json.dumps({"input": ["word " * 1800] * 64, "long": "split"}).encode(), 413),
    "odd sentences": ("/v1/embeddings", json.dumps({"input": [ODD + str(i) for i in range(20)]}).encode(), 413),
    "an odd one to split": ("/v1/search", json.dumps({"text": ODD, "long": "split"}).encode(), 413),
    "long prompts": ("/v1/score", json.dumps({"images": [IMAGE] * 99, "prompts": ["word " * 1999] * 99}).encode(), 413),
    "texts to locate": ("/v1/locate", json.dumps({"image": IMAGE, "texts": ["a" * 9999] * 300}).encode(), 413),
    "zeros for images": ("/v1/classify", f'{{"labels": ["a"], "images": {many("0", 4_000_000)}}}'.encode(), 413),
    "strings for images": ("/v1/classify", f'{{"labels": ["a"], "images": {many(chr(34) * 2, 9000)}}}'.encode(), 413),
    "lists for labels": ("/v1/label", f'{{"labels": {many("[]", 2_000_000)}}}'.encode(), 413),
    "an object of many": (
        "/v1/embeddings",
        f'{{"input": [{{{",".join(f"{chr(34)}{i}{chr(34)}:0" for i in range(9000))}}}]}}'.encode(),
        413,
    ),
    "unknown keys": ("/v1/search", json.dumps({f"key {i}": i for i in range(9000)}).encode(), 422),
    "very many unknown keys": ("/v1/search", json.dumps({f"key {i}": i for i in range(500_000)}).encode(), 413),
    "quotes": ("/v1/search", b'{"text": [' + b'"",' * 3_000_000 + b'""]}', 413),
    "deep": ("/v1/search", b'{"text": ' + b"[" * 15_000_000, 413),
    "deep, and closed": ("/v1/search", b'{"text": ' + b"[" * 9000 + b"]" * 9000 + b"}", 400),
    "digits": ("/v1/search", b'{"k": ' + b"9" * 20_000_000 + b"}", 400),
    "a long text": ("/v1/search", b'{"text": "' + b"a" * 30_000_000 + b'"}', 413),
    "escapes": ("/v1/search", b'{"text": "' + b"\\u0061" * 5_000_000 + b'"}', 413),
    "deleted ids": ("/v1/images", json.dumps({"ids": ["x"] * 5000}).encode(), 413),
    "a long filter": (
        "/v1/search",
        json.dumps({"text": "a", "where": "width > 1 or " * 700 + "width > 1"}).encode(),
        422,
    ),
    "a long name of a head": ("/v1/classify", json.dumps({"image": IMAGE, "head": "x" * 3_000_000}).encode(), 404),
    "a long name of a policy": ("/v1/moderate", json.dumps({"image": IMAGE, "policy": "x" * 3_000_000}).encode(), 404),
    "a long name of a model": (
        "/v1/score",
        json.dumps({"images": [IMAGE], "prompts": ["a"], "model": "x" * 3_000_000}).encode(),
        404,
    ),
    "a long language": ("/v1/label", json.dumps({"labels": ["a"], "language": "x" * 3_000_000}).encode(), 422),
    "a long label": ("/v1/corrections", json.dumps({"image": IMAGE, "label": "x" * 3_000_000}).encode(), 422),
    "a long id": ("/v1/locate", json.dumps({"id": "x" * 3_000_000, "texts": ["a"]}).encode(), 404),
    "a long prefix": (
        "/v1/score",
        json.dumps({"images": [IMAGE], "prompts": ["a"], "prefix": "x" * 3_000_000}).encode(),
        413,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_more_than_a_server_takes_is_refused_before_it_is_worked_on(http: httpx.Client, name: str) -> None:
    path, body, status = BODIES[name]
    method = "DELETE" if "ids" in name else "POST"
    answer = checked(http.request(method, path, content=body, headers=JSON))
    assert answer.status_code == status, answer.text
    assert len(answer.content) < 10_000


def test_what_is_large_and_allowed_is_answered(http: httpx.Client) -> None:
    commas = {"input": ["," * 9000 for _ in range(40)], "long": "truncate"}  # commas of texts are no values
    assert http.post("/v1/embeddings", json=commas).status_code == 200
    odd = {"text": ODD[:9000], "long": "truncate"}
    assert http.post("/v1/search", json=odd).status_code == 200


def photo(width: int, height: int, orientation: int) -> str:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(Image.new("RGB", (width, height), (9, 99, 200)), "JPEG", quality=30, exif=exif)
    return data_uri(content)


@pytest.mark.slow
def test_large_photos_take_the_memory_that_is_promised(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=LONG_S) as client:

        def asked(*images: str) -> httpx.Response:
            return checked(client.post("/v1/classify", json={"images": images, "labels": ["a", "b"]}))

        with costs.measured(server.process.pid) as cost:
            refused = asked(photo(8000, 7990, 6))  # its copy would take 256 MB more
        assert (refused.status_code, cost.memory_bytes < MEMORY) == (413, True)
        assert "511 MB to decode, more than the limit of 384 MB" in refused.text
        with costs.measured(server.process.pid) as cost:
            assert asked(*[photo(7000, 6200, 6)] * 3).status_code == 200  # 347 MB each: one at a time
        assert 300 * MB < cost.memory_bytes < 450 * MB


FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
FORMS = {
    "headers": b"--x\r\n" + b"a: b\r\n" * 1_000_000 + b"\r\nhi\r\n--x--\r\n",
    "a long header": b"--x\r\na: " + b"b" * 9_000_000 + b"\r\n\r\nhi\r\n--x--\r\n",
    "parts": (FORM + b"\r\n") * 50_000 + b"--x--\r\n",
    "ends of lines": FORM + b"\r\n--" * 2_000_000 + b"\r\n--x--\r\n",
    "names": b"".join(b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n' % i for i in range(900))
    + b"--x--\r\n",
    "no end": FORM + bytes(9_000_000),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_that_are_bombs(http: httpx.Client, name: str) -> None:
    answer = http.post("/v1/search", content=FORMS[name], headers={"content-type": "multipart/form-data; boundary=x"})
    assert checked(answer).status_code in (400, 413, 422)


def test_tiny_chunks_cost_little(server: Server, http: httpx.Client) -> None:
    with closing(connected(server)) as there:
        there.sendall(head("POST", "/v1/search", "transfer-encoding: chunked"))
        with suppress(OSError):  # it hangs up while we speak
            there.sendall(b"1\r\n \r\n" * 20_000 + b"0\r\n\r\n")
        answer = received(there)
        assert b" 400 " in answer
        if find_spec("httptools") is not None:
            assert b"4,096 parts of a few bytes" in answer
    with closing(connected(server)) as there:  # as many parts of an honest size
        blank = b"40\r\n" + b" " * 64 + b"\r\n"
        there.sendall(head("POST", "/v1/search", "transfer-encoding: chunked") + blank * 5000)
        there.sendall(b"11\r\n" + b'{"text": "a cat"}' + b"\r\n0\r\n\r\n")
        assert b" 200 " in received(there)


def test_chance_on_every_route(http: httpx.Client) -> None:
    chance = random.Random(14)
    good: dict[str, dict[str, Any]] = {
        "/v1/locate": {"image": IMAGE, "texts": ["a", "b"], "heat": True},
        "/v1/score": {"images": [IMAGE], "prompts": ["a"], "prefix": "A photo of"},
        "/v1/moderate": {"image": IMAGE, "policy": "people"},
        "/v1/corrections": {"image": IMAGE, "label": "cat"},
        "/v1/label": {"labels": ["a", "b"], "by": "image", "limit": 3},
        "/v1/search": {"text": "a", "minus": "b", "moments": 2, "long": "split"},
    }
    seen = set()
    for _ in range(120):
        path = chance.choice(list(good))
        body = {**good[path], chance.choice(list(good[path])): junk(chance)}
        seen.add(checked(http.post(path, content=json.dumps(body).encode(), headers=JSON)).status_code)
    assert {200, 422} <= seen


def test_texts_are_answered_while_a_map_is_computed(http: httpx.Client) -> None:
    statuses = {http.get("/v1/map").status_code}
    statuses |= {http.post("/v1/embeddings", json={"input": f"number {i}"}).status_code for i in range(30)}
    assert statuses <= {200, 202}


def test_the_lag_of_the_loop_is_measured(http: httpx.Client) -> None:
    assert metric(http, "tandem_loop_lag_seconds_count") > 0
    assert metric(http, 'tandem_loop_lag_seconds_bucket{le="0.001"}') > 0
