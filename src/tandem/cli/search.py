"""`tandem search`: a text or an image -> the photos of a collection that are nearest, and what that means."""

import argparse
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.cli import DONE, screen
from tandem.cli.asking import open_for_asking, say_why_empty
from tandem.errors import TandemError
from tandem.search.collection import Collection
from tandem.search.results import Results, SearchHit

if TYPE_CHECKING:
    from rich.text import Text

BAR = 12


def run(arguments: argparse.Namespace) -> int:
    if arguments.text is None and arguments.image is None:
        raise TandemError(
            'nothing to look for: give a text, as in: tandem search photos.tandem "a cat", or --image PHOTO'
        )
    if arguments.plot:
        from tandem import plots

        plots.check_target(Path(arguments.plot))
        plots.check_installed()
    with open_for_asking(arguments) as photos:
        results = photos.search(
            arguments.text,
            image=arguments.image,
            minus=arguments.minus,
            minus_image=arguments.minus_image,
            weight=arguments.weight,
            k=arguments.top,
            offset=(arguments.page - 1) * arguments.top,
            where=arguments.where,
            threshold=arguments.threshold,
        )
        if arguments.json:
            screen.print_json(results.as_dict())
        else:
            show(results)
        sys.stdout.flush()
        if not results.hits:
            say_why_empty(photos, arguments.where, offset=results.offset)
        elif results.nothing_matches:
            best = f"the best hit is {share(results.best)} likely to be meant, below {share(results.threshold)}"
            screen.say(f"nothing matches well: {best}")
        if results.hits and results.threshold is None:
            screen.say(f"{results.model} is not calibrated, so there is no relevance: see tandem calibrate --help")
        if arguments.plot and results.hits:
            screen.say(f"drew {draw(photos, results, Path(arguments.plot))}")
    return DONE


def show(results: Results) -> None:
    """One line a hit: rank, relevance, cosine, where it is."""
    if not results.hits:
        return
    judged = results.hits[0].relevance is not None
    headings = ("#", "relevance", "", "cosine", "photo") if judged else ("#", "cosine", "photo")
    out = screen.console()
    rows = [cells_of(hit, rank, results.threshold) for rank, hit in enumerate(results.hits, results.offset + 1)]
    free = screen.cells_left(out, headings[:-1], rows)
    table = screen.table(*headings, right=("#", "relevance", "cosine"))
    for row, hit in zip(rows, results.hits, strict=True):
        table.add_row(*row, place(hit, free))
    out.print(table)


def cells_of(hit: SearchHit, rank: int, threshold: float | None) -> "tuple[str | Text, ...]":
    """A hit's line, without where it is."""
    score = f"{hit.score:.3f}"
    if hit.relevance is None:
        return str(rank), score
    weak = threshold is not None and hit.relevance < threshold
    drawn = screen.bar(hit.relevance, BAR, best=not weak, encoding=sys.stdout.encoding or "ascii")
    return str(rank), share(hit.relevance), drawn, score


def share(probability: float | None) -> str:
    """A probability for people; below 10% with one decimal, since there 1% and 2% are far apart."""
    if probability is None:
        return "-"
    return f"{probability:.1%}" if round(probability, 3) < 0.1 else f"{probability:.0%}"


def place(hit: SearchHit, width: int) -> str:
    """Where a hit is, from here if that is shorter; cut at its beginning for people, whole for programs."""
    path = hit.path
    if os.path.isabs(path):
        path = min(path, os.path.relpath(path), key=len)
    return screen.cells(path, width, keep_end=True).rstrip() if sys.stdout.isatty() else screen.line(path)


def draw(photos: Collection, results: Results, path: Path) -> Path:
    """A contact sheet of the hits, from the thumbnails that the collection keeps."""
    from PIL import Image

    from tandem import plots

    cells = []
    for rank, hit in enumerate(results.hits, results.offset + 1):
        small = photos.thumbnail(hit.id)
        picture = Image.open(io.BytesIO(small)) if small else None
        meaning = share(hit.relevance) if hit.relevance is not None else f"{hit.score:.3f}"
        cells.append(plots.Cell(picture, f"{rank}. {meaning}", screen.line(os.path.basename(hit.path))))
    note = f"{results.model}" + (": nothing matches well" if results.nothing_matches else "")
    return plots.draw_contact_sheet(cells, path, title=title(results), note=note)


def title(results: Results) -> str:
    """The question as it was asked."""
    asked = dict(results.query)
    wanted = [asked[name] for name in ("text", "image") if name in asked]
    avoided = [asked[name] for name in ("minus", "minus_image") if name in asked]
    return " + ".join(wanted) + "".join(f" - {it}" for it in avoided)
