"""Parquet files: columns of images, labels and captions."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.dataset_toys import png

from tandem.datasets import dataset_splits, open_dataset
from tandem.errors import DataError, FilterError


def write(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, rows: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=rows)
    return path


def images(count: int, first: int = 0) -> list[bytes]:
    return [png(first + number) for number in range(count)]


def test_rows_are_images_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "pets.parquet", {"image": images(7), "label": list("cbabcaa")})
    data = open_dataset(path)
    assert (data.name, data.layout, data.split, data.classes) == ("pets", "parquet", None, ("a", "b", "c"))
    assert data.labels.tolist() == [2, 1, 0, 1, 2, 0, 0]
    assert data.keys[6] == "pets.parquet#6"
    assert list(data.images()) == images(7)
    assert list(data.images([5, 0, 5, 3])) == [png(5), png(0), png(5), png(3)]
    assert list(data.take([6, 1]).images()) == [png(6), png(1)]


def test_numbers_have_the_names_that_datasets_wrote(tmp_path: Path) -> None:
    structs = [{"bytes": content, "path": None} for content in images(3)]
    names = {"names": ["sea_lion", "cat", "dog"], "_type": "ClassLabel"}
    path = write(tmp_path / "a.parquet", {"image": structs, "label": [2, 0, 2]}, {"label": names})
    data = open_dataset(path)
    assert data.classes == ("sea lion", "cat", "dog")
    assert data.labels.tolist() == [2, 0, 2]
    assert list(data.images([1])) == [png(1)]
    several = write(
        tmp_path / "b.parquet",
        {"image": images(3), "labels": [[2, 0], [], [1]]},
        {"labels": {"feature": names, "_type": "Sequence"}},
    )
    data = open_dataset(several)
    assert data.multi_label
    assert data.label_sets == ((0, 2), (), (1,))
    with pytest.raises(DataError, match="images have several labels"):
        _ = data.labels


def test_numbers_without_names_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": images(3), "label": [0, 2, 1]})
    with pytest.raises(DataError, match=r"its labels are numbers \(0, 1, 2\): name the classes with classes"):
        open_dataset(path)
    assert open_dataset(path, classes=["x", "y", "z"]).labels.tolist() == [0, 2, 1]
    with pytest.raises(DataError, match=r"a\.parquet#1: the label 2 is not among 2 classes, 0 to 1"):
        open_dataset(path, classes=["x", "y"])


def test_ids_have_the_names_beside_them(tmp_path: Path) -> None:
    columns = {"image": images(3), "wnid": ["n2", "n1", "n2"], "names": ["tub, bath", "crane", "tub, bath"]}
    assert open_dataset(write(tmp_path / "a.parquet", columns)).classes == ("crane", "tub")
    columns["names"] = ["crane, bird", "crane", "crane, bird"]
    assert open_dataset(write(tmp_path / "b.parquet", columns)).classes == ("crane", "crane, bird")
    columns["names"] = ["crane", "tub", "bath"]
    with pytest.raises(DataError, match=r"b\.parquet, row 2: the label n2 has two names, 'crane' and 'bath'"):
        open_dataset(write(tmp_path / "b.parquet", columns))


def test_files_of_a_folder_are_splits_or_parts(tmp_path: Path) -> None:
    for name, first in (("train-00000-of-00002", 0), ("train-00001-of-00002", 2), ("test-00000-of-00001", 4)):
        write(tmp_path / "hub" / "data" / f"{name}.parquet", {"image": images(2, first), "label": ["a", "b"]})
    assert dataset_splits(tmp_path / "hub") == ("test", "train")
    data = open_dataset(tmp_path / "hub", split="train")
    assert (data.name, data.split, len(data)) == ("hub", "train", 4)
    assert list(data.images([3, 0])) == [png(3), png(0)]
    assert open_dataset(f"{tmp_path}/hub/data/train-0000{{0..1}}-of-00002.parquet").images_hash == data.images_hash
    assert open_dataset(f"{tmp_path}/hub/data/train-*.parquet").images_hash == data.images_hash
    write(tmp_path / "parts" / "food.parquet", {"image": images(2), "label": ["a", "b"]})
    write(tmp_path / "parts" / "art.parquet", {"image": images(1, 9), "label": ["c"]})
    assert open_dataset(tmp_path / "parts").keys == ("art.parquet#0", "food.parquet#0", "food.parquet#1")
    write(tmp_path / "parts" / "more.parquet", {"image": images(1, 9), "name": ["c"]})
    with pytest.raises(DataError, match=r"more\.parquet: expected the column label, as in the first file"):
        open_dataset(tmp_path / "parts")


def test_rows_without_a_label_are_left_out_only_where_they_have_captions(tmp_path: Path) -> None:
    columns = {
        "image": images(4),
        "label": ["a", None, "b", None],
        "caption": [None, "two cats", None, None],
        "captions": [None, None, None, ["a dog", "an animal"]],
    }
    path = write(tmp_path / "a.parquet", columns)
    data = open_dataset(path)
    assert (data.keys, data.captions) == (("a.parquet#0", "a.parquet#2"), ())
    assert data.notes == ("2 of 4 images have a caption but no label, and were left out",)
    assert list(data.images()) == [png(0), png(2)]
    captioned = open_dataset(path, where="label is null")
    assert captioned.captions == (("two cats",), ("a dog", "an animal"))
    assert captioned.classes == ()
    columns["captions"] = [None, None, None, [" "]]
    with pytest.raises(DataError, match=r"a\.parquet#3: it has no caption"):
        open_dataset(write(tmp_path / "a.parquet", columns), where="label is null")
    with pytest.raises(DataError, match=r"a\.parquet#3: it has no label"):
        open_dataset(path)


def test_a_filter_chooses_rows(tmp_path: Path) -> None:
    columns = {"image": images(4), "label": list("aabb"), "source": ["x (1)", "y (2)", "x (3)", "y (4)"]}
    path = write(tmp_path / "a.parquet", columns)
    assert open_dataset(path, where="source like 'x%'").keys == ("a.parquet#0", "a.parquet#2")
    assert open_dataset(path, where="id in ('a.parquet#3', 'a.parquet#1')").labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="no row passes where"):
        open_dataset(path, where="source = 'z'")
    with pytest.raises(FilterError, match="sorce"):
        open_dataset(path, where="sorce = 'z'")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": [png(0), None], "label": ["a", "b"]})
    with pytest.raises(DataError, match=r"a\.parquet, row 1: there is no image in the column image"):
        open_dataset(path)
    with pytest.raises(
        DataError, match=r"expected the column lable for label, found image, label; did you mean 'label'"
    ):
        open_dataset(path, label="lable")
    with pytest.raises(DataError, match="it has neither labels nor captions"):
        open_dataset(write(tmp_path / "b.parquet", {"image": images(1), "x": [1]}))
    paths = write(tmp_path / "c.parquet", {"path": ["0.png", "1.png"], "label": ["a", "b"]})
    (tmp_path / "0.png").write_bytes(png(0))
    with pytest.raises(DataError, match=r"c\.parquet, row 1: there is no file .*1\.png"):
        open_dataset(paths)
    (tmp_path / "1.png").write_bytes(png(1))
    assert [Path(str(each)).name for each in open_dataset(paths).images()] == ["0.png", "1.png"]
    (tmp_path / "d.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"d\.parquet: cannot read it as Parquet"):
        open_dataset(tmp_path / "d.parquet")


@pytest.mark.parametrize("name", ["../0.png", "/etc/passwd"])
def test_paths_stay_below_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "0.png").write_bytes(png(0))
    path = write(tmp_path / "a" / "paths.parquet", {"path": [name], "label": ["a"]})
    with pytest.raises(DataError, match=r"row 0: the path .* leads out of the data set's folder"):
        open_dataset(path)
    path = write(tmp_path / "b" / "structs.parquet", {"image": [{"bytes": None, "path": name}], "label": ["a"]})
    with pytest.raises(DataError, match=r"row 0: the path .* leads out of the data set's folder"):
        open_dataset(path)


@pytest.mark.parametrize("declared", [[None, {}], "ab", "[" * 200_000])
def test_names_of_classes_that_are_no_texts_are_not_taken(tmp_path: Path, declared: Any) -> None:
    table = pa.table({"image": images(2), "label": [0, 1]})
    features = {"label": {"names": declared, "_type": "ClassLabel"}}
    text = json.dumps({"info": {"features": features}}) if len(declared) < 9 else declared
    pq.write_table(table.replace_schema_metadata({"huggingface": text}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="its labels are numbers"):
        open_dataset(tmp_path / "a.parquet")


@pytest.mark.slow
def test_real_files(shared: Path) -> None:
    data = open_dataset(shared / "data" / "tiny-imagenet", split="val", limit=20)
    assert len(data.classes) == 200
    assert "refrigerator" in data.classes
    aerial = open_dataset(shared / "data" / "broad" / "scenes.parquet", where="source like '%(aerial)%'", limit=9)
    assert len(aerial.classes) == 30
    assert all("seen from above" in name or "satellite" in name for name in aerial.classes)
    assert len(open_dataset(shared / "data" / "clothing", limit=3).classes) == 17
