"""A stand-in hub on loopback. It speaks the part of the hub's protocol that downloads need (HEAD and GET on /resolve/,
ETag, commit and length headers, ranges, error codes); huggingface_hub itself is real.
"""

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import weights_toys as toys
from tandem import weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


class Server:
    """A stand-in hub: repositories are folders; it records the requests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self.status: dict[str, tuple[int, dict[str, str]]] = {}  # a path's beginning -> an error for it
        self.break_after: list[int] = []  # bytes after which the next large downloads are cut
        self.with_ranges = True
        handler = type("Handler", (_Handler,), {"server_state": self})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        # A shorter poll: closing waits for it.
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def downloaded(self) -> list[str]:
        return [Path(path).name for method, path in self.requests if method == "GET"]


class _Handler(http.server.BaseHTTPRequestHandler):
    server_state: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        state = self.server_state
        state.requests.append((self.command, self.path))
        for beginning, (status, headers) in state.status.items():
            if self.path.startswith(beginning):
                return self._send(status, headers, b"")
        parts = self.path.strip("/").split("/")
        repository, file = "/".join(parts[:2]), None
        if len(parts) >= 5 and parts[2] == "resolve":
            if not (state.root / repository).is_dir():
                return self._send(404, {"X-Error-Code": "RepoNotFound"}, b"")
            commit = {"main": COMMIT, COMMIT: COMMIT, "v2": OTHER, OTHER: OTHER}.get(parts[3])
            if commit is None:
                return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"")
            file = state.root / repository / "/".join(parts[4:])
            headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            if not file.is_file():
                return self._send(404, {**headers, "X-Error-Code": "EntryNotFound"}, b"")
        else:
            file, headers = state.root / self.path.strip("/"), {}
            if not file.is_file():
                return self._send(404, {}, b"")
        content = file.read_bytes()
        headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        range_header = self.headers.get("Range")
        if range_header and state.with_ranges:
            state.ranges.append(range_header)
            start = int(range_header.removeprefix("bytes=").split("-")[0])
            if start >= len(content):
                return self._send(416, {}, b"")
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self._send(206, headers, content[start:])
        return self._send(200, headers, content)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server_state.break_after and status < 300 and len(body) > 100_000:
            self.wfile.write(body[: self.server_state.break_after.pop(0)])
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    server = Server(tmp_path / "served")
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def endpoint(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The hub is the stand-in, and every cache is empty."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    return server


def publish(server: Server, name: str, to: Any, **config: Any) -> weights.Checkpoint:
    checkpoint = toys.checkpoint(toys.vit(**config))
    weights.write(checkpoint, server.root / name, to)
    (server.root / name / "tf_model.h5").write_bytes(b"not requested")
    return checkpoint
