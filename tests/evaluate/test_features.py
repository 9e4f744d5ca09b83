"""Vectors of data sets, and their cache: nothing is computed twice, and no wrong vector is ever found."""

import copy
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import toy
from support.dataset_toys import png, write_folder

import tandem
from tandem import engine
from tandem.datasets import Dataset, open_dataset
from tandem.errors import DataError, TandemError
from tandem.evaluate import feature_cache as feature_cache_module
from tandem.evaluate import features as module
from tandem.evaluate.feature_cache import INDEX, VECTORS, FeatureCache
from tandem.evaluate.features import embed_dataset, feature_cache
from tandem.image import ImageSource
from tandem.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    checkpoint = toy.checkpoint()
    return Model(checkpoint, engine.build(checkpoint.config, checkpoint.tensors))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return open_dataset(write_folder(tmp_path / "photos", {"cat": 4, "dog": 4}))


def counted(data: Dataset) -> tuple[Dataset, list[int]]:
    """The data set, and the places of the images that are read."""
    read: list[int] = []

    def open_images(places: Sequence[int]) -> Iterable[ImageSource]:
        for place, image in zip(places, data.open_images(places), strict=True):
            read.append(place)
            yield image

    return replace(data, open_images=open_images), read


def expected(model: Model, data: Dataset) -> np.ndarray:
    return model.embed_images(list(data.images()), progress=False)


def test_vectors_are_those_of_the_model_and_are_found_again(model: Model, data: Dataset) -> None:
    data, read = counted(data)
    first = embed_dataset(model, data)
    assert read == list(range(8))
    assert (first.model_name, first.fingerprint, len(first)) == (model.name, model.fingerprint, 8)
    assert np.abs(first.vectors - expected(model, data)).max() < 1e-6
    read.clear()
    again = embed_dataset(model, data)
    assert read == []
    assert np.array_equal(again.vectors, first.vectors)
    assert not again.vectors.flags.writeable  # mapped
    assert embed_dataset(model, data, cache=False).vectors.shape == (8, toy.DIMENSIONS)
    assert read == list(range(8))


def test_subsets_and_other_orders_are_found(model: Model, data: Dataset) -> None:
    first = embed_dataset(model, data.take([6, 2, 3]))
    data, read = counted(data)
    whole = embed_dataset(model, data)
    assert read == [0, 1, 4, 5, 7]
    assert np.array_equal(whole.vectors[[6, 2, 3]], first.vectors)
    read.clear()
    order = [5, 0, 7, 6, 0]
    assert np.array_equal(embed_dataset(model, data.take(order)).vectors, whole.vectors[order])
    assert np.array_equal(whole.take(np.array(order)).vectors, whole.vectors[order])
    assert whole.take(order, "why").dataset.notes == ("why",)
    assert read == []


