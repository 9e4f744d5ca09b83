"""`tandem moderate`: what a written policy says of photos. Its verbs have modules of their own."""

import argparse

from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.commands import VERBS
from tandem.cli.options.collection import add_where
from tandem.cli.options.images import add_exclude
from tandem.cli.options.model import add_model
from tandem.defaults import POLICIES
from tandem.errors import TandemError, did_you_mean
from tandem.files import user_path

FAIL_ON = ("review", "block")
NO_POLICY = f"no policy: name one with --policy, a file in TOML or one that ships ({', '.join(POLICIES)})"


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Apply a written policy to each photo: allow, review or block, with a probability at the policy's base "
        "rate, and the texts and examples that decided it. Without a fit photos are only ordered. Nothing is deleted, "
        "moved or changed. Other verbs, each with its own --help: `moderate fit` sets the bands from labelled photos, "
        "`moderate report` sums up a log, `moderate verify-log` checks it. In a terminal the most severe come first; "
        "when piped, photos come in their own order, and each line is photo, band, category, probability and score.",
        "tandem moderate ~/Pictures --policy people",
        "tandem moderate photos.tandem --policy people.toml --log decisions.jsonl --out decisions.csv",
        "tandem moderate fit --policy people.toml --labelled labelled --block-precision 0.95 --review-recall 0.95",
        "tandem moderate report decisions.jsonl --labelled labelled",
        "tandem moderate verify-log decisions.jsonl --digest 4f1d...",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a file, a folder (searched through; write ./fit for one that is called as a verb), a glob in quotes, an "
        "http(s) URL, - for standard input, or a collection, whose photos are not read again",
    )
    parser.missing["SOURCE"] = "nothing to moderate: name photos, folders or a collection, or fit, report, verify-log"
    parser.add_argument(
        "--policy", metavar="P", help=f"a policy in TOML, or one that ships: {', '.join(POLICIES)} (required)"
    )
    parser.add_argument("--fit", metavar="F", help="the fit to use (default: the one beside the policy)")
    parser.add_argument("--no-fit", action="store_true", help="order photos only, though there is a fit")
    parser.add_argument("--log", metavar="F", help="add each decision to this log, a chain of JSON lines")
    parser.add_argument("--out", metavar="F", help="write all results to rows.csv, rows.jsonl or rows.parquet")
    parser.add_argument(
        "--fail-on",
        choices=FAIL_ON,
        metavar="BAND",
        help="exit with 3 if a photo is in this band (review, block) or worse",
    )
    add_exclude(parser)
    add_where(parser)
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import moderating

    verb = f"moderate {arguments.sources[0]}"
    if verb in VERBS:  # options stand before it
        raise TandemError(f"{arguments.sources[0]}: put the verb first: tandem {verb} ...; for a folder say ./")
    first = arguments.sources[0]
    if not user_path(first, strict=False).exists():
        verbs = [each.removeprefix("moderate ") for each in VERBS if each.startswith("moderate ")]
        if near := did_you_mean(first, verbs):
            raise TandemError(f"{first}: there is no such file or folder, and no such verb{near}")
    if arguments.policy is None:  # argparse would ask for it before it asks for photos
        raise TandemError(NO_POLICY)
    if arguments.no_fit and arguments.fit:
        raise TandemError("--fit and --no-fit cannot go together")
    return moderating.moderate(arguments)
