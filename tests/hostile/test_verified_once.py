"""What of a local store was verified is not verified again, and damage is still left out."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tandem.errors import DamageWarning
from tandem.search.stores.embedded import checksums, vector_file
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.protocol import Records, Schema


def test_damaged_rows_are_not_gathered_in_any_order(tmp_path: Path) -> None:
    rows = np.eye(8, dtype=np.float32)
    vector_file.append(tmp_path / "v.f32", 0, rows)
    sums = checksums.of_vectors(rows)
    sums[5] += np.uint64(1)
    file = vector_file.VectorFile(tmp_path / "v.f32", 8, lambda blocks: {0: sums})
    positions, sound = file.gather_sound(np.array([1, 5, 6]))
    assert positions.tolist() == [1, 6]
    np.testing.assert_array_equal(sound, rows[[1, 6]])
    mixed = np.array([6, 5, 0, 7])
    np.testing.assert_array_equal(file.gather_unsorted(mixed), rows[mixed] * (mixed != 5)[:, None])
    rows[5] = 0
    np.testing.assert_array_equal(file.gather_unsorted(np.arange(8)), rows)


def test_values_of_records_are_verified_by_one_scan_until_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caption that is changed behind the store's back is found by the first scan after a commit, and by all others
    while it is damaged.
    """
    rows = np.eye(4, dtype=np.float32)
    ids = ["a", "b", "c"]
    with EmbeddedBackend(str(tmp_path / "s.tandem")).create(
        Schema(4, {"text": "text", "size": "integer"}), {}
    ) as store:
        store.upsert(Records(ids, rows[:3], {"text": ["x", None, "z"], "size": [1, 2, 3]}))

        def scanned() -> dict[str, object]:
            return {id: text for each in store.scan() for id, text in zip(each.ids, each.columns["text"], strict=True)}

        def change_behind(text: str) -> None:
            with closing(sqlite3.connect(store.folder / "records.sqlite")) as connection:
                connection.execute("UPDATE records SET text = ? WHERE _id = 'b'", (text,))
                connection.commit()

        assert scanned() == {"a": "x", "b": None, "c": "z"}
        with monkeypatch.context() as patch:
            patch.delattr(checksums, "of_rows")
            assert scanned() == {"a": "x", "b": None, "c": "z"}
            assert [each.columns for each in store.scan(columns=["size"])] == [{"size": [1, 2, 3]}]
            assert store.search(rows[1:2], 1, columns=["size"])[0][0].metadata == {"size": 2}
        change_behind("not written by it")
        store.upsert(Records(["d"], rows[3:], {"text": ["w"], "size": [4]}))
        with pytest.warns(DamageWarning, match=r"1 of its images are left out of answers.*\(b\)"):
            assert scanned() == {"a": "x", "c": "z", "d": "w"}
        assert scanned() == {"a": "x", "c": "z", "d": "w"}


def test_checksums_of_many_rows_are_those_of_each() -> None:
    rows = [("a", None, 7, -1.5e300, "é\U0001f600"), ("", "%s", 2**62, 0.1, None), ("%d", "x", 0, None, b"\0")]
    assert checksums.of_rows(rows, 5) == [checksums.of_values(row) for row in rows]
