"""Moments of films among what is found: no film fills an answer, and pages fit together."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import toy
from support.collection_toys import ToyEngine

from tandem.errors import TandemError
from tandem.model import Model
from tandem.search.collection import Collection, open_collection
from tandem.search.indexing.image_record import COLUMNS
from tandem.search.stores.backends import create_store
from tandem.search.stores.protocol import Records, Schema
from tandem.videos.naming import moment_path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Two films, of 60 and 3 moments, nearer to the first axis than two photos; those of a film in time."""
    folder = tmp_path_factory.mktemp("moments")
    model = Model(toy.checkpoint(), ToyEngine())  # type: ignore[arg-type]
    films = [moment_path("/films/long.mp4", 5.0 * step) for step in range(60)]
    films += [moment_path("/films/short.mov", 20.0 * step) for step in range(3)]
    paths = [*films, "/a.jpg", "/b.jpg"]
    cosines = np.concatenate([np.linspace(0.9, 0.6, 60), [0.85, 0.55, 0.5], [0.3, 0.2]])
    vectors = np.zeros((len(paths), toy.DIMENSIONS), np.float32)
    vectors[:, 0], vectors[:, 1] = cosines, np.sqrt(1 - cosines**2)
    times = [float(path.partition("#t=")[2]) if "#" in path else None for path in paths]
    notes = {"format": "1", "identity": "m", "model_name": model.name, "model_fingerprint": model.fingerprint}
    store = create_store(str(folder / "c.tandem"), Schema(toy.DIMENSIONS, COLUMNS), notes)
    columns = {"path": paths, "paths": [json.dumps([path]) for path in paths], "time": times}
    store.upsert(Records([f"{index:04}" for index in range(len(paths))], vectors, columns))
    store.close()
    return open_collection(str(folder / "c.tandem"), model)


def found(photos: Collection, **options: object) -> list[str]:
    query = np.eye(toy.DIMENSIONS, dtype=np.float32)[0]
    results = photos.search("it", vectors={"text": query}, **options)  # type: ignore[arg-type]
    return [Path(hit.path).name for hit in results.hits]


def test_the_best_moment_of_each_film_comes_first_and_its_neighbours_last(photos: Collection) -> None:
    first = ["long.mp4#t=0.000", "short.mov#t=0.000", "a.jpg", "b.jpg"]
    assert found(photos, k=4) == first
    more = found(photos, k=10)
    assert more[:6] == [*first, "long.mp4#t=15.000", "long.mp4#t=30.000"]  # those within 15 s come last
    assert found(photos, k=5) + found(photos, k=5, offset=5) == more
    everything = found(photos, k=100)
    assert len(everything) == len(set(everything)) == 60 + 3 + 2
    assert everything[20 + 3 + 2] == "long.mp4#t=5.000"
    assert found(photos, k=3, moments=2) == ["long.mp4#t=0.000", "long.mp4#t=15.000", "short.mov#t=0.000"]


def test_all_moments_are_there_by_cosine_where_they_are_asked_for(photos: Collection) -> None:
    assert found(photos, k=3, moments=0) == ["long.mp4#t=0.000", "long.mp4#t=5.000", "long.mp4#t=10.000"]
    assert found(photos, k=2, where="time > 10 and path like '%long%'") == ["long.mp4#t=15.000", "long.mp4#t=30.000"]
    assert found(photos, k=9, where="time is null") == ["a.jpg", "b.jpg"]
    with pytest.raises(TandemError, match="moments: expected at least 0"):
        found(photos, moments=-1)


def test_hits_have_their_time(photos: Collection) -> None:
    query = np.eye(toy.DIMENSIONS, dtype=np.float32)[0]
    results = photos.search("it", vectors={"text": query}, k=4)
    assert [hit.time for hit in results.hits] == [0.0, 0.0, None, None]
    assert results.as_dict()["hits"][0]["metadata"]["time"] == 0.0
    assert "long.mp4 @ 0:00:00" in results._repr_html_()


def test_moments_are_no_duplicates_of_files(photos: Collection) -> None:
    groups = photos.duplicates(0.9)
    assert [[Path(str(member.metadata["path"])).name for member in group.members] for group in groups] == [
        ["a.jpg", "b.jpg"]
    ]
