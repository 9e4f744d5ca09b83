"""Multinomial logistic regression, the classifier of a linear probe. It knows labels and vectors, and no texts.

What is minimised is scikit-learn's objective, C sum_i CE(x_i W' + b, y_i) + |W|^2 / 2, over vectors x = sqrt(d) f: of
unit length times sqrt(d), so that a dimension's mean square is 1 and C means what it means for standardized features.

The solution is that of plain L-BFGS; the way to it is shorter. The biases are free, so centred vectors have the same
minimum, and the penalty is round, so their principal axes have too. There the Hessian is close to its diagonal, which
is a product of matrices away and is where L-BFGS begins. C's of a sweep are solved one from another.

Shapes: n images, d the shared dimension, c classes.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.heads.linear import LinearFit
from tandem.heads.minimise import Minimum, Objective, minimise
from tandem.heads.softmax import cross_entropy
from tandem.scores.scoring import softmax

ITERATIONS = 1000  # Radford et al. 2021, A.3
DECREMENT = 1e-4  # share of the objective that a Newton step would still gain


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Training vectors, centred and in their principal axes, with a column of ones for the bias."""

    rows: Vectors  # float32 [n d+1]
    axes: Vectors  # float32 [d d], columns; times sqrt(d)
    mean: Vectors  # float32 [d]
    labels: NDArray[np.int64]
    classes: int

    @property
    def start(self) -> Vectors:
        """Where a search begins: no weights, float32 [c d+1]."""
        return np.zeros((self.classes, self.rows.shape[1]), dtype=np.float32)

    def take(self, chosen: NDArray[np.bool_]) -> "PrincipalAxes":
        """Some of the images [n], in the same axes: any axes will do, and a search can begin with another's end."""
        return replace(self, rows=self.rows[chosen], labels=self.labels[chosen])

    def logits(self, weights: Vectors) -> Vectors:
        """Those of each image by weights [c d+1], float32 [n c]."""
        return np.asarray(self.rows @ weights.T, dtype=np.float32)

    def to_fit(self, weights: Vectors, facts: dict[str, Any]) -> LinearFit:
        """Weights in these axes [c d+1] as those of plain vectors."""
        plain: Vectors = weights[:, :-1] @ self.axes.T
        return LinearFit(plain, np.asarray(weights[:, -1] - plain @ self.mean, dtype=np.float32), facts)


def principal_axes(vectors: Vectors, labels: NDArray[np.int64], classes: int) -> PrincipalAxes:
    """The training vectors as `solve` wants them: prepared once for all C's."""
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = vectors - mean
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    scaled = np.asarray(np.sqrt(vectors.shape[1]) * axes, dtype=np.float32)
    return PrincipalAxes(_with_ones(centred @ scaled), scaled, mean, labels, classes)


def _with_ones(rows: Vectors) -> Vectors:
    return np.hstack([rows, np.ones((len(rows), 1), dtype=np.float32)])


def solve(data: PrincipalAxes, C: float, start: Vectors, *, decrement: float | None = None) -> Minimum:
    """The weights [c d+1] in the axes of `data` for one C, from those of another or from `data.start`."""
    penalty = np.full(data.rows.shape[1], 1 / (C * len(data.rows)), dtype=np.float32)
    penalty[-1] = 0  # biases are free
    return minimise(
        _objective(data, penalty),
        start,
        tolerance=0.0,
        decrement=DECREMENT if decrement is None else decrement,
        iterations=ITERATIONS,
        diagonal=_hessian_diagonal(data, penalty, start),
    )


def _objective(data: PrincipalAxes, penalty: Vectors) -> Objective:
    """The mean loss plus the penalty, which is the objective above over n C."""

    def objective(weights: Vectors) -> tuple[float, Vectors]:
        loss, errors = cross_entropy(data.rows @ weights.T, data.labels)
        gradient = errors.T @ data.rows
        gradient /= np.float32(len(data.rows))
        held = penalty * weights
        return loss + 0.5 * float((held * weights).sum()), gradient + held

    return objective


def _hessian_diagonal(data: PrincipalAxes, penalty: Vectors, weights: Vectors) -> Vectors:
    """mean_i p_ic (1 - p_ic) x_ij^2 + the penalty, float32 [c d+1]."""
    probable = softmax(data.rows @ weights.T)
    diagonal = (probable * (1 - probable)).T @ data.rows**2
    diagonal /= np.float32(len(data.rows))
    return np.asarray(np.maximum(diagonal + penalty, 1e-3 * diagonal.max() + 1e-12), dtype=np.float32)


def fit_logistic(vectors: Vectors, labels: NDArray[np.int64], classes: int, C: float) -> LinearFit:
    """Logistic regression for one C, from zero."""
    data = principal_axes(vectors, labels, classes)
    end = solve(data, C, data.start)
    return data.to_fit(end.parameters, {"C": C, "iterations": end.iterations, "converged": end.converged})
