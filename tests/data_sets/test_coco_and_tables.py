"""COCO's annotations, and tables of image files."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.dataset_toys import png

from tandem.datasets import dataset_splits, open_dataset
from tandem.errors import DataError, FilterError


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(png(number))


def coco(root: Path, annotations: list[dict[str, Any]], **more: Any) -> Path:
    write_images(root / "val2017", 3)
    images = [{"id": 10 + number, "file_name": f"{number}.png"} for number in (2, 0, 1)]
    path = root / "annotations" / "captions_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, **more}))
    return path


CAPTIONS = [{"image_id": 10 + number, "caption": f"text {number}"} for number in (0, 1, 2, 0)]


def test_coco_captions(tmp_path: Path) -> None:
    path = coco(tmp_path / "coco", CAPTIONS)
    data = open_dataset(path)
    assert (data.name, data.layout, data.split) == ("coco", "coco", "val2017")
    assert data.keys == ("0.png", "1.png", "2.png")
    assert data.captions == (("text 0", "text 0"), ("text 1",), ("text 2",))
    assert [Path(str(image)).read_bytes() for image in data.images()] == [png(0), png(1), png(2)]
    assert dataset_splits(tmp_path / "coco") == ("val2017",)
    assert open_dataset(tmp_path / "coco", split="val").hash == data.hash
    assert open_dataset(path, split="val").hash == data.hash
    with pytest.raises(DataError, match="expected the split test, found val2017"):
        open_dataset(path, split="test")


def test_coco_categories_are_several_labels(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
    annotations = [
        {"image_id": 12, "category_id": 90},
        {"image_id": 12, "category_id": 1},
        {"image_id": 10, "category_id": 90},
    ]
    data = open_dataset(coco(tmp_path / "coco", annotations, categories=categories))
    assert data.multi_label
    assert (data.classes, data.label_sets) == (("person", "toothbrush"), ((1,), (), (0, 1)))


def test_what_coco_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2\.png: it has no caption"):
        open_dataset(coco(tmp_path / "a", CAPTIONS[:2]))
    with pytest.raises(DataError, match="an annotation is about image 99, which is not in images"):
        open_dataset(coco(tmp_path / "b", [*CAPTIONS, {"image_id": 99, "caption": "x"}]))
    path = coco(tmp_path / "c", CAPTIONS)
    (tmp_path / "c" / "val2017" / "1.png").unlink()
    with pytest.raises(DataError, match=r"there is no file .*1\.png"):
        open_dataset(path)
    (tmp_path / "c" / "val2017").rename(tmp_path / "c" / "elsewhere")
    with pytest.raises(DataError, match="its images are in none of"):
        open_dataset(path)
    path.write_text('["a"]')
    with pytest.raises(DataError, match="expected COCO's layout"):
        open_dataset(path)


def test_karpathys_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "val2014", 3)
    images = [
        {"filepath": "val2014", "filename": f"{number}.png", "split": split, "sentences": [{"raw": f"text {number} "}]}
        for number, split in enumerate(("test", "restval", "test"))
    ]
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    assert dataset_splits(path) == ("test", "restval")
    data = open_dataset(path, split="test")
    assert (data.name, data.layout, data.keys) == ("coco", "karpathy", ("val2014/0.png", "val2014/2.png"))
    assert data.captions == (("text 0",), ("text 2",))
    assert [Path(str(image)).read_bytes() for image in data.images()] == [png(0), png(2)]
    (tmp_path / "images" / "val2014" / "2.png").unlink()
    with pytest.raises(DataError, match=r"there is no file .*2\.png"):
        open_dataset(path, split="test")
    path.write_text(json.dumps({"images": [{"filename": "val2014/0.png", "split": "test", "sentences": [1]}]}))
    with pytest.raises(DataError, match=r"0\.png: expected sentences with raw"):
        open_dataset(path)


def table(path: Path, text: str) -> Path:
    write_images(path.parent / "photos", 4)
    path.write_text(text)
    return path


def test_a_table_of_labels(tmp_path: Path) -> None:
    path = table(tmp_path / "pets.csv", "path,label,year\nphotos/0.png,cat,2001\nphotos/1.png,sea_lion,2002\n")
    data = open_dataset(path)
    assert (data.name, data.layout, data.keys) == ("pets", "table", ("photos/0.png", "photos/1.png"))
    assert (data.classes, data.labels.tolist()) == (("cat", "sea lion"), [0, 1])
    assert [Path(str(image)).read_bytes() for image in data.images()] == [png(0), png(1)]
    assert open_dataset(path, where="year = '2002'").keys == ("photos/1.png",)
    with pytest.raises(FilterError):
        open_dataset(path, where="years = 2002")


def test_lines_of_one_image_are_its_captions(tmp_path: Path) -> None:
    text = "image\ttitle\nphotos/0.png\ta cat\nphotos/1.png\ta dog\nphotos/0.png\ttwo ears\n"
    data = open_dataset(table(tmp_path / "a.tsv", text))
    assert data.captions == (("a cat", "two ears"), ("a dog",))


def test_several_labels_in_a_cell(tmp_path: Path) -> None:
    text = "path,labels\nphotos/0.png,cat; dog\nphotos/1.png,\nphotos/2.png,dog\n"
    data = open_dataset(table(tmp_path / "a.csv", text))
    assert data.multi_label
    assert data.label_sets == ((0, 1), (), (1,))
    lines = [
        {"file_name": "photos/0.png", "tag": ["b", "a"], "n": 1},
        {"file_name": "photos/1.png", "tag": ["a"], "n": 2},
    ]
    path = table(tmp_path / "b.jsonl", "\n".join(map(json.dumps, lines)))
    assert open_dataset(path, label="tag").label_sets == ((0, 1), (0,))
    assert open_dataset(path, label="tag", where="n > 1").label_sets == ((0,),)


def test_a_column_of_splits_and_a_table_in_a_folder(tmp_path: Path) -> None:
    text = "file_name,label,split\nphotos/0.png,a,train\nphotos/1.png,b,test\nphotos/2.png,a,test\n"
    path = table(tmp_path / "set" / "metadata.csv", text) if (tmp_path / "set").mkdir() is None else None
    assert path is not None
    assert dataset_splits(tmp_path / "set") == ("train", "test")
    data = open_dataset(tmp_path / "set", split="test")
    assert (data.name, data.split, data.keys) == ("set", "test", ("photos/1.png", "photos/2.png"))
    with pytest.raises(DataError, match="choose one with split"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nphotos/9.png,a\n", r"a\.csv, line 2: there is no file .*9\.png"),
        ("path,label\nphotos/0.png,a\nphotos/1.png,\n", r"a, line 3: it has no label"),
        ("path,label\nphotos/0.png,a\nphotos/0.png,b\n", r"line 3: photos/0\.png was labelled"),
        ("path,label\nphotos/0.png,a\nphotos/0.png,a\n", r"line 3: photos/0\.png is there twice"),
        ("path,label\nphotos/0.png,a,b\n", r"line 2: expected 2 values, as in the header"),
        ("path,label\n,a\n", r"line 2: there is no path in the column path"),
        ("name,label\nx,a\n", r"expected a column of paths"),
        ("path,label\nphotos/0.png,a\n./photos/0.png,b\n", r"line 3: \./photos/0\.png was labelled"),
        ("path,label\nphotos/0.png,a\nx/../photos/0.png,a\n", r"line 3: .* is there twice"),
        (
            "path,label\n../photos/0.png,a\n",
            r"line 2: the path '\.\./photos/0\.png' leads out of the data set's folder",
        ),
        ("path,label\n", r"it has a header at most, and no rows"),
        ("path,label\nphotos/0.png,0\nphotos/1.png,1\n", r"its labels are numbers"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = table(tmp_path / "a.csv", text)
    with pytest.raises(DataError, match=message):
        open_dataset(path)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("path,label\nphotos/0.png," + "9" * 4000 + "\n", {"classes": ["a"]}),
        ("path,label\nphotos/0.png," + "x" * 4000 + "\n", {"classes": ["a"]}),
        ("path,label\nphotos/0.png,a\nphotos/0.png," + "x" * 4000 + "\n", {}),
        ('path,label\n"photos/\n' + "x" * 200 + '.png",a\n', {}),
        ("path,label\nphotos/0.png,a\n", {"where": "label = '" + "x" * 90_000 + "'"}),
        ("path,label\nphotos/0.png,a\n", {"label": "x" * 5000}),
        ("path,label\nphotos/0.png,a\n", {"split": "x" * 5000}),
        ("path,label,split\nphotos/0.png,a,test\n", {"split": "x\ny" * 5000}),
        ("path,label,split\n" + "".join(f"photos/0.png,a,{n}\n" for n in range(2000)), {}),
    ],
)
def test_messages_are_a_line_and_short(tmp_path: Path, text: str, arguments: dict[str, Any]) -> None:
    path = table(tmp_path / "a.csv", text)
    with pytest.raises(DataError) as error:
        open_dataset(path, **arguments)
    assert len(str(error.value)) < 1200
    assert "\n" not in str(error.value)


def test_rows_without_a_split_are_counted(tmp_path: Path) -> None:
    text = "path,label,split\nphotos/0.png,a,test\nphotos/1.png,b,test\nphotos/2.png,a,\nphotos/3.png,b, \n"
    data = open_dataset(table(tmp_path / "a.csv", text))
    assert (data.split, len(data)) == ("test", 2)
    assert data.notes == ("2 of 4 rows have no split, and were left out",)
    lines = [{"path": f"photos/{number}.png", "label": "a", "split": number or "test"} for number in range(2)]
    with pytest.raises(DataError, match="line 2: expected the name of a split, found 1"):
        open_dataset(table(tmp_path / "b.jsonl", "\n".join(map(json.dumps, lines))))


def test_absolute_paths_in_a_table_are_said_in_a_note(tmp_path: Path) -> None:
    path = table(tmp_path / "a" / "a.csv", "") if (tmp_path / "a").mkdir() is None else None
    assert path is not None
    write_images(tmp_path / "b", 1)
    path.write_text(f"path,label\n{tmp_path}/b/0.png,a\n./photos/1.png,b\n")
    data = open_dataset(path)
    assert data.keys == (f"{tmp_path}/b/0.png", "photos/1.png")
    assert data.notes == ("1 of 2 images are named by absolute paths",)
    path.write_text(f"path,label\n{tmp_path}/a/photos/0.png,a\nphotos/0.png,b\n")
    with pytest.raises(DataError, match=r"line 3: photos/0\.png was labelled"):
        open_dataset(path)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../etc/passwd", "a/../../x.png", 5, [], "", "x" * 5000, "a\nb.png"]
)
def test_annotations_name_images_in_their_folder_only(tmp_path: Path, name: Any) -> None:
    path = coco(tmp_path / "coco", CAPTIONS)
    document = json.loads(path.read_text())
    document["images"][1]["file_name"] = name
    path.write_text(json.dumps(document))
    with pytest.raises(
        DataError, match=r"leads out of|expected the path of an image|there is no file|are in none"
    ) as one:
        open_dataset(path)
    image = {"filepath": "", "filename": name, "split": "test", "sentences": [{"raw": "a"}]}
    path.write_text(json.dumps({"images": [image]}))
    with pytest.raises(DataError, match=r"leads out of|expected the path of an image|there is no file") as other:
        open_dataset(path)
    for error in (one, other):
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"id": [], "file_name": "0.png"}]}, r"images\[0\]: expected a number as id, found \[\]"),
        ({"annotations": [{"image_id": {}}]}, r"annotations\[0\]: expected a number as image_id, found \{\}"),
        ({"annotations": [{"image_id": 10, "category_id": []}]}, r"expected a number as category_id"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": "1", "name": "b"}]}, r"two categories have the id '1'"),
        ({"categories": [{"id": 1, "name": None}]}, r"category 1: expected a name, found None"),
    ],
)
def test_what_is_wrong_with_annotations_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    annotations = [{"image_id": 10 + number, "category_id": 1} for number in range(3)]
    path = coco(tmp_path / "coco", annotations, categories=[{"id": 1, "name": "a"}])
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        open_dataset(path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "it has no images"),
        ([{"filename": "0.png", "split": [], "sentences": []}], r"the name of a split, found \[\]"),
    ],
)
def test_splits_of_karpathys_are_texts(tmp_path: Path, images: list[Any], message: str) -> None:
    path = tmp_path / "dataset_a.json"
    path.write_text(json.dumps({"images": images, "filename": 0, "sentences": 0}))
    with pytest.raises(DataError, match=message):
        open_dataset(path)


@pytest.mark.parametrize("raw", [None, ["a"], 5])
def test_captions_of_karpathys_are_texts(tmp_path: Path, raw: Any) -> None:
    write_images(tmp_path, 1)
    path = tmp_path / "dataset_a.json"
    path.write_text(json.dumps({"images": [{"filename": "0.png", "split": "test", "sentences": [{"raw": raw}]}]}))
    with pytest.raises(DataError, match=r"0\.png: expected a caption as text, found"):
        open_dataset(path)


def test_labels_are_among_the_given_classes(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "path,label\nphotos/0.png,1\nphotos/1.png,0\n")
    assert open_dataset(path, classes=["x", "y"]).labels.tolist() == [1, 0]
    names = tmp_path / "names.json"
    names.write_text('{"0": "zero", "1": "one"}')
    assert open_dataset(path, classes=names).classes == ("zero", "one")
    with pytest.raises(DataError, match=r"a, line 2: the label 1 is not among 1 classes, 0 to 0"):
        open_dataset(path, classes=["x"])
    with pytest.raises(DataError, match="cannot be read as class names"):
        open_dataset(path, classes=tmp_path / "none.txt")
