"""Filters as LanceDB reads them: a tree (`tandem.search.stores.filters`) -> SQL of DataFusion. Knows no database.

`NOT` is moved down to the conditions, where it becomes the opposite test. Then only `AND` and `OR` are above them, for
which a value that is missing may as well be false, so each condition says when it is true.

DataFusion's parser stops at a depth, and its patterns at a size. What is beyond becomes `true`: the SQL then lets
through too much, `exact` is False, and whoever asks must look at the rows with `filters.matches`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from tandem.search.stores.filter_parser import quoted
from tandem.search.stores.filters import And, Compare, Constant, Expression, In, IsNull, Like, Not, Operator, Or
from tandem.search.stores.protocol import Kind, Schema

MAX_COST = 40  # the parser refuses a depth of 50; how deep an operand is depends on its side
MAX_PATTERN = 500  # characters; more compile to automata of megabytes

_OPPOSITE: dict[Operator, Operator] = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_INTEGERS = (-(2**63), 2**63 - 1)
_SURROGATES = re.compile("[\ud800-\udfff]")
_CASED_BELOW = 0x20000  # no character above has cases


@dataclass(frozen=True)
class Condition:
    """A condition in SQL, and whether it says all that the filter says. `cost` is the depth at which it is parsed."""

    sql: str
    exact: bool = True
    cost: int = 1


def translated(expression: Expression, schema: Schema, fields: Mapping[str, str]) -> Condition:
    """When the filter is true. `fields` names the field of each column, and of `id`."""
    return _when(expression, True, schema, fields)


def one_of(ids: list[str]) -> str:
    """The condition for these ids. Ids that are not Unicode are never stored."""
    spelt = [quoted(each) for each in ids if not _SURROGATES.search(each)]
    return f"id IN ({', '.join(spelt)})" if spelt else "false"


def _when(expression: Expression, truth: bool, schema: Schema, fields: Mapping[str, str]) -> Condition:
    match expression:
        case Not(part):
            return _when(part, not truth, schema, fields)
        case And(parts) | Or(parts):
            conditions = [_when(part, truth, schema, fields) for part in parts]
            return _joined("AND" if isinstance(expression, And) == truth else "OR", conditions)
    column = expression.column
    kind = "text" if column == "id" else schema.columns[column]
    sql = _test(expression, truth, f"`{fields[column]}`", kind)
    return Condition("true", exact=False) if sql is None else Condition(sql)


def _joined(word: str, conditions: list[Condition]) -> Condition:
    """The deepest goes first: a first operand costs the parser one level, a later one two."""
    conditions = sorted(conditions, key=lambda each: -each.cost)
    cost = max(conditions[0].cost + 1, conditions[1].cost + 2)
    if cost > MAX_COST:
        conditions = [each if each.cost + 2 <= MAX_COST else Condition("true", exact=False) for each in conditions]
        cost = MAX_COST
    sql = f" {word} ".join(f"({each.sql})" for each in conditions)
    return Condition(sql, all(each.exact for each in conditions), cost)


def _test(expression: Expression, truth: bool, field: str, kind: Kind) -> str | None:
    """The condition on an existing value, or its negation. None: SQL cannot express it."""
    match expression:
        case IsNull():
            return f"{field} IS {'' if truth else 'NOT '}NULL"
        case Compare(_, operator, value):
            return _comparison(field, operator if truth else _OPPOSITE[operator], value, kind)
        case In(_, values):
            return _membership(field, values, truth, kind)
        case Like(_, pattern, ignore_case):
            return _like(field, pattern, ignore_case, truth)
    raise AssertionError(expression)


def _comparison(field: str, operator: Operator, value: Constant, kind: Kind) -> str:
    if kind == "integer":
        return _integer_comparison(field, operator, value)  # type: ignore[arg-type]
    if kind == "real":
        return _real_comparison(field, operator, value)  # type: ignore[arg-type]
    return f"{field} {operator} {quoted(value) if isinstance(value, str) else str(value).lower()}"


def _integer_comparison(field: str, operator: Operator, value: int | float) -> str:
    """LanceDB compares integers to integers only."""
    whole = math.floor(value)
    if operator in ("=", "!="):
        if whole != value or not _INTEGERS[0] <= whole <= _INTEGERS[1]:
            return _always(field, operator == "!=")
        return f"{field} {operator} {_integer(whole)}"
    # Every order is "at least the number n", or its opposite.
    least = {">": whole + 1, "<=": whole + 1, ">=": math.ceil(value), "<": math.ceil(value)}[operator]
    above = operator in (">", ">=")
    if least <= _INTEGERS[0]:
        return _always(field, above)
    if least > _INTEGERS[1]:
        return _always(field, not above)
    return f"{field} {'>=' if above else '<'} {least}"


def _integer(value: int) -> str:
    """The least integer would be read as the negative of one that is too large."""
    return f"CAST('{value}' AS BIGINT)" if value == _INTEGERS[0] else str(value)


def _real_comparison(field: str, operator: Operator, value: int | float) -> str:
    """An integer that no real number equals lies between two of them."""
    near = float(value)
    if near == value:
        return f"{field} {operator} {_real(near)}"
    if operator in ("=", "!="):
        return _always(field, operator == "!=")
    above = operator in (">", ">=")
    least = near if near > value else math.nextafter(near, math.inf)
    return f"{field} {'>=' if above else '<'} {_real(least)}"


def _real(value: float) -> str:
    return repr(value + 0.0)  # never -0.0, which Arrow tells from 0.0


def _always(field: str, truth: bool) -> str:
    """A condition that every existing value passes, or none; a missing one never passes."""
    return f"{field} IS NOT NULL" if truth else "false"


def _membership(field: str, values: tuple[Constant, ...], truth: bool, kind: Kind) -> str:
    if kind == "text":
        spelt = [quoted(str(value)) for value in values]
    elif kind == "boolean":
        spelt = [str(value).lower() for value in values]
    elif kind == "real":
        spelt = [_real(float(value)) for value in values if float(value) == value]
    else:
        whole = [int(value) for value in values if math.floor(value) == value]  # type: ignore[arg-type]
        spelt = [_integer(value) for value in whole if _INTEGERS[0] <= value <= _INTEGERS[1]]
    if not spelt:
        return _always(field, not truth)
    return f"{field} {'' if truth else 'NOT '}IN ({', '.join(spelt)})"


def _like(field: str, pattern: str, ignore_case: bool, truth: bool) -> str | None:
    if len(pattern) > MAX_PATTERN:
        return None
    negated = "" if truth else "NOT "
    if not ignore_case:
        return f"{field} {negated}LIKE {quoted(pattern.replace(chr(92), chr(92) * 2))}"
    # ILIKE folds cases in another way than we do: say which characters each one stands for.
    parts = [{"%": ".*", "_": "."}.get(character) or _any_case(character) for character in pattern]
    return f"{negated}regexp_like({field}, {quoted(chr(92) + 'A(?s:' + ''.join(parts) + ')' + chr(92) + 'z')})"


@lru_cache(maxsize=1024)
def _any_case(character: str) -> str:
    """The characters that equal this one when case does not count, as a class of a regular expression."""
    same = set(re.findall(re.escape(character), _cased(), re.IGNORECASE)) | {character}
    return "[" + "".join(f"\\x{{{ord(each):x}}}" for each in sorted(same)) + "]"


@lru_cache(maxsize=1)
def _cased() -> str:
    """Every character that has another case."""
    characters = (chr(code) for code in range(_CASED_BELOW) if not 0xD800 <= code <= 0xDFFF)
    return "".join(each for each in characters if each.lower() != each or each.upper() != each)
