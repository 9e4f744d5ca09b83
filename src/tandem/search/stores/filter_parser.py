"""The text of a filter -> a tree (`filters`), checked against a schema. Knows no database.

    width > 1000 and path like '%2023%'
    not (format = 'PNG' or caption is null) and taken between '2023-06-01' and '2023-09'

Comparisons (`= == != <> < <= > >=`), `LIKE` (case counts; `%` is any characters, `_` one), `ILIKE` (case does not),
`IN (...)`, `BETWEEN ... AND ...`, each also with `NOT`; `IS NULL`, `IS NOT NULL`; `AND`, `OR`, `NOT`, parentheses. Text
stands in single quotes ('' is a quote in it), a column of another shape in double quotes; a boolean column may stand
alone. Keywords are read in any case, columns as they are written.

A condition on a column with a list of values (`Schema.listed`) holds if any of them fulfils it; its opposite (`!=`,
`NOT`) if none does.

The parser is our own: grammars for all of SQL read far more than any store can answer, and name columns badly in their
errors. It takes texts from strangers: length, depth and number of conditions are bounded, and `LIKE` takes linear time.
"""

import math
import re
from dataclasses import dataclass
from typing import NoReturn

from tandem.errors import FilterError
from tandem.search.stores.filters import (
    And,
    AnyOf,
    Compare,
    Constant,
    Expression,
    In,
    IsNull,
    Like,
    Not,
    Operator,
    Or,
)
from tandem.search.stores.protocol import Kind, Schema

# After a % in a pattern: it is compared at each place of a text. Measured: 4,000 in a megabyte take 13 s.
LONGEST_PIECE = 400

MAX_CHARACTERS = 100_000
MAX_DEPTH = 50  # parentheses and NOT: a tree is walked by functions that call themselves
MAX_CONDITIONS = 500  # SQLite refuses trees deeper than 1000, and a chain of AND is one
MAX_VALUES = 10_000
SIMILAR = 0.7  # names of columns; 1 is the same


def quoted(text: str) -> str:
    """A text as a value in a filter, and in SQL."""
    return "'" + text.replace("'", "''") + "'"


def parse(text: str, schema: Schema) -> Expression:
    """The tree of a filter. `FilterError` names the position, or the column, of what cannot be understood."""
    return _Parser(text, schema).whole()


# --- text -> tokens ---

