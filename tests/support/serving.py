"""A real server in a process of its own, on a free port of loopback; stopped by the test that started it."""

import base64
import contextlib
import json
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import tandem
from support import toy
from support.processes import SERVING, Child
from tandem.client import Client

# Run in a fork of a process that has imported the server; it opens its collections and models itself.
START = """
import json, sys
from pathlib import Path
from tandem.serve.run import serve
from tandem.serve.settings import Settings
values = json.loads(sys.argv[1])
if (every_s := values.pop("keys_checked_every_s", None)) is not None:
    from tandem.serve.http import keys
    keys.CHECKED_EVERY_S = every_s
paths = {name: Path(values[name]) for name in ("keys_file", "uploads", "corrections") if name in values}
paths["heads"] = tuple(map(Path, values.get("heads", ())))
paths["policies"] = tuple(values.get("policies", ()))
serve(json.loads(sys.argv[2]), Settings(**{**values, **paths}), say=lambda line: print(line, flush=True))
"""
READY_WITHIN_S = 60
LONG_S = 20.0  # for an answer of a busy machine
TOY_IMAGES = 9


def toy_collection(here: Path, name: str = "photos") -> Path:
    """A collection of toy images, with a model folder beside it."""
    model = here / "model"
    if not model.exists():
        toy.folder(model)
    with tandem.open(here / f"{name}.tandem", model) as photos:
        photos.add(toy.write_images(here / name, TOY_IMAGES))
    return here / f"{name}.tandem"


@dataclass(frozen=True)
class Server:
    """`log` is what it has said so far."""

    url: str
    process: Child
    log: list[str]


def data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def post_json(http: httpx.Client, path: str, **body: Any) -> Any:
    """What is answered to a body that must be accepted."""
    answer = http.post(path, json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def client_of(http: httpx.Client, **options: Any) -> Client:
    """A client whose requests a `TestClient` answers in this process."""

    def answered(request: httpx.Request) -> httpx.Response:
        answer = http.request(request.method, request.url.path, content=request.content, headers=dict(request.headers))
        return httpx.Response(answer.status_code, content=answer.content, headers=dict(answer.headers))

    return Client("http://127.0.0.1:8000", transport=httpx.MockTransport(answered), **options)


def metric(http: httpx.Client, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", http.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextlib.contextmanager
def serving(
    *collections: str | Path, environment: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[Server]:
    """`settings` are fields of `Settings`; Path fields as text. `keys_checked_every_s`: of its key file.

    `environment` is that of this process unless it is given.
    """
    plain = json.dumps({"port": 0, **settings}, default=str)
    log: list[str] = []
    urls = json.dumps([str(each) for each in collections])
    with Child(SERVING, START, plain, urls, environment=environment) as process:
        readers = [
            threading.Thread(target=log.extend, args=(output,), daemon=True)
            for output in (process.stdout, process.stderr)
        ]
        for reader in readers:
            reader.start()
        try:
            yield Server(_ready(process, log), process, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except AssertionError:
                process.send_signal(signal.SIGKILL)
            for reader in readers:
                reader.join(timeout=5)


def _ready(process: Child, log: list[str]) -> str:
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
