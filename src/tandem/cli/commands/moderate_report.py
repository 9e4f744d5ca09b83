"""`tandem moderate report`: what a log of decisions says in sum, and with labels how often it was right."""

import argparse

from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.options.labelled import add_labelled, check_labelled


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Sum up the last decision on each photo of a log: how many are in each band, and with labelled photos how "
        "often the bands were right, hard negatives first. Photos that a fit used are counted, and left out "
        "of the figures. The chain of the log is checked first.",
        "tandem moderate report decisions.jsonl",
        "tandem moderate report decisions.jsonl --labelled labelled --json",
    )
    parser.add_argument("log", metavar="LOG", help="a log that tandem moderate --log wrote")
    parser.missing["LOG"] = "no log: name the file that tandem moderate --log wrote"
    add_labelled(parser, required=False)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import moderating

    check_labelled(arguments)
    return moderating.report(arguments)
