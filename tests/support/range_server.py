"""A web server on loopback that sends ranges of files, counts what it sends, and misbehaves when told to."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class RangeServer:
    """The files of a folder, with ETags. What it answers can be changed between requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status: list[int] = []  # of the next answers, instead of their files; 0: the connection is cut
        self.ranges = True  # False: whole files only
        self.heeds_if_match = True
        self.weak_etags = False  # True: those that stand for no exact bytes, which no If-Match matches
        self.versions = "ETag"  # or "Last-Modified", or neither; the second without heeding If-Unmodified-Since
        self.sends_range = ""  # the Content-Range that it tells, instead of the right one
        self._speaks = threading.Event()
        self._speaks.set()
        self.sent: list[tuple[str, int]] = []  # (name, bytes) of each body
        self._etags: dict[tuple[Path, int, int], str] = {}
        self.closed = False  # connections that are open end, too
        self._lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def bytes_sent(self, name: str = "") -> int:
        """Bytes of bodies, of one file or of all."""
        return sum(size for each, size in self.sent if name in ("", each))

    def etag(self, path: Path) -> str:
        """That of the bytes; read again when size or time have changed."""
        status = path.stat()
        key = path, status.st_size, status.st_mtime_ns
        if key not in self._etags:
            with path.open("rb") as file:
                self._etags[key] = f'"{hashlib.file_digest(file, "md5").hexdigest()}"'
        return "W/" * self.weak_etags + self._etags[key]

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Inside, requests are taken and not answered."""
        self._speaks.clear()
        try:
            yield
        finally:
            self._speaks.set()

    def next_status(self) -> int | None:
        with self._lock:
            return self.status.pop(0) if self.status else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        about = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer(False)

            def do_GET(self) -> None:
                self._answer(True)

            def _answer(self, with_body: bool) -> None:
                path = about.folder / self.path.partition("?")[0].lstrip("/")
                about._speaks.wait()
                status = about.next_status()
                if status == 0 or about.closed:
                    self.close_connection = True
                    return
                if status is not None or not path.is_file():
                    self._send(status or 404, b"", {})
                    return
                size, etag = path.stat().st_size, about.etag(path)
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                modified = self.date_time_string(int(path.stat().st_mtime))
                headers = {name: {"ETag": etag, "Last-Modified": modified}[name] for name in about.versions.split()}
                strong = etag.removeprefix("W/")
                if about.heeds_if_match and self.headers.get("If-Match", strong) != strong:
                    self._send(412, b"", headers)
                    return
                status, first, stop = 200, 0, size
                if asked and about.ranges:
                    status, first, stop = 206, int(asked[1]), min(int(asked[2]) + 1, size)
                    headers["Content-Range"] = f"bytes {first}-{stop - 1}/{size}"
                    headers["Content-Range"] = about.sends_range or headers["Content-Range"]
                with path.open("rb") as file:
                    file.seek(first)
                    content = file.read(stop - first) if with_body else b""
                self._send(status, content, headers, path.name if with_body else "", stop - first)

            def _send(
                self, status: int, content: bytes, headers: dict[str, str], name: str = "", length: int | None = None
            ) -> None:
                self.send_response(status)
                for each, value in headers.items():
                    self.send_header(each, value)
                self.send_header("Content-Length", str(len(content) if length is None else length))
                self.end_headers()
                if name:
                    about.sent.append((name, len(content)))
                    self.wfile.write(content)

        return Handler


@contextmanager
def serving(folder: Path) -> Iterator[RangeServer]:
    server = RangeServer(folder)
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closed = True
        server.server.shutdown()
        server.server.server_close()
        thread.join()
