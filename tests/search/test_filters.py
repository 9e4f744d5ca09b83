"""Filters: what is parsed, what is rejected and how, and that `matches` agrees with SQLite."""

import random
import sqlite3
import sys
from collections.abc import Mapping

import pytest
from support.filter_toys import SCHEMA, random_filter, random_row

from tandem.errors import FilterError
from tandem.search.stores.filter_parser import MAX_CHARACTERS, MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, parse, quoted
from tandem.search.stores.filters import (
    And,
    AnyOf,
    Compare,
    Expression,
    In,
    IsNull,
    Like,
    Not,
    Or,
    columns_of,
    like_regex,
    matches,
    without_lists,
)
from tandem.search.stores.protocol import Value


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("width = 3", Compare("width", "=", 3)),
        ("width==3", Compare("width", "=", 3)),
        ("width <> -3", Compare("width", "!=", -3)),
        ("latitude >= +.5e1", Compare("latitude", ">=", 5.0)),
        ("3 < width", Compare("width", ">", 3)),
        ("path = 'it''s \"so\" \\ %'", Compare("path", "=", 'it\'s "so" \\ %')),
        ("\"a column\" != ''", Compare("a column", "!=", "")),
        ("id = 'x'", Compare("id", "=", "x")),
        ("sharp = TRUE", Compare("sharp", "=", True)),
        ("sharp", Compare("sharp", "=", True)),
        ("path LIKE '%a_'", Like("path", "%a_", False)),
        ("path not ilike 'A'", Not(Like("path", "A", True))),
        ("width in (1, 2.5)", In("width", (1, 2.5))),
        ("path NOT IN ('a')", Not(In("path", ("a",)))),
        ("width is null", IsNull("width")),
        ("width is not null", Not(IsNull("width"))),
        ("width between 1 and 2", And((Compare("width", ">=", 1), Compare("width", "<=", 2)))),
        ("width not between 1 and 2", Not(And((Compare("width", ">=", 1), Compare("width", "<=", 2))))),
        (
            "width=1 or width=2 and not width=3",
            Or((Compare("width", "=", 1), And((Compare("width", "=", 2), Not(Compare("width", "=", 3)))))),
        ),
        (
            "(width=1 or width=2)\n AND width=3",
            And((Or((Compare("width", "=", 1), Compare("width", "=", 2))), Compare("width", "=", 3))),
        ),
        ("width = 9223372036854775807", Compare("width", "=", 2**63 - 1)),
    ],
)
def test_what_is_read(text: str, tree: Expression) -> None:
    assert parse(text, SCHEMA) == tree


def test_any_text_can_be_quoted() -> None:
    for text in ("cat", "it's", "''", "a\\'b", "' or width > 1 or path = '"):
        assert parse(f"path = {quoted(text)}", SCHEMA) == Compare("path", "=", text)


