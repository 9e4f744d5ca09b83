"""`tandem moderate verify-log`: whether a log of decisions is as it was written."""

import argparse

from tandem.cli.arguments import Parser, add_json, describe


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Verify the chain of a log: which line was changed, removed or inserted, whether its end was cut off and, "
        "given a digest that was kept elsewhere, whether it was rewritten.",
        "tandem moderate verify-log decisions.jsonl",
        "tandem moderate verify-log decisions.jsonl --digest 4f1d...",
    )
    parser.add_argument("log", metavar="LOG", help="a log that tandem moderate --log wrote")
    parser.missing["LOG"] = "no log: name the file that tandem moderate --log wrote"
    parser.add_argument("--digest", metavar="DIGEST", help="the digest of a line of the log, kept elsewhere")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import moderating

    return moderating.verify(arguments)
