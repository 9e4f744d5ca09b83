"""WebDataset tars, and CLIP_benchmark's folders of them."""

import io
import json
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.dataset_toys import png, write_tar

from tandem.datasets import dataset_splits, open_dataset
from tandem.errors import DataError


def benchmark(root: Path, kind: str | None = None) -> Path:
    """CLIP_benchmark's layout: two tars of two images to test with."""
    for shard in range(2):
        samples = []
        for row in range(2):
            number = 2 * shard + row
            about = {"cls": str(number % 3).encode()}
            if kind == "retrieval":
                about = {"txt": f"text {number}\nanother {number}\n".encode()}
            if kind == "multilabel":
                file = io.BytesIO()
                np.save(file, np.array([number % 2, 0, number > 1], np.int64))
                about = {"npy": file.getvalue()}
            samples.append({"png": png(number), **about})
        write_tar(root / "test" / f"{shard}.tar", samples)
    (root / "test" / "nshards.txt").write_text("2\n")
    (root / "classnames.txt").write_text("cat\ndog\nsea lion\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\nart of the {c}.\n")
    if kind is not None:
        (root / "dataset_type.txt").write_text(kind + "\n")
    return root


def test_clip_benchmark_classification(tmp_path: Path) -> None:
    root = benchmark(tmp_path / "wds")
    write_tar(root / "train" / "0.tar", [{"png": png(9), "cls": b"2"}])
    (root / "train" / "nshards.txt").write_text("1")
    assert dataset_splits(root) == ("test", "train")
    data = open_dataset(root, split="test")
    assert (data.name, data.layout, data.split) == ("wds", "webdataset", "test")
    assert data.classes == ("cat", "dog", "sea lion")
    assert data.templates == ("a photo of a {}.", "art of the {}.")
    assert data.labels.tolist() == [0, 1, 2, 0]
    assert list(data.images()) == [png(number) for number in range(4)]
    assert list(data.images([3, 0])) == [png(3), png(0)]
    assert open_dataset(root / "train").keys == ("0.tar/0.png",)
    assert open_dataset(root, split="train", templates="a {}.").templates == ("a {}.",)


def test_clip_benchmark_retrieval_and_several_labels(tmp_path: Path) -> None:
    data = open_dataset(benchmark(tmp_path / "a", "retrieval"))
    assert data.captions[1] == ("text 1", "another 1")
    assert (data.classes, data.templates) == ((), None)
    data = open_dataset(benchmark(tmp_path / "b", "multilabel"))
    assert data.multi_label
    assert data.label_sets == ((), (0,), (2,), (0, 2))


def test_what_clip_benchmark_lacks_is_named(tmp_path: Path) -> None:
    root = benchmark(tmp_path / "wds")
    (root / "classnames.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"1\.tar/0\.png: the label 2 is not among 2 classes, 0 to 1"):
        open_dataset(root)
    (root / "classnames.txt").unlink()
    with pytest.raises(DataError, match="its labels are numbers"):
        open_dataset(root)
    (root / "zeroshot_classification_templates.txt").write_text("a photo\n")
    with pytest.raises(DataError, match=r"templates\.txt: expected templates with \{c\}"):
        open_dataset(root)
    (root / "dataset_type.txt").write_text("segmentation")
    with pytest.raises(DataError, match="expected retrieval, multilabel or classification, found 'segmentation'"):
        open_dataset(root)
    (root / "test" / "1.tar").unlink()
    (root / "dataset_type.txt").unlink()
    with pytest.raises(DataError, match=r"1\.tar: there is no such file; nshards\.txt says 2 tars"):
        open_dataset(root)


@pytest.mark.parametrize("count", ["30000000", "99999999999", "9" * 5000, "0", "²"])
def test_a_wrong_number_of_tars_is_seen_at_the_first_that_is_missing(tmp_path: Path, count: str) -> None:
    root = benchmark(tmp_path / "wds")
    (root / "test" / "nshards.txt").write_text(count)
    with pytest.raises(DataError, match=r"2\.tar: there is no such file|expected the number of tars"):
        open_dataset(root)


def npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        npy(np.array([np.nan, 1, 0])),
        npy(np.array([0, np.inf, 0])),
        npy(np.array([1j, 0, 0])),
        npy(np.array(["1", "0", "0"])),
        npy(np.array([(1, 2)] * 3, dtype="i4,i4")),
        npy(np.array([1, 2, 3], "datetime64[s]")),
        npy(np.zeros((1, 3))),
        npy(np.zeros(99)).replace(b"(99,)", b"(99999999999999,)")[:128],
        npz(),
        npz()[:40],
        b"",
    ],
)
def test_labels_that_are_no_numbers_are_refused(tmp_path: Path, content: bytes) -> None:
    root = benchmark(tmp_path / "wds", "multilabel")
    write_tar(root / "test" / "1.tar", [{"png": png(2), "npy": content}, {"png": png(3), "npy": content}])
    with pytest.raises(DataError, match=r"1\.tar, 0\.png: (its labels cannot be read|expected)"):
        open_dataset(root)


