"""Converts records to and from Arrow tables, as LanceDB stores them. Knows no files and no database.

`id` is the primary key, `vector` a list of d float32 values, and each column of the schema a column of its own, under
its own name where that is a plain one, so that other tools can read the table. The owner's notes are metadata of
the field `id`: it is read and pinned with the table's schema, at no further cost.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import StoreError, TandemError
from tandem.search.stores.protocol import Kind, Records, Schema, Value

METADATA_KEY = "tandem.layout"
NOTE = "tandem.note."
FORMAT = 1
_PRIMARY_KEY = "lance-schema:unenforced-primary-key"
_OWN = {"id", "vector"}
_TYPES: dict[Kind, tuple[type, ...]] = {
    "text": (str,),
    "bytes": (bytes,),
    "boolean": (bool, np.bool_),
    "integer": (int, np.integer),
    "real": (int, float, np.integer, np.floating),
}


@dataclass(frozen=True)
class ArrowMapping:
    """How the columns of a schema map to the fields of an Arrow table."""

    schema: Schema

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """The field of each column, and of `id`."""
        names: dict[str, str] = {"id": "id"}
        taken = set(_OWN)
        for number, column in enumerate(self.schema.columns):
            plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,99}", column) and not re.fullmatch(r"column_\d+", column)
            names[column] = column if plain and column.lower() not in taken else f"column_{number}"
            taken.add(column.lower())
        return names

    def chosen(self, columns: Sequence[str] | None) -> list[str]:
        """The requested columns: by default all but those of bytes. Raises `TandemError` for an unknown one."""
        if columns is None:
            return [name for name, kind in self.schema.columns.items() if kind != "bytes"]
        for name in columns:
            if name not in self.schema.columns:
                raise TandemError(f"no column {name!r}; there are {', '.join(self.schema.columns)}")
        return list(dict.fromkeys(columns))

    def arrow(self, notes: Mapping[str, str]) -> Any:
        """The Arrow schema of a new table."""
        import pyarrow as pa

        written = {_PRIMARY_KEY: "true", **{NOTE + key: value for key, value in notes.items() if value}}
        fields = [
            pa.field("id", pa.string(), nullable=False, metadata=written),
            pa.field("vector", pa.list_(pa.float32(), self.schema.dimensions), nullable=False),
            *(pa.field(self.fields[name], _arrow_type(kind)) for name, kind in self.schema.columns.items()),
        ]
        columns = list(self.schema.columns.items())
        return pa.schema(fields, metadata={METADATA_KEY: json.dumps({"format": FORMAT, "columns": columns})})

    def table(self, records: Records) -> Any:
        """Records as an Arrow table; the last one of each id. Raises `StoreError` for a value of the wrong type."""
        import pyarrow as pa

        assert records.vectors is not None
        last = {each: number for number, each in enumerate(records.ids)}
        if not all(isinstance(each, str) for each in last):
            raise TandemError("ids: expected text")
        rows = list(last.values())
        vectors = np.ascontiguousarray(records.vectors, np.float32)[rows]
        arrays: dict[str, Any] = {
            "id": _array("id", "text", list(last)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.schema.dimensions),
        }
        for name, kind in self.schema.columns.items():
            values = records.columns.get(name)
            arrays[self.fields[name]] = _array(name, kind, [None if values is None else values[row] for row in rows])
        return pa.table(arrays, schema=self.arrow({}))

    def records(self, found: Any, columns: Sequence[str], vectors: bool) -> Records:
        """An Arrow table or batch as records."""
        values = {name: found.column(self.fields[name]).to_pylist() for name in columns}
        return Records(found.column("id").to_pylist(), self.vectors(found) if vectors else None, values)

    def vectors(self, found: Any) -> Vectors:
        """The vectors [n d] of an Arrow table or batch."""
        column = found.column("vector")
        flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
        values = flat.flatten().to_numpy(zero_copy_only=False)
        return np.array(values, np.float32).reshape(-1, self.schema.dimensions)


def read_mapping(schema: Any) -> ArrowMapping:
    """The mapping of a table. Raises `StoreError` if Tandem did not create it."""
    try:
        written = json.loads((schema.metadata or {})[METADATA_KEY.encode()])
        version = written["format"]
        columns: dict[str, Kind] = dict(written["columns"])
        dimensions = int(schema.field("vector").type.list_size)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError("a table that Tandem did not make") from error
    if version != FORMAT:
        raise StoreError(f"the collection has format {version}, this Tandem reads {FORMAT}: install a newer one")
    return ArrowMapping(Schema(dimensions, columns))


def read_notes(schema: Any) -> dict[str, str]:
    """The owner's notes."""
    written = {key.decode(): value.decode() for key, value in (schema.field("id").metadata or {}).items()}
    return {key.removeprefix(NOTE): value for key, value in written.items() if key.startswith(NOTE) and value}


def _arrow_type(kind: Kind) -> Any:
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "integer": pa.int64(),
        "real": pa.float64(),
        "boolean": pa.bool_(),
        "bytes": pa.binary(),
    }
    return types[kind]


def _array(column: str, kind: Kind, values: Sequence[Value]) -> Any:
    import pyarrow as pa

    try:
        return pa.array([_stored(column, kind, value) for value in values], _arrow_type(kind))
    except UnicodeEncodeError as error:
        raise StoreError(f"column {column}: {str(error.object)[:60]!a} is not Unicode text") from error


def _stored(column: str, kind: Kind, value: Value) -> Value:
    if value is None:
        return None
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise StoreError(f"column {column} is {kind}, got {value!r:.60}")
    if kind == "boolean":
        return bool(value)
    if kind == "real":
        number = float(value)
        return None if math.isnan(number) else number + 0.0  # Arrow tells -0.0 from 0.0 in comparisons, SQL does not
    if kind == "integer":
        if not -(2**63) <= int(value) < 2**63:
            raise StoreError(f"column {column}: {int(value)} is larger than any integer that is stored")
        return int(value)
    return value
