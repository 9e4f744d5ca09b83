"""`tandem moderate`: what a written policy says of photos; `fit`, `report` and `verify-log` are its other verbs."""

import argparse

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
    FIT: ("policy", "labelled", "block_precision", "review_recall", "shows", "corrections", "table", "to"),
    REPORT: ("labelled", "shows", "table"),
    VERIFY: ("digest",),
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
        "tandem moderate fit --policy people.toml --labelled labelled --block-precision 0.95 --review-recall 0.95",
        "tandem moderate photos.tandem --policy people.toml --log decisions.jsonl --out decisions.csv",
        "tandem moderate report decisions.jsonl --labelled labelled",
        "tandem moderate verify-log decisions.jsonl --digest 4f1d...",
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
    parser.add_argument(
        "--policy",
        metavar="P",
        help="a policy in TOML, or one that ships: people, screenshots, ...; of moderating and of fit",
    )
    photos = parser.add_argument_group("moderating photos")
    photos.add_argument("--fit", metavar="F", help="the fit to use (default: the one beside the policy)")
    photos.add_argument("--no-fit", action="store_true", help="order photos only, though there is a fit")
    photos.add_argument("--log", metavar="F", help="add each decision to this log, a chain of JSON lines")
    photos.add_argument("--out", metavar="F", help="write all results to rows.csv, rows.jsonl or rows.parquet")
    photos.add_argument(
        "--fail-on",
        choices=FAIL_ON,
        metavar="BAND",
        help="exit with 3 if a photo is in this band (review, block) or worse",
    )
    add_exclude(photos)
    add_where(photos)
    fit = parser.add_argument_group("moderate fit")
    fit.add_argument(
        "--block-precision", type=float, metavar="S", help="block so that this share of it is right, such as 0.95"
    )
    fit.add_argument(
        "--review-recall",
        type=float,
        metavar="S",
        help="review so that this share of what shows it is looked at or blocked, such as 0.95",
    )
    fit.add_argument(
        "--corrections",
        metavar="DIR",
        help="further labelled photos to learn from, such as those of tandem serve --corrections; nothing is measured "
        "on them",
    )
    fit.add_argument("--to", metavar="F", help="where to write the fit (default: beside the policy)")
    data = parser.add_argument_group("labelled photos (of fit, report)")
    data.add_argument("--labelled", metavar="DATA", help="folders of classes, a table, a collection, ...")
    data.add_argument(
        "--shows",
        action="append",
        default=[],
        metavar="CATEGORY=CLASS,CLASS",
        help="the classes whose photos show a category (default: the class of the same name)",
    )
    data.add_argument("--table", metavar="F", help="of a collection: a CSV or TSV file of photos and their labels")
    data.add_argument("--split", metavar="S", help="the split, where there are several")
    data.add_argument("--layout", metavar="L", help="how they are laid out (default: recognised)")
    data.add_argument("--label", metavar="COLUMN", help="the column or key of labels")
    data.add_argument("--classes", metavar="F", help="a file with the names of the classes")
    data.add_argument("--limit", type=positive, metavar="N", help="take so many, drawn with --seed")
    data.add_argument(
        "--seed", type=non_negative, default=0, metavar="N", help="of draws, folds and resamples (%(default)s)"
    )
    verify = parser.add_argument_group("moderate verify-log")
    verify.add_argument("--digest", metavar="DIGEST", help="that of a line of the log, which was kept elsewhere")
    add_json(parser)
    add_model(parser, share="--block-precision")


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
