"""The command `tandem`: reads the arguments, runs one command, turns errors into one line and an exit code.

Knows no model. A command's module is imported when that command is asked for: `tandem --help` pays for none of them.
"""

import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module

from tandem.cli.parser import COMMANDS, build_parser
from tandem.errors import TandemError

DONE, SOME_SET_ASIDE, NOT_DONE = 0, 1, 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count
PIPE_CLOSED = 141  # 128 + SIGPIPE: whoever read our output has seen enough


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` defaults to the process's arguments. Gives the exit code."""
    _make_writable()
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return NOT_DONE
    debug: bool = arguments.debug
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say_warning
            code: int = import_module(COMMANDS[arguments.command]).run(arguments)
        sys.stdout.flush()  # a closed pipe shows here, not in the interpreter's last breath
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more on its way out: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except (TandemError, OSError) as error:
        if debug:
            traceback.print_exc()
        _say(_one_line(error))
        return NOT_DONE
    return code


def _make_writable() -> None:
    """Standard output that is closed, or cannot spell every letter, is no reason to fail half-way."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def exit_code(*, done: int, set_aside: int) -> int:
    """By how many inputs were answered and how many were not."""
    if not set_aside:
        return DONE
    return SOME_SET_ASIDE if done else NOT_DONE


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def _say(line: str) -> None:
    print(f"tandem: {line}", file=sys.stderr)


def _say_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """A warning is one line for people. Those meant for programmers (deprecations of a library) are not shown."""
    if issubclass(category, UserWarning):
        _say(f"warning: {' '.join(str(message).split())}")
