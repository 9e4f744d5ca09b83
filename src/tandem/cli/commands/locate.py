"""`tandem locate`: where in each photo some words are, and whether they are there."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import exit_code
from tandem.cli.inputs import ImageOnStandardInput
from tandem.cli.options.images import add_exclude, find_images
from tandem.cli.options.model import add_model, load_model
from tandem.cli.tables import Cell, Column, row_printer
from tandem.cli.targets import check_no_input
from tandem.cli.words import photos_and_words, texts_of
from tandem.errors import ImageError
from tandem.files import user_path
from tandem.localization.methods import METHODS

if TYPE_CHECKING:
    from tandem.image import ImageSource
    from tandem.localization.location import Location, Locations

COLUMNS = (
    Column("photo", least=8, keep_end=True, drop=1),
    Column("text", least=8),
    Column("found"),
    Column("probability", right=True),
    Column("score", right=True, drop=3),
    Column("x", right=True),
    Column("y", right=True),
    Column("box", drop=2),
)
WIDTHS = (36, 24, 9, 11, 6, 5, 5, 21)


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Show where in each photo some words are: a box, a point, and a heat map over the photo (--plot); or that they "
        "are not there. Several texts compete for each place. Photos come first, then the texts. Coordinates are "
        "pixels of the upright photo, from its top left corner. When piped, values are separated by tabs.",
        'tandem locate kitchen.jpg "a red cup"',
        'tandem locate street.jpg "a car" "a bicycle" --plot street-found.png',
        'tandem locate ~/Pictures "a dog" --json > dogs.json',
    )
    parser.add_argument(
        "arguments",
        nargs="+",
        metavar="PHOTO... TEXT",
        help="files, folders (searched through), globs in quotes, http(s) URLs, or - for standard input; then the "
        "words to find, each text in quotes, which one alone does not need",
    )
    parser.add_argument(
        "--text", action="append", default=[], metavar="T", help="words to find; then all other arguments are photos"
    )
    add_exclude(parser)
    parser.add_argument("--plot", metavar="PNG", help="draw the heat over the photo; a file for each of several")
    parser.add_argument(
        "--method",
        choices=METHODS,
        metavar="WAY",
        help="; ".join(f"{name}: {what}" for name, what in METHODS.items())
        + " (default: what was measured to be best for the model, or its architecture's)",
    )
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    photos, texts = separated(arguments.arguments, arguments.text)
    if arguments.plot:
        from tandem import plots

        plots.check_target(user_path(arguments.plot))
        plots.check_installed()
    found = find_images(photos, arguments.exclude)
    if arguments.plot:
        for index in range(len(found.images)):
            check_no_input(plot_path(user_path(arguments.plot), index, len(found.images)), found.images)
    model = load_model(arguments)
    skipped = list(found.skipped)
    located: list[Locations] = []
    drawn = 0
    show = None if arguments.json else row_printer(COLUMNS, WIDTHS)
    headed = not sys.stdout.isatty()
    with progress.counting("locating", len(found.images), wanted=show is None or not progress.beside_rows()) as advance:
        for image in found.images:
            try:
                each = model.locate(kept(image, arguments.plot), texts, method=arguments.method)
            except ImageError as error:
                skipped.append(error)
                advance(1)
                continue
            if arguments.json:
                located.append(each)
            if show is not None:
                if not headed:
                    show([Cell(column.heading, style=terminal.QUIET) for column in COLUMNS])
                    headed = True
                for location in each:
                    show(row(each, location))
            if arguments.plot:
                each.plot(plot_path(user_path(arguments.plot), drawn, len(found.images)))
            drawn += 1
            advance(1)
    if arguments.json:
        terminal.print_json(
            {
                "model": {"name": model.name, "fingerprint": model.fingerprint},
                "texts": texts,
                "results": [each.as_dict() for each in located],
                "failures": [error.as_dict() for error in skipped],
            }
        )
    sys.stdout.flush()
    if arguments.plot and drawn:
        first = plot_path(user_path(arguments.plot), 0, len(found.images))
        terminal.echo(f"drew {first}" if drawn == 1 else f"drew {terminal.count_of(drawn)}, the first is {first}")
    terminal.echo_skipped(skipped, len(found.images) + len(found.skipped))
    return exit_code(done=drawn, skipped=len(skipped))


def separated(arguments: Sequence[str], texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Photos and texts; with `--text` all arguments are photos."""
    if texts:
        return list(arguments), list(texts)
    photos, words = photos_and_words(
        arguments,
        "locate",
        kind="text",
        expected="words to find in it",
        example="a red cup",
        late="among the texts; photos come first, or give each text with --text",
    )
    return photos, texts_of(words, "looking for", "thing")


def row(found: "Locations", location: "Location") -> list[Cell]:
    """A text in a photo, as a line of a table."""
    from tandem.files import display_name
    from tandem.scores.scoring import digits, percent

    style = terminal.ACCENT if location.present else terminal.QUIET
    box = ",".join(map(str, location.boxes[0].edges)) if location.boxes else ""
    probability = location.probability
    return [
        Cell(display_name(found.source), found.source),
        Cell(location.text, style=style),
        Cell("there" if location.present else "not there", style=style),
        Cell("") if probability is None else Cell(percent(probability), digits(probability)),
        Cell(f"{location.score:+.2f}", f"{location.score:.4f}"),
        *(Cell(str(value) if location.present else "") for value in location.point),
        Cell(box),
    ]


def plot_path(path: Path, index: int, total: int) -> Path:
    """`found.png` for one photo; `found-1.png`, `found-2.png`, ... for several."""
    return path if total == 1 else path.with_stem(f"{path.stem}-{index + 1}")


def kept(image: "ImageSource", plot: str | None) -> "ImageSource":
    """The bytes of an image that comes on standard input and is drawn, too."""
    return image.getvalue() if plot and isinstance(image, ImageOnStandardInput) else image
