"""argparse as every command uses it: one-line errors, help as wide as the terminal, options that all commands share.

Knows no command, and imports nothing slow: `tandem COMMAND --help` would pay for it.
"""

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TypeAlias

from tandem.cli import terminal
from tandem.cli.exit_codes import NOT_DONE
from tandem.errors import TandemError, did_you_mean

Group: TypeAlias = argparse._ArgumentGroup  # argparse names no public type for what add_argument_group gives
REPEATED = " (may be repeated)"  # what is said of an option that collects its values


DASH = "\0"  # marks an argument that begins with a dash but is not an option; no argument contains it
USUAL = {"--top": ("-n", "--limit", "--number", "--count", "--max")}  # options, and their names in other programs

NUMBERS = {"int": "a whole number", "float": "a number"}  # types that argparse calls by their names in Python


class Parser(argparse.ArgumentParser):
    """Wrong usage is one line and exit code 2, like every other failure. Options are written in full."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": Help, "allow_abbrev": False, **options})
        self.missing: dict[str, str] = {}  # required options, and the error if one is missing

    def error(self, message: str) -> NoReturn:
        message = self.missing.get(message.removeprefix("the following arguments are required: "), message)
        for written, said in NUMBERS.items():
            message = re.sub(rf"invalid {written} value: (.*)", rf"expected {said}, got \1", message)
        message = re.sub(r"'([^']{60})[^']{20,}'", r"'\1…'", message)  # what was typed, which may be a page
        terminal.complain(f"{message} (see: {self.prog} --help)")
        self.exit(NOT_DONE)

    @property
    def options(self) -> list[str]:
        """Every spelling of every option: `-h`, `--help`, ..."""
        return list(self._option_string_actions)


class Help(argparse.HelpFormatter):
    """Wraps text to the terminal's width and leaves indented lines, which are examples, as they are written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=terminal.columns(sys.stdout) - 2)

    def _format_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Iterable[Any], prefix: str | None
    ) -> str:
        """Only what is required; the options are listed below it."""
        own, self._prog = self._prog, f"{self._prog} [options]"
        required = [action for action in actions if action.required or not action.option_strings]
        text = super()._format_usage(usage, required, [], prefix)
        self._prog = own
        return text

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        """A name with dots says itself that there are several."""
        named = action.metavar
        return named if isinstance(named, str) and "..." in named else super()._format_args(action, default_metavar)

    def _expand_help(self, action: argparse.Action) -> str:
        return super()._expand_help(action) + (REPEATED if isinstance(action, argparse._AppendAction) else "")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            line if line.startswith(" ") else textwrap.fill(line, width, initial_indent=indent)
            for line in text.splitlines()
        )


def describe(parser: Parser, description: str, *examples: str) -> None:
    """The full description of a command, with examples."""
    listing = "\n".join(f"  {example}" for example in examples)
    parser.description = description
    parser.epilog = f"Example{'s' if len(examples) > 1 else ''}:\n{listing}"


def add_common(parser: Parser) -> None:
    """The options that every command takes, before or after its name."""
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="no progress and no notes on standard error")
    loudness.add_argument("-v", "--verbose", action="store_true", help="also show what is loaded and how long it takes")
    parser.add_argument("--debug", action="store_true", help="show the full traceback when something fails")


def add_json(parser: Parser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def add_paths_only(parser: Parser) -> None:
    """`--paths-only` and `-0`, for `xargs` and the like."""
    parser.add_argument("--paths-only", action="store_true", help="print only paths, one per line")
    parser.add_argument(
        "-0", "--null", action="store_true", help="with --paths-only: end each path with a NUL, for xargs -0"
    )


def check_paths_only(arguments: argparse.Namespace) -> None:
    """`-0` says how paths end, and --json prints no bare paths."""
    if arguments.null and not arguments.paths_only:
        raise TandemError("-0 goes with --paths-only")
    if arguments.json and arguments.paths_only:
        raise TandemError("--json and --paths-only cannot go together")


def add_yes(parser: Parser) -> None:
    """`-y`."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")


def listed(choices: Sequence[str]) -> str:
    """`a, b or c`."""
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number


def non_negative(text: str) -> int:
    """A whole number of at least 0 that generators of random numbers take as a seed."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**32 - 1:,}, got {text[:40]!r}")
    return int(text)


def unknown_option(parser: Parser, arguments: Sequence[str]) -> str | None:
    """The first of the arguments that looks like an option but is none of the parser's."""
    for argument in arguments:
        if argument == "--":
            return None
        name = argument.split("=")[0]
        known = name in parser.options or (name[:2] in parser.options and not name.startswith("--"))  # -k5
        if re.match(r"--?[^\W\d]", name) and " " not in name and not known:
            return name
    return None


def near_option(parser: Parser, name: str) -> str:
    """A suggestion to append to the error about an unknown option."""
    usual = next((option for option, others in USUAL.items() if name in others and option in parser.options), None)
    return f"; did you mean {usual!r}?" if usual else did_you_mean(name, parser.options)


def mask_dashes(parser: Parser, arguments: Sequence[str]) -> list[str]:
    """Hide from argparse leading dashes of arguments that are not options: file names, and everything after `--`."""
    masked: list[str] = []
    for at, argument in enumerate(arguments):
        if argument == "--":
            return masked + [DASH + each if each.startswith("-") else each for each in arguments[at + 1 :]]
        a_file = len(argument) > 1 and argument not in parser.options and os.path.lexists(argument)
        masked.append(DASH + argument if argument.startswith("-") and a_file else argument)
    return masked


def unmask_dashes(arguments: argparse.Namespace) -> None:
    """Undo `mask_dashes` in parsed arguments."""
    for name, value in vars(arguments).items():
        if isinstance(value, str):
            setattr(arguments, name, value.removeprefix(DASH))
        elif isinstance(value, list):
            setattr(arguments, name, [each.removeprefix(DASH) if isinstance(each, str) else each for each in value])
