"""The contract of stores: which ids, vectors and values they take, and as what; run against each kind."""

from typing import Any

import numpy as np
import pytest
from support.store_contract import SCHEMA, D, ids_of, random_unit, records

from tandem.errors import TandemError
from tandem.search.stores.protocol import Records, Store, check_records


def test_bad_records_leave_nothing_behind(store: Store) -> None:
    store.upsert(records(0, 5))
    nan = random_unit(1)
    nan[0, 3] = np.nan
    for bad in (
        Records(["x"], nan),
        Records(["x"], np.ones((1, D + 1), np.float32)),
        Records(["x"], random_unit(1), {"nothing_such": [1]}),
        Records(["x"], random_unit(1), {"width": [1, 2]}),
        Records(["x", "y"], random_unit(2), {"width": [1, "wide"]}),
    ):
        with pytest.raises(TandemError):
            store.upsert(bad)
    assert ids_of(store) == [f"{i:06d}" for i in range(5)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((column, value) for column in ("latitude",) for value in (np.inf, -np.inf, np.float32(np.inf), 10**400)),
        *(("width", value) for value in (True, np.True_, 1.5, "1", 2**63, np.float64(1))),
        *(("latitude", value) for value in (False, "1", 1j)),
        *(("sharp", value) for value in (1, "yes")),
        *(("caption", value) for value in (b"x", 5, ["a"])),
        *(("thumbnail", value) for value in ("x", 5)),
    ],
)
def test_values_that_do_not_fit_their_column_are_refused_before_a_store_sees_them(column: str, value: Any) -> None:
    with pytest.raises(TandemError, match=f"column {column}"):
        check_records(Records(["a"], random_unit(1), {column: [value]}), SCHEMA)


def test_ids_are_text_and_zero_has_no_sign() -> None:
    ids: list[Any] = ["a", 5]
    with pytest.raises(TandemError, match=r"^ids: expected text, got 5$"):
        check_records(Records(ids, random_unit(2), {}), SCHEMA)
    checked = check_records(Records(["a"], random_unit(1), {"latitude": [-0.0]}), SCHEMA)
    assert str(checked.columns["latitude"][0]) == "0.0"


def test_values_of_numpy_are_stored_as_pythons_own(store: Store) -> None:
    columns: dict[str, Any] = {
        "width": [np.int64(7), np.uint8(8), None],
        "latitude": [np.float32(0.5), np.nan, np.int32(3)],
        "sharp": [np.True_, False, None],
    }
    store.upsert(Records(["a", "b", "c"], random_unit(3), columns))
    got = store.get(["a", "b", "c"], columns=list(columns)).columns
    assert got == {"width": [7, 8, None], "latitude": [0.5, None, 3], "sharp": [True, False, None]}
    assert [type(value) for values in got.values() for value in values if value is not None] == [
        *(int, int, float, float, bool, bool),
    ]
    assert store.count("width > 7") == 1
    for bad in ({"width": [True]}, {"latitude": [np.inf]}):
        with pytest.raises(TandemError, match="column"):
            store.upsert(Records(["d"], random_unit(1), bad))  # type: ignore[arg-type]
    assert store.count() == 3


@pytest.mark.parametrize("text", ["nul\0x", "\udcff"])
def test_text_that_no_store_could_keep_is_refused_and_never_found(store: Store, text: str) -> None:
    before = store.count()
    some = records(0, 1)
    for bad in (
        Records([text], some.vectors, some.columns),
        Records(some.ids, some.vectors, {**some.columns, "caption": [text]}),
    ):
        with pytest.raises(TandemError, match="Unicode text without NUL"):
            store.upsert(bad)
    assert store.count() == before
