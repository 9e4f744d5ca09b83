"""The command reference (docs/commands.md), from the parser itself. `make docs` writes it.

Written from the arguments, not from argparse's help, whose layout changes between versions of Python.
"""

import argparse

from tandem.cli.parser import build_parser


def markdown() -> str:
    """The whole page."""
    parser = build_parser()
    parts = [
        "# Commands",
        "<!-- Generated: make docs. A test compares it with the parser. -->",
        "Exit code 0: done. 1: done, but some inputs were set aside (they are listed). 2: not done, one line says why. "
        "`--json` prints one JSON document on standard output; progress and warnings go to standard error.",
    ]
    for name, command in _commands(parser).items():
        parts += [f"## tandem {name}", command.description or "", _table(command)]
        parts.append("```text\n" + _examples(command) + "\n```")
    return "\n\n".join(parts) + "\n"


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(subparsers.choices)


def _table(command: argparse.ArgumentParser) -> str:
    rows = ["| argument | |", "|---|---|"]
    for action in command._actions:
        if not isinstance(action, argparse._HelpAction):
            rows.append(f"| `{_spelling(action)}` | {_meaning(action)} |")
    return "\n".join(rows)


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"{action.metavar or action.dest}{'...' if action.nargs in ('*', '+') else ''}"
    name = action.option_strings[-1]
    if action.nargs == 0:
        return name
    value = action.metavar or (",".join(map(str, action.choices)) if action.choices else action.dest.upper())
    return f"{name} {{{value}}}" if action.choices and not action.metavar else f"{name} {value}"


def _meaning(action: argparse.Action) -> str:
    repeated = " (may be repeated)" if isinstance(action, argparse._AppendAction) else ""
    required = " (required)" if action.required and action.option_strings else ""
    return f"{(action.help or '').replace('%%', '%').replace('|', chr(92) + '|')}{repeated}{required}"


def _examples(command: argparse.ArgumentParser) -> str:
    _, _, examples = (command.epilog or "").partition(":\n")
    return "\n".join(line.strip() for line in examples.splitlines())
