"""Clusters: found again where they were made, and the same each time."""

import numpy as np
import pytest
from test_duplicates import near, scattered

from tandem.arrays import Vectors
from tandem.search.exploring import clusters


def heaps(counts: list[int], dimensions: int = 16) -> tuple[Vectors, np.ndarray]:
    """Vectors around as many directions, and which they are around, shuffled."""
    centres = np.eye(dimensions, dtype=np.float32)[: len(counts)]
    which = np.repeat(np.arange(len(counts)), counts)
    order = np.random.default_rng(0).permutation(len(which))
    return near(centres[which], 0.9)[order], which[order]


def test_heaps_are_found_and_the_largest_comes_first() -> None:
    vectors, which = heaps([10, 60, 30, 20])
    found, scores = clusters.assign(vectors, clusters.find_centres(vectors, 4))
    assert [set(which[found == cluster]) for cluster in range(4)] == [{1}, {2}, {3}, {0}]
    assert scores.min() > 0.7


def test_the_same_seed_gives_the_same_centres() -> None:
    vectors = scattered(500)
    first, second = (clusters.find_centres(vectors, 9, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - clusters.find_centres(vectors, 9, seed=4)).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


def test_there_are_never_more_clusters_than_different_vectors() -> None:
    same = np.repeat(scattered(3), 10, axis=0)
    assert len(clusters.find_centres(same, 8)) == 3
    assert len(clusters.find_centres(same[:1], 8)) == 1


def test_the_number_grows_with_the_collection() -> None:
    counts = [clusters.choose_count(count) for count in (1, 2, 40, 1000, 10_000, 100_000, 10**6, 10**8)]
    assert counts == [1, 2, 5, 15, 32, 70, 100, 100]


def test_a_census_in_batches_says_what_one_of_all_says() -> None:
    vectors, _ = heaps([40, 30, 20])
    ids = [f"{i:03d}" for i in range(len(vectors))]
    centres = clusters.find_centres(vectors, 3)
    whole, parts = clusters.Census(centres), clusters.Census(centres)
    all_at_once = whole.add(ids, vectors)
    in_parts = [parts.add(ids[i : i + 7], vectors[i : i + 7]) for i in range(0, len(ids), 7)]
    np.testing.assert_array_equal(np.concatenate(in_parts), all_at_once)
    assert parts.sizes.tolist() == [40, 30, 20]
    np.testing.assert_allclose(parts.coherence(), whole.coherence())
    scores = vectors @ centres.T
    for cluster in range(3):
        nearest = [int(id) for _, id in parts.nearest[cluster]]
        wanted = np.argsort(-np.where(all_at_once == cluster, scores[:, cluster], -2))[: clusters.REPRESENTATIVES]
        assert nearest == wanted.tolist()
        assert parts.coherence()[cluster] == pytest.approx(scores[all_at_once == cluster, cluster].mean(), abs=1e-6)


def test_each_cluster_keeps_eight_images() -> None:
    """What documents and the map show. Images that are equally near come in the order of their ids."""
    vectors = np.repeat(np.eye(4, dtype=np.float32)[:2], 12, axis=0)
    census = clusters.Census(vectors[[0, 12]])
    order = np.random.default_rng(0).permutation(24)
    for part in np.split(order, 6):
        census.add([f"{i:02d}" for i in part], vectors[part])
    assert [[id for _, id in nearest] for nearest in census.nearest] == [
        sorted(f"{i:02d}" for i in order[order < 12])[:8],
        sorted(f"{i:02d}" for i in order[order >= 12])[:8],
    ]
