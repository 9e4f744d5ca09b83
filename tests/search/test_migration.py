"""Migration: the same set of images, with the vectors of another model."""

import tarfile
from pathlib import Path

import pytest

import tandem
from tandem.errors import StoreError
from tandem.search.migration import migrate
from tandem.search.stores.backends import open_store

pytest_plugins = ["support.photos"]


def test_migration_keeps_the_set_and_changes_the_vectors(
    photos: tandem.Collection, image_folder: Path, models: tuple[Path, Path]
) -> None:
    before = set(next(iter(open_store(photos.url).scan(vectors=False))).ids)
    moved = migrate(photos.url, tandem.load(models[1]))
    assert (moved.done, moved.images, moved.lost) == (True, 8, 0)
    assert (moved.before, moved.after) == ("one", "other")
    after = next(iter(open_store(photos.url).scan()))
    assert set(after.ids) == before
    again = tandem.open(photos.url)
    assert again.model.name == "other"
    assert again.search(image=image_folder / "3.png", k=1)[0].score == pytest.approx(1, abs=1e-5)
    assert again.add(image_folder).unchanged == 8
    with pytest.raises(StoreError, match="already"):
        migrate(photos.url, tandem.load(models[1]))


def test_migration_keeps_the_folders_and_the_day_the_collection_was_made(
    photos: tandem.Collection, image_folder: Path, models: tuple[Path, Path]
) -> None:
    store = open_store(photos.url, write=True)
    store.annotate({"created": "2020-01-02T03:04:05+00:00"})
    store.close()
    assert migrate(photos.url, tandem.load(models[1])).done
    after = tandem.open(photos.url).info()
    assert (after.model, after.created, after.roots) == ("other", "2020-01-02T03:04:05+00:00", (str(image_folder),))


@pytest.mark.slow
def test_migration_that_would_lose_images_waits(
    photos: tandem.Collection, image_folder: Path, models: tuple[Path, Path]
) -> None:
    content = (image_folder / "0.png").read_bytes()
    (image_folder / "0.png").unlink()
    other = tandem.load(models[1])
    waiting = migrate(photos.url, other)
    assert (waiting.done, waiting.lost) == (False, 1)
    assert [Path(one.path).name for one in waiting.missing] == ["0.png"]
    assert tandem.open(photos.url).model.name == "one"
    assert len(tandem.open(photos.url).search("a cat")) == 8
    (image_folder / "0.png").write_bytes(content)
    assert migrate(photos.url, other).done
    assert len(tandem.open(photos.url)) == 8


def test_migration_may_leave_out_what_is_gone(
    photos: tandem.Collection, image_folder: Path, models: tuple[Path, Path]
) -> None:
    (image_folder / "0.png").unlink()
    assert migrate(photos.url, tandem.load(models[1]), drop_missing=True).done
    assert len(tandem.open(photos.url)) == 7


def test_migration_reads_tars_again_and_keeps_only_what_was_kept(
    tmp_path: Path, image_folder: Path, models: tuple[Path, Path]
) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for file in sorted(image_folder.iterdir()):
            tar.add(file, file.name)
    collection = tandem.open(tmp_path / "c.tandem", models[0])
    collection.add(tmp_path / "set.tar")
    taken_out = collection.search("a cat", k=1)[0].id
    collection.delete([taken_out])
    assert migrate(collection.url, tandem.load(models[1])).images == 7
    again = tandem.open(collection.url)
    assert again.model.name == "other"
    assert taken_out not in {hit.id for hit in again.search("a cat", k=8)}


def test_migration_keeps_captions_whatever_their_key_was(
    tmp_path: Path, image_folder: Path, models: tuple[Path, Path]
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    contents = [path.read_bytes() for path in sorted(image_folder.iterdir())]
    pq.write_table(pa.table({"image": contents[:4], "text": list("abcd")}), tmp_path / "one.parquet")
    pq.write_table(pa.table({"image": contents[4:], "legend": list("efgh")}), tmp_path / "two.parquet")
    collection = tandem.open(tmp_path / "c.tandem", models[0])
    collection.add(tmp_path / "one.parquet")
    collection.add(tmp_path / "two.parquet", caption="legend")
    captions = {hit.id: hit.metadata["caption"] for hit in collection.search("a cat", k=8)}
    assert sorted(captions.values()) == list("abcdefgh")  # type: ignore[type-var]
    assert migrate(collection.url, tandem.load(models[1])).lost == 0
    again = tandem.open(collection.url)
    assert {hit.id: hit.metadata["caption"] for hit in again.search("a cat", k=8)} == captions
