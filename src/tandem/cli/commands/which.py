"""`tandem which`: the region of a photo, or the photo of several, that an instruction is about."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tandem.cli import progress, terminal
from tandem.cli.arguments import Parser, add_json, describe, positive
from tandem.cli.exit_codes import exit_code
from tandem.cli.options.images import add_exclude, find_images
from tandem.cli.options.model import add_model, load_model
from tandem.cli.tables import Cell, Column, print_table
from tandem.cli.words import names_photos, photos_and_words
from tandem.errors import TandemError

if TYPE_CHECKING:
    from tandem.localization.choosing import Candidate

COLUMNS = (
    Column("rank", right=True, drop=4),
    Column("photo", least=8, keep_end=True),
    Column("found"),
    Column("probability", right=True, drop=2),
    Column("score", right=True, drop=1),
    Column("heat", right=True),
    Column("x", right=True),
    Column("y", right=True),
    Column("box", drop=3),
)


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Find what an instruction is about: of one photo the regions are ranked, of several the photos. The words for "
        "the thing are taken out of the instruction, by rules for English, and shown. x and y are the point to reach "
        "for, in pixels of the upright photo.",
        'tandem which table.jpg "pick up the red ball from the table"',
        'tandem which people/*.jpg "the one with a hat"',
    )
    parser.add_argument(
        "arguments",
        nargs="+",
        metavar="PHOTO... INSTRUCTION",
        help="files, folders (searched through), globs in quotes, or http(s) URLs; then the instruction; it needs no "
        "quotes",
    )
    add_exclude(parser)
    parser.add_argument("--top", type=positive, default=5, metavar="K", help="candidates to show (%(default)s)")
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.localization.instructions import read_instruction

    photos, text = separated(arguments.arguments)
    read_instruction(text)
    found = find_images(photos, arguments.exclude)
    model = load_model(arguments)
    with progress.waiting("looking"):
        choice = model.which(found.images, text)
    skipped = found.skipped + [failure.error for failure in choice.failures]
    shown = choice.candidates[: arguments.top]
    if arguments.json:
        document = choice.as_dict()
        document["model"] = {"name": model.name, "fingerprint": model.fingerprint}
        document["candidates"] = document["candidates"][: arguments.top]
        document["failures"] = [error.as_dict() for error in skipped]
        terminal.print_json(document)
    else:
        left_out = f" (left out: {', '.join(choice.instruction.left_out)})" if choice.instruction.left_out else ""
        terminal.echo(f"looking for: {choice.instruction.thing}{left_out}")
        print_table(COLUMNS, [row(rank, each) for rank, each in enumerate(shown, start=1)])
        if more := len(choice.candidates) - len(shown):
            terminal.echo(f"{more:,} more of the {choice.kind}: --top {len(choice.candidates)} shows all")
        if choice.best is None:
            terminal.echo("not there: nothing fits these words better than it fits others")
        elif choice.lead is not None:
            terminal.echo(f"ahead of the runner-up by {choice.lead:.2f} in {choice.ranked_by}")
    sys.stdout.flush()
    terminal.echo_skipped(skipped, len(found.images) + len(found.skipped))
    return exit_code(done=len(choice.located), skipped=len(skipped))


def separated(arguments: Sequence[str]) -> tuple[list[str], str]:
    """Photos and the instruction, whose words may be arguments of their own."""
    photos, words = photos_and_words(
        arguments,
        "which",
        kind="instruction",
        expected="an instruction",
        example="the red ball",
        late="after the instruction; photos come first, the instruction last",
    )
    if not names_photos(photos[0]):
        raise TandemError(f"{photos[0]} is no photo: expected photos, and then the instruction")
    return photos, " ".join(words)


def row(rank: int, candidate: "Candidate") -> list[Cell]:
    """A candidate as a line of a table."""
    from tandem.files import display_name
    from tandem.scores.scoring import digits, percent

    style = terminal.ACCENT if candidate.present and rank == 1 else ""
    probability = candidate.probability
    return [
        Cell(str(rank)),
        Cell(display_name(candidate.source), candidate.source, style=style),
        Cell("there" if candidate.present else "not there", style=style),
        Cell("") if probability is None else Cell(percent(probability), digits(probability)),
        Cell(f"{candidate.score:+.2f}", f"{candidate.score:.4f}"),
        Cell("") if candidate.heat is None else Cell(f"{candidate.heat:.2f}", f"{candidate.heat:.4f}"),
        *(Cell(str(value) if candidate.present else "") for value in candidate.point),
        Cell("" if candidate.box is None else ",".join(map(str, candidate.box.edges))),
    ]
