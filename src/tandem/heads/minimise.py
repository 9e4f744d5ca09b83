"""A minimum of a smooth function by L-BFGS, in numpy. It knows no vectors, no labels and no objective.

Written here, since scipy is no dependency of Tandem, and since a diagonal preconditioner halves the work (docs/log.md).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Parameters = NDArray[np.float32]
Objective = Callable[[Parameters], tuple[float, Parameters]]  # the value there, and its gradient in the same shape

HISTORY = 10  # pairs of steps that stand for the curvature
SUFFICIENT_DECREASE = 1e-4  # Armijo's constant (Nocedal and Wright 2006, algorithm 3.5)
CURVATURE = 0.9  # Wolfe's
VALUE_NOISE = (
    1e-6  # of the value: float32 knows no more of it, and the slope alone decides below (Hager and Zhang 2005)
)
LINE_SEARCH_STEPS = 20


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where the search ended: `gradient` is the largest entry there, `converged` whether it stopped by itself."""

    parameters: Parameters
    value: float
    gradient: float
    iterations: int
    evaluations: int
    converged: bool


def _dot(left: Parameters, right: Parameters) -> float:
    return float(np.dot(left.ravel(), right.ravel()))


def minimise(
    objective: Objective,
    start: Parameters,
    *,
    tolerance: float,
    decrement: float = 0.0,
    iterations: int = 1000,
    diagonal: Parameters | None = None,
) -> Minimum:
    """L-BFGS (Nocedal and Wright 2006, algorithm 7.5) until no entry of the gradient exceeds `tolerance`, or until a
    whole step would lower the value by a share of no more than `decrement`: g' H^-1 g / 2, with the curvature seen so
    far as H.

    `diagonal` is an estimate of the Hessian's diagonal, positive, in the shape of the parameters. Deterministic. A
    search that can get no lower within float32 ends where it is, `converged` or not.
    """
    inverse = np.float32(1) if diagonal is None else (1 / diagonal).astype(np.float32)
    here = np.array(start, dtype=np.float32)
    value, gradient = objective(here)
    evaluations = 1
    steps: list[tuple[Parameters, Parameters, float]] = []  # (step, change of the gradient, 1 / their product)
    scale = 1.0 if diagonal is not None else 1 / max(float(np.linalg.norm(gradient)), 1e-12)
    iteration, near = 0, False
    while iteration < iterations and float(np.abs(gradient).max()) > tolerance:
        direction = -_inverse_hessian_product(gradient, steps, inverse, scale)
        slope = _dot(gradient, direction)
        if (steps or diagonal is not None) and 0 <= -0.5 * slope <= decrement * abs(value):
            near = True
            break
        if slope >= 0:  # the curvature that is remembered is wrong here: begin again with the steepest descent
            steps.clear()
            direction = -inverse * gradient
            slope = _dot(gradient, direction)
        found, used = _line_search(objective, here, value, direction, slope)
        evaluations += used
        if found is None:
            if not steps:
                break
            steps.clear()
            continue
        length, value, after = found
        step, change = np.float32(length) * direction, after - gradient
        here, gradient = here + step, after
        product = _dot(step, change)
        if product > 0:
            steps = [*steps[-HISTORY + 1 :], (step, change, 1 / product)]
            scale = product / _dot(change, inverse * change)
        iteration += 1
    largest = float(np.abs(gradient).max())
    return Minimum(here, value, largest, iteration, evaluations, near or largest <= tolerance)


def _inverse_hessian_product(
    gradient: Parameters,
    steps: list[tuple[Parameters, Parameters, float]],
    inverse: Parameters | np.float32,
    scale: float,
) -> Parameters:
    """The two loops of L-BFGS (algorithm 7.4), from `scale * inverse` as the first guess."""
    result = gradient.copy()
    weights = []
    for step, change, reciprocal in reversed(steps):
        weight = reciprocal * _dot(step, result)
        weights.append(weight)
        result -= np.float32(weight) * change
    result = np.float32(scale) * inverse * result
    for (step, change, reciprocal), weight in zip(steps, reversed(weights), strict=True):
        result += np.float32(weight - reciprocal * _dot(change, result)) * step
    return result


def _line_search(
    objective: Objective, here: Parameters, value: float, direction: Parameters, slope: float
) -> tuple[tuple[float, float, Parameters] | None, int]:
    """A length that satisfies Wolfe's conditions, by bisection: (length, value, gradient), and how often it looked."""
    low, high, length = 0.0, np.inf, 1.0
    noise = VALUE_NOISE * abs(value)
    for looked in range(1, LINE_SEARCH_STEPS + 1):
        new_value, new_gradient = objective(here + np.float32(length) * direction)
        new_slope = _dot(new_gradient, direction)
        lower = new_value <= value + SUFFICIENT_DECREASE * length * slope
        level = new_value <= value + noise and new_slope <= (2 * SUFFICIENT_DECREASE - 1) * slope
        if not (lower or level):
            high = length
        elif new_slope < CURVATURE * slope:
            low = length
        else:
            return (length, new_value, new_gradient), looked
        length = (low + high) / 2 if np.isfinite(high) else 2 * length
    return None, LINE_SEARCH_STEPS