def test_of_several_values_any_counts() -> None:
    cat = Compare("name", "=", "cat")
    assert parse("name = 'cat'", SCHEMA) == AnyOf("name", "names", cat)
    assert parse("'cat' != name", SCHEMA) == Not(AnyOf("name", "names", cat))
    assert parse("name is null", SCHEMA) == IsNull("name")
    assert columns_of(parse("name like 'a%'", SCHEMA)) == {"name", "names"}
    row: dict[str, Value] = {"id": "1", "name": "cat", "names": '["cat", "a, \\"b\\""]'}
    for text, expected in (
        ("name = 'cat'", True),
        ("name = 'a, \"b\"'", True),
        ("name like '%b_'", True),
        ("name ilike 'C%'", True),
        ("name != 'cat'", False),
        ("name != 'dog'", True),
        ("name not in ('dog', 'a')", True),
        ("name not like '%t'", False),
        ("name = 'dog'", False),
        ("name between 'd' and 'z'", False),
        ("name between 'b' and 'd'", True),
        ("name > 'a, ' and name < 'b'", True),  # two conditions: one value may fulfil the one, another the other
        ("not name = 'cat'", False),
    ):
        expression = parse(text, SCHEMA)
        assert matches(expression, row) is expected, text
        plain = without_lists(expression, lambda column, listed: [row])
        assert matches(plain, row) is expected, text
    for none in (None, "", "[]", '["cat"]', "{", "3"):
        assert matches(parse("name = 'cat'", SCHEMA), {"name": "cat", "names": none}) is True
        assert matches(parse("name = 'cat'", SCHEMA), {"name": None, "names": "[]"}) is None


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "a column"),
        ("   ", 3, "a column"),
        ("width", 5, "a comparison"),
        ("width >", 7, "a number after >, got the end"),
        ("width > abc", 8, "'abc'"),
        ("path = abc", 7, "'abc'"),
        ('path = "abc"', 7, "'abc'"),
        ("width > height", 8, "columns are compared to values"),
        ("width = 1 width = 2", 10, "AND, OR or the end"),
        ("(width = 1", 10, ")"),
        ("width = 1)", 9, "AND, OR or the end"),
        ("width in (1 2)", 12, ", or )"),
        ("width in ()", 10, "a number"),
        ("path = 'a", 7, "never closed"),
        ('"path = 1', 0, "never closed"),
        ("width ; 1", 6, ";"),
        ("width = 10abc", 8, "10abc"),
        ("width = null", 8, "IS NULL"),
        ("width is 3", 9, "NULL"),
        ("width = 1e999", 8, "larger"),
        ("width = 9223372036854775808", 8, "larger"),
        ("width = " + "9" * 10_000, 8, "larger"),
        ("path = 'a\udcff'", 7, "Unicode"),
        ("width = 1 and", 13, "a column"),
    ],
)
def test_syntax_errors_give_the_position(text: str, position: int, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text, SCHEMA)
    assert caught.value.position == position
    assert words in str(caught.value)
    assert str(position) in str(caught.value)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()  # can be shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("widht > 3", ["'widht': did you mean width? There are width, "]),
        ("zzz > 3", ["'zzz'; there are "]),
        ("longitude > 3", ["'longitude'", "There are latitude, "]),
        ("Width > 3", ["'Width'", "There are width, "]),
        ("width > 'abc'", ["column width", "a number", "'abc'"]),
        ("path = 3", ["column path", "single quotes", "3"]),
        ("path like 3", ["column path", "3"]),
        ("width like 'a'", ["column width", "LIKE"]),
        ("width = true", ["column width", "true"]),
        ("sharp = 1", ["column sharp", "true or false"]),
        ("sharp < true", ["column sharp", "="]),
        ("width in (1, 'a')", ["column width", "'a'"]),
        ("thumbnail is null", ["column thumbnail", "bytes"]),
    ],
)
def test_wrong_columns_are_named(text: str, words: list[str]) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text, SCHEMA)
    assert caught.value.position is None
    for word in words:
        assert word in str(caught.value)


