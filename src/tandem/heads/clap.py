"""CLAP and ZS-LP: a cosine softmax classifier that begins at the class vectors, and is held near them.

Silva-Rodriguez et al. 2024, "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models", equations 3-8:

    J(W) = 1/n sum_i CE(s f_i w_c / |w_c|, y_i) + sum_c lambda_c |w_c - t_c|^2

lambda_c is the mean zero-shot probability of c on its own images: what zero-shot knows well is held more. ZS-LP is the
same with lambda = 0. No validation set, no hyper-parameter.

Their schedule (SGD, 300 epochs) is a way to a minimum. Here it is found by L-BFGS, so that the result depends on
neither order nor seed. J depends on |w_c| in the penalty alone, where the best length is the cosine u_c t_c of the
direction u_c = w_c / |w_c| (0 if negative). So what is minimised is a function of directions,

    CE(s f_i u_c, y_i) + sum_c lambda_c (1 - max(u_c t_c, 0)^2)

with J's minima, and five times fewer steps. It is not convex, since lengths are 1; from other starts the same value was
reached in practice (docs/log.md).

Shapes: n images, d the shared dimension, c classes.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.heads.linear import LinearFit
from tandem.heads.minimise import Objective, minimise
from tandem.heads.shots import Shots
from tandem.heads.softmax import cross_entropy
from tandem.scores.scoring import softmax

TOLERANCE = 1e-5  # of the gradient's largest entry over the scale; accuracy does not change below it (docs/log.md)
ITERATIONS = 300  # ZS-LP has no minimum to reach where the images can be separated: it stops here, or on a plateau


def fit_clap(shots: Shots) -> LinearFit:
    """The head of CLAP."""
    return _fit(shots, penalties(shots))


def fit_zs_lp(shots: Shots) -> LinearFit:
    """The head of ZS-LP: CLAP without a penalty."""
    return _fit(shots, np.zeros(len(shots.classes), dtype=np.float32))


def penalties(shots: Shots) -> NDArray[np.float32]:
    """lambda: the mean zero-shot probability of each class on its own images, float32 [c] (equation 8)."""
    own = softmax(shots.zero_shot_logits)[np.arange(len(shots.labels)), shots.labels]
    return np.asarray(np.bincount(shots.labels, own, len(shots.classes)) / shots.counts, dtype=np.float32)


def _fit(shots: Shots, penalty: NDArray[np.float32]) -> LinearFit:
    end = minimise(
        objective_of_directions(shots, penalty),
        shots.class_vectors,
        tolerance=TOLERANCE * shots.logit_scale,
        iterations=ITERATIONS,
    )
    directions = end.parameters / np.linalg.norm(end.parameters, axis=1, keepdims=True)
    return LinearFit(
        weights=np.asarray(shots.logit_scale * directions, dtype=np.float32),
        bias=np.zeros(len(shots.classes), dtype=np.float32),
        facts={"iterations": end.iterations, "converged": end.converged, "penalty_mean": float(penalty.mean())},
    )


def objective_of_directions(shots: Shots, penalty: NDArray[np.float32]) -> Objective:
    """The objective above of weights [c d] of any lengths: its value and its gradient."""
    scale = np.float32(shots.logit_scale)

    def objective(weights: Vectors) -> tuple[float, Vectors]:
        lengths = np.linalg.norm(weights, axis=1, keepdims=True)
        directions = weights / lengths
        loss, errors = cross_entropy(scale * (shots.vectors @ directions.T), shots.labels)
        cosines = np.maximum((directions * shots.class_vectors).sum(axis=1), 0)
        loss += float((penalty * (1 - cosines**2)).sum())
        gradient = (scale / np.float32(len(shots.labels))) * (errors.T @ shots.vectors)  # [c n] @ [n d] -> [c d]
        gradient -= (2 * penalty * cosines)[:, None] * shots.class_vectors
        # lengths do not matter: what points along the weights falls away
        gradient -= (gradient * directions).sum(axis=1, keepdims=True) * directions
        return loss, gradient / lengths

    return objective
