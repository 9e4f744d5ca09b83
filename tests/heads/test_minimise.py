"""L-BFGS on functions whose minimum is known."""

import numpy as np
import pytest

from tandem.heads.minimise import Parameters, minimise


def rosenbrock(at: Parameters) -> tuple[float, Parameters]:
    x, y = (float(value) for value in at)
    gradient = [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)]
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2, np.array(gradient, dtype=np.float32)


def test_it_follows_a_curved_valley_to_its_end() -> None:
    end = minimise(rosenbrock, np.array([-1.2, 1.0], dtype=np.float32), tolerance=1e-3)
    assert end.converged
    assert np.allclose(end.parameters, [1, 1], atol=2e-3)


def test_the_diagonal_of_a_quadratic_leads_there_at_once() -> None:
    curvature = np.geomspace(1e-3, 1e3, 50, dtype=np.float32)

    def quadratic(at: Parameters) -> tuple[float, Parameters]:
        return float(0.5 * (curvature * (at - 1) ** 2).sum()), curvature * (at - 1)

    start = np.zeros(50, dtype=np.float32)
    known = minimise(quadratic, start, tolerance=1e-5, diagonal=curvature)
    unknown = minimise(quadratic, start, tolerance=1e-5)
    assert known.converged
    assert known.iterations <= 2  # one, and what float32 rounded
    assert unknown.iterations > 20
    assert np.allclose(known.parameters, 1, atol=1e-4)


def test_it_stops_where_it_begins_at_the_minimum_and_says_when_it_was_stopped() -> None:
    assert minimise(rosenbrock, np.ones(2, dtype=np.float32), tolerance=1e-3).iterations == 0
    early = minimise(rosenbrock, np.array([-1.2, 1.0], dtype=np.float32), tolerance=1e-3, iterations=3)
    assert (early.iterations, early.converged) == (3, False)


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_a_function_without_a_minimum_ends(slope: float) -> None:
    def line(at: Parameters) -> tuple[float, Parameters]:
        return float(slope * at[0]), np.array([slope], dtype=np.float32)

    assert not minimise(line, np.zeros(1, dtype=np.float32), tolerance=1e-3, iterations=20).converged
