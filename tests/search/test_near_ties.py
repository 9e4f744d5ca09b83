"""Rows that float32 cannot tell apart, in whichever block they are; and an index that is the same each time."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from support.embedded_toys import SCHEMA, D, exact, unit

from tandem.search.stores.embedded import nearest, vector_file, vector_index
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.embedded.vector_file import VectorFile
from tandem.search.stores.protocol import Records


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_near_ties_across_blocks_are_ordered_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queries: int, k: int
) -> None:
    """Three hundred rows whose cosines differ by some 1e-8: a product in float32 is wrong by more."""
    monkeypatch.setattr(nearest, "ROW_BATCH", 16)
    generator = np.random.default_rng(3)
    query = unit(1)[0]
    rows = query + 2e-4 * generator.standard_normal((300, D)).astype(np.float32)
    rows[50::50] = rows[0]  # and some that are equal
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = generator.permutation(300)  # names say nothing of where a row is
    asked = np.concatenate([query[None], unit(queries - 1, seed=5)])
    with EmbeddedBackend(str(tmp_path / "photos.tandem")).create(SCHEMA, {}) as store:
        store.upsert(Records([f"{i:06d}" for i in order], rows, {"path": ["x"] * 300, "number": list(range(300))}))
        for where in (None, "number >= 10"):
            found = store.search(asked, k, where=where)
            for one, hits in zip(asked, found, strict=True):
                assert [hit.id for hit in hits] == exact(store, one, k, where)


def test_equal_rows_have_equal_scores_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "ROW_BATCH", 7)
    row = unit(1, seed=4)
    with EmbeddedBackend(str(tmp_path / "photos.tandem")).create(SCHEMA, {}) as store:
        store.upsert(Records([f"{99 - i:06d}" for i in range(50)], np.repeat(row, 50, axis=0), {}))
        (hits,) = store.search(unit(1, seed=6), 5)
    assert [hit.id for hit in hits] == [f"{i:06d}" for i in range(50, 55)]
    assert len({hit.score for hit in hits}) == 1


def test_the_same_rows_make_the_same_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows it is trained with, the rotation and the clusters are drawn with seeds."""
    monkeypatch.setattr(vector_index, "TRAINING_ROWS", 400)
    vector_file.append(tmp_path / "v", 0, unit(1200))
    file = VectorFile(tmp_path / "v", D)
    made = []
    for _ in range(2):
        index = vector_index.train(file, 1200, D).extended(file, 1200, lambda: False)
        assert index is not None
        made.append(faiss.serialize_index(index.faiss_index).tobytes())
    assert made[0] == made[1]
