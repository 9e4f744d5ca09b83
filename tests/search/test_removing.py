"""Images that were removed from a collection, and what indexing their files again comes to."""

from pathlib import Path

import pytest
from support import toy
from support.tars import tar_of
from test_sources import encoded

import tandem
from tandem.errors import StoreError
from tandem.search.indexing.ledger import Ledger


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.folder(tmp_path_factory.mktemp("models") / "one")


@pytest.fixture(params=["embedded", "lance"])
def photos(request: pytest.FixtureRequest, tmp_path: Path, model: Path) -> tandem.Collection:
    if request.param == "lance":
        pytest.importorskip("lancedb")
    url = f"{tmp_path}/photos.tandem" if request.param == "embedded" else f"lance:{tmp_path}/photos.lance"
    toy.write_images(tmp_path / "images", 4)
    (tmp_path / "images/copy.png").write_bytes((tmp_path / "images/1.png").read_bytes())
    tar_of(tmp_path / "more.tar", {"a.png": encoded(11), "b.png": encoded(12)})
    collection = tandem.open(url, model)
    assert collection.add(sources(tmp_path)).total == 6
    return collection


def sources(folder: Path) -> list[Path]:
    return [folder / "images", folder / "more.tar"]


def removed(collection: tandem.Collection, ids: list[str], here: bool) -> None:
    """Remove images through this collection, or as another machine does, of which this one's ledger knows nothing."""
    if here:
        assert collection.delete(ids) == len(ids)
    else:
        with collection._writing() as store:
            assert store.delete(ids) == len(ids)


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.slow_if("lance")
def test_what_was_removed_is_added_again_with_its_file(photos: tandem.Collection, tmp_path: Path, here: bool) -> None:
    images = tmp_path / "images"
    some = [hit.id for hit in photos.search("a cat", k=99) if hit.path.endswith(("1.png", "copy.png", "a.png"))]
    assert len(some) == 2
    removed(photos, some, here)
    assert photos.count() == 4
    assert photos.add(images / "2.png").unchanged == 1
    assert photos.count() == 4  # nobody named the files of those that were removed
    report = photos.add(images / "1.png")
    assert (report.added, report.unchanged, report.total) == (1, 0, 5)
    report = photos.add(sources(tmp_path))
    assert (report.added, report.duplicates, report.changed, report.total) == (1, 1, 0, 6)
    report = photos.add(sources(tmp_path))
    assert (report.unchanged, report.total) == (7, 6)
    assert {len(image.paths) for image in photos.get(some)} == {1, 2}


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.slow_if("lance")
def test_what_was_removed_counts_neither_as_gone_nor_as_changed(
    photos: tandem.Collection, tmp_path: Path, here: bool
) -> None:
    first, second = tmp_path / "images/0.png", tmp_path / "images/2.png"
    removed(photos, [hit.id for hit in photos.search("a cat", k=99) if hit.path in (str(first), str(second))], here)
    first.unlink()
    toy.random_image(77).save(second)
    report = photos.add(sources(tmp_path))
    assert (report.added, report.changed, report.gone, report.unchanged, report.total) == (1, 0, 0, 5, 5)


@pytest.mark.slow_if("lance")
def test_a_ledger_that_cannot_be_opened_keeps_nobody_from_removing(
    photos: tandem.Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: object) -> Ledger:
        raise StoreError(f"{path}: cannot be opened")

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "open", failing)
        assert photos.delete(photos.search("a cat", k=1)[0].id) == 1
    assert photos.add(sources(tmp_path)).total == 6
