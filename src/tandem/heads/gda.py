"""Gaussian discriminant analysis beside zero-shot: classes as Gaussians with one covariance, in closed form.

Wang et al. 2024, "A Hard-to-Beat Baseline for Training-Free CLIP-Based Adaptation", equations 4-8. With S the
covariance within classes, mu_c the means and the shrinkage of Kubokawa and Srivastava 2008,

    P = d ((n - 1) S + tr(S) I)^-1        W_c = P mu_c        b_c = log(1 / C) - mu_c' P mu_c / 2
    logits = s f T' + alpha (f W' + b)

alpha is chosen without a validation set: every image is classified by the head of the others, and the alpha with the
most right answers is taken, as theirs is on a validation set (choosing by log probability loses up to 18 points,
docs/log.md). That is exact, without fitting n heads: in the eigenbasis of the scatter (n - 1) S leaving one image out
changes the ridge and subtracts a matrix of rank one, which Sherman and Morrison's formula inverts. These logits are far
too sure of themselves, so the same held-out ones give a temperature by which all are divided; it changes no answer.

Shapes: n images, d the shared dimension, c classes, a values of alpha.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import DataError
from tandem.heads.linear import LinearFit
from tandem.heads.shots import Shots
from tandem.heads.softmax import cross_entropy

ALPHAS = np.array([0.0, *np.geomspace(1e-3, 1e2, 41)], dtype=np.float32)  # 0 is zero-shot
INVERSE_TEMPERATURES = np.geomspace(1e-3, 1, 61, dtype=np.float32)  # never surer than the equations are
_Doubles = NDArray[np.float64]
_Found = TypeVar("_Found")


def _once(compute: Callable[[Shots], _Found]) -> Callable[[Shots], _Found]:
    """Computed once for the same shots: a head and what it is worth begin alike. Forgotten with the shots."""
    known: WeakKeyDictionary[Shots, _Found] = WeakKeyDictionary()

    def found(shots: Shots) -> _Found:
        if shots not in known:
            known[shots] = compute(shots)
        return known[shots]

    return found


@dataclass(frozen=True, eq=False)
class _Spread:
    """The scatter within classes in its own axes."""

    axes: _Doubles  # [d d], columns
    scatter: _Doubles  # [d], eigenvalues of (n - 1) S
    residuals: _Doubles  # [n d], vectors minus the mean of their class, in these axes
    means: _Doubles  # [c d], in these axes


@_once
def _spread(shots: Shots) -> _Spread:
    if len(shots.labels) < len(shots.classes) + 1:
        raise DataError("gda needs at least two images of a class to see how images differ within it: use clap")
    residuals = shots.vectors.astype(np.float64) - shots.means[shots.labels]
    scatter, axes = np.linalg.eigh(residuals.T @ residuals)
    if scatter.sum() <= 1e-9 * len(residuals):
        raise DataError("gda needs images that differ within a class; all of each class are the same: use clap")
    return _Spread(axes, np.maximum(scatter, 0), residuals @ axes, shots.means @ axes)


def fit_gda(shots: Shots, *, alpha: float | None = None) -> LinearFit:
    """The head of GDA. Without `alpha`, alpha and a temperature are those that are best on the images themselves, each
    left out in turn; with it, the logits are those of the equations."""
    weights, bias = gaussian_head(shots)
    inverse_temperature, facts = 1.0, {"alpha": alpha, "alpha_chosen_by": "given"}
    if alpha is None:
        gaussian = leave_one_out_gaussian(shots)
        alpha = float(ALPHAS[_right_left_out(shots).sum(axis=1).argmax()])  # of equal ones the smallest
        inverse_temperature = _best_inverse_temperature(shots.zero_shot_logits + alpha * gaussian, shots.labels)
        facts = {"alpha": alpha, "alpha_chosen_by": "leave-one-out", "temperature": 1 / inverse_temperature}
    return LinearFit(
        weights=np.asarray(
            inverse_temperature * (shots.logit_scale * shots.class_vectors + alpha * weights), dtype=np.float32
        ),
        bias=np.asarray(inverse_temperature * alpha * bias, dtype=np.float32),
        facts=facts,
    )


def gaussian_head(shots: Shots) -> tuple[Vectors, Vectors]:
    """W [c d] and b [c] of the equations above."""
    spread = _spread(shots)
    ridge = spread.scatter.sum() / (len(shots.labels) - 1)  # tr(S)
    scaled = spread.means * (len(spread.scatter) / (spread.scatter + ridge))  # P mu, in the axes
    bias = -np.log(len(shots.classes)) - 0.5 * (scaled * spread.means).sum(axis=1)
    return np.asarray(scaled @ spread.axes.T, dtype=np.float32), np.asarray(bias, dtype=np.float32)


@_once
def leave_one_out_gaussian(shots: Shots) -> Vectors:
    """For each image, f W' + b of the head fitted without it, float32 [n c]. Exact."""
    shots.at_least(2, "leaving one out")
    if len(shots.labels) < 3:
        raise DataError("leaving one of two images out needs a third, to see how images differ within their class")
    spread = _spread(shots)
    n, d = spread.residuals.shape
    own = shots.counts[shots.labels].astype(np.float64)  # [n], images of its class
    factor = own / (own - 1)  # the scatter without image i is that of all, minus factor r r'
    removed = factor * (spread.residuals**2).sum(axis=1)
    # with duplicates the others may have no scatter at all
    ridge = np.maximum(spread.scatter.sum() - removed, 1e-6 * spread.scatter.sum()) / (n - 2)
    inverse = d / (spread.scatter + ridge[:, None])  # [n d], of the scatter of all with the ridge of the others
    images = spread.residuals + spread.means[shots.labels]

    left, means = spread.residuals * inverse, spread.means.T
    # with A the rest, times 1 / d: (A - k r r' / d)^-1 = A^-1 + A^-1 r r' A^-1 k / (d - k r' A^-1 r)
    gain = factor / (d - factor * (left * spread.residuals).sum(axis=1))
    residual_means = left @ means  # r' A^-1 mu_c
    residual_image = (left * images).sum(axis=1)
    cross = (images * inverse) @ means + (gain * residual_image)[:, None] * residual_means
    quadratic = inverse @ means**2 + gain[:, None] * residual_means**2

    # the mean of its own class moves as well: mu - r / (count - 1)
    rows, moved = np.arange(n), spread.means[shots.labels] - spread.residuals / (own - 1)[:, None]
    residual_moved = (left * moved).sum(axis=1)
    cross[rows, shots.labels] = (images * inverse * moved).sum(axis=1) + gain * residual_image * residual_moved
    quadratic[rows, shots.labels] = (inverse * moved**2).sum(axis=1) + gain * residual_moved**2
    return np.asarray(cross - 0.5 * quadratic - np.log(len(shots.classes)), dtype=np.float32)


