"""Windows, maps and boxes: geometry and arithmetic alone."""

import numpy as np
import pytest

from tandem.localization.boxes import Box, find_boxes, peak
from tandem.localization.maps import best_mean, competing, log_odds_of_shares, map_size, resized, spread
from tandem.localization.windows import MOST_ALONG, window_grid


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (100, 3000), (7, 5), (64, 64), (1, 50_000)])
def test_windows_cover_an_image_of_any_size_and_stay_inside(width: int, height: int) -> None:
    for scale in (1.0, 0.5, 0.25):
        grid = window_grid(width, height, scale, 0.5)
        boxes = np.array(grid.boxes)
        assert len(boxes) == len(grid) <= MOST_ALONG**2
        assert boxes[:, :2].min() == 0
        np.testing.assert_allclose(boxes[:, 2:].max(axis=0), (width, height))
        np.testing.assert_allclose(boxes[:, 2] - boxes[:, 0], scale * min(width, height))


def test_windows_stand_as_close_as_asked() -> None:
    grid = window_grid(1000, 400, 0.5, 0.25)
    for starts in (grid.tops, grid.lefts):
        assert np.diff(starts).max() <= 0.25 * grid.side + 1e-9
    assert len(window_grid(1000, 400, 1.0, 0.25).tops) == 1


def test_naclips_windows_over_a_photo_are_the_papers() -> None:
    """A shorter side of 336, windows of 224, 112 apart (Hajimiri et al. 2024)."""
    grid = window_grid(448, 336, 2 / 3, 0.5)
    assert grid.side == pytest.approx(224)
    np.testing.assert_allclose(grid.tops, [0, 112])
    np.testing.assert_allclose(grid.lefts, [0, 112, 224])


def test_a_map_peaks_where_the_place_is_and_falls_off_to_the_edge() -> None:
    rows, columns = np.array([20.0, 50.0, 80.0]), np.array([20.0, 60.0, 100.0, 140.0])
    for at in ((0, 0), (1, 2), (2, 3)):
        scores = np.zeros((3, 4, 2), np.float32)
        scores[(*at, 1)] = 1
        maps = spread(scores, rows, columns, 40, 0.25, (100, 160), map_size(160, 100, 80))
        assert maps.shape == (2, 50, 80)
        assert not maps[0].any()
        x, y = peak(maps[1], 160, 100)
        assert abs(x - columns[at[1]]) <= 4
        assert abs(y - rows[at[0]]) <= 4


def test_texts_share_each_place_with_one_another_and_with_nothing() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32) * 5
    shares, odds = competing(logits), np.exp(logits.astype(np.float64))
    expected = odds / (1 + odds.sum(axis=0))
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    np.testing.assert_allclose(log_odds_of_shares(logits), np.log(expected / (1 - expected)), atol=1e-4)
    assert np.array_equal(log_odds_of_shares(logits[:1]), logits[:1])
    assert np.isfinite(log_odds_of_shares(logits * 100)).all()


def test_the_best_places_are_averaged() -> None:
    logits = [np.array([[1.0, 0.0], [5.0, 0.0]], np.float32), np.array([[3.0, 9.0]], np.float32)]
    np.testing.assert_allclose(best_mean(logits, 2), [4.0, 4.5])
    np.testing.assert_allclose(best_mean(logits, 10), [3.0, 3.0])


def test_a_map_at_another_size_is_bilinear() -> None:
    heat = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(resized(heat, 4, 3), heat)
    twice = resized(heat, 8, 6)
    assert twice.shape == (6, 8)
    np.testing.assert_allclose(twice[1:-1:2, 1:-1:2][0, 0], heat[0, 0] + 0.25 * 1 + 0.25 * 4)


def test_boxes_are_in_pixels_of_the_image_and_begin_with_the_peak() -> None:
    logits = np.full((50, 100), -4, np.float32)
    logits[10:20, 30:50] = 2
    logits[30:44, 70:80] = 4
    logits[5, 5] = 3  # a speck
    first, second = find_boxes(logits, 1 / (1 + np.exp(-logits)), 0.6, 1000, 500)
    assert first.edges == (700, 300, 800, 440)
    assert second.edges == (300, 100, 500, 200)
    assert first.heat > second.heat > 0.8
    assert peak(logits, 1000, 500) == (705, 305)


def test_a_regions_level_counts_from_the_ground_and_not_from_its_deepest_hole() -> None:
    logits = np.full((10, 10), 0, np.float32)
    logits[0, 0] = -1000
    logits[4:6, 4:6] = 10
    (box,) = find_boxes(logits, logits / 10, 0.5, 10, 10)
    assert box.edges == (4, 4, 6, 6)


def test_a_region_reaches_to_its_level_and_all_of_a_flat_map_is_one() -> None:
    logits = np.zeros((10, 10), np.float32)
    logits[2:6, 2:6], logits[3, 3] = 5, 10
    (box,) = find_boxes(logits, logits / 10, 0.5, 10, 10)
    assert box.edges == (2, 2, 6, 6)
    (whole,) = find_boxes(np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32), 0.5, 8, 8)
    assert whole.edges == (0, 0, 8, 8)


def test_the_score_of_a_place_is_spread_by_a_gaussian_of_that_bandwidth() -> None:
    """Two places, 1 and 0, with what is outside at their median: at a place the others count exp(-(d / b)^2 / 2)."""
    scores = np.array([1.0, 0.0, 0.0], np.float32).reshape(1, 3, 1)
    (found,) = spread(scores, np.array([5.0]), np.array([5.0, 15.0, 25.0]), 10, 1.0, (10, 30), (1, 3))
    weights = np.exp(-(np.array([-1.0, 0, 1, 2, 3]) ** 2) / 2)  # places at -5, 5, 15, 25, 35, seen from 5
    rows = np.exp(-(np.array([-1.0, 0, 1]) ** 2) / 2)
    np.testing.assert_allclose(found[0, 0], weights[1] / weights.sum() * rows[1] / rows.sum(), rtol=1e-5)


def test_outside_of_an_image_is_what_its_places_have_in_the_middle() -> None:
    scores = np.full((2, 3, 1), 7, np.float32)
    (found,) = spread(scores, np.array([5.0, 15.0]), np.array([5.0, 15.0, 25.0]), 10, 0.5, (20, 30), (20, 30))
    np.testing.assert_allclose(found, 7, rtol=1e-6)


def test_overlap_is_intersection_over_union() -> None:
    box = Box(0, 0, 10, 10, 1.0)
    assert box.overlap((0, 0, 10, 10)) == 1
    assert box.overlap((5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert box.overlap((20, 20, 30, 30)) == 0
