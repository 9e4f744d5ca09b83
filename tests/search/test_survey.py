"""The survey: who is in which cluster and where, in one scan; and its numbers as documents have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_duplicates import unit

from tandem.arrays import Vectors
from tandem.search.exploring.survey import Cluster, Representative, heart, survey, survey_rows, take_sample
from tandem.search.stores.backends import create_store
from tandem.search.stores.protocol import Records, Schema, Store

N, D = 60, 4


class FirstTwo:
    """A layout whose places are the first two coordinates."""

    def place(self, vectors: Vectors) -> Any:
        return np.ascontiguousarray(vectors[:, :2])


@pytest.fixture
def vectors() -> Vectors:
    """Around three directions, ever less tightly."""
    dice = np.random.default_rng(0)
    spread = np.repeat([0.05, 0.2, 0.4], [30, 20, 10])[:, None]
    return unit(np.eye(3, D)[np.repeat([0, 1, 2], [30, 20, 10])] + spread * dice.standard_normal((N, D)))


@pytest.fixture
def store(tmp_path: Path, vectors: Vectors) -> Iterator[Store]:
    store = create_store(str(tmp_path / "photos.tandem"), Schema(D, {"path": "text", "width": "integer"}), {})
    ids = [f"{i:03d}" for i in range(N)]
    store.upsert(Records(ids, vectors, {"path": [f"{each}.jpg" for each in ids], "width": list(range(N))}))
    yield store
    store.close()


def test_each_cluster_has_its_own_size_coherence_and_representatives(store: Store, vectors: Vectors) -> None:
    centres = np.eye(3, D, dtype=np.float32)
    seen: list[tuple[str, str, int]] = []
    found = survey(
        store, FirstTwo(), centres, [("a", "x"), ("b",), ("c",)], columns=["path"],  # type: ignore[arg-type]
        each=lambda records, places, clusters: seen.extend(
            zip(records.ids, records.columns["path"], clusters.tolist(), strict=True)  # type: ignore[arg-type]
        ),
    )  # fmt: skip
    scores = vectors @ centres.T
    nearest = scores.argmax(axis=1)
    np.testing.assert_array_equal(found.cluster_of, nearest)
    np.testing.assert_array_equal(found.coordinates, vectors[:, :2])
    assert seen == [(f"{i:03d}", f"{i:03d}.jpg", int(nearest[i])) for i in range(N)]
    assert [cluster.words for cluster in found.clusters] == [("a", "x"), ("b",), ("c",)]
    for number, cluster in enumerate(found.clusters):
        members = np.flatnonzero(nearest == number)
        own = scores[members, number]
        assert (cluster.name, cluster.size) == ("abc"[number], len(members))
        assert cluster.coherence == pytest.approx(own.mean(), abs=1e-6)
        best = members[np.argsort(-own)[:8]]
        assert [each.id for each in cluster.representatives] == [f"{i:03d}" for i in best]
        places = np.array([(each.x, each.y) for each in cluster.representatives])
        np.testing.assert_allclose(places, vectors[best, :2], atol=1e-6)
        assert (cluster.x, cluster.y) == heart(vectors[members, :2])
    assert len({round(cluster.coherence, 2) for cluster in found.clusters}) == 3


def test_a_filter_and_an_empty_cluster(store: Store) -> None:
    found = survey(store, FirstTwo(), np.eye(3, D, dtype=np.float32), [("a",), (), ("c",)], where="width < 5")  # type: ignore[arg-type]
    assert [cluster.size for cluster in found.clusters] == [5, 0, 0]
    empty = found.clusters[1]
    assert (empty.name, empty.words, empty.as_dict(3)["name"]) == (None, (), None)
    assert (empty.x, empty.y, empty.coherence, empty.representatives) == (0, 0, 0, ())


def test_the_heart_is_where_most_are_and_not_between_them() -> None:
    dice = np.random.default_rng(0)
    crowd, others = dice.normal((5, 5), 0.1, (60, 2)), dice.normal((-5, 0), 0.1, (40, 2))
    for order in (np.arange(100), dice.permutation(100)):
        x, y = heart(np.concatenate([crowd, others])[order].astype(np.float32))
        assert np.hypot(x - 5, y - 5) < 0.1
    assert heart(np.array([[2, 3]], dtype=np.float32)) == (2, 3)


def test_a_sample_is_of_those_that_pass_in_the_order_of_the_scan(store: Store, vectors: Vectors) -> None:
    def numbers(sample: Vectors) -> list[int]:
        return [int(np.argmax(vectors @ row)) for row in sample]

    assert numbers(take_sample(store)) == list(range(N))
    assert numbers(take_sample(store, where="width >= 50")) == list(range(50, N))
    some = numbers(take_sample(store, most=20, seed=1))
    assert some == sorted(set(some))
    assert len(some) == 20
    assert some != numbers(take_sample(store, most=20, seed=2))


def test_a_sample_is_the_same_in_batches_of_any_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = take_sample(store, most=20, seed=3)
    whole = type(store).scan
    monkeypatch.setattr(type(store), "scan", lambda self, **rest: whole(self, **rest, batch_size=7))
    np.testing.assert_array_equal(take_sample(store, most=20, seed=3), wanted)


def test_numbers_of_documents_have_so_many_digits() -> None:
    cluster = Cluster("a", ("a", "b"), 3, 0.123456, -0.654321, 1.987654, (Representative("i", 0.1, 0.2),))
    assert cluster.as_dict(3) == {
        "name": "a", "words": ["a", "b"], "size": 3, "coherence": 0.123, "x": -0.654, "y": 1.988,
        "representatives": ["i"],
    }  # fmt: skip
    assert cluster.as_dict(5)["coherence"] == 0.12346
    records = Records(["a", "b", "c", "d"], None, {"path": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]})
    places = np.array([[0, 0], [0.123456, -0.987654], [0, 0], [2, 0.5]], np.float32)
    rows = survey_rows(records, places, np.array([0, 1, 0, 2], np.int32), digits=4, start=1, step=2)
    assert list(rows) == [
        {"id": "b", "path": "b.jpg", "x": 0.1235, "y": -0.9877, "cluster": 1},
        {"id": "d", "path": "d.jpg", "x": 2.0, "y": 0.5, "cluster": 2},
    ]
