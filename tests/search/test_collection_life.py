"""A collection is made, belongs to a model, and is removed."""

import io
import sys
import tarfile
from pathlib import Path

import pytest
from support import toy

import tandem
from tandem import weights
from tandem.errors import StoreBusyError, StoreError, TandemError
from tandem.search import identity

pytest_plugins = ["support.photos"]


def test_another_model_is_refused_with_both_names(
    photos: tandem.Collection, image_folder: Path, models: tuple[Path, Path]
) -> None:
    other = tandem.open(photos.url, models[1])
    for attempt in (lambda: other.search("a cat"), lambda: other.add(image_folder)):
        with pytest.raises(StoreError, match=r"one .*other") as refused:
            attempt()
        assert str(refused.value).endswith(f"move the collection: tandem migrate {photos.url} --model {models[1]}")
    assert photos.count() == 8


def test_its_own_model_is_found_again(photos: tandem.Collection) -> None:
    again = tandem.open(photos.url)
    assert again.search("a cat", k=2).hits == photos.search("a cat", k=2).hits
    assert again.search("a cat").fingerprint == photos.model.fingerprint


def test_other_weights_under_the_same_name_are_told_from_another_model(tmp_path: Path, image_folder: Path) -> None:
    """To leave the model out would not help."""
    folder, url = tmp_path / "m", tmp_path / "c.tandem"
    weights.write(toy.checkpoint(name="m"), folder, "tandem")
    tandem.open(url, folder).add(image_folder)
    weights.write(toy.checkpoint(name="m", seed=5), folder, "tandem", overwrite=True)
    with pytest.raises(StoreError, match=r"which has other weights now, .*: embed its photos again: ") as refused:
        tandem.open(url).search("a cat")
    assert str(refused.value).endswith(f": tandem migrate {url} --model {folder}")


def test_a_collection_of_an_earlier_edition_says_how_to_go_on() -> None:
    """Of the model that ships, whose name is the same in every edition; the command is complete."""
    model = tandem.load()
    notes = {"model_name": model.name, "model_fingerprint": "0" * 64}
    with pytest.raises(StoreError, match="which has other weights now") as refused:
        identity.check_model("c.tandem", notes, model, model.config.embed_dim)
    assert str(refused.value).endswith(": tandem migrate c.tandem --model tandem-mini")
    with pytest.raises(StoreError, match=r"of ViT-B/32 \(0{12}\), not of tandem-mini"):
        identity.check_model("c.tandem", notes | {"model_name": "ViT-B/32"}, model, model.config.embed_dim)


def test_a_missing_model_is_named(tmp_path: Path, image_folder: Path) -> None:
    weights.write(toy.checkpoint(name="gone"), tmp_path / "gone", "tandem")
    tandem.open(tmp_path / "c.tandem", tmp_path / "gone").add(image_folder)
    (tmp_path / "gone").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="made with gone"):
        tandem.open(tmp_path / "c.tandem").search("a cat")
    assert len(tandem.open(tmp_path / "c.tandem", tmp_path / "elsewhere").search("a cat")) == 8


def test_a_collection_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no collection there"):
        tandem.open(tmp_path / "none.tandem", must_exist=True)
    with pytest.raises(TandemError):
        tandem.open(tmp_path / "none.tandem").add(tmp_path / "nowhere")
    assert not (tmp_path / "none.tandem").exists()


def test_nothing_is_made_for_a_tar_without_images(tmp_path: Path, models: tuple[Path, Path]) -> None:
    tarfile.open(tmp_path / "empty.tar", "w").close()
    (tmp_path / "damaged.tar").write_bytes(b"x" * 5000)
    collection = tandem.open(tmp_path / "c.tandem", models[0])
    with pytest.raises(TandemError, match=r"nothing to index: no images in .*empty\.tar"):
        collection.add(tmp_path / "empty.tar")
    with pytest.raises(TandemError, match=r"damaged\.tar"):
        collection.add([tmp_path / "empty.tar", tmp_path / "damaged.tar"])
    assert not (tmp_path / "c.tandem").exists()
    toy.random_image(0).save(tmp_path / "one.png")
    report = collection.add([tmp_path / "damaged.tar", tmp_path / "one.png"])
    assert (report.total, len(report.failures)) == (1, 1)


