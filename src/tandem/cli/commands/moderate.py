"""`tandem moderate`: what a written policy says of photos; `fit`, `report` and `verify-log` are its other verbs."""

import argparse
import re

from tandem.cli.arguments import Parser, add_json, describe, non_negative, positive
from tandem.cli.options.collection import add_where
from tandem.cli.options.images import add_exclude
from tandem.cli.options.model import add_model
from tandem.errors import TandemError

FIT, REPORT, VERIFY = VERBS = ("fit", "report", "verify-log")
FAIL_ON = ("review", "block")

# The options of each verb beside those of every command; "" is moderating.
_OWN = {
    "": ("policy", "fit", "no_fit", "log", "out", "fail_on", "exclude", "where"),
    FIT: ("policy", "labelled", "block_precision", "allow_recall", "shows", "corrections", "table", "to"),
    REPORT: ("labelled", "shows", "table"),
    VERIFY: ("head",),
}
_DATA = ("split", "layout", "label", "classes", "limit")  # of --labelled


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Say of each photo what a written policy asks: allow, review or block, with a probability at the policy's base "
        "rate, and the texts and examples that decided it. Without a fit photos are only ordered. Nothing is deleted, "
        "moved or changed. `moderate fit` sets the bands from labelled photos, `moderate report` sums up a log, and "
        "`moderate verify-log` checks it. When piped, each line is photo, band, category, probability and score.",
        "tandem moderate ~/Pictures --policy people",
        "tandem moderate fit --policy people.toml --labelled labelled --block-precision 0.95 --allow-recall 0.95",
        "tandem moderate photos.tandem --policy people.toml --log decisions.jsonl --out decisions.csv",
        "tandem moderate report decisions.jsonl --labelled labelled",
        "tandem moderate verify-log decisions.jsonl --head 4f1d...",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a file, a folder (searched through; write ./fit for one that is called as a verb), a glob in quotes, an "
        "http(s) URL, - for standard input, or a collection, whose photos are not read again; or fit, report LOG, "
        "verify-log LOG",
    )
    parser.missing["SOURCE"] = "nothing to moderate: name photos, folders or a collection, or fit, report, verify-log"
    parser.add_argument("--policy", metavar="P", help="a policy in TOML, or one that ships: people, screenshots, ...")
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
    fit = parser.add_argument_group("fit, report")
    fit.add_argument(
        "--labelled", metavar="DATA", help="labelled photos: folders of classes, a table, a collection, ..."
    )
    fit.add_argument(
        "--shows",
        action="append",
        default=[],
        metavar="CATEGORY=CLASS,CLASS",
        help="the classes whose photos show a category (default: the class of the same name)",
    )
    fit.add_argument(
        "--block-precision", type=float, metavar="S", help="block so that this share of it is right, such as 0.95"
    )
    fit.add_argument(
        "--allow-recall",
        type=float,
        metavar="S",
        help="allow so that this share of what shows it is not allowed, such as 0.95",
    )
    fit.add_argument(
        "--corrections",
        metavar="DIR",
        help="further labelled photos to learn from, such as those of tandem serve --corrections; nothing is measured "
        "on them",
    )
    fit.add_argument("--to", metavar="F", help="where to write the fit (default: beside the policy)")
    fit.add_argument("--table", metavar="F", help="of a collection: a CSV or TSV file of photos and their labels")
    data = fit.add_argument
    data("--split", metavar="S", help="of labelled photos: the split, where there are several")
    data("--layout", metavar="L", help="of labelled photos: how they are laid out (default: recognised)")
    data("--label", metavar="COLUMN", help="of labelled photos: the column or key of labels")
    data("--classes", metavar="F", help="of labelled photos: a file with the names of the classes")
    data("--limit", type=positive, metavar="N", help="of labelled photos: take so many, drawn with --seed")
    data("--seed", type=non_negative, default=0, metavar="N", help="of draws, folds and resamples (%(default)s)")
    verify = parser.add_argument_group("verify-log")
    verify.add_argument("--head", metavar="DIGEST", help="the digest of a line of the log that was kept elsewhere")
    add_json(parser)
    add_model(parser)
    parser._option_string_actions["--precision"].type = _precision_of_model


def _precision_of_model(text: str) -> str:
    """The model's --precision is a type of numbers; a share is meant for what is blocked."""
    if re.fullmatch(r"0?\.\d+", text):
        advice = f"of what is blocked say --block-precision {text}"
        raise argparse.ArgumentTypeError(f"that is how the model computes; {advice}")
    return text


def run(arguments: argparse.Namespace) -> int:
    from tandem.cli import moderating

    verb = arguments.sources[0] if arguments.sources[0] in VERBS else ""
    rest = arguments.sources[1:] if verb else arguments.sources
    _check(arguments, verb, rest)
    runs = {FIT: moderating.fit, REPORT: moderating.report, VERIFY: moderating.verify}
    if verb:
        return runs[verb](arguments, rest[0] if rest else "")
    return moderating.moderate(arguments)


def _check(arguments: argparse.Namespace, verb: str, rest: list[str]) -> None:
    """Refuse options of other verbs, by name, and what a verb lacks."""
    what = f"tandem moderate {verb}".rstrip()
    own = _OWN[verb] + (_DATA if arguments.labelled is not None and verb in (FIT, REPORT) else ())
    for name in {each for names in (*_OWN.values(), _DATA) for each in names} - set(own):
        if getattr(arguments, name) not in (None, False, []):
            owners = [f"moderate {each}".strip() for each, names in _OWN.items() if name in names]
            goes = f"goes with {' and '.join(owners)}" if owners else "goes with --labelled"
            raise TandemError(f"--{name.replace('_', '-')} {goes}, not with {what}")
    if verb in ("", FIT) and arguments.policy is None:
        raise TandemError("no policy: name one with --policy, a file in TOML or one that ships (people)")
    if verb == FIT and arguments.labelled is None:
        raise TandemError(
            "no labelled photos: name them with --labelled, such as a folder with a folder for each class"
        )
    if verb == FIT and rest:
        raise TandemError(
            f"moderate fit takes its photos from --labelled, got {rest[0]!r}; for a folder called fit say ./fit"
        )
    if verb in (REPORT, VERIFY) and len(rest) != 1:
        raise TandemError(f"moderate {verb} takes one log, got {len(rest)}")
    if verb == "" and arguments.no_fit and arguments.fit:
        raise TandemError("--fit and --no-fit cannot go together")
