"""How records are stored in the fields of a Milvus collection. Knows no server and no pymilvus.

Milvus 2.3 has no null values, and later versions compare them in their own way. So each column has two fields in every
version: `value_<column>`, and `has_<column>`, which says whether there is a value. Bytes are kept as base64.
A column that lists the values of another (`Schema.listed`) has a third, `several_<column>`: whether they are several.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import StoreError
from tandem.search.stores.filters import has_several
from tandem.search.stores.protocol import Kind, Records, Schema, Value

MAX_TEXT_BYTES = 65_535  # of a VARCHAR
MAX_ID_BYTES = 1_024
MAX_COLUMNS = 30  # Milvus has 64 fields in a collection
PROPERTY, FORMAT = "tandem.layout", 2  # 1 has no fields `several_<column>`

_EMPTY: dict[Kind, Value] = {"text": "", "bytes": "", "integer": 0, "real": 0.0, "boolean": False}


@dataclass(frozen=True)
class FieldMapping:
    """How the columns of a schema map to fields of a Milvus collection."""

    schema: Schema
    format: int = FORMAT

    @cached_property
    def _stems(self) -> dict[str, str]:
        """Milvus allows letters, digits and _ in names: columns of other names are numbered."""
        return {
            name: name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,200}", name) else str(number)
            for number, name in enumerate(self.schema.columns)
        }

    def value_field(self, column: str) -> str:
        return f"value_{self._stems[column]}"

    def presence_field(self, column: str) -> str:
        return f"has_{self._stems[column]}"

    def several_field(self, listed: str) -> str:
        """True for every record with several values, and in format 1 for others too."""
        return self.presence_field(listed) if self.format == 1 else f"several_{self._stems[listed]}"

    @cached_property
    def several_fields(self) -> dict[str, str]:
        """The fields `several_<column>`, by the column with the JSON array."""
        if self.format == 1:
            return {}
        names = {name: self.schema.listed(name) for name in self.schema.columns}
        return {listed: self.several_field(listed) for listed in names.values() if listed is not None}

    def fields(self, columns: Sequence[str]) -> list[str]:
        """The fields that hold these columns."""
        return [field(name) for name in columns for field in (self.value_field, self.presence_field)]

    def has_bytes(self, columns: Sequence[str]) -> bool:
        return any(self.schema.columns[name] == "bytes" for name in columns)

    def to_json(self) -> str:
        """The value of the property `tandem.layout`, for `read_mapping`."""
        return json.dumps({"format": self.format, "columns": list(self.schema.columns.items())})

    def rows(self, records: Records) -> list[dict[str, Any]]:
        """Rows to insert of records that passed `check_records`, the last one of each id.

        Raises `StoreError` for a value that Milvus cannot store.
        """
        assert records.vectors is not None
        vectors = np.ascontiguousarray(records.vectors, dtype=np.float32)
        columns = [
            (
                self.value_field(name),
                self.presence_field(name),
                name,
                records.columns.get(name),
                _EMPTY[kind],
            )
            for name, kind in self.schema.columns.items()
        ]
        last = {record_id: number for number, record_id in enumerate(records.ids)}
        rows = []
        for record_id, number in last.items():
            if not is_id(record_id) or len(record_id.encode()) > MAX_ID_BYTES:
                raise StoreError(
                    f"an id in Milvus has 1 to {MAX_ID_BYTES} bytes, none of control, got {record_id!a:.60}"
                )
            row: dict[str, Any] = {"id": record_id, "vector": vectors[number]}
            for value_field, presence_field, name, values, empty in columns:
                value = None if values is None else _stored(name, values[number])
                row[presence_field] = value is not None
                row[value_field] = empty if value is None else value
            for listed, field in self.several_fields.items():
                row[field] = has_several(row[self.value_field(listed)])
            rows.append(row)
        return rows

    def value(self, row: Mapping[str, Any], column: str) -> Value:
        """A column's value in a row from the server."""
        if not row[self.presence_field(column)]:
            return None
        value: Value = row[self.value_field(column)]
        return base64.b64decode(str(value)) if self.schema.columns[column] == "bytes" else value

    def records(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], vectors: bool) -> Records:
        """Rows from the server, as records."""
        found: Vectors | None = None
        if vectors:
            found = np.array([row["vector"] for row in rows], dtype=np.float32).reshape(-1, self.schema.dimensions)
        return Records(
            [row["id"] for row in rows], found, {name: [self.value(row, name) for row in rows] for name in columns}
        )

    def filter_row(self, row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Value]:
        """The row that `filters.matches` reads."""
        return {name: row["id"] if name == "id" else self.value(row, name) for name in columns}

    def filter_fields(self, columns: Sequence[str]) -> list[str]:
        return self.fields([name for name in columns if name != "id"])


def read_mapping(description: Mapping[str, Any]) -> FieldMapping | None:
    """The mapping of a collection, from the server's description of it; None if Tandem did not create it."""
    try:
        written = json.loads(description["properties"][PROPERTY])
        version = written["format"]
        columns: dict[str, Kind] = dict(written["columns"])
        dimensions = next(int(field["params"]["dim"]) for field in description["fields"] if field["name"] == "vector")
    except (ValueError, KeyError, TypeError, StopIteration):
        return None
    if version not in (1, FORMAT):
        raise StoreError(f"the collection has format {version}, this Tandem reads {FORMAT}: install a newer one")
    return FieldMapping(Schema(dimensions, columns), version)


def is_id(text: str) -> bool:
    """Whether a text can be an id: not empty and without control characters, so that expressions and paging work."""
    return text != "" and all(character >= " " and character != "\x7f" for character in text)


def check_schema(schema: Schema) -> None:
    """Reject a schema that Milvus could not store."""
    if len(schema.columns) > MAX_COLUMNS:
        raise StoreError(f"a collection in Milvus has at most {MAX_COLUMNS} columns, got {len(schema.columns)}")
    if not 1 <= schema.dimensions <= 32_768:
        raise StoreError(f"vectors in Milvus have 1 to 32768 dimensions, got {schema.dimensions}")


def row_bytes(row: Mapping[str, Any]) -> int:
    """About how many bytes a row takes in a message."""
    return sum(len(value) if isinstance(value, str) else 8 for value in row.values()) + int(row["vector"].nbytes)


def batches_by_size(rows: Sequence[Mapping[str, Any]], max_bytes: int) -> Iterator[list[Mapping[str, Any]]]:
    """The rows in order, in parts of at most so many bytes (or of one row)."""
    part: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        own = row_bytes(row)
        if part and size + own > max_bytes:
            yield part
            part, size = [], 0
        part.append(row)
        size += own
    if part:
        yield part


def _stored(column: str, value: Value) -> Value:
    """The stored form of a value that `check_records` has passed."""
    if isinstance(value, bytes):
        value = base64.b64encode(value).decode()
    if isinstance(value, str) and (size := len(value.encode())) > MAX_TEXT_BYTES:
        raise StoreError(f"column {column}: a value takes {size} bytes in Milvus, which keeps at most {MAX_TEXT_BYTES}")
    return value