def test_an_empty_list_makes_no_collection(
    tmp_path: Path, image_folder: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    collection = tandem.open(tmp_path / "c.tandem", models[0])
    for text, says in (("", "no images in the list on standard input"), (f"{tmp_path}/none.png\n", "no such file")):
        listed(text)
        with pytest.raises(TandemError, match=f"nothing to index: .*{says}"):
            collection.add("-")
        assert not (tmp_path / "c.tandem").exists()
    listed(f"{image_folder}/1.png\n")
    assert collection.add("-").added == 1
    listed("")
    assert collection.add("-").total == 1


def test_a_model_known_by_name_is_refused_before_it_is_downloaded(
    tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tandem.open(tmp_path / "c.tandem").add(image_folder)

    def load(*_: object, **__: object) -> None:
        raise AssertionError("would be downloaded")

    monkeypatch.setattr("tandem.model.load", load)
    for name, known in (("vit-b-32", "ViT-B/32"), ("openai/clip-vit-base-patch32", "ViT-B/32")):
        other = tandem.open(tmp_path / "c.tandem", name)
        for attempt in (lambda: other.search("a cat"), lambda: other.add(image_folder)):  # noqa: B023
            with pytest.raises(
                StoreError, match=f"holds vectors of tandem-mini .*, not of {known}: leave the model"
            ) as refused:
                attempt()
            assert str(refused.value).endswith(f"tandem migrate {tmp_path / 'c.tandem'} --model {name}")


def test_prune_of_an_empty_folder_says_how_to_remove_its_photos(photos: tandem.Collection, image_folder: Path) -> None:
    for path in image_folder.iterdir():
        path.unlink()
    with pytest.raises(TandemError, match="no images in this folder") as refused:
        photos.add(image_folder, prune=True)
    assert str(refused.value).endswith("nothing was removed: to take out images, call Collection.delete with their ids")
    with pytest.raises(TandemError, match="no images in this folder") as refused:
        photos.add(image_folder)
    assert "remove" not in str(refused.value)
    assert photos.count() == 8


def test_a_collection_without_its_current_file_says_how_to_repair_it(photos: tandem.Collection) -> None:
    current = Path(photos.url) / "current"
    content = current.read_text()
    current.unlink()
    with pytest.raises(StoreError, match=rf"there are photos in g1.*write g1 into {current}") as raised:
        tandem.open(photos.url, must_exist=True)
    assert "other things" not in str(raised.value)
    current.write_text(str(raised.value).rpartition("write ")[2].partition(" into")[0])
    assert current.read_text().strip() == content.strip()
    assert tandem.open(photos.url).count() == 8


def test_taken_out_is_gone(photos: tandem.Collection) -> None:
    first, second = photos.search("a cat", k=2)
    assert photos.delete([first.id]) == 1
    assert photos.search("a cat", k=1)[0].id == second.id
    assert len(photos) == 7
    assert photos.delete(second.id) == 1  # and not one id a letter


def test_a_collection_can_be_removed_and_made_again(photos: tandem.Collection, image_folder: Path) -> None:
    (Path(photos.url) / "uploads").mkdir()
    (Path(photos.url) / "uploads" / "kept.png").write_bytes(b"x")
    photos.remove()
    with pytest.raises(StoreError, match="expected a collection"):
        photos.count()
    assert [file.name for file in Path(photos.url).rglob("*")] == ["uploads", "kept.png"]
    assert len(list(image_folder.iterdir())) == 8
    (Path(photos.url) / "uploads" / "kept.png").unlink()
    (Path(photos.url) / "uploads").rmdir()
    assert photos.add(image_folder).added == 8
    with tandem.open(photos.url)._writing(), pytest.raises(StoreBusyError):
        photos.remove()
    photos.remove()
    assert not Path(photos.url).exists()
