"""The command reference (docs/commands.md), from the parsers themselves. `make docs` writes it.

Written from the arguments, not from argparse's help, whose layout changes between versions of Python.
"""

import argparse

from tandem.cli.arguments import REPEATED, Parser, add_common
from tandem.cli.commands import COMMANDS, VERBS, load_command
from tandem.cli.exit_codes import MEANINGS


def markdown() -> str:
    """The whole page."""
    codes = ". ".join(f"{code}: {meaning}" for code, meaning in MEANINGS.items())
    common = Parser(prog="tandem")
    add_common(common)
    parts = [
        "# Commands",
        "<!-- Generated: make docs. A test compares it with the parser. -->",
        f"Exit codes. {codes}.",
        "`--json` prints one JSON document on standard output; progress, notes and warnings go to standard error. "
        "Piped, tables are lines separated by tabs the values: no headings, no colour, nothing cut. Options may stand "
        "anywhere behind the command.",
        "## All commands",
        _table(common),
    ]
    for name in _in_order():
        command = Parser(prog=f"tandem {name}")
        load_command(name).add_arguments(command)
        parts += [f"## tandem {name}", command.description or "", _table(command)]
        parts.append("```text\n" + _examples(command) + "\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _in_order() -> list[str]:
    """Every command, each followed by its verbs."""
    return [each for name in COMMANDS for each in (name, *(verb for verb in VERBS if verb.startswith(f"{name} ")))]


def _table(command: argparse.ArgumentParser) -> str:
    rows = [
        f"| `{_spelling(action)}` | {_meaning(action)} |"
        for action in command._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    return "\n".join(["| argument | |", "|---|---|", *rows]) if rows else ""


def _spelling(action: argparse.Action) -> str:
    value = action.metavar or (",".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = f"{{{value}}}" if action.choices and not action.metavar else str(value)
    if not action.option_strings:
        return f"{value}{'...' if action.nargs in ('*', '+') else ''}"
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {value}"


def _meaning(action: argparse.Action) -> str:
    repeated = REPEATED if isinstance(action, argparse._AppendAction) else ""
    required = " (required)" if action.required and action.option_strings else ""
    text = (action.help or "") % {**vars(action), "default": action.default}
    return f"{text.replace('|', chr(92) + '|')}{repeated}{required}"


def _examples(command: argparse.ArgumentParser) -> str:
    _, _, examples = (command.epilog or "").partition(":\n")
    return "\n".join(line.strip() for line in examples.splitlines())
