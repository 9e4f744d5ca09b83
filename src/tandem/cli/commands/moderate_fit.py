"""`tandem moderate fit`: labelled photos -> where the bands of a policy begin, and what that is worth."""

import argparse

from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.commands.moderate import NO_POLICY
from tandem.cli.options.labelled import add_labelled
from tandem.cli.options.model import add_model
from tandem.defaults import POLICIES


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Set the bands of a policy from labelled photos, for a wanted precision or recall that holds on new photos "
        "with 95% confidence, and say what was measured on photos that were left out. Too few photos are refused, with "
        "how many it takes.",
        "tandem moderate fit --policy people.toml --labelled labelled --block-precision 0.95 --review-recall 0.95",
        "tandem moderate fit --policy dogs.toml --labelled labelled --shows dogs=puppy,hound",
        "tandem moderate fit --policy dogs.toml --labelled photos.tandem --table labels.csv --to dogs.fit.json",
    )
    parser.add_argument(
        "--policy", metavar="P", required=True, help=f"a policy in TOML, or one that ships: {', '.join(POLICIES)}"
    )
    parser.missing["--policy"] = parser.missing["--policy, --labelled"] = NO_POLICY
    parser.missing["--labelled"] = (
        "no labelled photos: name them with --labelled, such as a folder with a folder for each class"
    )
    parser.add_argument(
        "--block-precision", type=float, metavar="S", help="block so that this share of it is right, such as 0.95"
    )
    parser.add_argument(
        "--review-recall",
        type=float,
        metavar="S",
        help="review so that this share of what shows it is looked at or blocked, such as 0.95",
    )
    parser.add_argument(
        "--corrections",
        metavar="DIR",
        help="further labelled photos to learn from, such as those of tandem serve --corrections; nothing is measured "
        "on them",
    )
    parser.add_argument("--to", metavar="F", help="where to write the fit (default: beside the policy)")
    add_labelled(parser, required=True)
    add_json(parser)
    add_model(parser, share="--block-precision")


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import moderating

    return moderating.fit(arguments)
