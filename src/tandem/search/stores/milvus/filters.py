"""Filters as Milvus reads them: a tree (`tandem.search.stores.filters`) -> the text of an expression. Knows no server.

Conditions on lists of values are replaced before (`filters.without_lists`).

Missing values follow SQL's logic of three values, which Milvus does not have: so there are two translations of each
part, when it is true and when it is false, and both ask first whether there is a value. `NOT` swaps the two.

What Milvus cannot say (2.3 has no `%` at the front of a pattern, none has `ILIKE`) becomes "there is a value": the
expression then lets through too much, `exact` is False, and whoever asks must look at the rows with `filters.matches`.
Patterns of the form `'text%'` become a range, which every version has.
"""

import math
from dataclasses import dataclass

from tandem.search.stores.filters import And, Compare, Constant, Expression, In, IsNull, Like, Not, Operator, Or
from tandem.search.stores.milvus.fields import FieldMapping

_OPPOSITE: dict[Operator, Operator] = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_NEVER, _ALWAYS = 'id == ""', 'id != ""'  # no id is empty
_INTEGERS = (-(2**63), 2**63 - 1)


@dataclass(frozen=True)
class Condition:
    """An expression for Milvus ("" lets everything through), and whether it says all that the filter says."""

    text: str
    exact: bool


ALL = Condition("", exact=True)


def to_expression(expression: Expression, mapping: FieldMapping) -> Condition:
    """When the filter is true."""
    return _when(expression, True, mapping)


def quoted(text: str) -> str | None:
    """A text as a literal; None where Milvus cannot write one of its characters."""
    if any((character < " " and character not in "\n\r\t") or character == "\x7f" for character in text):
        return None
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(character, written)
    return f'"{text}"'


def id_in(ids: list[str]) -> str:
    """The expression for these ids. Every id can be written (`fields.is_id`)."""
    return f"id in [{', '.join(str(quoted(each)) for each in ids)}]"


def conjunction(first: str, second: str) -> str:
    """The expression for both."""
    return f"({first}) and ({second})" if first and second else first or second


def _when(expression: Expression, truth: bool, mapping: FieldMapping) -> Condition:
    match expression:
        case Not(part):
            return _when(part, not truth, mapping)
        case And(parts) | Or(parts):
            word = "and" if isinstance(expression, And) == truth else "or"
            conditions = [_when(part, truth, mapping) for part in parts]
            text = f" {word} ".join(f"({each.text})" for each in conditions)
            return Condition(text, all(each.exact for each in conditions))
        case IsNull("id"):
            return Condition(_always(not truth), exact=True)
        case IsNull(column):
            return Condition(f"{mapping.presence_field(column)} == {_literal(not truth)}", exact=True)
    column = expression.column
    is_id = column == "id"
    there = _ALWAYS if is_id else f"{mapping.presence_field(column)} == true"
    held = _test(expression, truth, "id" if is_id else mapping.value_field(column), _kind(column, mapping))
    if held is None:
        return Condition(there, exact=False)
    return Condition(held if is_id else conjunction(there, held), exact=True)


def _kind(column: str, mapping: FieldMapping) -> str:
    return "text" if column == "id" else mapping.schema.columns[column]


def _test(expression: Expression, truth: bool, field: str, kind: str) -> str | None:
    """The condition on an existing value, or its negation. None: Milvus cannot express it."""
    match expression:
        case Compare(_, operator, value):
            return _comparison(field, operator if truth else _OPPOSITE[operator], value, kind)
        case In(_, values):
            return _membership(field, values, truth, kind)
        case Like(_, pattern, ignore_case):
            return None if ignore_case else _like(field, pattern, truth)
    raise AssertionError(expression)


def _comparison(field: str, operator: Operator, value: Constant, kind: str) -> str | None:
    if kind == "integer":
        return _integer_comparison(field, operator, value)  # type: ignore[arg-type]
    if kind == "real":
        return _real_comparison(field, operator, value)  # type: ignore[arg-type]
    literal = quoted(value) if isinstance(value, str) else _literal(value)
    return None if literal is None else f"{field} {_symbol(operator)} {literal}"


