"""Rows of a file by a filter over its columns, in the language that collections use. Knows columns and values."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tandem.search.stores.filter_parser import parse
from tandem.search.stores.filters import columns_of, matches
from tandem.search.stores.protocol import Kind, Schema, Value

RowFilter = Callable[[Mapping[str, Any]], bool]


def row_filter(where: str, columns: Mapping[str, Kind]) -> tuple[set[str], RowFilter]:
    """The columns that a filter needs, and whether a row with these passes it. Raises `FilterError`.

    As for collections, `id` may be named where no column is called so: rows have to bring it.
    """
    tree = parse(where, Schema(0, columns))

    def passes(row: Mapping[str, Value]) -> bool:
        return matches(tree, row) is True

    return columns_of(tree) & columns.keys(), passes


def kinds_of_parquet(columns: Mapping[str, str]) -> dict[str, Kind]:
    """The columns that a filter can name, by what pyarrow calls their types."""
    found: dict[str, Kind] = {}
    for name, kind in columns.items():
        if kind in ("string", "large_string", "string_view") or kind.startswith("dictionary<values=string"):
            found[name] = "text"
        elif kind.startswith(("int", "uint")):
            found[name] = "integer"
        elif kind in ("float", "double", "halffloat"):
            found[name] = "real"
        elif kind == "bool":
            found[name] = "boolean"
    return found


def kinds_of_values(names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, Kind]:
    """The columns of a table without types: numbers where every value is one, else text."""
    kinds: dict[str, set[type]] = {name: set() for name in names}
    for row in rows:
        for name, types in kinds.items():
            if (value := row.get(name)) is not None:
                types.add(type(value))
    found: dict[str, Kind] = {}
    for name, types in kinds.items():
        if types == {bool}:
            found[name] = "boolean"
        elif types == {int}:
            found[name] = "integer"
        elif types and types <= {int, float}:
            found[name] = "real"
        elif types <= {str}:
            found[name] = "text"
    return found
