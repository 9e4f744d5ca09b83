"""WiSE-FT: models and heads between a zero-shot classifier and its fine-tuned one (Wortsman et al. 2022, section 3).

Needs no torch. Knows checkpoints, heads and measures by name; no data and no training.

Shapes: c classes, d the shared dimension.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tandem import files
from tandem.errors import ConfigError
from tandem.heads.head import Head
from tandem.heads.head_file import SUFFIX, read_head, write_head
from tandem.train.interpolate import interpolate
from tandem.weights import Checkpoint, fingerprint, read, write

ALPHAS = tuple(i / 10 for i in range(11))
DEFAULT_ALPHA = 0.5  # where nothing is measured; near the best on most of the paper's data sets (its section 4)


class ModelWithHead(NamedTuple):
    """A model, and a head on its image vectors."""

    model: Checkpoint
    head: Head


@dataclass(frozen=True)
class Point:
    """What was measured of the classifier at one alpha."""

    alpha: float  # 0: zero-shot; 1: fine-tuned
    measures: Mapping[str, float]


def head_file(model: Path) -> Path:
    """Where the head of a model folder is written: beside it."""
    return model.with_name(model.name + SUFFIX)


def read_model_with_head(model: Path) -> ModelWithHead:
    """A model folder and the head beside it. Raises `WeightsError` or `HeadError`."""
    return ModelWithHead(read(str(model)), read_head(head_file(model)))


def write_model_with_head(classifier: ModelWithHead, model: Path) -> None:
    """Write a model folder and the head beside it; both replace what a run wrote there before."""
    write(classifier.model, model, "tandem", overwrite=True)
    write_head(classifier.head, head_file(model), overwrite=True)


def between(zero_shot: ModelWithHead, fine_tuned: ModelWithHead, alpha: float) -> ModelWithHead:
    """(1 - alpha) times the weights of the first plus alpha times those of the second, head included.

    At 0 and at 1 all weights are those of one of them. Raises `ConfigError` unless architectures and classes are equal.
    """
    model = interpolate(zero_shot.model, fine_tuned.model, alpha)
    a, b = zero_shot.head, fine_tuned.head
    if a.classes != b.classes:
        raise ConfigError(
            f"the heads of {zero_shot.model.source} and {fine_tuned.model.source} have other classes: expected the same"
        )
    weights, bias = ((1 - alpha) * x + alpha * y for x, y in ((a.weights, b.weights), (a.bias, b.bias)))
    card = {**b.card, "alpha": alpha}
    return ModelWithHead(model, Head(b.classes, weights, bias, fingerprint(model), "wise_ft", card))


def curve(
    zero_shot: ModelWithHead,
    fine_tuned: ModelWithHead,
    measure: Callable[[ModelWithHead], Mapping[str, float]],
    alphas: Sequence[float] = ALPHAS,
) -> list[Point]:
    """The measures at each alpha."""
    return [Point(alpha, measure(between(zero_shot, fine_tuned, alpha))) for alpha in alphas]


def write_curve(points: Sequence[Point], path: Path) -> None:
    """A CSV file: alpha, and a column for each measure."""
    with files.atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["alpha", *points[0].measures])
        writer.writeheader()
        writer.writerows({"alpha": point.alpha, **point.measures} for point in points)


def read_curve(path: Path) -> list[Point]:
    """The inverse of `write_curve`; no points where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return [Point(row.pop("alpha"), row) for row in rows]


def choose(points: Sequence[Point], name: str) -> float:
    """The alpha with the best measure `name`; of equal ones the smallest, which changes the model least.

    `DEFAULT_ALPHA` where it was not measured.
    """
    measured = [point for point in points if name in point.measures]
    if not measured:
        return DEFAULT_ALPHA
    return max(measured, key=lambda point: (point.measures[name], -point.alpha)).alpha