_KEYWORDS = {"and", "or", "not", "like", "ilike", "in", "between", "is", "null", "true", "false"}
_TOKEN = re.compile(
    r"""\s*+(?:
      (?P<text>'(?:[^']|'')*+')
    | (?P<quoted>"(?:[^"]|"")*+")
    | (?P<number>[+-]?\s*+(?:[0-9]++\.?+[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+(?![\w.]))
    | (?P<word>[^\W\d]\w*+)
    | (?P<operator>==|!=|<>|<=|>=|[=<>])
    | (?P<mark>[(),])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_FLIPPED: dict[Operator, Operator] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_HOLDS: dict[Kind, str] = {
    "text": "text in single quotes",
    "integer": "a number",
    "real": "a number",
    "boolean": "true or false",
}


@dataclass(frozen=True)
class _Token:
    kind: str  # text, number, column, operator, mark, end, or the keyword itself
    value: Constant
    shown: str  # as it was written
    position: int


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_CHARACTERS:
        raise FilterError(f"the filter is {len(text)} characters long; at most {MAX_CHARACTERS} are read")
    tokens: list[_Token] = []
    position = 0
    while not tokens or tokens[-1].kind != "end":
        found = _TOKEN.match(text, position)
        if found is None:
            raise _not_a_token(text, position)
        kind = str(found.lastgroup)
        shown = found[kind]
        tokens.append(_token(kind, shown, found.start(kind)))
        position = found.end()
    return tokens


def _token(kind: str, shown: str, position: int) -> _Token:
    value: Constant = shown
    if kind == "word":
        kind = shown.lower() if shown.lower() in _KEYWORDS else "column"
    elif kind == "quoted":
        kind, value = "column", shown[1:-1].replace('""', '"')
    elif kind == "text":
        value = shown[1:-1].replace("''", "'")
    elif kind == "operator":
        value = {"==": "=", "<>": "!="}.get(shown, shown)
    elif kind == "number":
        value = _number(shown, position)
    if kind in ("text", "column") and any("\ud800" <= character <= "\udfff" for character in str(value)):
        raise FilterError(
            f"position {position}: {shown!a} is not Unicode text, and no stored text can equal it", position
        )
    return _Token(kind, value, shown, position)


def _number(shown: str, position: int) -> int | float:
    digits = "".join(shown.split())
    # Python does not turn thousands of digits into an integer, nor would a store.
    value = int(digits) if len(digits) < 40 and digits.lstrip("+-").isdecimal() else float(digits)
    whole = isinstance(value, int)
    if (whole and not -(2**63) <= value < 2**63) or math.isinf(value):
        raise FilterError(f"position {position}: the number {shown[:30]} is larger than any that is stored", position)
    return value


def _not_a_token(text: str, position: int) -> FilterError:
    position += len(text[position:]) - len(text[position:].lstrip())
    character = text[position]
    if character == "'":
        return FilterError(f"position {position}: text begins with a quote here that is never closed", position)
    if character == '"':
        return FilterError(f"position {position}: a name begins with a quote here that is never closed", position)
    shown = text[position:].split(maxsplit=1)[0][:30]
    return FilterError(f"position {position}: expected a column, a value or an operator, got {shown}", position)


# --- tokens -> tree ---


class _Parser:
    """One reading of one text, by recursive descent: a function for each level, the loosest binding first."""

    def __init__(self, text: str, schema: Schema) -> None:
        self.tokens = _tokens(text)
        self.schema = schema
        self.next = 0
        self.depth = self.conditions = self.values = 0

    def whole(self) -> Expression:
        expression = self.any_of()
        if self.token.kind != "end":
            self.fail("AND, OR or the end")
        return expression

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def take(self, *kinds: str) -> _Token | None:
        """The next token, if it is of one of these kinds (a mark is its own kind)."""
        token = self.token
        if token.kind in kinds or (token.kind == "mark" and token.shown in kinds):
            self.next += 1
            return token
        return None

    def fail(self, expected: str, advice: str = "") -> NoReturn:
        token = self.token
        before = f" after {self.tokens[self.next - 1].shown[:30]}" if self.next else ""
        came = "the end" if token.kind == "end" else token.shown[:30]
        raise FilterError(f"position {token.position}: expected {expected}{before}, got {came}{advice}", token.position)

    def any_of(self) -> Expression:
        parts = [self.all_of()]
        while self.take("or"):
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all_of(self) -> Expression:
        parts = [self.negated()]
        while self.take("and"):
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negated(self) -> Expression:
        position = self.token.position
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FilterError(f"position {position}: nested more than {MAX_DEPTH} deep", position)
        try:
            if self.take("not"):
                return Not(self.negated())
            if self.take("("):
                inner = self.any_of()
                if not self.take(")"):
                    self.fail("AND, OR or )")
                return inner
            return self.condition()
        finally:
            self.depth -= 1

    def condition(self) -> Expression:
        start = self.token.position
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise FilterError(f"position {start}: more than {MAX_CONDITIONS} conditions", start)
        if value := self.take("text", "number", "true", "false"):
            return self.value_first(value)
        if not (named := self.take("column")):
            self.fail("a column")
        column = str(named.value)
        kind = self.kind_of(column)
        if operator := self.take("operator"):
            return self.compare(column, kind, operator)
        if self.take("is"):
            negative = self.take("not")
            if not self.take("null"):
                self.fail("NULL" if negative else "NULL or NOT NULL")
            return Not(IsNull(column)) if negative else IsNull(column)
        negative = self.take("not")
        if like := self.take("like", "ilike"):
            if kind != "text":
                raise FilterError(f"column {column} is {kind}: {like.kind.upper()} is for text")
            inner: Expression = Like(column, _pattern(str(self.value(column, kind))), like.kind == "ilike")
        elif self.take("in"):
            inner = In(column, self.list_of(column, kind))
        elif self.take("between"):
            self.refuse_order(column, kind)
            low = self.value(column, kind)
            if not self.take("and"):
                self.fail("AND")
            inner = And((Compare(column, ">=", low), Compare(column, "<=", self.value(column, kind))))
        elif kind == "boolean" and not negative:
            return Compare(column, "=", True)
        else:
            self.fail("LIKE, ILIKE, IN or BETWEEN" if negative else "a comparison (=, <, LIKE, IN, IS NULL, ...)")
        inner = self.any_value(column, inner)
        return Not(inner) if negative else inner

    def compare(self, column: str, kind: Kind, operator: _Token) -> Expression:
        if operator.value not in ("=", "!="):
            self.refuse_order(column, kind)
        return self.compared(column, operator.value, self.value(column, kind))  # type: ignore[arg-type]

    def compared(self, column: str, operator: Operator, value: Constant) -> Expression:
        """Of a column with a list of values, `!=` is the opposite of `=`: none of them is equal."""
        if operator == "!=" and self.schema.listed(column):
            return Not(self.any_value(column, Compare(column, "=", value)))
        return self.any_value(column, Compare(column, operator, value))

    def any_value(self, column: str, condition: Expression) -> Expression:
        listed = self.schema.listed(column)
        return condition if listed is None else AnyOf(column, listed, condition)

    def value_first(self, value: _Token) -> Expression:
        """`1000 < width` is `width > 1000`."""
        if not (operator := self.take("operator")):
            self.fail("a comparison (=, <, ...)")
        if not (named := self.take("column")):
            self.fail("a column")
        column = str(named.value)
        kind = self.kind_of(column)
        if operator.value not in ("=", "!="):
            self.refuse_order(column, kind)
        flipped = _FLIPPED[operator.value]  # type: ignore[index]
        return self.compared(column, flipped, _typed(column, kind, value))

    def list_of(self, column: str, kind: Kind) -> tuple[Constant, ...]:
        if not self.take("("):
            self.fail("(")
        values = [self.value(column, kind)]
        while self.take(","):
            values.append(self.value(column, kind))
        if not self.take(")"):
            self.fail(", or )")
        return tuple(values)

    def value(self, column: str, kind: Kind) -> Constant:
        token = self.token
        self.values += 1
        if self.values > MAX_VALUES:
            raise FilterError(f"position {token.position}: more than {MAX_VALUES} values", token.position)
        if token.kind == "null":
            raise FilterError(
                f"position {token.position}: NULL equals nothing; write {column} IS NULL or {column} IS NOT NULL",
                token.position,
            )
        if token.kind == "column" and token.value in self.schema.columns:
            raise FilterError(
                f"position {token.position}: expected a value, got the column {token.value}: "
                f"columns are compared to values only (text is written '{token.value}')",
                token.position,
            )
        if self.take("text", "number", "true", "false"):
            return _typed(column, kind, token)
        advice = ""
        if token.kind == "column":
            written = quoted(str(token.value)[:30])
            advice = f" (there is no column of that name; text is written {written})"
        self.fail(_HOLDS[kind], advice)

    def kind_of(self, column: str) -> Kind:
        if column == "id":
            return "text"
        kind = self.schema.columns.get(column)
        usable = [name for name, other in self.schema.columns.items() if other != "bytes"] + ["id"]
        if kind is None:
            from difflib import SequenceMatcher

            usable.sort(key=lambda name: -SequenceMatcher(None, name.lower(), column.lower()).ratio())
            meant = usable[0] if SequenceMatcher(None, usable[0].lower(), column.lower()).ratio() > SIMILAR else None
            guess = f": did you mean {meant}? There are" if meant else "; there are"
            raise FilterError(f"no column {column!r}{guess} {', '.join(usable)}")
        if kind == "bytes":
            raise FilterError(f"column {column} holds bytes, which no filter reads; there are {', '.join(usable)}")
        return kind

    def refuse_order(self, column: str, kind: Kind) -> None:
        if kind == "boolean":
            raise FilterError(f"column {column} is true or false: compare it with = or !=")


def _typed(column: str, kind: Kind, token: _Token) -> Constant:
    value: Constant = token.kind == "true" if token.kind in ("true", "false") else token.value
    came = "text" if token.kind == "text" else "number" if token.kind == "number" else "boolean"
    if came != {"text": "text", "integer": "number", "real": "number", "boolean": "boolean"}.get(kind):
        raise FilterError(f"column {column} is {kind}: expected {_HOLDS[kind]}, got {token.shown[:60]}")
    return value


def _pattern(pattern: str) -> str:
    """A pattern that can be looked for in a text of a megabyte within seconds. Raises `FilterError` for others."""
    _, *looked_for = pattern.split("%")
    if (longest := max(map(len, looked_for), default=0)) > LONGEST_PIECE:
        raise FilterError(f"a pattern has {longest:,} characters after a %; expected at most {LONGEST_PIECE}")
    return pattern
