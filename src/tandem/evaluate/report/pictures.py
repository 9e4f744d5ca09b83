"""The images of a report: where a model was surest and wrong, and where it was surest and right."""

from collections.abc import Sequence

import numpy as np

from tandem.datasets.dataset import Dataset
from tandem.evaluate.report.formats import percent
from tandem.evaluate.report.html import Html, Tile, gallery, joined, paragraph, section
from tandem.evaluate.result import TaskResult
from tandem.html import thumbnail_uri

SHOWN = 12  # images of each kind
SIDE = 180  # pixels of a thumbnail's longer side
RIGHT = "top1"  # the outcome that says whether an answer was right


def pictures(result: TaskResult, dataset: Dataset) -> Html:
    """The worst and the best answers with their images; for retrieval the captions that were found last.

    Nothing for tasks that have neither.
    """
    if result.tables.get("worst_queries"):
        return _lost(result, dataset)
    if not {RIGHT, "answer", "probability"} <= result.outcomes.keys() or "classes" not in result.tables:
        return Html("")
    right, probability = result.outcomes[RIGHT] > 0.5, result.outcomes["probability"]
    surest = np.argsort(-probability, kind="stable")
    worst = [int(at) for at in surest if not right[at]][:SHOWN]
    best = [int(at) for at in surest if right[at]][:SHOWN]
    return joined(
        (
            section(
                "Surest and wrong",
                *([paragraph("Labels of the data can be wrong, too.", quiet=True)] if worst else []),
                gallery(_tiles(result, dataset, worst)),
                level=3,
            ),
            section("Surest and right", gallery(_tiles(result, dataset, best)), level=3),
        )
    )


def _lost(result: TaskResult, dataset: Dataset) -> Html:
    """The images that their captions found last."""
    places = {key: place for place, key in enumerate(dataset.keys)}
    queries = [query for query in result.tables["worst_queries"] if query["key"] in places][:SHOWN]
    images = dataset.images([places[query["key"]] for query in queries])
    tiles = [
        Tile(thumbnail_uri(image, SIDE), query["key"], [query["caption"], f"found as hit {query['rank']:,}"])
        for query, image in zip(queries, images, strict=True)
    ]
    return section("Found last by their own caption", gallery(tiles), level=3)


def _tiles(result: TaskResult, dataset: Dataset, rows: Sequence[int]) -> list[Tile]:
    """A tile for each row of the result; images are found by their keys."""
    classes = result.tables["classes"]
    places = {key: place for place, key in enumerate(dataset.keys)}
    kept = [row for row in rows if result.keys[row] in places]
    at = [places[result.keys[row]] for row in kept]
    tiles = []
    for row, place, image in zip(kept, at, dataset.images(at), strict=True):
        true = " or ".join(dataset.classes[label] for label in dataset.label_sets[place])
        answer = classes[int(result.outcomes["answer"][row])]
        said = f"{answer}, {percent(float(result.outcomes['probability'][row]))}"
        wrong = result.outcomes[RIGHT][row] <= 0.5
        lines = [f"answered {said}", f"labelled {true}"] if wrong else [said]
        tiles.append(Tile(thumbnail_uri(image, SIDE), result.keys[row], lines))
    return tiles
