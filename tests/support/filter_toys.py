"""Random filters, and records to tell apart by them, for every implementation of filters."""

import json
import random

import numpy as np

from support.store_contract import unit
from tandem.search.stores.protocol import Records, Schema, Value

SCHEMA = Schema(
    4,
    {
        "path": "text",
        "width": "integer",
        "height": "integer",
        "latitude": "real",
        "sharp": "boolean",
        "a column": "text",
        "name": "text",
        "names": "text",  # all of them
        "thumbnail": "bytes",
    },
)
WORDS = ["", "a", "A", "ab", "aab", "b%", "a_b", "it's", 'say "b"', "é", "\\", "zebra", "\U0001f408"]
NUMBERS = [-2, -1, 0, 1, 2, 3, 0.5, 1.5, -0.5, 1e9, 2**53, 2**53 + 1]


def random_value(kind: str, dice: random.Random) -> Value:
    if kind == "text":
        return dice.choice(WORDS)
    if kind == "boolean":
        return dice.random() < 0.5
    number = dice.choice(NUMBERS)
    return number if kind == "real" else int(number)


def random_row(dice: random.Random, *, lists: bool = False) -> dict[str, Value]:
    """`lists`: some rows have several names."""
    columns = {name: kind for name, kind in SCHEMA.columns.items() if kind != "bytes"}
    row = {name: None if dice.random() < 0.3 else random_value(kind, dice) for name, kind in columns.items()}
    several = [row["name"], *dice.sample(WORDS, dice.choice([0, 1, 3]))]
    row["names"] = json.dumps(several, ensure_ascii=False) if lists and row["name"] is not None else None
    return {"id": dice.choice(WORDS), **row}


def written(value: Value) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def random_filter(dice: random.Random, depth: int) -> str:
    """A random filter, as text that both our parser and SQLite read (with a case-sensitive LIKE)."""
    if depth and dice.random() < 0.7:
        kind = dice.choice(["and", "or", "not", "(", "and", "or"])
        if kind in "(not":
            return f"{kind if kind == 'not' else ''} ({random_filter(dice, depth - 1)})"
        return f" {kind} ".join(random_filter(dice, depth - 1) for _ in range(dice.randint(2, 3)))
    column = dice.choice([name for name, kind in SCHEMA.columns.items() if kind != "bytes"] + ["id"])
    kind = SCHEMA.columns.get(column, "text")
    name = f'"{column}"'
    value = [written(random_value("real" if kind == "integer" else kind, dice)) for _ in range(3)]
    forms = [f"{name} is null", f"{name} is not null", f"{name} = {value[0]}", f"{name} <> {value[0]}"]
    forms += [f"{name} in ({', '.join(value)})", f"{name} not in ({value[0]}, {value[1]})", f"{value[2]} = {name}"]
    if kind != "boolean":
        forms += [f"{name} {operator} {value[0]}" for operator in ("<", "<=", ">", ">=")]
        forms += [f"{value[0]} {operator} {name}" for operator in ("<", "<=", ">", ">=")]
        forms += [f"{name} between {value[0]} and {value[1]}", f"{name} not between {value[1]} and {value[2]}"]
    if kind == "text":
        pattern = written("".join(dice.choice(["%", "_", "a", "b", "A", "'", "\\"]) for _ in range(dice.randint(0, 4))))
        forms += [f"{name} like {pattern}", f"{name} not like {pattern}"] * 3
    return dice.choice(forms)


def filter_records(n: int, dice: random.Random, *, lists: bool = False) -> Records:
    """Random rows as records; `lists`: some have several names."""
    rows = [random_row(dice, lists=lists) for _ in range(n)]
    for row in rows:  # a column of reals gives back reals
        latitude = row["latitude"]
        row["latitude"] = float(latitude) if isinstance(latitude, int) else latitude
    columns = {name: [row[name] for row in rows] for name in SCHEMA.columns if name != "thumbnail"}
    vectors = unit(np.random.default_rng(0).standard_normal((n, SCHEMA.dimensions)).astype(np.float32))
    return Records([f"{i:04d}{row['id']}" for i, row in enumerate(rows)], vectors, columns)


def comparisons(*numbers: float | str) -> list[str]:
    """Every comparison of an integer and of a real column with each of some numbers."""
    return [
        f"{column} {operator} {number}"
        for column in ("width", "latitude")
        for operator in ("=", "!=", "<", "<=", ">", ">=")
        for number in numbers
    ]


EDGES = (-(2**63), 2**63 - 1, 2**53 + 1, 1.5, 1e300, -1e300)  # of what engines hold
# That engines translate differently: numbers of two kinds, quotes and escapes, odd characters, truth values
ODD_FILTERS = (
    "width in (-9223372036854775808, 1, 2.5)",
    "width not in (1.5)",
    "latitude in (0.5, 9007199254740993)",
    "path = '\" or id != \"'",
    "path != '\\'",
    "path = '\\\" or true or \"'",
    "not (path = 'x\ny\x00' or path < '\t')",
    "path like '\U0010ffff%'",
    "path not like 'a%'",
    "path like '~%' or path ilike 'A%'",
    "sharp in (true, false)",
    "sharp not in (true)",
    "sharp in (false, false)",
)
