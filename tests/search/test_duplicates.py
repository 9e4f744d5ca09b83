"""Near-duplicates: the same groups by both ways of finding them, and never a duplicate that is not near what stays."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tandem
from tandem.arrays import Vectors
from tandem.errors import TandemError
from tandem.search.exploring import duplicates
from tandem.search.stores.backends import create_store
from tandem.search.stores.protocol import Records, Schema, Store, Value

COLUMNS = {"path": "text", "width": "integer", "height": "integer", "bytes": "integer"}


def unit(vectors: np.ndarray) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def near(base: Vectors, cosine: float, seed: int = 0) -> Vectors:
    """Vectors [n d] at exactly this cosine to `base` [n d]."""
    other = np.random.default_rng(seed).normal(size=base.shape)
    other -= (other * base).sum(axis=1, keepdims=True) * base
    return unit(cosine * base + np.sqrt(1 - cosine**2) * unit(other))


def scattered(count: int, dimensions: int = 32, seed: int = 0) -> Vectors:
    return unit(np.random.default_rng(seed).normal(size=(count, dimensions)))


def store_of(path: Path, vectors: Vectors, **columns: Sequence[Value]) -> Store:
    store = create_store(str(path / "photos.tandem"), Schema(vectors.shape[1], COLUMNS), {})
    ids = [f"{i:05d}" for i in range(len(vectors))]
    store.upsert(Records(ids, vectors, {"path": [f"{id}.jpg" for id in ids], **columns}))
    return store


def as_sets(groups: Sequence[duplicates.DuplicateGroup]) -> set[frozenset[str]]:
    return {frozenset(member.id for member in group.members) for group in groups}


def test_pairs_are_those_that_a_whole_product_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    vectors = scattered(50, 4)
    found = {(int(i), int(j)) for one, other in duplicates.pairs(vectors, 0.8) for i, j in zip(one, other, strict=True)}
    cosines = np.triu(vectors @ vectors.T, 1)
    assert found == {(int(i), int(j)) for i, j in np.argwhere(cosines >= 0.8)}
    assert len(found) > 10


@pytest.mark.parametrize("by_search", [False, True])
def test_what_is_near_comes_together_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_search: bool
) -> None:
    if by_search:
        monkeypatch.setattr(duplicates, "EXACT_UP_TO", 0)
    base = scattered(40)
    vectors = np.concatenate([base, near(base[:10], 0.99, 1), near(base[:5], 0.985, 2), near(base[20:30], 0.9, 3)])
    seen = []
    with_store = store_of(tmp_path, vectors)
    groups = duplicates.find(with_store, 0.97, advance=seen.append)
    wanted = {frozenset({f"{i:05d}", f"{40 + i:05d}", *([f"{50 + i:05d}"] if i < 5 else [])}) for i in range(10)}
    assert as_sets(groups) == wanted
    assert sum(seen) == len(vectors)
    assert as_sets(duplicates.find(with_store, 0.8)) > wanted - as_sets(groups)
    with_store.close()


def test_a_group_of_any_size_is_found_by_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "EXACT_UP_TO", 0)
    monkeypatch.setattr(duplicates, "MOST_K", 16)  # more copies than are fetched at once
    same = np.repeat(scattered(1), 60, axis=0)
    store = store_of(tmp_path, np.concatenate([scattered(20, seed=5), near(same, 0.999)]))
    (group,) = duplicates.find(store, 0.97)
    assert {member.id for member in group.members} == {f"{i:05d}" for i in range(20, 80)}
    store.close()


def test_the_largest_image_is_kept_then_the_least_compressed(tmp_path: Path) -> None:
    base = scattered(1)
    vectors = np.concatenate([base, near(base, 0.995, 1), near(base, 0.99, 2), near(base, 0.99, 3)])
    store = store_of(tmp_path, vectors, width=[640, 1280, 1280, None], height=[480, 960, 960, None],
                     bytes=[90_000, 70_000, 200_000, 5])  # fmt: skip
    (group,) = duplicates.find(store, 0.97, columns=["path"])
    assert group.kept.id == "00002"
    assert group.kept.metadata["path"] == "00002.jpg"
    assert group.freed_bytes == 90_000 + 70_000 + 5
    scores = [member.score for member in group.members]
    assert scores == sorted(scores, reverse=True)
    cosines = vectors @ vectors[2]
    for member in group.members:
        assert member.score == pytest.approx(float(cosines[int(member.id)]), abs=1e-5)
    store.close()


def test_the_ends_of_a_chain_are_not_duplicates_of_one_another(tmp_path: Path) -> None:
    """Each photo of a series is near the next one; the first and the last show different things."""
    angles = np.arange(20) * np.arccos(0.98)
    vectors = unit(np.stack([np.cos(angles), np.sin(angles), np.zeros(20)], axis=1))
    store = store_of(tmp_path, vectors)
    groups = duplicates.find(store, 0.97)
    cosines = vectors @ vectors.T
    for group in groups:
        assert all(cosines[int(group.kept.id), int(member.id)] >= 0.97 - 1e-6 for member in group.others)
    ids = [member.id for group in groups for member in group.members]
    assert len(ids) == len(set(ids))
    store.close()


def test_a_filter_leaves_the_others_out(tmp_path: Path) -> None:
    base = scattered(3)
    store = store_of(tmp_path, np.concatenate([base, near(base, 0.99)]), width=[100, 200, 300] * 2)
    assert as_sets(duplicates.find(store, 0.97, where="width > 150")) == {
        frozenset({"00001", "00004"}),
        frozenset({"00002", "00005"}),
    }
    assert duplicates.find(store, 0.97, where="width > 1000") == []
    with pytest.raises(TandemError, match=r"1\.5"):
        duplicates.find(store, 1.5)
    store.close()


def test_the_limits_of_each_way_of_finding_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to `EXACT_UP_TO` records are compared each with each; above, by search, for ever more neighbours."""
    same = near(np.repeat(scattered(1), 30, axis=0), 0.9999)
    store = store_of(tmp_path, same)
    asked: list[int] = []
    whole = type(store).search
    monkeypatch.setattr(
        type(store), "search", lambda self, vectors, k, **rest: asked.append(k) or whole(self, vectors, k, **rest)
    )
    assert len(as_sets(duplicates.find(store, 0.97))) == 1
    assert asked == []
    monkeypatch.setattr(duplicates, "EXACT_UP_TO", 29)
    assert len(as_sets(duplicates.find(store, 0.97))) == 1
    assert asked == [4, 16, 64]
    store.close()


