"""The last stage of a run with `[interpolation]`: the best weights between its first and its last ones.

    initial            the first weights, fitted to the run's towers
    trained            the last weights, averaged where there is an average
    model              between the two, at the alpha that `validation.best` chooses
    interpolation.csv  all validation measures at every alpha

Nothing is kept between alphas: a run that is stopped here measures them again. Knows a run's folder and its validation
sets; no steps.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from tandem.errors import DataError
from tandem.train.interpolate import interpolate
from tandem.train.recipe import Recipe
from tandem.train.run.assembly import MODEL
from tandem.train.run.encoder import CheckpointEncoder
from tandem.train.run.statistics import has_statistics, measure_statistics
from tandem.train.run.validation import ValidationSet, score, validate
from tandem.train.wise_ft import Point, write_curve
from tandem.weights import Checkpoint, read, write

INITIAL, TRAINED, CURVE = "initial", "trained", "interpolation.csv"


def write_interpolated(
    recipe: Recipe,
    folder: Path,
    validation: Sequence[ValidationSet],
    device: torch.device,
    go_on: Callable[[], bool],
    echo: Callable[[str], None],
) -> bool:
    """Choose among the alphas of the recipe, and write the model there and the curve. False: stopped on the way.

    `go_on` is asked before each alpha. Raises `DataError` if no alpha has the measures of `interpolation.at_least`.
    """
    ends = read(str(folder / INITIAL)), read(str(folder / TRAINED))
    best: tuple[float, Checkpoint] | None = None
    points: list[Point] = []
    for alpha in recipe.interpolation.distinct_alphas:
        if not go_on():
            return False
        found = between(*ends, alpha, recipe, device)
        points.append(Point(alpha, measures(found, validation, device)))
        echo(described(points[-1]))
        if choose(points, recipe) is points[-1]:
            best = alpha, found
    if validation:
        write_curve(points, folder / CURVE)
    if best is None:
        limits = ", ".join(f"{name} {value:g}" for name, value in recipe.interpolation.at_least.items())
        raise DataError(
            f"interpolation.at_least: no alpha reaches {limits}; the measures are in {folder / CURVE}: lower a limit, "
            "or give other alphas, and the same command chooses again"
        )
    write(best[1], folder / MODEL, "tandem", overwrite=True)
    echo(f"interpolation: alpha {best[0]:g} is chosen" + (f", by {recipe.validation.best}" if validation else ""))
    return True


def between(initial: Checkpoint, trained: Checkpoint, alpha: float, recipe: Recipe, device: torch.device) -> Checkpoint:
    """The model at an alpha from 0 to 1. The ends are returned as they are; in between, statistics are measured."""
    if alpha in (0, 1):
        return trained if alpha else initial
    found = interpolate(initial, trained, alpha)
    found = dataclasses.replace(found, config=trained.config)  # its name, licence and data
    if recipe.interpolation.statistics_images and _moved(initial, trained):
        found = measure_statistics(found, recipe, recipe.interpolation.statistics_images, device)
    return found


def measures(found: Checkpoint, validation: Sequence[ValidationSet], device: torch.device) -> dict[str, float]:
    """The validation measures of a model, by name, from 0 to 1."""
    encoder = CheckpointEncoder(found, device)
    return validate(validation, encoder.images, encoder.texts)


def choose(points: Sequence[Point], recipe: Recipe) -> Point | None:
    """The point with the best measure, or sum, of those that reach `interpolation.at_least`; of equal ones the first.

    None: no point reaches it.
    """
    limits = recipe.interpolation.at_least
    allowed = [each for each in points if all(each.measures[name] >= least for name, least in limits.items())]
    return max(allowed, key=lambda each: score(each.measures, recipe.validation.best) or 0.0, default=None)


def described(point: Point) -> str:
    """`interpolation: alpha 0.75  zero_shot_top1 42.2%  ...`."""
    said = (f"{name} {value:.1%}" for name, value in point.measures.items())
    return "  ".join([f"interpolation: alpha {point.alpha:g}", *said])


def _moved(initial: Checkpoint, trained: Checkpoint) -> bool:
    """Whether the weights of an image tower with batch norms differ: those of a locked one do not."""
    return has_statistics(trained) and any(
        not np.array_equal(array, trained.tensors[name])
        for name, array in initial.tensors.items()
        if name.startswith("visual.")
    )