def _symbol(operator: Operator) -> str:
    return "==" if operator == "=" else operator


def _literal(value: Constant) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _integer_comparison(field: str, operator: Operator, value: int | float) -> str:
    """Milvus compares integers to integers only, and cannot parse the smallest: others are used as bounds."""
    whole = math.floor(value)
    if operator in ("=", "!="):
        if whole != value or not _INTEGERS[0] <= whole <= _INTEGERS[1]:
            return _always(operator == "!=")
        if whole == _INTEGERS[0]:
            return f"{field} {'<' if operator == '=' else '>='} {whole + 1}"
        return f"{field} {_symbol(operator)} {whole}"
    # Every order is "at least the number n", or its opposite.
    least = {">": whole + 1, "<=": whole + 1, ">=": math.ceil(value), "<": math.ceil(value)}[operator]
    above = operator in (">", ">=")
    if least <= _INTEGERS[0]:
        return _always(above)
    if least > _INTEGERS[1]:
        return _always(not above)
    return f"{field} {'>=' if above else '<'} {least}"


def _real_comparison(field: str, operator: Operator, value: int | float) -> str:
    """An integer that no real number equals lies between two of them."""
    near = float(value)
    if near == value:
        return f"{field} {_symbol(operator)} {near!r}"
    if operator in ("=", "!="):
        return _always(operator == "!=")
    above = operator in (">", ">=")
    least = near if near > value else math.nextafter(near, math.inf)
    return f"{field} {'>=' if above else '<'} {least!r}"


def _membership(field: str, values: tuple[Constant, ...], truth: bool, kind: str) -> str | None:
    if kind == "boolean":
        booleans = {_literal(value) for value in values}
        return f"{field} {'==' if truth else '!='} {booleans.pop()}" if len(booleans) == 1 else _always(truth)
    if kind == "text":
        literals = [quoted(str(value)) for value in values]
        if None in literals:
            return None
    elif kind == "real":
        literals = [repr(float(value)) for value in values if float(value) == value]
    else:
        whole = {int(value) for value in values if math.floor(value) == value}  # type: ignore[arg-type]
        whole = {value for value in whole if _INTEGERS[0] <= value <= _INTEGERS[1]}
        if _INTEGERS[0] in whole:  # it cannot be read, so the others stand for it: all are above
            bounded = _membership(field, tuple(whole - {_INTEGERS[0]}), truth, kind)
            least = _integer_comparison(field, "=" if truth else "!=", _INTEGERS[0])
            return f"({least}) {'or' if truth else 'and'} ({bounded})"
        literals = [str(value) for value in sorted(whole)]
    if not literals:
        return _always(not truth)
    return f"{field} {'in' if truth else 'not in'} [{', '.join(map(str, literals))}]"


def _always(truth: bool) -> str:
    return _ALWAYS if truth else _NEVER


def _like(field: str, pattern: str, truth: bool) -> str | None:
    """`text` is equality, `text%` a range up to the first text that no longer begins so; more Milvus 2.3 cannot say."""
    start = pattern.rstrip("%")
    if "_" in pattern or "%" in start:
        return None
    literal = quoted(start)
    if literal is None:
        return None
    if start == pattern:
        return f"{field} {'==' if truth else '!='} {literal}"
    if not start:
        return _always(truth)
    # The next character: after U+D7FF come surrogates, which are none.
    after = {"\ud7ff": "\ue000", "\U0010ffff": None}.get(start[-1], chr(min(ord(start[-1]) + 1, 0x10FFFF)))
    end = None if after is None else quoted(start[:-1] + after)
    if end is None:
        return None
    return f"({field} >= {literal} and {field} < {end})" if truth else f"({field} < {literal} or {field} >= {end})"