def test_one_changed_byte_is_seen_though_size_and_time_are_the_same(
    model: Model, data: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "photos" / "dog" / "1.png"
    path.write_bytes(
        b"BM" + b"\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0\1\0\x18" + b"\0" * 25 + b"\1\2\3\0"
    )
    data = open_dataset(tmp_path / "photos")
    before = embed_dataset(model, data)
    status = path.stat()
    changed = bytearray(path.read_bytes())
    changed[-4] ^= 0x80  # blue
    path.write_bytes(bytes(changed))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    data, read = counted(open_dataset(tmp_path / "photos"))
    after = embed_dataset(model, data)
    assert read == [5]
    assert np.flatnonzero((after.vectors != before.vectors).any(1)).tolist() == [5]
    assert np.abs(after.vectors - expected(model, data)).max() < 1e-6


def test_swapped_images_swap_their_vectors(model: Model, data: Dataset, tmp_path: Path) -> None:
    before = embed_dataset(model, data)
    one, other = tmp_path / "photos" / "cat" / "0.png", tmp_path / "photos" / "dog" / "3.png"
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    data, read = counted(open_dataset(tmp_path / "photos"))
    after = embed_dataset(model, data)
    assert read == []
    assert np.array_equal(after.vectors, before.vectors[[7, 1, 2, 3, 4, 5, 6, 0]])


def test_an_image_that_changes_before_it_is_read_is_refused(model: Model, data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat" / "2.png").write_bytes(png(999))
    with pytest.raises(DataError, match=r"cat/2\.png: it has changed since the data set was opened"):
        embed_dataset(model, data)
    embed_dataset(model, open_dataset(tmp_path / "photos"))


def test_another_model_and_another_way_of_computing_share_nothing(model: Model, data: Dataset) -> None:
    embed_dataset(model, data)
    other = toy.checkpoint(seed=1)
    models = [
        Model(other, engine.build(other.config, other.tensors)),
        Model(model.checkpoint, model.engine, orient=False),
    ]
    for name, value in (("precision", "bfloat16"), ("name", "torch"), ("device", "cuda:1")):
        changed = copy.copy(model.engine)  # it computes as before: only what it says of itself counts here
        setattr(changed, name, value)
        models.append(Model(model.checkpoint, changed))
    for each in models:
        some, read = counted(data)
        found = embed_dataset(each, some)
        assert read == list(range(8))
        assert np.abs(found.vectors - expected(each, data)).max() < 1e-6
    folders = {kept.folder for each in [model, *models] if (kept := feature_cache(each)) is not None}
    assert len(folders) == 6


def test_other_versions_of_what_computes_share_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each library by itself: another version may decode, resize or compute other digits."""

    def folder() -> Path:
        kept = feature_cache(model)
        assert kept is not None
        return kept.folder

    folders, version = {folder()}, module._version
    for library in ("Pillow", "numpy", model.engine.name):
        monkeypatch.setattr(module, "_version", lambda name, new=library: "0.0" if name == new else version(name))
        folders.add(folder())
    monkeypatch.setattr(module, "_version", version)
    monkeypatch.setattr(tandem, "__version__", "0.0")
    assert len({*folders, folder()}) == 5


def test_digests_that_begin_alike_are_different_images(tmp_path: Path) -> None:
    kept = FeatureCache(tmp_path, {}, 2)
    one, other = b"12345678" + b"a" * 24, b"12345678" + b"b" * 24
    kept.append([one], np.ones((1, 2), np.float32))
    assert kept.lookup([one, other])[1].tolist() == [True, False]
    known, wanted = (np.frombuffer(each, np.uint8).reshape(1, 32) for each in (one, other))
    assert feature_cache_module._find(known, wanted).tolist() == [-1]  # before a checksum says so


def test_changed_code_shares_nothing(tmp_path: Path) -> None:
    own = Path(tandem.__file__).parent
    assert len(module.code_hash(own)) == 64
    hashes = set()
    for number, (name, text) in enumerate(
        [("pixels.py", "a"), ("pixels.py", "b"), ("engine/x.py", "a"), ("other.py", "a")]
    ):
        path = tmp_path / str(number) / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        hashes.add(module.code_hash(tmp_path / str(number)))
    assert len(hashes) == 4


def test_the_code_is_in_the_key_of_the_cache(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = feature_cache(model)
    monkeypatch.setattr(module, "code_hash", lambda package: "another")
    after = feature_cache(model)
    assert before is not None
    assert after is not None
    assert before.folder != after.folder


def test_an_engine_of_the_callers_own_is_not_cached(model: Model, data: Dataset, own_cache: Path) -> None:
    class Own:
        def __getattr__(self, name: str) -> object:
            return getattr(model.engine, name)

    own = Model(model.checkpoint, Own())  # type: ignore[arg-type]
    assert feature_cache(own) is None
    assert len(embed_dataset(own, data)) == 8
    assert not (own_cache / "features").exists()


def test_unreadable_images_are_counted_and_named_or_left_out(model: Model, data: Dataset, tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/0.png"):
        (tmp_path / "photos" / name).write_bytes(b"no image")
    data = open_dataset(tmp_path / "photos")
    with pytest.raises(DataError, match=r"photos: 2 of 8 images cannot be read; the first is cat/1\.png: not an image"):
        embed_dataset(model, data)
    data, read = counted(data)
    found = embed_dataset(model, data, on_error="skip")
    assert read == [1, 4]  # the others were kept
    assert len(found) == len(found.vectors) == 6
    assert found.dataset.keys == tuple(key for key in data.keys if key not in ("cat/1.png", "dog/0.png"))
    assert found.dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert "2 of 8 images cannot be read" in found.dataset.notes[-1]
    assert np.abs(found.vectors - expected(model, found.dataset)).max() < 1e-6
    with pytest.raises(DataError, match="2 of 2 images cannot be read"):
        embed_dataset(model, data.take([1, 4]), on_error="skip")
    with pytest.raises(TandemError, match="on_error"):
        embed_dataset(model, data, on_error="nan")  # type: ignore[arg-type]


def test_an_interrupted_call_resumes(model: Model, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)

    def stopped(places: Sequence[int]) -> Iterable[ImageSource]:
        for place, image in zip(places, data.open_images(places), strict=True):
            if place == 6:
                raise KeyboardInterrupt
            yield image

    with pytest.raises(KeyboardInterrupt):
        embed_dataset(model, replace(data, open_images=stopped))
    again, read = counted(data)
    found = embed_dataset(model, again)
    assert 0 < len(read) < 8
    assert read[-1] == 7
    assert np.abs(found.vectors - expected(model, data)).max() < 1e-6


def test_a_cache_that_cannot_be_written_costs_time_only(model: Model, data: Dataset, own_cache: Path) -> None:
    own_cache.mkdir(exist_ok=True)
    (own_cache / "features").write_text("in the way")
    with pytest.warns(UserWarning, match="vectors are not kept for the next time"):
        found = embed_dataset(model, data)
    assert np.abs(found.vectors - expected(model, data)).max() < 1e-6


# --- the files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path, {"model": "a"}, 3)


DIGESTS = [bytes([number]) * 32 for number in range(4)]
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_rows_that_lie_in_order_are_mapped(kept: FeatureCache) -> None:
    assert kept.lookup(DIGESTS)[1].tolist() == [False] * 4
    kept.append(DIGESTS[:3], ROWS[:3])
    vectors, present = kept.lookup(DIGESTS)
    assert present.tolist() == [True, True, True, False]
    assert np.array_equal(vectors[:3], ROWS[:3])
    kept.append(DIGESTS[3:], ROWS[3:])
    vectors, present = kept.lookup(DIGESTS[1:])
    assert present.all()
    assert np.array_equal(vectors, ROWS[1:])
    assert not vectors.flags.owndata
    assert np.array_equal(kept.lookup(DIGESTS[::-1])[0], ROWS[::-1])


def test_a_damaged_row_is_not_found_and_can_be_added_again(kept: FeatureCache) -> None:
    kept.append(DIGESTS, ROWS)
    content = bytearray((kept.folder / VECTORS).read_bytes())
    content[17] ^= 1  # in row 1
    (kept.folder / VECTORS).write_bytes(bytes(content))
    assert kept.lookup(DIGESTS)[1].tolist() == [True, False, True, True]
    kept.append(DIGESTS[1:2], ROWS[1:2])
    vectors, present = kept.lookup(DIGESTS)
    assert present.all()
    assert np.array_equal(vectors, ROWS)


@pytest.mark.parametrize(("name", "cut"), [(INDEX, 7), (VECTORS, 5), (VECTORS, 13)])
def test_a_write_that_was_cut_off_is_overwritten(kept: FeatureCache, name: str, cut: int) -> None:
    kept.append(DIGESTS[:3], ROWS[:3])
    whole = (kept.folder / name).read_bytes()
    (kept.folder / name).write_bytes(whole[:-cut])
    lost = 2 if cut == 13 else 1
    assert kept.lookup(DIGESTS[:3])[1].tolist() == [row < 3 - lost for row in range(3)]
    kept.append(DIGESTS[3 - lost :], ROWS[3 - lost :])
    vectors, present = kept.lookup(DIGESTS)
    assert present.all()
    assert np.array_equal(vectors, ROWS)
    assert (kept.folder / VECTORS).stat().st_size == ROWS.nbytes


def test_writers_take_turns_and_readers_see_whole_rows(kept: FeatureCache) -> None:
    random = np.random.default_rng(0)
    digests = [random.bytes(32) for _ in range(40)]
    rows = random.normal(size=(40, 3)).astype(np.float32)
    wrong = []

    def write(part: int) -> None:
        for row in range(part, 40, 4):
            kept.append(digests[row : row + 1], rows[row : row + 1])
            vectors, present = kept.lookup(digests)
            wrong.append((vectors[present] != rows[present]).any())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    vectors, present = kept.lookup(digests)
    assert present.all()
    assert np.array_equal(vectors, rows)
    assert not any(wrong)


def test_digests_that_begin_alike_are_told_apart(kept: FeatureCache) -> None:
    alike = [b"12345678" + bytes([number]) * 24 for number in range(2)]
    kept.append(alike[:1], ROWS[:1])
    assert kept.lookup(alike)[1].tolist() == [True, False]


def test_no_image_is_no_error(model: Model, kept: FeatureCache) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kept.lookup([])[0].shape == (0, 3)
        kept.append(DIGESTS, ROWS)
        assert kept.lookup([])[0].shape == (0, 3)
