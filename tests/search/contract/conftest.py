"""A store of each kind, empty and open for writing, for every test of the contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.store_contract import NOTES, SCHEMA
from support.stores import PARAMS, STORES, close

from tandem.search.stores.protocol import Store


@pytest.fixture(params=PARAMS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = STORES[request.param](tmp_path, SCHEMA, NOTES)
    yield made
    close(made)