@pytest.mark.slow
def test_hostile_texts_end_in_an_error_and_soon() -> None:
    for text in (
        "(" * (MAX_CHARACTERS - 1),
        "not " * (MAX_CHARACTERS // 4),
        "(" * (MAX_DEPTH + 1) + "width = 1" + ")" * (MAX_DEPTH + 1),
        " or ".join(["width = 1"] * (MAX_CONDITIONS + 1)),
        f"width in ({', '.join(['1'] * (MAX_VALUES + 1))})",
        "width in (" + ",".join("1" * 20_000) + ")",
        "'" * (MAX_CHARACTERS - 1) + "x",
        " " * (MAX_CHARACTERS + 1),
    ):
        with pytest.raises(FilterError):
            parse(text, SCHEMA)
    long = " and ".join(["width = 1"] * MAX_CONDITIONS)
    assert matches(parse(long, SCHEMA), {"width": 1}) is True
    assert parse(f"width in ({', '.join(['1'] * MAX_VALUES)})", SCHEMA) == In("width", (1,) * MAX_VALUES)
    deep = "(" * (MAX_DEPTH - 1) + "width = 1" + ")" * (MAX_DEPTH - 1)
    assert parse(deep, SCHEMA) == Compare("width", "=", 1)


def test_a_filter_of_the_greatest_depth_needs_little_stack() -> None:
    """A server reads filters at the bottom of a stack that has other frames in it."""
    text = "not (width = 1 or " * ((MAX_DEPTH - 1) // 2) + "width = 1" + ")" * ((MAX_DEPTH - 1) // 2)
    limit = sys.getrecursionlimit()
    frame, used = sys._getframe(), 0
    while frame.f_back is not None:
        frame, used = frame.f_back, used + 1
    sys.setrecursionlimit(used + 400)
    try:
        expression = parse(text, SCHEMA)
        assert matches(expression, {"width": 1}) is not None
        assert columns_of(expression) == {"width"}
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("pattern", "text", "ignore_case", "expected"),
    [
        ("%2023%", "/photos/2023/a.jpg", False, True),
        ("2023%", "/2023", False, False),
        ("%.jpg", "a.jpg", False, True),
        ("%.jpg", "aXjpg", False, False),
        ("%.JPG", "a.jpg", False, False),
        ("%.JPG", "a.jpg", True, True),
        ("%Ä%", "bär", True, True),
        ("a_c", "aéc", False, True),
        ("a_c", "ac", False, False),
        ("%", "", False, True),
        ("", "", False, True),
        ("", "a", False, False),
        ("%a%b%", "xbxa", False, False),
        ("%a%b%", "xaxb\n", False, True),
        ("ab%ba", "aba", False, False),
        ("%ab", "aabab", False, True),
        ("\\%", "\\x", False, True),
    ],
)
def test_like(pattern: str, text: str, ignore_case: bool, expected: bool) -> None:
    assert (like_regex(pattern, ignore_case).fullmatch(text) is not None) is expected


def test_a_hostile_pattern_is_not_slow() -> None:
    """With a matcher that goes back this would run for longer than any test run."""
    assert like_regex("%a" * 40 + "%b", False).fullmatch("a" * 200_000) is None


# --- the same answers as SQL ---


def sqlite_answers(filters: list[str], rows: list[dict[str, Value]]) -> list[list[int | None]]:
    """For each filter, SQL's answer for each row: 1, 0 or NULL."""
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA case_sensitive_like = ON")
    names = ", ".join(f'"{name}"' for name in rows[0])
    connection.execute(f"CREATE TABLE rows ({names})")
    connection.executemany(
        f"INSERT INTO rows VALUES ({', '.join('?' * len(rows[0]))})", [tuple(row.values()) for row in rows]
    )
    answers = [
        [answer for (answer,) in connection.execute(f"SELECT ({text}) FROM rows ORDER BY rowid")] for text in filters
    ]
    connection.close()
    return answers


@pytest.mark.parametrize("seed", range(8))
def test_the_same_answers_as_sql(seed: int) -> None:
    dice = random.Random(seed)
    rows = [random_row(dice) for _ in range(40)]
    filters = [random_filter(dice, 3) for _ in range(150)]
    seen: set[int | None] = set()
    for text, expected in zip(filters, sqlite_answers(filters, rows), strict=True):
        expression = parse(text, SCHEMA)
        for row, answer in zip(rows, expected, strict=True):
            got = matches(expression, row)
            assert got is (None if answer is None else bool(answer)), f"{text} on {row}"
            seen.add(answer)
        assert columns_of(expression) <= set(row)
    assert seen == {0, 1, None}, "the random filters must give every answer"


def test_matches_asks_only_for_the_columns_it_names() -> None:
    row: Mapping[str, Value] = {"width": 3}
    assert matches(parse("width > 2 and not width = 5", SCHEMA), row) is True
