"""A real Milvus server on loopback, for tests: started once, and gone with its folder when the test run is, however.

The server is the child of a keeper process (this file, run as a script), which waits on a pipe from the test run: when
the pipe closes, because the run is done or was killed, the keeper stops the server and removes the folder.
"""

import atexit
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 120.0
# Shorter than by default, so that tests wait less: for empty collections to be ready, for strong consistency (ms), and
# until a server that was killed is believed to be gone (s).
SHORTER = {
    "proxy.timeTickInterval": 20,
    "queryCoord.checkInterval": 100,
    "queryCoord.distPullInterval": 50,
    "common.session.ttl": 10,
}
ATTEMPTS = 3  # another run may take a port between our choosing it and the server's binding it


@dataclass
class MilvusServer:
    """A running server. `restart` ends it the hard way and starts it again on the same port and folder."""

    port: int
    programs: str
    keeper: "subprocess.Popen[str]"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def restart(self) -> None:
        self._tell("restart")

    def pause(self) -> None:
        """The server no longer answers, until `restart`."""
        self._tell("stop")

    def _tell(self, word: str) -> None:
        assert self.keeper.stdin is not None
        assert self.keeper.stdout is not None
        self.keeper.stdin.write(word + "\n")
        self.keeper.stdin.flush()
        answer = json.loads(self.keeper.stdout.readline())
        assert answer.get("done"), answer


_running: list[MilvusServer] = []
_stopping = contextlib.ExitStack()


def shared_server() -> MilvusServer:
    """The server of this test run, started at first need."""
    if not _running:
        context = milvus_server()
        _running.append(context.__enter__())
        _stopping.callback(context.__exit__, None, None, None)
        atexit.register(stop_shared_server)
    return _running[0]


def stop_shared_server() -> None:
    """Stop it, if it runs: idle it takes an eighth of a core, and more for each collection that nobody dropped."""
    _running.clear()
    _stopping.close()


@contextlib.contextmanager
def milvus_server() -> Iterator[MilvusServer]:
    """Start a server, and leave neither a process nor a file of it behind."""
    programs = [each.programs for each in _running]  # another need not unpack them again: five seconds
    keeper = subprocess.Popen(
        [sys.executable, __file__, *programs],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        answer = json.loads(keeper.stdout.readline() or '{"error": "the keeper of the Milvus server died"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        yield MilvusServer(answer["port"], answer["programs"], keeper)
    finally:
        keeper.stdin.close()
        keeper.wait(timeout=60)
        keeper.stdout.close()


# --- the keeper ---


def _die_with_the_keeper() -> None:
    """Run in the server's process before it is the server: Linux ends it when the keeper is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _configured(folder: Path, programs: str | None) -> tuple[list[str], dict[str, str], int, int]:
    """Write what the server reads into its folder: its command, environment, port, and port of health."""
    from milvus import MilvusServerConfig, _initialize_data_files

    if programs:
        (folder / "bin").unlink(missing_ok=True)
        (folder / "bin").symlink_to(programs)
    else:
        _initialize_data_files(str(folder))
    config = MilvusServerConfig(data_dir=str(folder))
    names = [name for name in config.configurable_items if name.endswith("_port")]
    ports = _free_ports(len(names) + 3)
    config.update(**dict(zip(names, ports, strict=False)))
    for name, interval in SHORTER.items():
        config.set(name, interval)
    config.resolve()
    # The etcd inside listens on two fixed ports unless a file says otherwise: two servers would not start side by side.
    etcd = folder / "configs" / "etcd.yaml"
    client, peer = (f"http://127.0.0.1:{port}" for port in ports[-3:-1])
    etcd.write_text(
        f"name: default\ninitial-cluster: default={peer}\ninitial-advertise-peer-urls: {peer}\n"
        f"listen-peer-urls: {peer}\nlisten-client-urls: {client}\nadvertise-client-urls: {client}\n"
    )
    settings = folder / "configs" / "milvus.yaml"
    text = settings.read_text().replace("\netcd:\n", f"\netcd:\n  config:\n    path: {etcd}\n", 1)
    for name in ("channelCheckInterval", "segmentCheckInterval", "checkExecutedFlagInterval"):
        text = text.replace("\nqueryCoord:\n", f"\nqueryCoord:\n  {name}: 50\n", 1)
    settings.write_text(text)
    environment = os.environ | {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(ports[-1]),
        "MILVUS_RUN_DIR": str(folder / "run"),
        "LD_LIBRARY_PATH": f"{folder / 'bin'}:{os.environ.get('LD_LIBRARY_PATH', '')}",
    }
    return [str(folder / "bin" / "milvus"), "run", "standalone"], environment, config.get("proxy_port"), ports[-1]


def _start(folder: Path, command: list[str], environment: dict[str, str], health: int) -> "subprocess.Popen[bytes]":
    """Start the server and wait until it says that it is well. RuntimeError, with its last words, if it never does."""
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_the_keeper,  # noqa: PLW1509 - the keeper has one thread
        )
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and server.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{health}/healthz", timeout=5) as it,
        ):
            if b"OK" in it.read():
                return server
        time.sleep(0.1)
    server.kill()
    server.wait()
    raise RuntimeError("Milvus did not start: " + (folder / "server.log").read_text(errors="replace")[-2000:])


def _keep(programs: str | None = None) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tandem-milvus-"))
    server = None
    try:
        for attempt in range(ATTEMPTS):
            command, environment, port, health = _configured(folder, programs)
            try:
                server = _start(folder, command, environment, health)
                break
            except RuntimeError:
                if attempt == ATTEMPTS - 1:
                    raise
        print(json.dumps({"port": port, "programs": str((folder / "bin").resolve())}), flush=True)
        for line in sys.stdin:
            if server is not None:
                server.kill()
                server.wait()
                server = None
            if line.strip() == "restart":
                server = _start(folder, command, environment, health)
            print(json.dumps({"done": line.strip()}), flush=True)
    except Exception as error:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"error": str(error)}), flush=True)
    finally:
        if server is not None:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _keep(*sys.argv[1:])