@pytest.mark.parametrize("label", [{"cls": b"9" * 5000}, {"json": b'{"label": ' + b"[" * 900 + b"]" * 900 + b"}"}])
def test_labels_of_any_length_are_named_in_short(tmp_path: Path, label: dict[str, bytes]) -> None:
    path = write_tar(tmp_path / "a.tar", [{"png": png(0), **label}])
    with pytest.raises(DataError, match=r"0\.png: (the label|expected labels)") as error:
        open_dataset(path, classes=["cat", "dog"])
    assert len(str(error.value)) < 500


@pytest.mark.slow
def test_what_is_not_wanted_of_a_compressed_tar_is_not_kept(tmp_path: Path) -> None:
    samples = [{"png": png(0), "txt": b"a", "bin": bytes(30_000_000)}]
    path = write_tar(tmp_path / "a.tar.gz", samples, "w:gz")
    tracemalloc.start()
    data = open_dataset(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(data.images()) == [png(0)]
    assert peak < 10_000_000


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tars_with_json_and_text(tmp_path: Path, mode: str) -> None:
    suffix = ".tar" if mode == "w" else ".tar.gz"
    samples = [
        {"json": json.dumps({"label": "cat", "caption": "a cat"}).encode(), "png": png(0)},
        {"json": json.dumps({"label": "dog", "caption": "a dog"}).encode(), "png": png(1), "seg.npy": b"?"},
        {"json": json.dumps({"label": "cat", "caption": ["cats", "two"]}).encode(), "png": png(2)},
    ]
    path = write_tar(tmp_path / f"val{suffix}", samples, mode)
    data = open_dataset(path)
    assert (data.split, data.classes, data.labels.tolist()) == ("val", ("cat", "dog"), [0, 1, 0])
    assert data.captions[2] == ("cats", "two")
    assert list(data.images([2, 0, 1])) == [png(2), png(0), png(1)]
    assert open_dataset(path).hash == data.hash
    texts = write_tar(
        tmp_path / f"texts{suffix}", [{"png": png(0), "txt": b"a cat"}, {"png": png(1), "txt": b"dog"}], mode
    )
    assert open_dataset(texts).captions == (("a cat",), ("dog",))
    assert open_dataset(texts, label="txt").classes == ("a cat", "dog")


def test_damage_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [{"png": png(0), "txt": b"a"}, {"png": png(1), "txt": b"b"}])
    whole = path.read_bytes()
    path.write_bytes(whole[: 4 * 512])
    with pytest.raises(DataError, match=r"a\.tar: it ends at byte 2,048, before the end mark"):
        open_dataset(path)
    path.write_bytes(whole)
    data = open_dataset(path)
    path.write_bytes(whole[:600])
    with pytest.raises(DataError, match="it ends in the middle of an image"):
        list(data.images())
    bad = write_tar(tmp_path / "b.tar", [{"png": png(0), "json": b"{"}])
    with pytest.raises(DataError, match=r"b\.tar, 0\.png: its \.json cannot be read"):
        open_dataset(bad)
    lone = write_tar(tmp_path / "c.tar", [{"png": png(0), "cls": b"cat"}, {"png": png(1)}])
    with pytest.raises(DataError, match=r"c\.tar/1\.png: it has no label"):
        open_dataset(lone)


def test_a_label_without_an_image_is_an_error_and_a_lone_text_a_note(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [{"png": png(0), "txt": b"a"}, {"txt": b"about all of them"}])
    data = open_dataset(path)
    assert (data.captions, data.notes) == ((("a",),), ("texts without an image beside them were left out: 1",))
    lone = write_tar(tmp_path / "b.tar", [{"png": png(0), "cls": b"a"}, {"tif": b"?", "cls": b"b"}])
    with pytest.raises(DataError, match=r"b\.tar, 1\.cls: there is no image \(\.jpg, .*\) beside it"):
        open_dataset(lone)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_memory_does_not_grow_with_the_data(tmp_path: Path, kind: str) -> None:
    images = [np.random.default_rng(number).bytes(100_000) for number in range(120)]
    path = tmp_path / f"a.{kind}"
    if kind == "tar":
        write_tar(path, [{"png": image, "txt": b"text"} for image in images])
    else:
        table = pa.table({"image": images, "caption": ["text"] * len(images)})
        pq.write_table(table, path, row_group_size=10)
        del table
    del images
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    data = open_dataset(path)
    total, most = 0, 0
    for image in data.images():
        total += len(image) if isinstance(image, bytes) else 0
        most = max(most, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 12_000_000
    assert peak < 8_000_000
    assert most < 6_000_000


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [{"png": png(0), "txt": b"a"}])
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("._1.png")
        tar.addfile(info)
    assert open_dataset(path).keys == ("a.tar/0.png",)


def test_real_captions(shared: Path) -> None:
    data = open_dataset(shared / "data" / "flickr8k", split="val", limit=3)
    assert (data.split, {len(captions) for captions in data.captions}) == ("dev", {5})
