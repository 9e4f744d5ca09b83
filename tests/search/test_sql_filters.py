"""Filters of the local store, as SQL: SQLite finds what the filters mean."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from support.embedded_toys import D, filled

from tandem.errors import FilterError
from tandem.search.stores.embedded import sql_filters
from tandem.search.stores.filters import And, AnyOf, Compare, In, Like, Or, matches
from tandem.search.stores.protocol import Schema


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "photos.tandem")


@pytest.mark.slow
def test_sql_means_what_filters_mean() -> None:
    """Random expressions over values that are hard to compare: SQLite finds what `matches` finds."""
    texts = [
        "",
        "a",
        "A",
        "ab%",
        "a_b",
        "[a]*?",
        "Kelvin \u212a",
        "ſtraße",
        "İi",
        "x\ny",
        "äÄ",
        "a\\b",
        "aaaaaaaab",
        None,
    ]
    rows = [
        {
            "id": str(i),
            "path": text,
            "number": number,
            "good": good,
            "real": real,
            "paths": None if text is None else ([json.dumps([text]), json.dumps([text, "ab%", 'ſ, "K"']), "{"][i % 3]),
        }
        for i, (text, number, good, real) in enumerate(
            (text, number, good, real)
            for text in texts
            for number in (None, -1, 0, 2**63 - 1)
            for good in (None, True, False)
            for real in (None, 0.1, 1e300)
        )
    ]
    schema = Schema(D, {"path": "text", "number": "integer", "good": "boolean", "real": "real"})
    connection = sqlite3.connect(":memory:")
    sql_filters.install(connection)
    connection.execute(
        "CREATE TABLE records (_position INTEGER PRIMARY KEY, _id TEXT, path TEXT, paths TEXT, number INTEGER, "
        "good INTEGER, real REAL) STRICT"
    )
    connection.executemany("INSERT INTO records VALUES (NULL, :id, :path, :paths, :number, :good, :real)", rows)
    leaves: list[Compare | Like | In | AnyOf] = [
        *(
            Like("path", pattern, ignore)
            for pattern in ("%", "a%", "_", "%K%", "%k%", "%S%", "%[a]*?", "%Ä%", "i_", "%\\%", "%a%a%a%a%a%b", "x%y")
            for ignore in (False, True)
        ),
        *(Compare("number", sign, value) for sign in ("=", "!=", "<", ">=") for value in (0, 0.5, 2**63 - 1)),  # type: ignore[arg-type]
        *(Compare("path", sign, value) for sign in ("<", ">", "=", "!=") for value in ("a", "ä", "")),  # type: ignore[arg-type]
        Compare("good", "=", True), Compare("good", "!=", True), Compare("real", "=", 0.1),
        In("path", ("a", "ab%")), In("number", tuple(range(-1, 500))), In("real", (0.1, 5.0)), In("good", (False,)),
        In("path", (*map(str, range(500)), "äÄ")),
    ]  # fmt: skip
    leaves += [AnyOf("path", "paths", leaf) for leaf in leaves if leaf.column == "path"]
    generator = np.random.default_rng(0)

    def some(depth: int):  # type: ignore[no-untyped-def]
        from tandem.search.stores.filters import IsNull, Not

        choice = generator.integers(0, 6) if depth else 0
        if choice in (1, 2):
            return And(tuple(some(depth - 1) for _ in range(2)))
        if choice in (3, 4):
            return Or(tuple(some(depth - 1) for _ in range(2)))
        if choice == 5:
            return Not(some(depth - 1))
        if generator.random() < 0.1:
            return IsNull(str(generator.choice(["path", "number", "good"])))
        return leaves[generator.integers(len(leaves))]

    expressions = [*leaves, *(some(3) for _ in range(150))]
    for expression in expressions:
        condition, parameters = sql_filters.to_sql(expression)
        found = {each for (each,) in connection.execute(f"SELECT _id FROM records WHERE {condition}", parameters)}
        assert found == {row["id"] for row in rows if matches(expression, row)}, expression
    connection.close()
    assert schema.columns


def test_long_filters(url: str) -> None:
    with filled(url, 20) as store:
        assert store.count(" or ".join(f"number = {i}" for i in range(0, 800, 2))) == 10
        assert store.count(f"number in ({', '.join(map(str, range(5, 9000)))})") == 15
        assert store.count(f"path like '%{'a' * 400}'") == 0
        assert store.count(f"path like '{'a' * 60_000}'") == 0
        with pytest.raises(
            FilterError, match="60,000 characters after a %"
        ):  # its time is that times the text's length
            store.count(f"path like '%{'a' * 60_000}'")


@pytest.mark.parametrize(
    "pattern", ["a?b", "a*b", "a[x]b", "a]b", "%?", "?%", "*", "[", "a_b", "%[x]%", "[!x]", "[^x]", "?"]
)
@pytest.mark.parametrize("ignore_case", [False, True])
def test_what_globs_mean_means_nothing_in_like(pattern: str, ignore_case: bool) -> None:
    """`LIKE` becomes `GLOB` where case counts: its own `?`, `*` and `[` are plain characters."""
    texts = [
        "a?b",
        "axb",
        "a*b",
        "axxb",
        "a[x]b",
        "a]b",
        "A?B",
        "ab",
        "?",
        "*",
        "[",
        "x",
        "[!x]",
        "[^x]",
        "y",
        "",
        "?a",
    ]
    connection = sqlite3.connect(":memory:")
    sql_filters.install(connection)
    connection.execute("CREATE TABLE records (_id TEXT, path TEXT) STRICT")
    connection.executemany("INSERT INTO records VALUES (?, ?)", zip(texts, texts, strict=True))
    condition, parameters = sql_filters.to_sql(Like("path", pattern, ignore_case))
    found = {each for (each,) in connection.execute(f"SELECT _id FROM records WHERE {condition}", parameters)}
    connection.close()
    assert found == {text for text in texts if matches(Like("path", pattern, ignore_case), {"path": text})}
    plain = pattern.lower() if ignore_case else pattern
    if not set(pattern) & {"%", "_"}:
        assert found == {text for text in texts if (text.lower() if ignore_case else text) == plain}
