"""`tandem demo`: the main job on real photos, with the model that ships inside.

The photos come inside scikit-image and scikit-learn: nothing is downloaded, and neither package is imported.
"""

import argparse
import itertools
import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tandem import plots
from tandem.cli import DONE, screen
from tandem.cli.inputs import load_model
from tandem.errors import MissingExtraError
from tandem.image import load_image
from tandem.search.collection import open_collection

if TYPE_CHECKING:
    from tandem.answer import Answer
    from tandem.model import Model
    from tandem.search.results import SearchHit

    Rankings: TypeAlias = dict[str, tuple[SearchHit, ...]]

PHOTOS = {
    "skimage": ("data/chelsea.png", "data/astronaut.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
LABELS = ["cat", "dog", "person", "flower", "cup of coffee", "temple", "rocket", "car", "beach", "bird"]
SENTENCES = ["a cat", "a flower in a garden", "something to drink", "a tall building"]


def run(arguments: argparse.Namespace) -> int:
    answer_path = Path(arguments.out)
    search_path = answer_path.with_name(f"search{answer_path.suffix}")
    plots.check_target(answer_path)
    plots.check_installed()
    photos = sample_photos()

    began = time.perf_counter()
    model = load_model(arguments)
    loaded = time.perf_counter()
    answer = model.classify(photos, LABELS)
    collection = open_collection(answer_path.with_name(f"photos-{_plain(model.name)}.tandem"), model)
    collection.add(photos)
    rankings = {sentence: collection.search(sentence, k=len(photos)).hits for sentence in SENTENCES}
    done = time.perf_counter()

    if arguments.json:
        screen.print_json(as_document(answer, rankings))
    else:
        show(answer, rankings)
    sys.stdout.flush()

    answer.plot(answer_path)
    sheet = [
        plots.Ranking(text, [(load_image(hit.path), hit.score) for hit in hits]) for text, hits in rankings.items()
    ]
    plots.draw_rankings(sheet, search_path, model=model.name)
    screen.say(
        f"loaded in {loaded - began:.2f} s, answered in {done - loaded:.2f} s; drew {answer_path}, {search_path}"
    )
    screen.say(f'now search them yourself: tandem search {collection.url} "a cup of coffee"')
    screen.say(caveat(model))
    return DONE


def _plain(name: str) -> str:
    """A model's name as part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", name)


def sample_photos() -> list[str]:
    """The photos that are installed, in a fixed order."""
    found: list[str] = []
    for package, files in PHOTOS.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += [str(path) for file in files if (path := Path(folder) / file).is_file()]
    if not found:
        raise MissingExtraError("scikit-image and scikit-learn", "demo", "the demo")
    return found


def show(answer: "Answer", rankings: "Rankings") -> None:
    """Bars for every photo, two beside each other, then the photos in the order in which they fit each sentence."""
    from rich.table import Table
    from rich.text import Text

    from tandem.cli.classify_view import photo_in_full

    out = screen.console()
    out.print(Text("What is in each photo?\n", style="bold underline"))
    label_cells = max(map(len, LABELS))
    photos = [
        photo_in_full(Path(source).name, best, label_cells, encoding=out.encoding, bar_width=14)
        for source, best in zip(answer.sources, answer.top(3), strict=True)
    ]
    grid = Table.grid(padding=(0, 3, 0, 0))
    for left, right in itertools.zip_longest(photos[::2], photos[1::2], fillvalue=Text("")):
        grid.add_row(left, right)
    out.print(grid)
    out.print(Text("Which photo fits the words?\n", style="bold underline"))
    for sentence, hits in rankings.items():
        line = Text(f"  {sentence:<{max(map(len, rankings))}}   ")
        for place, hit in enumerate(hits[:3]):
            means = f"{hit.score:5.2f}" if hit.relevance is None else f"{hit.relevance:4.0%}"
            line.append(f"{Path(hit.path).stem:>9} {means}  ", style=screen.ACCENT if place == 0 else screen.QUIET)
        out.print(line)


def as_document(answer: "Answer", rankings: "Rankings") -> dict[str, Any]:
    """The shape of `classify --json`, and the rankings beside it."""
    searches = [
        {
            "query": sentence,
            "hits": [{"path": hit.path, "score": hit.score, "relevance": hit.relevance} for hit in hits],
        }
        for sentence, hits in rankings.items()
    ]
    return {**answer.as_dict(), "searches": searches}


def caveat(model: "Model") -> str:
    """What to expect of the model: small ones see little."""
    size = model.config.vision.image_size
    if size >= 200:
        return f"{model.name} sees {size} x {size} pixels of each photo"
    return (
        f"{model.name} is small and sees only {size} x {size} pixels of each photo: it knows everyday things, "
        "and errs. The same commands take larger models: --model ViT-B/32"
    )
