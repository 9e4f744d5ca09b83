"""Records for the contract of stores, and what a store must answer about them."""

import json

import numpy as np

from tandem.arrays import Vectors
from tandem.search.stores.filter_parser import parse
from tandem.search.stores.filters import columns_of, matches
from tandem.search.stores.protocol import Kind, Records, Schema, Store, StoreHit, Value

COLUMNS: dict[str, Kind] = {
    "path": "text",
    "paths": "text",
    "width": "integer",
    "latitude": "real",
    "sharp": "boolean",
    "caption": "text",
    "thumbnail": "bytes",
}
D = 16
SCHEMA = Schema(D, COLUMNS)
NOTES = {"model_name": "toy", "identity": "abc"}
WORDS = ["Cat.jpg", "a cat's 100%.PNG", "Straße/dog_1.png", "ÄPFEL.png", "tab\there", "b*[c]?d", "日本/猫.jpg", ""]


def unit(vectors: Vectors) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_unit(n: int, seed: int = 0) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32))


def records(first: int, stop: int, seed: int = 0) -> Records:
    """Records with ids by number, every value missing now and then."""
    n = stop - first
    numbers = range(first, stop)

    def paths(i: int) -> list[str]:
        """Most records have one path, some have several."""
        first = f"{i % 7}/{WORDS[i % len(WORDS)]}"
        return [first, *(f"copy of {i}/{word}" for word in WORDS[: 1 + i % 3])] if i % 6 == 4 else [first]

    def column(values: list[Value], missing: int) -> list[Value]:
        return [None if (first + i) % missing == missing - 1 else value for i, value in enumerate(values)]

    return Records(
        [f"{i:06d}" for i in numbers],
        random_unit(n, seed * 1_000_003 + first),
        {
            "path": column([paths(i)[0] for i in numbers], 11),
            "paths": column([json.dumps(paths(i), ensure_ascii=False) for i in numbers], 11),
            "width": column([(i * 37) % 1000 for i in numbers], 5),
            "latitude": column([((i * 17) % 180) - 90.25 for i in numbers], 3),
            "sharp": column([i % 2 == 0 for i in numbers], 13),
            "caption": column([f"it is {i}" for i in numbers], 2),
            "thumbnail": column([bytes([i % 256]) * 3 for i in numbers], 4),
        },
    )


def by_hand(all_records: Records, query: Vectors, k: int, where: str | None = None) -> list[tuple[str, float]]:
    """What a search must find: every record compared, the filter evaluated in Python."""
    assert all_records.vectors is not None
    scores = all_records.vectors.astype(np.float64) @ query
    expression = None if where is None else parse(where, SCHEMA)
    found = []
    for i, score in enumerate(scores):
        row = {**all_records.row(i), "id": all_records.ids[i]}
        if expression is None or matches(expression, {name: row[name] for name in columns_of(expression)}):
            found.append((all_records.ids[i], float(score)))
    return sorted(found, key=lambda each: (-each[1], each[0]))[:k]


def same(hits: list[StoreHit], expected: list[tuple[str, float]]) -> None:
    assert [hit.id for hit in hits] == [name for name, _ in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in expected], atol=2e-6)


def ids_of(store: Store, where: str | None = None) -> list[str]:
    return sorted(each for batch in store.scan(where=where, columns=[], vectors=False) for each in batch.ids)
