"""Filters as trees: conditions over metadata and their meaning. Knows no text of filters, and no database.

The logic is SQL's, of three values: a comparison with a value that is missing is neither true nor false, and only what
is true passes. Every store must give what `matches` gives. `filter_parser` makes trees of texts.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from tandem.search.stores.protocol import Value

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
Constant: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Compare:
    """`value` has the column's type: text, a finite number (of an integer or real column alike), or a boolean."""

    column: str
    operator: Operator
    value: Constant


@dataclass(frozen=True)
class Like:
    column: str
    pattern: str
    ignore_case: bool


@dataclass(frozen=True)
class In:
    column: str
    values: tuple[Constant, ...]


@dataclass(frozen=True)
class IsNull:
    column: str


@dataclass(frozen=True)
class And:
    parts: tuple["Expression", ...]


@dataclass(frozen=True)
class Or:
    parts: tuple["Expression", ...]


@dataclass(frozen=True)
class Not:
    part: "Expression"


@dataclass(frozen=True)
class AnyOf:
    """`part`, a condition on `column` alone, of any of the values that the JSON array in the column `listed` holds.

    The first of them stands in `column` itself (see `Schema.listed`). Without such an array that value is the only one.
    """

    column: str
    listed: str
    part: "Expression"


Expression: TypeAlias = Compare | Like | In | IsNull | And | Or | Not | AnyOf


def matches(expression: Expression, row: Mapping[str, Value]) -> bool | None:
    """Whether a row passes: None where that hangs on a value that is missing (and so the row does not pass).

    `row` holds the values of all `columns_of(expression)`, `id` included if it is named.
    """
    match expression:
        case Compare(column, operator, wanted):
            value = row[column]
            return None if value is None else _compare(value, operator, wanted)
        case Like(column, pattern, ignore_case):
            value = row[column]
            return None if value is None else like_regex(pattern, ignore_case).fullmatch(str(value)) is not None
        case In(column, values):
            value = row[column]
            return None if value is None else value in values
        case IsNull(column):
            return row[column] is None
        case Not(part):
            answer = matches(part, row)
            return None if answer is None else not answer
        case And(parts):
            return _all(matches(part, row) for part in parts)
        case Or(parts):
            return _any(matches(part, row) for part in parts)
        case AnyOf(column, listed, part):
            return _any(matches(part, {column: value}) for value in (row[column], *_values(row[listed])))


def columns_of(expression: Expression) -> set[str]:
    """The columns that a filter names, `id` among them if it does."""
    match expression:
        case And(parts) | Or(parts):
            return {name for part in parts for name in columns_of(part)}
        case Not(part):
            return columns_of(part)
        case AnyOf(column, listed, _):
            return {column, listed}
        case _:
            return {expression.column}


def without_lists(expression: Expression, rows: Callable[[str, str], Iterable[Mapping[str, Value]]]) -> Expression:
    """The same filter without `AnyOf`, for a store whose own conditions cannot look into a JSON array.

    `rows(column, listed)` gives these two values, and the id, of each record whose array holds several values.
    """
    read: dict[tuple[str, str], list[Mapping[str, Value]]] = {}

    def without(expression: Expression) -> Expression:
        match expression:
            case AnyOf(column, listed, part):
                if (column, listed) not in read:
                    read[column, listed] = list(rows(column, listed))
                ids = [str(row["id"]) for row in read[column, listed] if matches(expression, row)]
                return Or((part, In("id", tuple(ids)))) if ids else part
            case Not(part):
                return Not(without(part))
            case And(parts):
                return And(tuple(without(part) for part in parts))
            case Or(parts):
                return Or(tuple(without(part) for part in parts))
            case _:
                return expression

    return without(expression)


def has_several(array: Value) -> bool:
    """Whether the JSON array of an `AnyOf` holds more than one value."""
    return len(_values(array)) > 1


def _values(array: Value) -> list[str]:
    try:
        values = json.loads(str(array or "[]"))
    except ValueError:
        return []
    return [str(value) for value in values] if isinstance(values, list) else []


@lru_cache(maxsize=256)
def like_regex(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    """What `LIKE` (or `ILIKE`) means, for `fullmatch`: `%` is any characters, `_` is one character, nothing escapes.

    Each piece between two `%` is taken where it first occurs, never to be reconsidered (the atomic groups): that is
    enough for this language, and a hostile pattern cannot make it slow.
    """
    pieces = [
        "".join("." if character == "_" else re.escape(character) for character in part) for part in pattern.split("%")
    ]
    text = pieces[0]
    if len(pieces) > 1:
        text += "".join(f"(?>.*?{piece})" for piece in pieces[1:-1] if piece) + ".*" + pieces[-1]
    return re.compile(text, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _all(answers: Iterator[bool | None]) -> bool | None:
    unknown = False
    for answer in answers:
        if answer is False:
            return False
        unknown = unknown or answer is None
    return None if unknown else True


def _any(answers: Iterator[bool | None]) -> bool | None:
    none = _all(None if answer is None else not answer for answer in answers)
    return None if none is None else not none


def _compare(value: Value, operator: Operator, wanted: Constant) -> bool:
    if operator == "=":
        return value == wanted
    if operator == "!=":
        return value != wanted
    # The parser has seen to it that both are text, or both numbers.
    sign = (value > wanted) - (value < wanted)  # type: ignore[operator]
    match operator:
        case "<":
            return sign < 0
        case "<=":
            return sign <= 0
        case ">":
            return sign > 0
        case ">=":
            return sign >= 0
