"""`tandem demo`: the main job on real photos, with the model that ships inside.

The photos come inside scikit-image and scikit-learn: nothing is downloaded, and neither package is imported.
"""

import argparse
import itertools
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tandem.cli import terminal
from tandem.cli.arguments import Parser, add_json, describe
from tandem.cli.exit_codes import DONE
from tandem.cli.options.model import add_model, load_model
from tandem.files import user_path
from tandem.sample_photos import sample_photos

if TYPE_CHECKING:
    from tandem.answer import Answer
    from tandem.model import Model
    from tandem.search.results import SearchHit

    Rankings: TypeAlias = dict[str, tuple[SearchHit, ...]]

LABELS = ["cat", "dog", "person", "flower", "cup of coffee", "temple", "rocket", "car", "beach", "bird"]
SHOWN = {  # the right label of each sample photo
    "chelsea.png": "cat",
    "astronaut.png": "person",
    "coffee.png": "cup of coffee",
    "rocket.jpg": "rocket",
    "china.jpg": "temple",
    "flower.jpg": "flower",
}
HALF = 38  # cells of a photo, where two stand beside each other
QUERIES = ["a cat", "a flower in a garden", "something to drink", "a tall building"]


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Classify and rank real photos (from scikit-image and scikit-learn) with the model that ships with Tandem. The "
        "photos, a collection of them and two drawings stay in a folder, so that you can try more.",
        "tandem demo",
        "tandem demo --out tour/answer.png",
    )
    parser.add_argument(
        "--out",
        default="demo/answer.png",
        metavar="PNG",
        help="the drawing of the answers; everything else goes into the same folder (%(default)s)",
    )
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem import plots
    from tandem.cli import known_collections
    from tandem.image import load_image
    from tandem.search.collection import open_collection

    answer_path = user_path(arguments.out)
    folder = answer_path.parent
    search_path = answer_path.with_name(f"search{answer_path.suffix}")
    plots.check_target(answer_path)
    samples = sample_photos("the demo")  # before what draws is looked for: the demo's extra brings that, too
    plots.check_installed()
    photos = copied(samples, folder / "photos")

    began = time.perf_counter()
    model = load_model(arguments)
    loaded = time.perf_counter()
    answer = model.classify(photos, LABELS)
    url = folder / f"photos-{plain(model.name)}.tandem"
    collection = open_collection(url, model)
    collection.add(photos)
    rankings = {query: collection.search(query, k=len(photos)).hits for query in QUERIES}
    done = time.perf_counter()
    known_collections.remember(collection.url)

    if arguments.json:
        terminal.print_json(as_document(answer, rankings))
    else:
        show(answer, rankings)
    sys.stdout.flush()

    answer.plot(answer_path)
    sheet = [
        plots.Ranking(text, [(load_image(hit.path), hit.score) for hit in hits]) for text, hits in rankings.items()
    ]
    plots.draw_rankings(sheet, search_path, model=model.name)
    terminal.echo(
        f"loaded in {loaded - began:.2f} s, answered in {done - loaded:.2f} s; drew {answer_path}, {search_path}"
    )
    terminal.echo(f"the photos are in {folder / 'photos'}, their collection is {url}; try:")
    for command in (f"search {url} a cup of coffee", f"classify {folder / 'photos'} --labels cat,rocket,food"):
        if not terminal.is_quiet():
            terminal.print_lines(f"  {terminal.program()} {command}", stderr=True)
    terminal.echo(caveat(model))
    return DONE


def plain(name: str) -> str:
    """A model's name as part of a file's name."""
    return "".join(character if character.isalnum() or character in "._-" else "-" for character in name)


def copied(photos: list[str], folder: Path) -> list[str]:
    """The photos in a folder of their own, where they outlive the packages they came with."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / Path(photo).name for photo in photos]
    for photo, target in zip(photos, targets, strict=True):
        if not target.exists():
            shutil.copyfile(photo, target)
    return [str(target) for target in targets]


def show(answer: "Answer", rankings: "Rankings") -> None:
    """Bars for every photo, two beside each other where there is room, then the best photos for each query."""
    from rich.table import Table
    from rich.text import Text

    from tandem.cli.classify_view import photo_in_full

    out = terminal.console()
    out.print(Text("What is in each photo?\n", style="bold underline"))
    across = 2 if out.width >= 2 * HALF + 3 else 1
    photos = [
        photo_in_full(Path(source).name, best, LABELS, width=min(HALF, out.width), bar_width=14)
        for source, best in zip(answer.sources, answer.top(3), strict=True)
    ]
    grid = Table.grid(padding=(0, 3, 0, 0))
    for row in itertools.zip_longest(*(photos[start::across] for start in range(across)), fillvalue=Text("")):
        grid.add_row(*row)
    with out.capture() as drawn:
        out.print(grid)
    # Rich fills cells up with spaces, which files and pipes keep.
    out.print(Text.from_ansi("\n".join(line.rstrip() for line in drawn.get().splitlines())))
    if wrong := misclassified(answer.sources, answer.best):
        out.print(Text(f"  {errors_line(wrong, len(answer.sources))}\n", style=terminal.QUIET))
    out.print(Text("Which photo fits the words?\n", style="bold underline"))
    query_cells = max(map(len, rankings))
    shown = max(1, min(3, (out.width - query_cells - 5) // 16))
    for query, hits in rankings.items():
        line = Text(f"  {query:<{query_cells}}   ")
        for index, hit in enumerate(hits[:shown]):
            line.append(
                f"{Path(hit.path).stem:>9} {hit.score:5.2f}  ", style=terminal.ACCENT if index == 0 else terminal.QUIET
            )
        line.rstrip()
        out.print(line)


def as_document(answer: "Answer", rankings: "Rankings") -> dict[str, Any]:
    """The shape of `classify --json`, the misclassified photos, and the rankings."""
    searches = [
        {
            "query": query,
            "hits": [{"path": hit.path, "score": hit.score, "relevance": hit.relevance} for hit in hits],
        }
        for query, hits in rankings.items()
    ]
    wrong = [
        {"image": name, "best": label, "shown": shown}
        for name, label, shown in misclassified(answer.sources, answer.best)
    ]
    return {**answer.as_dict(), "wrong": wrong, "searches": searches}


def misclassified(sources: Sequence[str], best: Sequence[str]) -> list[tuple[str, str, str]]:
    """The photos whose best label is wrong: file name, best label, right label."""
    named = [(Path(source).name, label) for source, label in zip(sources, best, strict=True)]
    return [(name, label, SHOWN[name]) for name, label in named if label != SHOWN[name]]


def errors_line(wrong: Sequence[tuple[str, str, str]], photos: int) -> str:
    """`1 of 6 wrong: chelsea.png is a cat, not a dog`."""
    listed = ", ".join(f"{name} is a {shown}, not a {label}" for name, label, shown in wrong)
    return f"{len(wrong)} of {photos} wrong: {listed}"


def caveat(model: "Model") -> str:
    """What to expect of the model: small ones see little."""
    size = model.config.vision.image_size
    if size >= 200:
        return f"{model.name} sees {size} x {size} pixels of each photo"
    return (
        f"{model.name} is small and sees only {size} x {size} pixels of each photo: it knows everyday things, "
        "and errs. The same commands take larger models: --model ViT-B/32"
    )
