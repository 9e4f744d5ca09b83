"""The part of Google Cloud Storage's JSON API that reading needs, on loopback: names, generations, ranges."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "shards"


class _Silent(ThreadingHTTPServer):
    """Says nothing of clients that leave: a test that looks at what is printed would see it."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass


class GcsServer:
    """A bucket of objects, each a generation and bytes."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[int, bytes]] = {}
        self.status: list[int] = []  # of the next answers, instead of what is asked for
        self.sent: list[tuple[str, int]] = []  # (name, bytes) of each range
        self.server = _Silent(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def put(self, name: str, content: bytes) -> None:
        """Another generation of an object."""
        self.objects[name] = (self.objects.get(name, (0, b""))[0] + 1, content)

    def about(self, name: str) -> dict[str, str]:
        generation, content = self.objects[name]
        return {"name": name, "bucket": BUCKET, "generation": str(generation), "size": str(len(content))}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                asked = re.fullmatch(rf"(/download)?/storage/v1/b/{BUCKET}/o(?:/(.+))?", parts.path)
                name = unquote(asked[2] or "") if asked else ""
                if bucket.status:
                    self._send(bucket.status.pop(0), b"{}")
                elif asked and not name:
                    found = [each for each in sorted(bucket.objects) if each.startswith(query.get("prefix", ""))]
                    self._send(200, json.dumps({"items": [bucket.about(each) for each in found]}).encode())
                elif name not in bucket.objects:
                    self._send(404, b"{}")
                elif asked and not asked[1]:
                    self._send(200, json.dumps(bucket.about(name)).encode())
                else:
                    generation, content = bucket.objects[name]
                    if query.get("ifGenerationMatch", str(generation)) != str(generation):
                        self._send(412, b"{}")
                        return
                    first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                    bucket.sent.append((name, last + 1 - first))
                    self._send(206, content[first : last + 1])

            def _send(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler


@contextmanager
def serving() -> Iterator[GcsServer]:
    running = GcsServer()
    thread = threading.Thread(target=running.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.server.shutdown()
        running.server.server_close()
        thread.join()
