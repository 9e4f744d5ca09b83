"""Filters -> SQL of SQLite, with parameters. Gives exactly what `filters.matches` gives. Knows the table's names only.

SQLite's own operators are used wherever they mean the same. Where they do not (`ILIKE` folds ASCII letters only,
patterns have a limit, and many `%` take exponential time), our function `like_regex` matches the pattern.
"""

import json
import sqlite3
from collections.abc import Callable

from tandem.search.stores.filters import And, AnyOf, Compare, Expression, In, IsNull, Like, Not, Or, like_regex

MATCHES = "tandem_matches"
MAX_PARAMETERS = 100  # of one list; longer ones travel as one JSON array
MAX_WILDCARDS = 3  # `%` between characters: GLOB tries again for each of them
MAX_PATTERN = 5000
Parameter = str | int | float

TABLE, ID, POSITION = "records", "_id", "_position"


def install(connection: sqlite3.Connection) -> None:
    """Register the function that some patterns need."""

    def found(pattern: str, ignore_case: int, text: str | None) -> bool | None:
        return None if text is None else like_regex(pattern, bool(ignore_case)).fullmatch(text) is not None

    connection.create_function(MATCHES, 3, found, deterministic=True)


def quoted(column: str) -> str:
    """A column's name in SQL. `id` is stored besides the columns of the schema."""
    return '"' + (ID if column == "id" else column).replace('"', '""') + '"'


def has_several(listed: str) -> str:
    """Records whose JSON array may hold several values. Few; a partial index has this very condition."""
    return f"instr({quoted(listed)}, ',') > 0"


def to_sql(expression: Expression) -> tuple[str, list[Parameter]]:
    """A condition and its parameters."""
    parameters: list[Parameter] = []
    return _sql(expression, parameters), parameters


def _sql(expression: Expression, parameters: list[Parameter], value_of: Callable[[str], str] = quoted) -> str:
    """`value_of` gives the SQL for the value of a column."""
    match expression:
        case Compare(column, operator, value):
            parameters.append(_plain(value))
            return f"{value_of(column)} {operator} ?"
        case Like(column, pattern, ignore_case):
            return _like(value_of(column), pattern, ignore_case, parameters)
        case In(column, values):
            if len(values) <= MAX_PARAMETERS:
                parameters.extend(_plain(value) for value in values)
                return f"{value_of(column)} IN ({', '.join('?' * len(values))})"
            parameters.append(json.dumps([_plain(value) for value in values]))
            return f"{value_of(column)} IN (SELECT value FROM json_each(?))"
        case IsNull(column):
            return f"{value_of(column)} IS NULL"
        case Not(part):
            return f"NOT ({_sql(part, parameters, value_of)})"
        case And(parts):
            return "(" + " AND ".join(_sql(part, parameters, value_of) for part in parts) + ")"
        case Or(parts):
            return "(" + " OR ".join(_sql(part, parameters, value_of) for part in parts) + ")"
        case AnyOf(_, listed, part):
            return f"({_sql(part, parameters)} OR {_among_several(listed, part, parameters)})"


def _among_several(listed: str, part: Expression, parameters: list[Parameter]) -> str:
    """Whether a record is one of the few that have several values, and any of these fulfils a condition."""
    array = f"CASE WHEN json_valid({quoted(listed)}) THEN {quoted(listed)} ELSE '[]' END"
    condition = _sql(part, parameters, lambda column: "json_each.value")
    return (
        f"{POSITION} IN (SELECT {POSITION} FROM {TABLE} WHERE {has_several(listed)} "
        f"AND EXISTS (SELECT 1 FROM json_each({array}) WHERE {condition}))"
    )


def _plain(value: str | int | float | bool) -> Parameter:
    """SQLite stores booleans as 0 and 1."""
    return int(value) if isinstance(value, bool) else value


def _like(column: str, pattern: str, ignore_case: bool, parameters: list[Parameter]) -> str:
    between = len([piece for piece in pattern.strip("%").split("%") if piece])
    if len(pattern) > MAX_PATTERN or between > MAX_WILDCARDS or "\0" in pattern:
        parameters.extend((pattern, int(ignore_case)))
        return f"{MATCHES}(?, ?, {column})"
    if not ignore_case:
        parameters.append("".join({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(c, c) for c in pattern))
        return f"{column} GLOB ?"
    if not pattern.isascii():
        parameters.extend((pattern, 1))
        return f"{MATCHES}(?, ?, {column})"
    # A character outside ASCII can be another case of one inside (the kelvin sign of k): then our function checks.
    parameters.extend((pattern, pattern, 1))
    return f"({column} LIKE ? OR (length(CAST({column} AS BLOB)) <> length({column}) AND {MATCHES}(?, ?, {column})))"
