"""Which labels hold for each image of a collection: surely true, or left open where the model cannot tell.

Knows vectors, scores and stores; no files. Shapes: c labels, d dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tandem.arrays import Vectors
from tandem.errors import TandemError
from tandem.scores.scoring import Scoring, compete
from tandem.search.indexing.image_record import paths_of
from tandem.search.labelling import top_labels
from tandem.search.stores.protocol import Store

ABOVE = 0.8  # of a probability: four keywords of five are right where it is calibrated


@dataclass(frozen=True)
class Decided:
    """An image with the labels that hold, and those that the model cannot tell."""

    id: str
    paths: tuple[str, ...]
    holds: tuple[str, ...]
    unclear: tuple[str, ...]


def check_above(above: float) -> float:
    """A probability from which labels hold. Raises `TandemError` for others."""
    if not 0.5 <= above <= 1:
        raise TandemError(f"above: expected a probability from 0.5 to 1, got {above:g}")
    return above


def decide(
    store: Store,
    labels: Sequence[str],
    class_vectors: Vectors,
    scoring: Scoring,
    *,
    above: float = ABOVE,
    where: str | None = None,
) -> Iterator[Decided]:
    """Every image once, with the labels of [c d] that hold.

    A label that stands by itself holds from the probability `above` on, is false up to `1 - above`, and open between.
    Of labels that compete only the likeliest may hold; below `above` it is open, and so is the image.
    """
    check_above(above)
    k = 1 if compete(scoring.kind) else len(labels)
    for part in top_labels(store, class_vectors, k, scoring=scoring, where=where, columns=("path", "paths")):
        for row, id in enumerate(part.ids):
            found = [
                (labels[label], float(probability))
                for label, probability in zip(part.labels[row], part.probabilities[row], strict=True)
            ]
            record = {name: column[row] for name, column in part.columns.items()}
            holds = tuple(label for label, probability in found if probability >= above)
            unclear = tuple(label for label, probability in found if 1 - above < probability < above)
            if k == 1 and compete(scoring.kind):
                unclear = () if holds else (found[0][0],)
            yield Decided(id, tuple(paths_of(record)), holds, unclear)
