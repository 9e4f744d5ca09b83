"""The linear probe: logistic regression whose C is swept on images that are held out, then fitted again on all.

Radford et al. 2021, A.3: 96 logarithmic steps from 1e-6 to 1e6, searched from coarse to fine: every two decades first,
then twice as close around the best, four times, down to an eighth of a decade.

Where several C's are right for equally many held-out images, as they often are of few images, the one that makes their
labels most probable is taken. The first of them, as scikit-learn's LogisticRegressionCV takes it, may be 1e-6: its
answers are those of nearest means, and its probabilities all but equal for every class.

Shapes: n images, d the shared dimension, c classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import DataError
from tandem.heads.folds import stratified_folds
from tandem.heads.linear import LinearFit
from tandem.heads.logistic import fit_logistic, principal_axes, solve
from tandem.heads.shots import Shots
from tandem.heads.softmax import cross_entropy

STEPS = 96
CS = np.logspace(-6, 6, STEPS + 1)
COARSE = 16  # steps between the C's that are tried first
CHOOSING = 1e-3  # decrement of what is fitted to choose C: ten times that of the head (docs/log.md)
HELD_OUT = 4  # a fourth of the images chooses C


@dataclass(frozen=True)
class SweepPoint:
    """One C: the share of the held-out images that it classifies, how probable it makes their labels, and its fit."""

    c: float
    accuracy: float
    log_loss: float  # mean, in nats
    iterations: int
    converged: bool


@dataclass(frozen=True, eq=False)
class Sweep:
    """The C's that were tried, in their order, the best of them, and the head that it gives on all images."""

    points: tuple[SweepPoint, ...]
    best: SweepPoint
    fit: LinearFit
    held_out: NDArray[np.bool_]  # [n]


def held_out_fourth(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """The images that choose C: a fourth of every class, none of a class with one image, bool [n].

    Raises `DataError` where every class has one.
    """
    several = np.bincount(labels)[labels] > 1
    if not several.any():
        raise DataError("linear_probe holds images out to choose C, and every class has only one: give more images")
    result = np.zeros(len(labels), dtype=bool)
    result[several] = stratified_folds(labels[several], min(HELD_OUT, int(several.sum())), seed) == 0
    return result


def sweep(vectors: Vectors, labels: NDArray[np.int64], classes: int, held_out: NDArray[np.bool_]) -> Sweep:
    """Choose C by the accuracy on the held-out images, of equal ones by their log loss; then fit on all images."""
    data = principal_axes(vectors, labels, classes)  # of all, so that the last fit begins where the best one ended
    learnt, checked = data.take(~held_out), data.take(held_out)
    solved: dict[int, Vectors] = {}
    points: dict[int, SweepPoint] = {}

    def attempt(place: int) -> None:
        near = min(solved, key=lambda other: (abs(other - place), other), default=None)
        end = solve(learnt, float(CS[place]), data.start if near is None else solved[near], decrement=CHOOSING)
        solved[place] = end.parameters
        logits = checked.logits(end.parameters)
        accuracy = float((logits.argmax(axis=1) == checked.labels).mean())
        log_loss, _ = cross_entropy(logits, checked.labels)
        points[place] = SweepPoint(float(CS[place]), accuracy, log_loss, end.iterations, end.converged)

    for place in range(0, STEPS + 1, COARSE):
        attempt(place)
    step = COARSE
    while step > 1:
        step //= 2
        best = _best(points)
        for place in (best - step, best + step):
            if 0 <= place <= STEPS:
                attempt(place)
    best = _best(points)
    end = solve(data, points[best].c, solved[best])
    facts = {"C": points[best].c, "iterations": end.iterations, "converged": end.converged}
    ordered = tuple(points[place] for place in sorted(points))
    return Sweep(ordered, points[best], data.to_fit(end.parameters, facts), held_out)


def _best(points: dict[int, SweepPoint]) -> int:
    return min(points, key=lambda place: (-points[place].accuracy, points[place].log_loss, place))


def fit_linear_probe(shots: Shots, *, C: float | None = None, seed: int = 0) -> LinearFit:
    """Logistic regression on the shots; without `C`, it is chosen on a fourth of them. Texts play no part."""
    if C is not None:
        if not C > 0:
            raise DataError(f"linear_probe: expected C > 0, got {C}")
        return fit_logistic(shots.vectors, shots.labels, len(shots.classes), C)
    held_out = held_out_fourth(shots.labels, seed)
    return sweep(shots.vectors, shots.labels, len(shots.classes), held_out).fit
