"""The stores that the contract runs against: for each kind a function that makes an empty store, open for writing."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tandem.search.store import Schema, Store, create_store

Make = Callable[[Path, Schema, Mapping[str, str]], Store]


def embedded(tmp_path: Path, schema: Schema, notes: Mapping[str, str]) -> Store:
    return create_store(str(tmp_path / "photos of 2024 #1?.tandem"), schema, notes)


STORES: dict[str, Make] = {"embedded": embedded}
