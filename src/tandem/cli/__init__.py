"""The command `tandem`: reads the arguments, runs one command, turns errors into one line and an exit code.

Knows no model. A command's module is imported only when that command runs, so `tandem --help` imports none.
"""

import argparse
import io
import os
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from typing import TextIO

from tandem.cli import terminal
from tandem.cli.commands import load_command
from tandem.cli.exit_codes import INTERNAL_ERROR, INTERRUPTED, NOT_DONE, PIPE_CLOSED
from tandem.cli.parser import build_parser, parse
from tandem.errors import DamageWarning, StoreError, TandemError, TextError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` defaults to the process's arguments. Gives the exit code."""
    _make_writable()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions at the cursor
        import argcomplete

        argcomplete.autocomplete(
            build_parser(line=os.environ.get("COMP_LINE", "").split()), always_complete_options=False
        )
    arguments = parse(sys.argv[1:] if argv is None else argv)
    if arguments.command is None:
        build_parser(complete=False).print_help(sys.stderr)
        return NOT_DONE
    terminal.set_loudness(quiet=arguments.quiet, verbose=arguments.verbose)
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _Warnings().show
            warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata; what matters is an error of ours
            _log_in_lines(verbose=arguments.verbose)
            code = load_command(arguments.command).run(arguments)
        sys.stdout.flush()  # a closed pipe or a full disk shows here, not at interpreter exit
        terminal.detail(f"{time.perf_counter() - began:.2f} s in total")
    except KeyboardInterrupt:
        terminal.complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except Exception as error:
        _discard_unwritten()
        if arguments.debug:
            import traceback

            terminal.print_lines(traceback.format_exc().rstrip(), stderr=True)
        foreseen = isinstance(error, TandemError | OSError)
        terminal.complain(_one_line(error, arguments) if foreseen else _unexpected(error))
        return NOT_DONE if foreseen else INTERNAL_ERROR
    return code


def _make_writable() -> None:
    """Standard output that is closed, or cannot encode every character, must not make a command fail half-way."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _log_in_lines(*, verbose: bool) -> None:
    """Records of libraries and of Tandem's own stores on standard error, each as one line; notes only with -v."""
    import logging

    class Lines(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return terminal.line(super().format(record))

    class Handler(logging.StreamHandler[TextIO]):
        def emit(self, record: logging.LogRecord) -> None:
            with terminal.above_waiting():
                super().emit(record)

    handler = Handler()
    handler.setFormatter(Lines("tandem: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


def _discard_unwritten() -> None:
    """Python flushes standard output again at exit: discard what could not be written, so that this does not fail."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: Exception, arguments: argparse.Namespace) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, TextError):
        can_cut = str(error) != error.reason and "long" in arguments
        return f"{error.reason}, or add --long truncate or --long split" if can_cut else error.reason
    if isinstance(error, StoreError) and error.remedy == "repair":
        return f"{error.reason}; if that stays so: {_repair(error.collection)}"
    return str(error)


def _repair(collection: str) -> str:
    return f"{terminal.program()} check {shlex.quote(collection)} --repair"


def _unexpected(error: Exception) -> str:
    described = f"{type(error).__name__}: {error}".removesuffix(": ")
    return f"unexpected error: {described} (--debug shows where; please report it)"


class _Warnings:
    """The warnings of one command: each is said once, from wherever in the program it comes again."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def show(self, message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        """One line for people. Those meant for programmers (deprecations of a library) are not shown."""
        if not issubclass(category, UserWarning):
            return
        if isinstance(message, DamageWarning) and message.collection:
            message = f"{message.reason}; {_repair(message.collection)}"
        if (text := str(message)) not in self._said:
            self._said.add(text)
            terminal.complain(f"warning: {text}")
