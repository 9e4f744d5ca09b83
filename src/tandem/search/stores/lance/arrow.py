"""Converts records to and from Arrow tables, as LanceDB stores them. Knows no files and no database.

`id` is the primary key, `vector` a list of d float32 values, and each column of the schema a column of its own, under
its own name where that is a plain one, so that other tools can read the table. The owner's notes are metadata of
the field `id`: it is read and pinned with the table's schema, at no further cost.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import StoreError
from tandem.search.stores.protocol import Kind, Records, Schema

METADATA_KEY = "tandem.layout"
NOTE = "tandem.note."
FORMAT = 1
_PRIMARY_KEY = "lance-schema:unenforced-primary-key"
_OWN = {"id", "vector"}


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
        """Records that passed `check_records` as an Arrow table; the last one of each id."""
        import pyarrow as pa

        assert records.vectors is not None
        records = records.last_of_each()
        vectors = np.ascontiguousarray(records.vectors, np.float32)
        arrays: dict[str, Any] = {
            "id": pa.array(list(records.ids), pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.schema.dimensions),
        }
        for name, kind in self.schema.columns.items():
            values = records.columns.get(name)
            arrays[self.fields[name]] = pa.array(
                [None] * len(records) if values is None else list(values), _arrow_type(kind)
            )
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
