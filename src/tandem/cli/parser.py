"""The parser of the whole command line, from the table of commands."""

import argparse
import sys
from collections.abc import Sequence

from tandem import __version__
from tandem.cli.arguments import Parser, add_common, mask_dashes, near_option, unknown_option, unmask_dashes
from tandem.cli.commands import COMMANDS, VERBS, load_command
from tandem.cli.exit_codes import MEANINGS
from tandem.errors import did_you_mean


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments; `command` is None if none is named. Leaves with `SystemExit` after --help and wrong usage.

    Only the command's own parser is built. Options may stand before, between and behind the other arguments.
    """
    at = next((i for i, argument in enumerate(argv) if not argument.startswith("-")), len(argv))
    before, name, rest = argv[:at], argv[at : at + 1], argv[at + 1 :]
    top = build_parser(complete=False)
    arguments = _parsed(top, before, argparse.Namespace(command=None))
    if not name:
        return arguments
    if name[0] == "help":
        return parse([*rest[:2], "--help"])
    if name[0] not in COMMANDS:
        top.error(f"no command {name[0]!r}{did_you_mean(name[0], COMMANDS)}")
    command = name[0]
    if " ".join((command, *rest[:1])) in VERBS:
        command, rest = f"{command} {rest[0]}", rest[1:]
    parser = Parser(prog=f"tandem {command}")
    _complete(parser, command)
    arguments.command = command
    return _parsed(parser, rest, arguments)


def build_parser(*, complete: bool = True, line: Sequence[str] = ()) -> Parser:
    """The whole command line in one parser; without the arguments of the commands if it need not be `complete`.

    line: the words that a shell completes: where they name a verb, its arguments take the place of its command's.
    """
    codes = "\n".join(f"  {code:<5}{meaning}" for code, meaning in MEANINGS.items())
    parser = Parser(
        prog="tandem",
        description="CLIP as a tool: images and texts in one vector space.",
        epilog=f"Example:\n  tandem classify cat.jpg --labels cat,dog,zebra\n\nExit codes:\n{codes}",
    )
    parser.add_argument("--version", action="version", version=f"tandem {__version__}")
    add_common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, add_help=complete)
        if complete and f"{name} {' '.join(line[2:3])}" in VERBS:
            verbs = command.add_subparsers(dest="verb", parser_class=Parser)
            for verb in (each for each in VERBS if each.startswith(f"{name} ")):
                _complete(verbs.add_parser(verb.removeprefix(f"{name} ")), verb)
        elif complete:
            _complete(command, name)
    return parser


def _complete(parser: Parser, name: str) -> None:
    load_command(name).add_arguments(parser)
    add_common(parser)


def _parsed(parser: Parser, argv: Sequence[str], arguments: argparse.Namespace) -> argparse.Namespace:
    """`argv` read into `arguments`; misspelled options are reported before missing ones."""
    argv = mask_dashes(parser, argv)
    wrong = unknown_option(parser, argv)
    if wrong is not None:
        parser.error(f"no option {wrong}{near_option(parser, wrong)}")
    if any(argument in ("-h", "--help") for argument in argv):
        parser.print_help(sys.stdout)
        parser.exit()
    # argparse takes no negative number as a value where an option looks like one, as -0 does.
    parser._has_negative_number_optionals.clear()
    read = parser.parse_args if parser.prog == "tandem" else parser.parse_intermixed_args
    read(argv, arguments)
    unmask_dashes(arguments)
    return arguments
