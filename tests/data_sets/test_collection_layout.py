"""A collection as a data set: its vectors, with a column or the folder as the label."""

from pathlib import Path

import numpy as np
import pytest
from support import toy
from support.dataset_toys import write_folder

import tandem
from tandem import engine
from tandem.datasets import dataset_splits, open_dataset
from tandem.datasets.labelled_collection import open_labelled_collection
from tandem.errors import DataError, FilterError
from tandem.evaluate.features import embed_dataset
from tandem.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    checkpoint = toy.checkpoint()
    return Model(checkpoint, engine.build(checkpoint.config, checkpoint.tensors))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("photos"), {"sea_lion": 2, "cat": 3})


@pytest.fixture(scope="module")
def url(photos: Path, model: Model) -> str:
    for number, path in enumerate(sorted((photos / "cat").glob("*.png"))):
        path.with_suffix(".txt").write_text(f"a cat {number}\nanother text\n")
    address = str(photos.parent / "c.tandem")
    with tandem.open(address, model) as collection:
        collection.add(photos, progress=False)
    return address


def test_folders_are_labels_and_vectors_are_those_of_the_collection(url: str, photos: Path, model: Model) -> None:
    data = open_dataset(url, label="folder")
    assert (data.name, data.layout, data.classes) == ("c", "collection", ("cat", "sea lion"))
    assert sorted(data.keys) == sorted(str(path) for path in photos.glob("*/*.png"))
    assert all(
        Path(key).parent.name == ("cat", "sea_lion")[label] for key, label in zip(data.keys, data.labels, strict=True)
    )
    features = embed_dataset(model, data)
    assert np.abs(features.vectors - model.embed_images(list(data.keys), progress=False)).max() < 1e-6
    assert list(data.images()) == list(data.keys)
    assert dataset_splits(url) == ()


def test_captions_columns_and_filters(url: str) -> None:
    with pytest.raises(DataError, match=r"sea_lion/.\.png: it has no caption"):
        open_dataset(url)
    data = open_dataset(url, where="caption is not null")
    assert len(data) == 3
    assert {captions[1] for captions in data.captions} == {"another text"}
    assert data.notes == ()
    labelled = open_dataset(url, label="format", where="caption is null")
    assert (labelled.classes, len(labelled)) == (("PNG",), 2)
    assert labelled.stored is not None
    assert len(labelled.stored.vectors) == 2
    drawn = open_dataset(url, label="folder", limit=2)
    assert drawn.stored is not None
    assert len(drawn.stored.vectors) == 2


def test_a_table_of_labels_gives_each_image_its_own_vector(
    url: str, photos: Path, model: Model, tmp_path: Path
) -> None:
    paths = sorted(photos.glob("*/*.png"), reverse=True)[:4]
    (tmp_path / "labels.csv").write_text("".join(f"{path},{path.parent.name}\n" for path in paths))
    data = open_labelled_collection(url, tmp_path / "labels.csv")
    assert (len(data), data.classes) == (4, ("cat", "sea lion"))
    opened = [str(image) for image in data.images()]
    assert sorted(opened) == sorted(map(str, paths))
    assert [Path(path).parent.name.replace("_", " ") for path in opened] == [
        data.classes[label] for label in data.labels
    ]
    vectors = embed_dataset(model, data).vectors
    assert np.abs(vectors - model.embed_images(opened, progress=False)).max() < 1e-6
    assert len(data.notes) == 1


def test_what_does_not_fit_is_refused(url: str, photos: Path, model: Model) -> None:
    with pytest.raises(DataError, match=r"expected folder or a column for label .* got pth; did you mean 'path'"):
        open_dataset(url, label="pth")
    with pytest.raises(DataError, match="no image passes where"):
        open_dataset(url, where="width > 100")
    with pytest.raises(FilterError):
        open_dataset(url, where="wide > 100")
    with pytest.raises(DataError, match="its images have no captions; for labels name a column with label, or folder"):
        open_dataset(url, where="caption is null")
    with pytest.raises(DataError, match="it has no splits"):
        open_dataset(url, split="test")
    data = open_dataset(url, label="folder")
    other = toy.checkpoint(seed=1)
    with pytest.raises(DataError, match="it holds vectors of another model"):
        embed_dataset(Model(other, engine.build(other.config, other.tensors)), data)
    with pytest.raises(DataError, match="load the model with orient=True"):
        embed_dataset(Model(model.checkpoint, model.engine, orient=False), data)


def test_a_thumbnail_stands_for_a_file_that_is_gone(tmp_path: Path, model: Model) -> None:
    folder = write_folder(tmp_path / "photos", {"cat": 1})
    with tandem.open(tmp_path / "c.tandem", model) as collection:
        collection.add(folder, progress=False)
    data = open_dataset(tmp_path / "c.tandem", label="folder")
    (folder / "cat" / "0.png").unlink()
    (content,) = data.images()
    assert isinstance(content, bytes)
    assert content.startswith(b"\xff\xd8")