def test_equal_vectors_are_duplicates_at_a_cosine_of_one(tmp_path: Path) -> None:
    axis = np.eye(3, 8, dtype=np.float32)  # products of which are exact
    store = store_of(tmp_path, np.concatenate([axis, axis[:1], near(axis[1:2], 0.999)]))
    assert as_sets(duplicates.find(store, 1.0)) == {frozenset({"00000", "00003"})}
    store.close()


def test_groups_that_free_most_come_first_and_scores_are_cosines(tmp_path: Path) -> None:
    base = np.float32(1 + 1e-6) * scattered(6, 16)  # as rounding may leave them: longer than 1
    store = store_of(tmp_path, np.concatenate([base[:3]] * 3), bytes=[10, 500, 70] * 3)
    groups = duplicates.find(store, 0.97)
    assert [group.freed_bytes for group in groups] == [1000, 140, 20]
    assert max(member.score for group in groups for member in group.members) == 1
    store.close()


def test_the_image_to_keep_has_most_pixels_whatever_its_width(tmp_path: Path) -> None:
    base = scattered(1)
    vectors = np.concatenate([base, near(base, 0.995, 1)])
    store = store_of(tmp_path, vectors, width=[1000, 900], height=[100, 900], bytes=[90_000, 10])
    (group,) = duplicates.find(store, 0.97)
    assert group.kept.id == "00001"
    store.close()


@pytest.mark.slow
def test_a_photo_saved_again_resized_and_cropped_comes_together(tmp_path: Path) -> None:
    """With the model that ships, at the threshold that the command line proposes."""
    data = Path(pytest.importorskip("skimage").__file__).parent / "data"
    photos = [Image.open(data / name).convert("RGB") for name in ("chelsea.png", "coffee.png", "rocket.jpg")]
    images = []
    for photo in photos:
        width, height = photo.size
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=80)
        small = photo.resize((width // 2, height // 2), Image.Resampling.LANCZOS)
        slight = photo.crop((width // 50, height // 50, width - width // 50, height - height // 50))
        images += [photo, Image.open(file), small, slight]
    vectors = tandem.load().embed_images(images)
    sizes = [image.size for image in images]
    store = store_of(tmp_path, vectors, width=[size[0] for size in sizes], height=[size[1] for size in sizes])
    groups = duplicates.find(store)
    assert as_sets(groups) == {frozenset(f"{i:05d}" for i in range(begin, begin + 4)) for begin in (0, 4, 8)}
    assert {group.kept.id for group in groups} <= {"00000", "00001", "00004", "00005", "00008", "00009"}
    store.close()


def test_what_is_asked_for_still_counts_where_there_are_moments(tmp_path: Path) -> None:
    vectors = unit(np.ones((4, 8), np.float32))
    store = create_store(str(tmp_path / "films.tandem"), Schema(8, COLUMNS | {"time": "real"}), {})
    columns = {"path": [f"{i}.jpg" for i in range(4)], "width": [100, 200, 200, 200], "time": [None, None, None, 5.0]}
    store.upsert(Records(list("abcd"), vectors, columns))
    assert as_sets(duplicates.find(store, 0.97)) == {frozenset("abc")}
    assert as_sets(duplicates.find(store, 0.97, where="width > 150")) == {frozenset("bc")}
