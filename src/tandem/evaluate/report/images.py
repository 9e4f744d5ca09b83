"""The images of a report: where a model was surest and wrong, and where it was surest and right."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tandem.datasets.dataset import Dataset
from tandem.errors import DataError
from tandem.evaluate.report.formats import percent
from tandem.evaluate.report.html import Html, Tile, gallery, joined, paragraph, section
from tandem.evaluate.result import TaskResult
from tandem.html import thumbnail_uri

SHOWN = 12  # images in a gallery
ALIKE = 3  # of them with the same label and the same answer: one class must not fill it
SIDE = 180  # pixels of a thumbnail's longer side
RIGHT = ("top1", "wise_ft_top1")  # outcomes that say whether the answer was right


def images(result: TaskResult, dataset: Dataset) -> Html:
    """The worst and the best answers with their images; for retrieval the captions that were found last.

    Nothing for tasks that have neither.
    """
    if result.tables.get("worst_queries"):
        return _lost(result, dataset)
    if not {"answer", "probability"} <= result.outcomes.keys() or "classes" not in result.tables:
        return Html("")
    right, probability = _right(result), result.outcomes["probability"]
    surest = np.argsort(-probability, kind="stable")
    kinds = _kinds(result, dataset)
    worst = _varied([int(at) for at in surest if not right[at]], kinds)
    best = _varied([int(at) for at in surest if right[at]], kinds)
    return joined(
        (
            section(
                "Surest and wrong",
                *(
                    [paragraph(f"At most {ALIKE} of one mistake. Labels can be wrong, too.", quiet=True)]
                    if worst
                    else []
                ),
                gallery(_tiles(result, dataset, worst)),
                level=3,
            ),
            section("Surest and right", gallery(_tiles(result, dataset, best)), level=3),
        )
    )


def _right(result: TaskResult) -> NDArray[np.bool_]:
    """Whether each answer was right [n]."""
    outcome = next((name for name in RIGHT if name in result.outcomes), None)
    if outcome is None:
        raise DataError(f"{result.task}: expected one of the outcomes {', '.join(RIGHT)} beside the answers")
    return np.asarray(result.outcomes[outcome] > 0.5)


def _kinds(result: TaskResult, dataset: Dataset) -> list[tuple[object, int]]:
    """The labels and the answer of each row."""
    labels = dict(zip(dataset.keys, dataset.label_sets, strict=True))
    answers = result.outcomes["answer"].astype(int).tolist()
    return [(labels.get(key), answer) for key, answer in zip(result.keys, answers, strict=True)]


def _varied(rows: Sequence[int], kinds: Sequence[tuple[object, int]]) -> list[int]:
    """The first rows, of each kind a few."""
    seen: Counter[tuple[object, int]] = Counter()
    chosen: list[int] = []
    for row in rows:
        seen[kinds[row]] += 1
        if seen[kinds[row]] <= ALIKE and len(chosen) < SHOWN:
            chosen.append(row)
    return chosen


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
    right = _right(result)
    tiles = []
    for row, place, image in zip(kept, at, dataset.images(at), strict=True):
        true = " or ".join(dataset.classes[label] for label in dataset.label_sets[place])
        answer = classes[int(result.outcomes["answer"][row])]
        said = f"{answer}, {percent(float(result.outcomes['probability'][row]))}"
        lines = [said] if right[row] else [f"answered {said}", f"labelled {true}"]
        tiles.append(Tile(thumbnail_uri(image, SIDE), result.keys[row], lines))
    return tiles
