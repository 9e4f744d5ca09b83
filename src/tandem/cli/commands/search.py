"""`tandem search`: a text or an image -> the photos of a collection that are nearest, and what that means."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, add_paths_only, check_paths_only, describe, positive
from tandem.cli.exit_codes import DONE
from tandem.cli.inputs import read_image
from tandem.cli.options.collection import add_collection, add_where, explain_empty, open_collection
from tandem.cli.options.model import add_model, describe_model
from tandem.cli.options.texts import add_long
from tandem.cli.tables import Cell, Column, print_table, tab_separated
from tandem.defaults import HITS, MOMENTS, TEXT_WEIGHT
from tandem.errors import TandemError
from tandem.files import user_path
from tandem.videos.naming import file_of, shown

if TYPE_CHECKING:
    from tandem.search.results import Results, SearchHit

BAR_WIDTH = 12
COLUMNS = (
    Column("#", right=True),
    Column("relevance", right=True),
    Column("", for_people=True, drop=2),
    Column("cosine", right=True, drop=1),
    Column("photo", least=16, keep_end=True),
)


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Show the photos of a collection that are nearest to a text, to a photo, or to both. Says so if nothing "
        "matches well, where the model's calibration can tell. When piped, each line is rank, cosine and path "
        "(--relevance: rank, relevance, cosine and path), separated by tabs, and a last value 'missing' where the file "
        "is gone. The path of a moment of a film ends in #t= and its seconds; --paths-only gives the film.",
        "tandem search photos.tandem a black cat sleeping on a red sofa",
        "tandem search photos.tandem --image sofa.jpg --where \"width > 1000 and taken >= '2023'\" --plot sheet.png",
        'tandem search photos.tandem a street --image beach.jpg --weight 0.3 --minus "people"',
        "tandem search photos.tandem receipt --top 100 --paths-only -0 | xargs -0 cp -t receipts",
    )
    add_collection(parser)
    parser.add_argument("text", nargs="*", metavar="TEXT", help="what to look for; quotes are not needed")
    parser.add_argument("--image", metavar="PHOTO", help="look for what resembles this photo (- for standard input)")
    parser.add_argument("--like", metavar="ID", help="look for what resembles this photo of the collection")
    parser.add_argument(
        "--weight",
        type=float,
        metavar="W",
        help=f"weight of the text beside --image or --like, 0..1 ({TEXT_WEIGHT})",
    )
    parser.add_argument("--minus", metavar="TEXT", help="less of what this text describes")
    parser.add_argument("--minus-image", metavar="PHOTO", help="less of what this photo shows")
    parser.add_argument("-k", "--top", type=positive, default=HITS, metavar="K", help="number of hits (%(default)s)")
    parser.add_argument("--page", type=positive, default=1, metavar="N", help="page number (%(default)s)")
    parser.add_argument(
        "--moments",
        type=int,
        default=MOMENTS,
        metavar="N",
        help="of one film, show this many moments before everything else (%(default)s); 0 for all by cosine",
    )
    add_where(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="relevance below which nothing matches well (default: the calibration's own); "
        "0 never reports that nothing matches",
    )
    add_long(parser)
    parser.add_argument(
        "--relevance",
        action="store_true",
        help="show how likely each photo is to match, or why that cannot be told; --json has it anyway",
    )
    parser.add_argument("--plot", metavar="PNG", help="draw a contact sheet of the hits")
    add_paths_only(parser)
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    check_paths_only(arguments)
    text = " ".join(arguments.text) or None
    if text is None and arguments.image is None and arguments.like is None:
        raise TandemError("no query: give a text, as in: tandem search photos.tandem a cat, or --image PHOTO")
    if arguments.weight is not None and (text is None or (arguments.image is None and arguments.like is None)):
        raise TandemError("--weight is the share of the text beside an image: give a text, and --image or --like")
    if arguments.plot:
        from tandem import plots

        plots.check_target(user_path(arguments.plot))
        plots.check_installed()
    with open_collection(arguments) as photos:
        with progress.waiting("searching"):
            results = photos.search(
                text,
                image=read_image(arguments.image),
                like=arguments.like,
                minus=arguments.minus,
                minus_image=read_image(arguments.minus_image),
                weight=TEXT_WEIGHT if arguments.weight is None else arguments.weight,
                k=arguments.top,
                offset=(arguments.page - 1) * arguments.top,
                moments=arguments.moments,
                where=arguments.where,
                threshold=arguments.threshold,
                long=arguments.long,
            )
        describe_model(photos.model)
        if arguments.json:
            terminal.print_json(results.as_dict())
        elif arguments.paths_only:
            files = dict.fromkeys(file_of(hit.path) for hit in results.hits if not hit.missing)
            terminal.print_paths(list(files), null=arguments.null)
        else:
            show(results, relevance=arguments.relevance)
        sys.stdout.flush()
        if arguments.paths_only and (gone := sum(hit.missing for hit in results.hits)):
            terminal.echo(f"left out {terminal.count_of(gone, 'hit')} whose files are gone")
        if not results.hits:
            explain_empty(photos, arguments.where, page=arguments.page, top=arguments.top)
        elif results.nothing_matches:
            best = f": the best hit is {percent(results.best)} likely to match, below {percent(results.threshold)}"
            terminal.echo(f"nothing matches well{best if arguments.relevance else '; these are the nearest photos'}")
        if results.hits and results.relevance_reason and (arguments.relevance or arguments.threshold is not None):
            terminal.echo(f"no relevance: {results.relevance_reason}")
        if arguments.plot and results.hits:
            terminal.echo(f"drew {results.plot(arguments.plot, relevance=arguments.relevance)}")
    return DONE


def show(results: "Results", *, relevance: bool) -> None:
    """One line a hit: rank, relevance if asked for, cosine, where it is. Piped, the option alone decides on columns."""
    piped = not sys.stdout.isatty()
    judged = relevance and (piped or any(hit.relevance is not None for hit in results.hits))
    columns = [column for column in COLUMNS if judged or column.heading not in ("relevance", "")]
    rows = []
    for rank, hit in enumerate(results.hits, results.offset + 1):
        cells = cells_of(hit, rank, results.threshold)
        rows.append([cell for cell, column in zip(cells, COLUMNS, strict=True) if column in columns])
    if not piped:
        print_table(columns, rows)
        return
    for row, hit in zip(rows, results.hits, strict=True):  # of a missing file, "missing" is a last value
        terminal.print_lines(tab_separated(columns, row) + ("\tmissing" if hit.missing else ""))


def cells_of(hit: "SearchHit", rank: int, threshold: float | None) -> tuple[Cell, ...]:
    """A hit's line: a cell for each of `COLUMNS`."""
    weak = hit.relevance is not None and threshold is not None and hit.relevance < threshold
    return (
        Cell(str(rank)),
        Cell(percent(hit.relevance), plain="" if hit.relevance is None else f"{hit.relevance:.4f}"),
        Cell(terminal.bar(hit.relevance or 0, BAR_WIDTH), style=terminal.QUIET if weak else terminal.ACCENT),
        Cell(f"{hit.score:.3f}", plain=f"{hit.score:.6f}"),
        Cell(shown(shortest(hit.path)) + (" (missing)" if hit.missing else ""), plain=hit.path),
    )


def percent(probability: float | None) -> str:
    """A probability for people; below 10% with one decimal, since there 1% and 2% are far apart."""
    if probability is None:
        return "-"
    return f"{probability:.1%}" if round(probability, 3) < 0.1 else f"{probability:.0%}"


def shortest(path: str) -> str:
    """A path as it is, or from here if that is shorter."""
    return min(path, os.path.relpath(path), key=len) if os.path.isabs(path) else path
