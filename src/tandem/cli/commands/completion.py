"""`tandem completion`: what a shell reads to complete commands, options and files with the Tab key."""

import argparse

from tandem.cli import terminal
from tandem.cli.arguments import Parser, describe
from tandem.cli.exit_codes import DONE

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Print a script that makes the shell complete tandem's commands, options and files. Add to ~/.bashrc or "
        '~/.zshrc: eval "$(tandem completion bash)", with the name of your shell.',
        'eval "$(tandem completion bash)"',
        "tandem completion fish > ~/.config/fish/completions/tandem.fish",
    )
    parser.add_argument("shell", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")


def run(arguments: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    terminal.print_lines(shellcode(["tandem"], shell=arguments.shell))
    return DONE
