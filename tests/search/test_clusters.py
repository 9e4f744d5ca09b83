"""Clusters: found again where they were made, the same each time, and named by what sets them apart."""

from pathlib import Path

import numpy as np
import pytest
from test_duplicates import near, scattered, unit

from tandem.arrays import Vectors
from tandem.errors import TandemError
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


def test_names_say_what_sets_a_cluster_apart() -> None:
    """Images and words in two cones, as contrastive models have them, and one word that is near to all images."""
    vectors, which = heaps([30, 20, 10])
    gap = np.zeros(16)
    gap[15] = 2
    images = unit(vectors + gap)
    meanings = np.eye(16)[:6] - gap / 3
    meanings[3] = gap  # the hub: by cosine it is every cluster's nearest word
    word_vectors = unit(meanings)
    words = ["cat", "dog", "boat", "image", "unseen", "also unseen"]
    assert set((images @ word_vectors.T).argmax(axis=1)) == {3}
    names = clusters.name(images, which.astype(np.int32), 3, words, word_vectors, 20.0)
    assert [described[0] for described in names] == ["cat", "dog", "boat"]
    assert all(len(described) == clusters.WORDS == len(set(described)) for described in names)


def test_each_cluster_keeps_eight_images_and_is_described_by_three_words() -> None:
    """What documents and the map show of a cluster. Images that are equally near come in the order of their ids."""
    vectors = np.repeat(np.eye(4, dtype=np.float32)[:2], 12, axis=0)
    census = clusters.Census(vectors[[0, 12]])
    order = np.random.default_rng(0).permutation(24)
    for part in np.split(order, 6):
        census.add([f"{i:02d}" for i in part], vectors[part])
    assert [[id for _, id in nearest] for nearest in census.nearest] == [
        sorted(f"{i:02d}" for i in order[order < 12])[:8],
        sorted(f"{i:02d}" for i in order[order >= 12])[:8],
    ]
    words = [f"word {i}" for i in range(6)]
    names = clusters.name(vectors, np.repeat([0, 1], 12).astype(np.int32), 2, words, scattered(6, 4), 10.0)
    assert [len(set(described)) for described in names] == [3, 3]


def test_names_weigh_words_at_the_scale_of_the_model() -> None:
    """A word that is a little nearer to all images counts little at a small scale, and all at a large one."""
    vectors = unit(np.array([[1, 0.2, 0], [1, -0.2, 0]])).repeat(10, axis=0)
    which = np.repeat([0, 1], 10).astype(np.int32)
    words = ["left", "right", "far left"]
    meanings = unit(np.array([[1, 0.3, 0], [1, -0.3, 0], [0, 1, 0]]))
    logits = {scale: scale * vectors @ meanings.T for scale in (1.0, 100.0)}
    for scale, each in logits.items():
        shares = np.exp(each - each.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        of_left, everywhere = shares[:10].mean(0), shares.mean(0)
        weights = of_left * np.log((of_left + 1e-6) / (everywhere + 1e-6))
        wanted = words[int(weights.argmax())]
        assert clusters.name(vectors, which, 2, words, meanings, scale)[0][0] == wanted
    assert {clusters.name(vectors, which, 2, words, meanings, scale)[0][0] for scale in logits} == {"left", "far left"}


def test_no_two_clusters_have_one_name() -> None:
    vectors = scattered(200)
    members, _ = clusters.assign(vectors, clusters.find_centres(vectors, 12))
    words = [f"word {i}" for i in range(12)]
    meanings = unit(np.ones((12, 32)) + 1e-3 * scattered(12, seed=9))  # as good as one word
    names = clusters.name(vectors, members, 12, words, meanings, 10.0)
    assert len({described[0] for described in names}) == 12
    with pytest.raises(TandemError, match="at least 12 words"):
        clusters.name(vectors, members, 12, words[:11], meanings[:11], 10.0)


def test_our_vocabulary_is_clean_and_a_file_may_replace_it(tmp_path: Path) -> None:
    words = clusters.read_vocabulary()
    assert len(words) > 1000
    assert all(word == word.strip() and len(word) < 24 for word in words)
    file = tmp_path / "words.txt"
    file.write_text("# mine\ncat\n\n dog \n")
    assert clusters.read_vocabulary(file) == ["cat", "dog"]
