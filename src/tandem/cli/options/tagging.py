"""The options that write labels beside photos: keywords in XMP sidecars, and albums."""

import argparse

from tandem.cli.arguments import Parser
from tandem.errors import TandemError

ABOVE = 0.8  # `search.tagging.deciding.ABOVE`, which a test compares: reading it would import numpy for --help
_ONLY_WITH = ("dry_run", "withdraw", "sidecar_name", "links", "above")


def add_tagging(parser: Parser) -> None:
    """`--write-xmp`, `--albums` and what goes with them."""
    group = parser.add_argument_group("keywords and albums")
    group.add_argument(
        "--write-xmp",
        action="store_true",
        help="write the labels that hold as keywords into XMP sidecars beside the photos; all else in them stays",
    )
    group.add_argument("--albums", metavar="DIR", help="make a folder of links to its photos for each label")
    group.add_argument(
        "--above", type=float, metavar="P", help=f"the probability from which a label holds, 0.5 to 1 ({ABOVE})"
    )
    group.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    group.add_argument(
        "--withdraw",
        action="store_true",
        help="with --write-xmp: take back all keywords that were written before and do not hold, also of labels that "
        "are not asked about now",
    )
    group.add_argument(
        "--sidecar-name",
        choices=("full", "stem"),
        help="of new sidecars: full is photo.jpg.xmp (darktable, digiKam), stem is photo.xmp (Adobe); one that is "
        "there is edited (full)",
    )
    group.add_argument(
        "--links",
        choices=("auto", "symbolic", "hard", "list"),
        help="of --albums: auto takes symbolic links, else hard links, else lists of paths (auto)",
    )


def is_tagging(arguments: argparse.Namespace) -> bool:
    """Whether labels are to be written beside the photos."""
    return bool(arguments.write_xmp or arguments.albums)


def check_tagging(arguments: argparse.Namespace) -> None:
    """Refuse options that do nothing."""
    if not is_tagging(arguments):
        for name in _ONLY_WITH:
            if getattr(arguments, name) not in (None, False):
                raise TandemError(f"--{name.replace('_', '-')} goes with --write-xmp or --albums DIR")
        return
    for name, given in {
        "--by image": arguments.by == "image",
        "--top": arguments.top is not None,
        "--out": arguments.out is not None,
        "--paths-only": arguments.paths_only,
    }.items():
        if given:
            raise TandemError(f"{name} lists labels: it does not go with --write-xmp and --albums")
    if not arguments.write_xmp and (arguments.withdraw or arguments.sidecar_name):
        option = "--withdraw" if arguments.withdraw else "--sidecar-name"
        raise TandemError(f"{option} goes with --write-xmp")
    if arguments.links and not arguments.albums:
        raise TandemError("--links goes with --albums DIR")
    if arguments.above is not None and not 0.5 <= arguments.above <= 1:
        raise TandemError(f"--above: expected a probability from 0.5 to 1, got {arguments.above:g}")