def leave_one_out(shots: Shots) -> Vectors:
    """For each image, the logits of the head fitted without it, alpha chosen by the other images' outcomes alone:
    float32 [n c]. The temperature is that of all images."""
    gaussian = leave_one_out_gaussian(shots)
    right = _right_left_out(shots)
    others = right.sum(axis=1, keepdims=True) - right
    logits = shots.zero_shot_logits + ALPHAS[others.argmax(axis=0)][:, None] * gaussian
    return np.asarray(_best_inverse_temperature(logits, shots.labels) * logits, dtype=np.float32)


@_once
def _right_left_out(shots: Shots) -> NDArray[np.int64]:
    return _right(shots, leave_one_out_gaussian(shots))


def _right(shots: Shots, gaussian: Vectors) -> NDArray[np.int64]:
    """Whether each alpha's answer is right for each image, [a n]; a tie is not."""
    result = np.empty((len(ALPHAS), len(shots.labels)), dtype=np.int64)
    rows = np.arange(len(shots.labels))
    for place, alpha in enumerate(ALPHAS):
        logits = shots.zero_shot_logits + alpha * gaussian
        own = logits[rows, shots.labels]
        result[place] = (logits >= own[:, None]).sum(axis=1) == 1
    return result


def _best_inverse_temperature(logits: Vectors, labels: NDArray[np.int64]) -> float:
    """The factor of the logits under which the labels are most probable."""
    losses = [cross_entropy(factor * logits, labels)[0] for factor in INVERSE_TEMPERATURES]
    return float(INVERSE_TEMPERATURES[int(np.argmin(losses))])
