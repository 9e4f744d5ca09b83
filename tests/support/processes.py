"""Processes for tests that signal or kill them: forks of one that has imported what takes seconds.

They are what `python -c CODE` and `python -m MODULE` would be, to their exit codes and what runs at exit, but for the
imports. (Those of `multiprocessing` end another way: without what runs at exit.)
"""

import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from types import TracebackType
from typing import Self, TextIO

TRAINING = ("tandem.train.run.loop", "torch._dynamo", "support.run_toys")
# What LanceDB imports; itself it starts a thread, which a fork would not have.
LANCE = ("numpy", "pandas", "pyarrow.dataset", "pydantic", "lance_namespace", "tandem.search.stores.protocol")
EMBEDDED = ("tandem.search.stores.embedded.backend", "tandem.search.stores.embedded.vector_index", "faiss")
# What the commands need that people wait for, and a server; nothing that reads the environment when it is imported.
COMMANDS = (
    "tandem.cli",
    "tandem.cli.commands.classify",
    "tandem.cli.commands.index",
    "tandem.cli.commands.label",
    "tandem.cli.commands.remove",
    "tandem.cli.commands.search",
    "tandem.engine.graph",
    "tandem.engine.openvino",
    "tandem.openvino_import",
    "tandem.search.collection",
    "tandem.search.stores.embedded.backend",
    "tandem.search.stores.embedded.vector_index",
    "rich.table",
)
SERVING = (*COMMANDS, "tandem.serve.app", "tandem.serve.run", "tandem.serve.service", "prometheus_client", "uvicorn")

# What the blocks of the documents import; not huggingface_hub, which reads where its files are when it is imported.
DOCUMENTS = (*COMMANDS, "torch", "matplotlib.pyplot", "sklearn.linear_model", "pyarrow.parquet", "pandas")


class Child:
    """A process with its standard output and its standard error as files, and the methods of `subprocess.Popen`."""

    def __init__(
        self,
        imported: tuple[str, ...],
        code: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        terminal: int | None = None,
    ) -> None:
        """Run `code`, or the module whose name it is, with these arguments.

        `environment` and `cwd` are those of this process unless they are given. With a `terminal`, a file descriptor,
        all three standard files are that terminal, and those of this object are empty; without one it reads nothing.
        """
        self._server = _server(imported)
        self.returncode: int | None = None
        (out, out_end), (error, error_end) = os.pipe(), os.pipe()
        given = os.environ if environment is None else environment
        request = {
            "code": code,
            "arguments": arguments,
            "environment": dict(given),
            "cwd": os.fspath(cwd or os.getcwd()),
        }
        with open(os.devnull) as nothing:
            files = [nothing.fileno(), out_end, error_end] if terminal is None else [terminal] * 3
            socket.send_fds(self._server, [json.dumps(request).encode()], files)
        os.close(out_end)
        os.close(error_end)
        self.pid = int(self._server.recv(100))
        self.stdout: TextIO = os.fdopen(out, encoding="utf-8")
        self.stderr: TextIO = os.fdopen(error, encoding="utf-8")

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """As `Popen.poll`: the exit code, or less than 0 for the signal that ended it; None while it runs."""
        if self.returncode is None:
            self._server.send(json.dumps({"wait": self.pid}).encode())
            self.returncode = json.loads(self._server.recv(100))
        return self.returncode

    def wait(self, timeout_s: float = 60) -> int:
        """The exit code once it has ended."""
        end = time.monotonic() + timeout_s
        while (code := self.poll()) is None:
            assert time.monotonic() < end, f"process {self.pid} still runs after {timeout_s} s"
            time.sleep(0.005)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.returncode is None and kind is not None:
            self.send_signal(signal.SIGKILL)
        self.stdout.close()
        self.stderr.close()
        self.wait()


def unused_port() -> int:
    """A port for a server that does not choose its own. Not of those that the system gives to whoever asks for any."""
    while True:
        with socket.socket() as tried, suppress(OSError):
            port = random.SystemRandom().randrange(20_000, 32_000)
            tried.bind(("127.0.0.1", port))
            return port


@cache
def _server(imported: tuple[str, ...]) -> socket.socket:
    """The connection to a process that has imported these modules. It ends with this one."""
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "support.processes", str(other.fileno()), *imported]
    subprocess.Popen(
        command, pass_fds=[other.fileno()], env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    )
    other.close()
    return mine


def _serve(connection: socket.socket) -> tuple[str, list[str]]:
    """Fork for each request. Returns in the children only: code and arguments."""
    while True:
        request, files, _, _ = socket.recv_fds(connection, 2**20, 3)
        if not request:
            os._exit(0)
        asked = json.loads(request)
        if "wait" in asked:
            ended, status = os.waitpid(asked["wait"], os.WNOHANG)
            connection.send(json.dumps(os.waitstatus_to_exitcode(status) if ended else None).encode())
            continue
        child = os.fork()
        if not child:
            connection.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            os.environ.clear()
            os.environ.update(asked["environment"])
            os.chdir(asked["cwd"])
            sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
            return asked["code"], asked["arguments"]
        for file in files:
            os.close(file)
        connection.send(str(child).encode())


if __name__ == "__main__":
    for name in sys.argv[2:]:
        import_module(name)
    code, arguments = _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv = ["-c", *arguments]
    if code.isidentifier():
        runpy.run_module(code, run_name="__main__", alter_sys=True)
    else:
        exec(compile(code, "<child>", "exec"), {"__name__": "__main__"})
