"""Folders of classes."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.dataset_toys import png, write_folder

from tandem.datasets import dataset_splits, open_dataset
from tandem.datasets.labelled_collection import read_labels
from tandem.datasets.opening import LAYOUTS
from tandem.errors import DataError, TandemError


def test_folders_are_classes_with_readable_names(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "animals", {"golden_retriever": 2, "cat": 1})
    (root / "cat" / "more" / "deep").mkdir(parents=True)
    (root / "cat" / "more" / "deep" / "x.JPEG").write_bytes(png(900))
    (root / "cat" / ".hidden.png").write_bytes(png(901))
    (root / ".cache").mkdir()
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "loose.png").write_bytes(png(902))
    data = open_dataset(root)
    assert (data.name, data.layout, data.split) == ("animals", "folder", None)
    assert data.classes == ("cat", "golden retriever")
    assert data.keys == ("cat/0.png", "cat/more/deep/x.JPEG", "golden_retriever/0.png", "golden_retriever/1.png")
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.label_matrix.sum(0).tolist() == [2, 2]
    assert data.notes == ("images beside the folders of classes were left out: 1",)
    contents = [Path(str(path)).read_bytes() for path in data.images([3, 0])]
    assert [sha256(content).digest() for content in contents] == [data.digests[3], data.digests[0]]


def test_splits_are_chosen_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "set" / "train", {"a": 2, "b": 1})
    write_folder(tmp_path / "set" / "validation", {"a": 1, "b": 1})
    assert dataset_splits(tmp_path / "set") == ("train", "validation")
    with pytest.raises(DataError, match="it has the splits train, validation: choose one with split"):
        open_dataset(tmp_path / "set")
    data = open_dataset(tmp_path / "set", split="val")
    assert (data.name, data.split, len(data)) == ("set", "validation", 2)
    itself = open_dataset(tmp_path / "set" / "train")
    assert (itself.name, itself.split, len(itself)) == ("set", "train", 3)
    with pytest.raises(DataError, match="expected the split test, found train, validation"):
        open_dataset(tmp_path / "set", split="test")
    with pytest.raises(DataError, match="it has no splits, so no test"):
        open_dataset(write_folder(tmp_path / "plain", {"a": 1}), split="test")


def test_a_class_may_begin_like_a_split(tmp_path: Path) -> None:
    data = open_dataset(write_folder(tmp_path / "lab", {"test tube": 1, "train": 1, "valve": 1, "pen": 1}))
    assert data.classes == ("pen", "test tube", "train", "valve")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "n01 tench\nn02 goldfish\n".replace("n0", "n0144076")),
        ("classes.txt", "n01440761\ttench, Tinca tinca\nn01440762\tgoldfish\n"),
        ("classes.json", json.dumps({"n01440761": "tench", "n01440762": ["goldfish", "Carassius"]})),
        ("classes.json", json.dumps({"0": ["n01440761", "tench"], "1": ["n01440762", "goldfish"]})),
        ("classnames.txt", "tench\ngoldfish\n"),
    ],
)
def test_a_file_names_classes(tmp_path: Path, name: str, content: str) -> None:
    root = write_folder(tmp_path / "fish" / "val", {"n01440761": 1, "n01440762": 2}).parent
    (root / name).write_text(content)
    data = open_dataset(root)
    assert data.classes == ("tench", "goldfish")
    assert data.labels.tolist() == [0, 1, 1]
    by_order = name == "classnames.txt"
    assert data.notes == (("class names were taken in the order of the folders: n01440761 is 'tench'",) * by_order)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classes.txt", "\n".join(f"{number}\tname {number}" for number in [*range(200_000), 7]), "'7' has two names"),
        ("classes.json", json.dumps({"9" * 5000: "cat"}), "is not among the 1 classes"),
        ("classes.json", "[" * 200_000, "cannot be read as JSON"),
        ("classes.json", '{"cat": ["' + "x" * 5000 + '", 5]}', "expected a name for 'cat'"),
    ],
)
def test_a_hostile_file_of_classes_is_refused_in_short(tmp_path: Path, name: str, content: str, message: str) -> None:
    root = write_folder(tmp_path / "a", {"cat": 1})
    (root / name).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        open_dataset(root)
    assert len(str(error.value)) < 500


def test_classes_are_read_from_files_only(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", {"cat": 1})
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(17 << 20)
    for path in (Path("/dev/zero"), pipe):
        with pytest.raises(DataError, match="expected a file, found a device or a pipe"):
            open_dataset(root, classes=path)
        with pytest.raises(DataError, match="expected a file, found a device or a pipe"):
            read_labels(path)
    with pytest.raises(DataError, match="expected at most 16,777,216 bytes, found 17,825,792"):
        open_dataset(root, classes=large)


def test_numbers_that_all_folders_begin_with_are_no_names(tmp_path: Path) -> None:
    assert open_dataset(write_folder(tmp_path / "cub", {"001.Black_footed_Albatross": 1, "002.Crow": 1})).classes == (
        "Black footed Albatross",
        "Crow",
    )
    assert open_dataset(write_folder(tmp_path / "dogs", {"n02085620-Chihuahua": 1})).classes == ("Chihuahua",)
    assert open_dataset(write_folder(tmp_path / "mixed", {"3_wheels": 1, "bike": 1})).classes == ("3 wheels", "bike")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", {"cat": 1})
    (root / "dog").mkdir()
    with pytest.raises(DataError, match=r"dog: it has no images"):
        open_dataset(root)
    os.rmdir(root / "dog")
    with pytest.raises(DataError, match="two classes are called 'cat'"):
        open_dataset(write_folder(tmp_path / "b", {"CAT": 1, "cat": 1}))
    with pytest.raises(DataError, match=r"cat/0\.png: the label 'cat' is not among the 1 classes; did you mean 'cats'"):
        open_dataset(root, classes={"cats": "cats"})
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match=r"expected the layout FOLDER/class/1\.jpg, found no folder with images"):
        open_dataset(tmp_path / "c")
    with pytest.raises(DataError, match="there is no such file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"layout: expected one of .*did you mean 'folder'"):
        open_dataset(root, layout="folders")
    with pytest.raises(DataError, match="a folder has no columns for where"):
        open_dataset(root, where="a = 1")
    with pytest.raises(DataError, match="limit: expected at least 1, got 0"):
        open_dataset(root, limit=0)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"limit": each} for each in (True, "x", 0, 1.5)),
        *({"seed": each} for each in (True, "x", -1, None)),
        *({name: 3} for name in ("layout", "split", "label", "caption", "where", "classes", "templates")),
        *({"classes": each} for each in ({"0": None}, {None: "a"}, [], {}, [1], b"ab", "x" * 5000, "a\0b")),
        *({"source": each} for each in (b"x", 5, None, "", " ", "x" * 5000, "a\0b")),
        *({"source": "x" * 5000, "layout": each.name} for each in LAYOUTS),
        {"layout": "x" * 5000},
    ],
)
def test_arguments_of_other_types_are_refused_in_a_line(tmp_path: Path, arguments: dict[str, Any]) -> None:
    root = write_folder(tmp_path / "a", {"cat": 1})
    with pytest.raises(TandemError) as error:
        open_dataset(**{"source": root, **arguments})
    assert len(str(error.value)) < 1000


def test_numbers_name_classes(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", {"0": 1, "1": 1})
    assert open_dataset(root, classes={0: "cat", 1: "dog"}).classes == ("cat", "dog")  # type: ignore[dict-item]


def test_a_list_of_classes_is_the_set_of_them(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", {"sea_lion": 1, "cat": 1})
    data = open_dataset(root, classes=["dog", "cat", "sea lion"])
    assert data.labels.tolist() == [1, 2]
    assert data.classes == ("dog", "cat", "sea lion")


def test_links_to_folders_bring_no_image_twice(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", {"cat": 1, "dog": 1})
    os.symlink(root / "cat", root / "cat" / "again")
    os.symlink("..", root / "cat" / "up")
    os.symlink(root, root / "dog" / "self")
    data = open_dataset(root)
    assert data.keys == ("cat/0.png", "dog/0.png")
    assert data.notes == ("links to folders inside the folders of classes were not followed: 3",)
    for target in (root / "cat", root, tmp_path):
        os.symlink(target, root / "bird")
        with pytest.raises(DataError, match=r"its images are those of .*, too; remove the link"):
            open_dataset(root)
        os.unlink(root / "bird")
    elsewhere = write_folder(tmp_path / "b", {"bird": 1})
    os.symlink(elsewhere / "bird", root / "bird")
    assert open_dataset(root).keys == ("bird/0.png", "cat/0.png", "dog/0.png")


def test_folders_that_are_linked_to_each_other_come_to_an_end(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", {"cat": 1})
    names = [str(number) for number in range(10)]
    for name in names:
        (root / "cat" / name).mkdir()
    for name in names:
        for other in names:
            os.symlink(root / "cat" / other, root / "cat" / name / f"to{other}")
    assert len(open_dataset(root)) == 1


def test_a_draw_is_seeded_and_reads_only_what_is_drawn(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", {"cat": 6, "dog": 6})
    whole = open_dataset(root)
    drawn = open_dataset(root, limit=5, seed=3)
    assert drawn.keys == open_dataset(root, limit=5, seed=3).keys != open_dataset(root, limit=5, seed=4).keys
    assert drawn.notes == ("5 of 12 images were drawn with seed 3",)
    places = [whole.keys.index(key) for key in drawn.keys]
    assert drawn.digests == tuple(whole.digests[place] for place in places)
    assert drawn.hash == whole.take(places).hash != whole.hash
    assert open_dataset(root, limit=99).hash == whole.hash


def test_taking_images_keeps_rows_together(tmp_path: Path) -> None:
    whole = open_dataset(write_folder(tmp_path / "a", {"cat": 2, "dog": 2}))
    some = whole.take(np.array([3, 1]), "two of them")
    assert some.keys == ("dog/1.png", "cat/1.png")
    assert some.labels.tolist() == [1, 0]
    assert list(some.images()) == [list(whole.images())[3], list(whole.images())[1]]
    assert some.notes == ("two of them",)
    assert whole.take(range(4)).hash == whole.hash


@pytest.mark.parametrize("source", [".", "../a", "./", "cat/.."])
def test_keys_do_not_depend_on_how_the_folder_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    root = write_folder(tmp_path / "a", {"cat": 1, "dog": 1})
    monkeypatch.chdir(root)
    data = open_dataset(source)
    assert (data.name, data.keys) == ("a", ("cat/0.png", "dog/0.png"))
    assert data.hash == open_dataset(root).hash
    assert [Path(str(image)).is_file() for image in data.images()] == [True, True]


def test_one_loose_image_is_one(tmp_path: Path) -> None:
    (tmp_path / "loose.png").write_bytes(png(902))
    with pytest.raises(DataError, match="found no folder with images, but 1 image without one"):
        open_dataset(tmp_path)
