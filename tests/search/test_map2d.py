"""Maps: neighbours stay neighbours, everything has its place, and the same vectors give the same map."""

import numpy as np
import pytest
from test_clusters import heaps
from test_duplicates import near, scattered

from tandem.search.exploring import map2d


@pytest.fixture(autouse=True)
def fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map2d, "EARLY", 100)
    monkeypatch.setattr(map2d, "LATE", 150)


def kept_neighbours(which: np.ndarray, places: np.ndarray, among: np.ndarray, of: np.ndarray) -> float:
    """How often the nearest of `among` on the map is of the same heap."""
    apart = ((places[:, None] - among[None]) ** 2).sum(axis=-1)
    apart[apart == 0] = np.inf
    return float((of[apart.argmin(axis=1)] == which).mean())


@pytest.mark.slow
def test_heaps_stay_together_and_new_vectors_join_them() -> None:
    vectors, which = heaps([30] * 12)
    landmarks, own = vectors[:260], which[:260]
    layout = map2d.lay_out(landmarks)
    assert kept_neighbours(own, layout.coordinates, layout.coordinates, own) > 0.97
    placed = layout.place(vectors[260:])
    assert kept_neighbours(which[260:], placed, layout.coordinates, own) > 0.97
    # Two principal components cannot tell twelve heaps apart.
    start = map2d._start(landmarks, 0)
    assert kept_neighbours(own, start, start, own) < 0.9


@pytest.mark.slow
def test_the_same_seed_gives_the_same_map() -> None:
    vectors = scattered(120)
    first, second, other = (map2d.lay_out(vectors, seed=seed).coordinates for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-3


def test_a_landmark_keeps_its_place_and_the_map_has_its_frame() -> None:
    vectors = scattered(300)
    layout = map2d.lay_out(vectors)
    np.testing.assert_array_equal(layout.place(vectors), layout.coordinates)
    low, high = np.percentile(layout.coordinates, [1, 99], axis=0)
    np.testing.assert_allclose((low + high) / 2, 0, atol=1e-5)
    assert (high - low).max() == pytest.approx(2, abs=1e-4)


def test_a_vector_between_two_heaps_is_not_put_on_empty_ground() -> None:
    vectors, which = heaps([40, 40])
    layout = map2d.lay_out(vectors)
    between = layout.place((vectors[which == 0][:5] + vectors[which == 1][:5]) / np.float32(np.sqrt(2)))
    nearest = np.sqrt(((between[:, None] - layout.coordinates[None]) ** 2).sum(axis=-1)).min(axis=1)
    middles = [layout.coordinates[which == heap].mean(axis=0) for heap in (0, 1)]
    assert nearest.max() < np.linalg.norm(middles[0] - middles[1]) / 4


def test_repulsion_by_fft_is_that_of_all_pairs() -> None:
    places = np.random.default_rng(0).normal(0, 3, (400, 2))
    apart = places[:, None] - places[None]
    kernel = 1 / (1 + (apart**2).sum(axis=-1))
    exact = (apart * (kernel**2)[..., None]).sum(axis=1) / (kernel.sum() - len(places))
    np.testing.assert_allclose(map2d._repulsion(places[:100]), map2d._repulsion_by_grid(places[:100]), atol=1e-4)
    approximate = map2d._repulsion(places)
    assert np.abs(approximate - exact).max() < 0.1 * np.abs(exact).max()
    assert np.corrcoef(approximate.ravel(), exact.ravel())[0, 1] > 0.999


def test_attraction_is_that_of_every_pair_written_out() -> None:
    """Each point is pulled to its neighbours, and they to it: the gradient's first part for symmetric affinities."""
    dice = np.random.default_rng(0)
    places, k = dice.normal(0, 2, (20, 2)), 3
    neighbours = np.array([dice.choice(np.delete(np.arange(20), i), k, replace=False) for i in range(20)])
    wanted = np.zeros((20, 2))
    for i in range(20):
        for j in neighbours[i]:
            apart = places[i] - places[j]
            pull = apart / (1 + apart @ apart) / (2 * 20 * k)
            wanted[i] += pull
            wanted[j] -= pull
    np.testing.assert_allclose(map2d._attraction(places, neighbours), wanted, atol=1e-15)


@pytest.mark.parametrize("factors", [(5, 1), (1, 5)])
def test_a_map_is_wider_than_high(factors: tuple[int, int]) -> None:
    places = np.random.default_rng(0).normal(size=(500, 2)) * factors + 7
    framed = map2d._framed(places)
    low, high = np.percentile(framed, [1, 99], axis=0)
    assert high - low == pytest.approx([2, 0.4], rel=0.2)
    np.testing.assert_allclose((low + high) / 2, 0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 17])
def test_any_number_of_vectors_has_a_map(count: int) -> None:
    steps: list[int] = []
    layout = map2d.lay_out(scattered(count), advance=steps.append)
    assert layout.coordinates.shape == (count, 2)
    assert np.isfinite(layout.coordinates).all()
    assert layout.place(scattered(5, seed=3)).shape == (5, 2)
    assert layout.place(scattered(5)[:0]).shape == (0, 2)


def test_equal_vectors_part_or_stay_but_never_break() -> None:
    layout = map2d.lay_out(np.repeat(scattered(2), 30, axis=0))
    assert np.isfinite(layout.coordinates).all()


def test_many_landmarks_are_indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map2d, "EARLY", 3)
    monkeypatch.setattr(map2d, "LATE", 3)
    base = scattered(60, 16)
    vectors = near(np.repeat(base, 75, axis=0), 0.95)
    layout = map2d.lay_out(vectors)
    neighbours = map2d._neighbours(layout.landmarks, layout._index)
    assert (neighbours // 75 == np.arange(len(vectors))[:, None] // 75).mean() > 0.95
    assert (neighbours != np.arange(len(vectors))[:, None]).mean() > 0.99
