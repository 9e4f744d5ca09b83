"""The processes that are compared: each a worker that was started once, asked in turn.

Every process, and the one that asks, is held to the same cores, and told of as many threads.
"""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "bench" / "peers"
ANSWER_WITHIN_S = 900.0


class PeerError(Exception):
    """A peer cannot do what it was asked, or is not installed."""


@dataclass(frozen=True)
class Side:
    """A library at a precision. `module` is its peer in bench/peers/, `environment` its virtual environment."""

    library: str
    precision: str
    module: str
    environment: str

    @property
    def name(self) -> str:
        return f"{self.library} {self.precision}"

    @property
    def is_ours(self) -> bool:
        return self.library.startswith("tandem")

    def python(self) -> Path:
        """Raises `PeerError` where the environment is not there."""
        path = ROOT / self.environment / "bin" / "python" if self.environment else Path(sys.executable)
        if not path.is_file():
            raise PeerError(f"{self.environment} is not there: `make bench` makes it")
        return path


def hold_to(threads: int) -> list[int]:
    """This process, and all that it starts, on the first so many of the cores that it may use. Gives their numbers."""
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise PeerError(f"--threads: expected 1 to {len(cores)}, the cores that this process may use, got {threads}")
    os.sched_setaffinity(0, cores[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    return cores[:threads]


def environment(ours: bool = False) -> dict[str, str]:
    """Of a peer's process: no network, no messages, compiled files kept; Tandem's own source for Tandem alone."""
    made = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "true"}
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH"):
        made.pop(name, None)
    return made | {"PYTHONPATH": str(ROOT / "src")} if ours else made


class Process:
    """A worker's process. Close it, or use it in a `with`."""

    def __init__(self, command: Sequence[str], log: Path, ours: bool = False) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment(ours)
            )
        self._rest = b""

    @classmethod
    def of(cls, side: Side, log: Path) -> "Process":
        return cls([str(side.python()), str(PEERS / "worker.py"), str(PEERS / side.module)], log, side.is_ours)

    def ask(self, do: str, /, *, within_s: float = ANSWER_WITHIN_S, **request: Any) -> dict[str, Any]:
        """The answer. Raises `PeerError` for an error, for a process that ended, and for one that takes too long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._ended()) from None
        answer: dict[str, Any] = json.loads(self._line(within_s))
        if "error" in answer:
            raise PeerError(f"{answer['error']} (log: {self._log})")
        return answer

    def _line(self, within_s: float) -> bytes:
        assert self._process.stdout is not None
        until = time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(until - time.monotonic(), 0)):
                    self._process.kill()
                    raise PeerError(f"no answer within {within_s:g} s (log: {self._log})")
                if not (content := os.read(self._process.stdout.fileno(), 65536)):
                    raise PeerError(self._ended())
                self._rest += content
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _ended(self) -> str:
        return f"the process ended with exit code {self._process.wait()} (log: {self._log})"

    def close(self) -> None:
        """Its input ends, and so does it; where it does not, it is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            try:
                self._process.stdin.close()
                self._process.wait(timeout=10)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
