"""What people who mean harm, or no good, send to a server; and what every answer to them must be."""

import base64
import io
import json
import random
import socket
from contextlib import suppress
from typing import Any

import httpx
from PIL import Image

from support.serving import Server
from support.toy import random_image

SECRET = "what-nobody-may-read"
KINDS = ("PNG", "JPEG", "WEBP", "GIF")

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


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, known to be none of an accident, and a problem document if it is none of a success."""
    status = answer.status_code
    assert status < 500 or (status == 503 and answer.headers["retry-after"]), answer.text
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


# --- over a socket --------------------------------------------------------------------------------------------------


def connected(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=15)


def head(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", "content-type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode()


def received(there: socket.socket) -> bytes:
    """The first of what comes; nothing where the other side hung up."""
    with suppress(ConnectionError):
        return there.recv(4096)
    return b""


# --- images -------------------------------------------------------------------------------------------------------


def data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A few bits turned or bytes changed, or cut off."""
    made = bytearray(content)
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(len(made))
        made[place] = made[place] ^ (1 << chance.randrange(8)) if chance.random() < 0.5 else chance.randrange(256)
    return bytes(made[: chance.randrange(1, len(made))] if chance.random() < 0.3 else made)


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
    """A good request with something wrong in it; often a damaged image."""
    good = encoded(random_image(1), chance.choice(KINDS))
    image = data_uri(damaged(good, chance) if chance.random() < 0.5 else good)
    path, body = chance.choice(
        [
            ("/v1/embeddings", {"input": ["a", "b"], "model": "toy", "encoding_format": "float"}),
            ("/v1/embeddings", {"input": [image]}),
            ("/v1/classify", {"image": image, "labels": ["a", "b"], "templates": ["a {}"]}),
            ("/v1/classify", {"images": [image, image], "labels": ["a", "b"]}),
            ("/v1/search", {"text": "a", "k": 3, "where": "width > 1", "offset": 0, "image": image}),
            ("/v1/label", {"labels": ["a", "b"], "k": 2, "where": "width > 1"}),
            ("/v1/images", {"images": [image]}),
        ]
    )
    if chance.random() < 0.1:  # as a form, with a file that is damaged
        name = next((name for name in ("image", "images") if name in body), "image")
        return http.build_request("POST", path, files={name: ("x", damaged(good, chance))}, data={"labels": ["a", "b"]})
    fields: dict[str, Any] = dict(body)
    for _ in range(chance.randrange(3) if image in str(body) else chance.randrange(1, 3)):
        field = chance.choice([*fields, "collection", "weight", "like", "by", "dimensions", "x"])
        if chance.random() < 0.15:
            fields.pop(field, None)
        else:
            fields[field] = junk(chance)
    content = json.dumps(fields).encode()
    if chance.random() < 0.2:
        content = damaged(content, chance)
    method = chance.choices(["POST", "GET", "PUT", "DELETE"], [20, 1, 1, 1])[0]
    kind = chance.choices(["application/json", "text/plain", "multipart/form-data; boundary=b"], [20, 1, 1])[0]
    return http.build_request(method, path, content=content, headers={"content-type": kind})


def pester(address: tuple[str, int], chance: random.Random) -> socket.socket:
    """A connection that is slow, huge, or makes no sense; still open."""
    there = socket.create_connection(address, timeout=15)
    body = b'{"text": "' + b"a" * 2**20
    with suppress(OSError):  # it may hang up while we speak
        match chance.randrange(6):
            case 0:  # a head that does not end
                there.sendall(b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-le")
            case 1:  # a body that does not end
                there.sendall(head("POST", "/v1/search", "content-length: 100") + b'{"text')
            case 2:
                there.sendall(head("POST", "/v1/embeddings", "content-length: 1000000000000") + body)
            case 3:
                there.sendall(head("POST", "/v1/classify", "transfer-encoding: chunked"))
                for _ in range(40):
                    there.sendall(b"%x\r\n" % len(body) + body + b"\r\n")
            case 4:
                there.sendall(chance.randbytes(2000))
            case _:  # asks and leaves
                there.sendall(head("POST", "/v1/search", "content-length: 14") + b'{"text": "ab"}')
                there.close()
    return there
