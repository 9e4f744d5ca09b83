"""LanceDB: filters mean the same as everywhere, also those that its SQL cannot express."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from support import skip_without
from support.filter_toys import EDGES, ODD_FILTERS, comparisons, filter_records, random_filter
from support.filter_toys import SCHEMA as FILTER_SCHEMA
from support.lance_toys import SCHEMA, ids_of, unit

from tandem.search.stores.backends import create_store
from tandem.search.stores.filter_parser import parse
from tandem.search.stores.filters import matches
from tandem.search.stores.lance.arrow import ArrowMapping
from tandem.search.stores.lance.filters import translated
from tandem.search.stores.protocol import Records, Schema

skip_without("lancedb")


def nested(depth: int, right: bool) -> str:
    """Conditions in parentheses: SQL parsers count those on the right twice."""
    text = "width = 1"
    for i in range(depth):
        other = f"width = {i}" if i % 2 else "path not like '%a%'"
        word = "or" if i % 3 else "and"
        text = f"{other} {word} ({text})" if right else f"({text}) {word} {other}"
    return text


def test_minus_zero_is_zero_and_not_a_number_is_no_value(tmp_path: Path) -> None:
    store = create_store(f"lance:{tmp_path}/photos", Schema(4, {"latitude": "real"}), {})
    store.upsert(Records(["a", "b", "c"], unit(3, 4), {"latitude": [-0.0, 0, float("nan")]}))
    for where in ("latitude = 0", "latitude >= 0", "latitude in (-0.0)", "latitude is not null"):
        assert ids_of(store, where) == ["a", "b"]
    assert ids_of(store, "latitude < 0") == []
    assert ids_of(store, "latitude is null") == ["c"]
    store.close()


def test_numbers_of_more_than_64_bits_in_a_list_are_those_of_no_record() -> None:
    for text, sql in (
        ("width in (1e308, 1)", "`w` IN (1)"),
        ("width not in (1e308, 1)", "`w` NOT IN (1)"),
        ("width in (1e19)", "false"),
        ("width not in (-1e19)", "`w` IS NOT NULL"),
    ):
        assert translated(parse(text, SCHEMA), SCHEMA, {"width": "w"}).sql == sql


@pytest.mark.slow
def test_random_filters_mean_the_same_as_everywhere(tmp_path: Path) -> None:
    """NULLs, odd text, numbers at the edges, patterns, depth, and what LanceDB's SQL cannot say."""
    dice = random.Random(7)
    put = filter_records(80, dice)
    rows = [{**put.row(i), "id": each} for i, each in enumerate(put.ids)]
    filters = [*(random_filter(dice, 3) for _ in range(150)), *comparisons(*EDGES, "-0.0"), *ODD_FILTERS]
    filters += ["width in (1e308, 1)", "width not in (1e308, 1, -1e300)", "width in (1e308)", "width not in (1e19)"]
    filters += [
        "path like '\\%'",
        "path not like '%\\\\'",
        "path not ilike '%É%'",
        "path ilike '" + "%a" * 60 + "%'",
        "path ilike '" + "%_" * 2000 + "'",
        "not path like '" + "_%" * 2000 + "' and width > 0",
        " or ".join(f"(width = {i} and path is not null)" for i in range(200)),
        " and ".join(f"width != {i}" for i in range(10, 500)),
        f"path in ({', '.join(repr(str(i)) for i in range(9000))}, 'ab')",
        *(nested(depth, right) for depth in (5, 20, 30, 40, 48) for right in (False, True)),
    ]
    store = create_store(f"lance:{tmp_path}/photos", FILTER_SCHEMA, {})
    seen = 0
    try:
        store.upsert(put)
        for where in filters:
            expression = parse(where, FILTER_SCHEMA)
            expected = [row["id"] for row in rows if matches(expression, row) is True]
            assert ids_of(store, where) == expected, where
            assert store.count(where) == len(expected), where
            seen += len(expected) not in (0, len(rows))
    finally:
        store.close()
    assert seen > 100, "the filters must tell records apart"
    assert not translated(
        parse(nested(48, True), FILTER_SCHEMA), FILTER_SCHEMA, ArrowMapping(FILTER_SCHEMA).fields
    ).exact


@pytest.mark.slow
def test_case_is_ignored_as_everywhere(tmp_path: Path) -> None:
    """Each character that has cases, against those that Python takes for the same; LanceDB's ILIKE has others."""
    cased = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    cased = [each for each in cased if each.lower() != each or each.upper() != each]
    store = create_store(f"lance:{tmp_path}/photos", Schema(4, {"path": "text"}), {})
    try:
        vectors = np.tile(unit(1, 4), (len(cased), 1))
        store.upsert(Records([f"{ord(each):06x}" for each in cased], vectors, {"path": cased}))
        together = "".join(cased)
        for letter in (
            "k",
            "ſ",
            "İ",
            "ı",
            "ß",
            "Σ",
            "Ω",
            "µ",
            "ǅ",
            "Ა",
            "\U00010400",
            "ͅ",
            *random.Random(1).sample(cased, 20),
        ):
            expected = sorted(
                f"{ord(each):06x}" for each in set(re.findall(re.escape(letter), together, re.IGNORECASE))
            )
            assert ids_of(store, f"path ilike '{letter}'") == expected
    finally:
        store.close()
