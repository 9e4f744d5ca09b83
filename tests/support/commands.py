"""The command line in tests: run in this process, in one of its own, or in a terminal of a given width."""

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

from support.processes import COMMANDS, Child

COMMAND = [sys.executable, "-m", "tandem"]
_STYLE = re.compile("\x1b\\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The values of a piped table."""
        return [line.split("\t") for line in self.out.splitlines()]


Run = Callable[..., Outcome]


def one_line(outcome: Outcome, code: int = 2) -> str:
    """The one line on standard error; nothing on standard output."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("tandem: ")
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err
    return outcome.err


def run_process(*arguments: Any, stdin: bytes | None = None, **environment: str) -> Outcome:
    """The command in a process of its own, as people start it: nothing is imported before. Its output is in pipes."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        check=False,
        capture_output=True,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        env={**os.environ, **environment},
    )
    return Outcome(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def run_in_terminal(*arguments: Any, columns: int, answer: str = "", program: Sequence[str] = COMMAND) -> Outcome:
    """The command in a terminal of so many columns; `out` is all that is seen, without colours."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment = {**plain, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    given = list(map(str, arguments))
    process: Child | subprocess.Popen[bytes]
    if program is COMMAND:
        process = Child(COMMANDS, "tandem", *given, environment=environment, terminal=terminal)
    else:
        process = subprocess.Popen(
            [*program, *given], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
        )
    os.close(terminal)
    os.write(controller, answer.encode())
    seen = b""
    with process, contextlib.suppress(OSError):  # the other side is closed
        while some := os.read(controller, 65536):
            seen += some
    os.close(controller)
    return Outcome(process.wait(), _STYLE.sub("", seen.decode()).replace("\r\n", "\n"), "")


def run_with_errors_in_terminal(command: str) -> Outcome:
    """A line for bash, `TANDEM` being the command, with standard error alone in a terminal: `err` is all seen there."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", command.replace("TANDEM", shlex.join(COMMAND))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
    )
    os.close(terminal)
    assert process.stdout is not None
    out, seen = process.stdout.read(), b""
    with contextlib.suppress(OSError):  # the other side is closed
        while some := os.read(controller, 65536):
            seen += some
    os.close(controller)
    return Outcome(process.wait(), out.decode(), seen.decode())


def widest(text: str) -> int:
    """The cells of the widest line."""
    return max(map(cell_len, text.splitlines()))
