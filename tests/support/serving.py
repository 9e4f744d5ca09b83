"""A real server in a process of its own, on a free port of loopback; stopped by the test that started it."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START = """
import json, sys
from pathlib import Path
from tandem.serve.run import serve
from tandem.serve.settings import Settings
asked = json.loads(sys.argv[1])
paths = {name: Path(asked[name]) for name in ("keys_file", "uploads") if name in asked}
serve(json.loads(sys.argv[2]), Settings(**{**asked, **paths}), say=lambda line: print(line, flush=True))
"""
READY_WITHIN_S = 60


@dataclass(frozen=True)
class Server:
    """`log` is what it has said so far."""

    url: str
    process: "subprocess.Popen[str]"
    log: list[str]


@contextlib.contextmanager
def serving(*collections: str | Path, **settings: Any) -> Iterator[Server]:
    """`settings` are fields of `Settings`; Path fields as text."""
    plain = json.dumps({"port": 0, **settings}, default=str)
    command = [sys.executable, "-c", START, plain, json.dumps([str(each) for each in collections])]
    log: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        output = process.stdout
        assert output is not None
        reader = threading.Thread(target=lambda: log.extend(output), daemon=True)
        reader.start()
        try:
            yield Server(_ready(process, log), process, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join(timeout=5)


def _ready(process: "subprocess.Popen[str]", log: list[str]) -> str:
    """Its address, once it answers."""
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        for line in log:
            if " at http://" in line:
                url = line.partition(" at ")[2].split()[0]
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{url}/readyz").status_code == 200:
                        return url
        time.sleep(0.05)
    raise AssertionError("no server: " + "".join(log)[-3000:])
