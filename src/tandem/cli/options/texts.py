"""The option of texts that are longer than a model's context."""

import argparse
from typing import get_args

from tandem.cli.arguments import Parser
from tandem.defaults import LongTexts


def add_long(parser: Parser | argparse._MutuallyExclusiveGroup) -> None:
    """`--long`."""
    parser.add_argument(
        "--long",
        choices=get_args(LongTexts),
        default="error",
        help="what to do with texts that are too long for the model: fail, cut them, or split them into sentences and "
        "words and average (%(default)s)",
    )
