"""Where photos are put, and how they are read: what commands that index share."""

from tandem.cli.arguments import Group, Parser
from tandem.cli.options.collection import complete_collections
from tandem.defaults import ADDRESS_FORMS


def add_target(parser: Parser) -> None:
    """`--to`."""
    target = parser.add_argument(
        "--to",
        required=True,
        metavar="COLLECTION",
        dest="collection",
        help=f"{ADDRESS_FORMS}; created if it does not exist",
    )
    complete_collections(target)
    parser.missing["--to"] = "no collection to put them in: give --to photos.tandem"


def add_fast_decode(parser: Parser) -> None:
    """`--fast-decode`."""
    parser.add_argument(
        "--fast-decode",
        action="store_true",
        help="shrink large JPEGs while decoding: several times faster, with slightly different vectors",
    )


def add_caption(parser: Parser | Group) -> None:
    """`--caption`."""
    parser.add_argument(
        "--caption", metavar="KEY", help="the column or JSON key of captions; usual names are found without it"
    )
