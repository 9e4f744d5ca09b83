"""A real S3 server on loopback, for tests: moto, in a process of its own, started once and gone with the test run."""

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

BUCKET = "photos"
PATIENCE_S = 60.0
ATTEMPTS = 3  # another run may take a port between our choosing it and the server's binding it

# Ends with its parent, however that ends: the pipe to it closes.
_PROGRAM = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


@dataclass(frozen=True)
class S3Server:
    """A running server with an empty bucket."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a client finds in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }


_running: list[S3Server] = []


def shared_server() -> S3Server:
    """The server of this test run, started at first need. Its environment is set for all that follows."""
    if not _running:
        _running.append(_start())
        os.environ.update(_running[0].environment)
    return _running[0]


def _start() -> S3Server:
    for _ in range(ATTEMPTS):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        server = S3Server(f"http://127.0.0.1:{port}")
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and process.poll() is None:
            try:
                urllib.request.urlopen(urllib.request.Request(f"{server.endpoint}/{BUCKET}", method="PUT"), timeout=10)
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
            else:
                atexit.register(_stop, process)
                return server
        _stop(process)
    raise RuntimeError("the S3 server did not start")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
