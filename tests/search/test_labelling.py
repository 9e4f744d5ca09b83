"""Labels for a whole collection: the same answers as plain products over everything at once, and the command."""

import csv
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import toy

import tandem
from tandem.cli import main
from tandem.cli.row_files import RowFile
from tandem.errors import TandemError
from tandem.scores.scoring import Scoring
from tandem.search import labelling
from tandem.search.labelling import top_images, top_labels
from tandem.search.stores.backends import create_store
from tandem.search.stores.protocol import Records, Schema, Store

D, SCALE = 8, 20.0


def unit(count: int, seed: int, dimensions: int = D) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[Store, list[str], np.ndarray]]:
    """300 records, the last 40 of them equal to earlier ones, under ids in no order."""
    vectors = unit(300, 0)
    vectors[260:] = vectors[:40]
    ids = [f"{number:05}" for number in np.random.default_rng(1).permutation(300)]
    store = create_store(str(tmp_path / "a.tandem"), Schema(D, {"path": "text", "width": "integer"}), {})
    columns = {"path": [f"/{id}.jpg" for id in ids], "width": [row % 10 for row in range(300)]}
    store.upsert(Records(ids, vectors, columns))
    yield store, ids, vectors
    store.close()


def expected(vectors: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and probabilities [n c], in double precision."""
    cosines = vectors.astype(float) @ classes.astype(float).T
    exponents = np.exp(SCALE * (cosines - cosines.max(1, keepdims=True)))
    return cosines, exponents / exponents.sum(1, keepdims=True)


@pytest.mark.parametrize("cells", [64 * 7, labelling.CELLS])
@pytest.mark.parametrize("k", [1, 10, 500])
def test_the_best_images_of_labels_are_those_of_all_at_once(
    filled: tuple[Store, list[str], np.ndarray], monkeypatch: pytest.MonkeyPatch, k: int, cells: int
) -> None:
    monkeypatch.setattr(labelling, "CELLS", cells)  # blocks of 64, or one
    store, ids, vectors = filled
    classes = unit(7, 2)
    cosines, probabilities = expected(vectors, classes)
    found = top_images(store, classes, k, scoring=Scoring("softmax", SCALE))
    assert len(found) == 7
    for label, row in enumerate(found):
        order = sorted(range(300), key=lambda i: (-np.float32(probabilities[i, label]).round(6), ids[i]))[:k]
        assert len(row) == min(k, 300)
        np.testing.assert_allclose([best.probability for best in row], probabilities[order, label], atol=1e-5)
        place = {id: i for i, id in enumerate(ids)}
        np.testing.assert_allclose([best.score for best in row], [cosines[place[b.id], label] for b in row], atol=1e-5)
        assert len({best.id for best in row}) == len(row)


def test_equal_images_come_by_id_whatever_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = np.eye(D, dtype=np.float32)  # products of these are exact, in blocks of any shape
    ids = [f"{number:05}" for number in np.random.default_rng(1).permutation(200)]
    store = create_store(str(tmp_path / "a.tandem"), Schema(D, {}), {})
    store.upsert(Records(ids, axes[np.arange(200) % 4]))
    for cells in (64 * 3, labelling.CELLS):
        monkeypatch.setattr(labelling, "CELLS", cells)
        found = top_images(store, axes[:3], 7, scoring=Scoring("softmax", SCALE))
        for label, row in enumerate(found):
            assert [best.id for best in row] == sorted(ids[label::4])[:7]
            assert {best.score for best in row} == {1.0}
    store.close()


def test_where_all_are_as_likely_the_cosine_decides(filled: tuple[Store, list[str], np.ndarray]) -> None:
    """With one label every probability is 1."""
    store, _, vectors = filled
    label = unit(1, 9)
    found = top_images(store, label, 5, scoring=Scoring("softmax", SCALE))[0]
    assert [best.probability for best in found] == [1.0] * 5
    np.testing.assert_allclose([best.score for best in found], np.sort(vectors @ label[0])[::-1][:5], atol=1e-5)


BY_THEMSELVES = (
    Scoring("sigmoid", SCALE, -5.0),
    Scoring("calibrated", SCALE, np.linspace(-3, 2, 7, dtype=np.float32)),
)


@pytest.mark.parametrize("scoring", BY_THEMSELVES, ids=["sigmoid", "calibrated"])
def test_labels_by_themselves_have_their_own_probability(
    filled: tuple[Store, list[str], np.ndarray], monkeypatch: pytest.MonkeyPatch, scoring: Scoring
) -> None:
    """Whatever the other labels are; images of a label come by cosine, labels of an image by probability."""
    monkeypatch.setattr(labelling, "CELLS", 64 * 7)
    store, ids, vectors = filled
    classes = unit(7, 2)
    cosines = vectors.astype(float) @ classes.T.astype(float)
    expected = 1 / (1 + np.exp(-(SCALE * cosines + scoring.bias)))
    place = {id: row for row, id in enumerate(ids)}
    for label, row in enumerate(top_images(store, classes, 12, scoring=scoring)):
        np.testing.assert_allclose([best.score for best in row], np.sort(cosines[:, label])[::-1][:12], atol=1e-5)
        own = [expected[place[best.id], label] for best in row]
        np.testing.assert_allclose([best.probability for best in row], own, rtol=1e-4)
    for part in top_labels(store, classes, 3, scoring=scoring):
        rows = [place[id] for id in part.ids]
        order = np.argsort(-expected[rows], axis=1)[:, :3]
        np.testing.assert_array_equal(part.labels, order)
        np.testing.assert_allclose(part.probabilities, np.take_along_axis(expected[rows], order, 1), rtol=1e-4)
        np.testing.assert_allclose(part.scores, np.take_along_axis(cosines[rows], order, 1), atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_the_best_labels_of_images(
    filled: tuple[Store, list[str], np.ndarray], monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    monkeypatch.setattr(labelling, "CELLS", 64 * 7)
    store, ids, vectors = filled
    cosines, probabilities = expected(vectors, unit(7, 2))
    seen = []
    for part in top_labels(store, unit(7, 2), k, scoring=Scoring("softmax", SCALE), columns=("path",)):
        rows = [ids.index(id) for id in part.ids]
        order = np.argsort(-cosines[rows], axis=1)[:, :k]
        np.testing.assert_array_equal(part.labels, order)
        np.testing.assert_allclose(part.scores, np.take_along_axis(cosines[rows], order, 1), atol=1e-5)
        np.testing.assert_allclose(part.probabilities, np.take_along_axis(probabilities[rows], order, 1), atol=1e-5)
        assert list(part.columns["path"]) == [f"/{id}.jpg" for id in part.ids]
        seen += part.ids
    assert sorted(seen) == sorted(ids)


def test_only_what_passes_the_filter(filled: tuple[Store, list[str], np.ndarray]) -> None:
    store, ids, _ = filled
    passing = {id for row, id in enumerate(ids) if row % 10 == 4}
    found = top_images(store, unit(3, 2), 100, scoring=Scoring("softmax", SCALE), where="width = 4")
    assert all({best.id for best in row} == passing for row in found)
    parts = top_labels(store, unit(3, 2), 1, scoring=Scoring("softmax", SCALE), where="width = 4")
    assert {id for part in parts for id in part.ids} == passing
    assert top_images(store, unit(3, 2), 5, scoring=Scoring("softmax", SCALE), where="width = 99") == [[], [], []]


def test_vectors_of_other_dimensions_are_refused(filled: tuple[Store, list[str], np.ndarray]) -> None:
    with pytest.raises(TandemError, match=r"labels: expected vectors \[c 8\], got an array \[3, 9\]"):
        top_images(filled[0], unit(3, 2, 9), 5, scoring=Scoring("softmax", SCALE))


class Endless:
    """A store as long as one likes, of which nothing is kept."""

    schema = Schema(D, {})

    def __init__(self, count: int) -> None:
        self.count = count

    def scan(self, *, batch_size: int, **_: object) -> Iterator[Records]:
        for start in range(0, self.count, batch_size):
            size = min(batch_size, self.count - start)
            yield Records([f"{row:08}" for row in range(start, start + size)], unit(size, start))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "CELLS", 50 * 256)

    def peak(count: int) -> int:
        tracemalloc.start()
        found = top_images(Endless(count), unit(50, 1), 5, scoring=Scoring("softmax", SCALE))  # type: ignore[arg-type]
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [len(row) for row in found] == [5] * 50
        return highest

    peak(1_000)
    assert peak(40_000) < 1.3 * peak(4_000)


# --- files and the command -------------------------------------------------------------------------------------------


def test_a_file_of_rows_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    for ending in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"a.{ending}"
        path.write_text("old")
        with pytest.raises(ValueError, match="argument 2"), RowFile(path, {"name": str}) as file:  # noqa: PT012
            file.add([("new",)])
            file.add(zip((1,), (), strict=True))
        assert path.read_text() == "old"
        with RowFile(path, {"name": str, "count": int}) as file:
            file.add([('a, "b"', 1), ("ü\udcff", 2)])
        assert file.count == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.jsonl", "a.parquet"]
    rows = [{"name": 'a, "b"', "count": 1}, {"name": "ü\\xff", "count": 2}]
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as text:
        assert [row | {"count": int(row["count"])} for row in csv.DictReader(text)] == rows
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()] == rows
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == rows


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A collection of six toy images, and its model."""
    folder = tmp_path_factory.mktemp("photos")
    model = str(toy.folder(folder / "model"))
    toy.write_images(folder / "images", 6)
    with tandem.open(folder / "photos.tandem", model) as collection:
        collection.add(folder / "images")
    return str(folder / "photos.tandem"), model


@pytest.mark.slow
def test_the_command_by_label(photos: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, model = photos
    out = tmp_path / "labels.csv"
    assert main(["label", url, "--labels", "cat,dog", "--top", "4", "--json", "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["label"] for each in document["labels"]] == ["cat", "dog"]
    loaded = tandem.load(model)
    files = sorted((Path(url).parent / "images").iterdir())
    answer = loaded.classify(files, ["cat", "dog"])
    by_path = dict(zip(map(str, files), answer.probabilities.tolist(), strict=True))
    for label, each in enumerate(document["labels"]):
        assert len(each["images"]) == 4
        best = sorted((row[label] for row in by_path.values()), reverse=True)[:4]
        assert [image["probability"] for image in each["images"]] == pytest.approx(best, abs=1e-4)
        for image in each["images"]:
            assert image["probability"] == pytest.approx(by_path[image["path"]][label], abs=1e-4)
    with out.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [(row["label"], row["rank"]) for row in rows] == [(x, str(n)) for x in ("cat", "dog") for n in (1, 2, 3, 4)]
    assert rows[0]["id"] == document["labels"][0]["images"][0]["id"]

    assert main(["label", url, "--labels", "cat,dog", "--top", "1"]) == 0
    assert document["labels"][1]["images"][0]["path"] in capsys.readouterr().out


def test_the_command_by_image(photos: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, model = photos
    command = ["label", url, "--labels", "cat,dog,car", "--by", "image", "--top", "2"]
    assert main([*command, "--json"]) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    answer = tandem.load(model).classify([image["path"] for image in images], ["cat", "dog", "car"])
    assert [[label for label, _ in row] for row in answer.top(2)] == [
        [found["label"] for found in image["labels"]] for image in images
    ]
    out = tmp_path / "labels.jsonl"
    assert main([*command, "--json", "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == 6
    assert document["file"] == str(out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 12
    best = [row["label"] for row in rows if row["rank"] == 1]
    assert {label: best.count(label) for label in ("cat", "dog", "car")} == document["best"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert all(image["path"] in printed for image in images)


def test_labels_of_a_collection_by_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From Python and from the command, as `classify` of a model with a sigmoid gives them."""
    folder = toy.folder(tmp_path / "model", logit_bias=True)
    files = toy.write_images(tmp_path / "images", 4)
    labels = ["cat", "dog"]
    with tandem.open(tmp_path / "photos.tandem", folder) as photos:
        photos.add(tmp_path / "images")
        model = photos.model
        answer = model.classify(files, labels, independent=True)
        expected = dict(zip(map(str, files), answer.probabilities.tolist(), strict=True))
        for place, images in enumerate(photos.label(labels, independent=True).values()):
            assert {each.path: each.probability for each in images} == pytest.approx(
                {path: row[place] for path, row in expected.items()}, rel=1e-3
            )
        paths = {image.id: image.path for image in photos.label(labels)["cat"]}
        for id, best in photos.iter_labels(labels, independent=True):
            assert dict(best) == pytest.approx(dict(zip(labels, expected[paths[id]], strict=True)), rel=1e-3)
    command = ["label", str(tmp_path / "photos.tandem"), "--labels", "cat,dog", "--independent", "--json"]
    for by in ("label", "image"):
        assert main([*command, "--by", by]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["scoring"] == "sigmoid"
    assert [each["probability"] for each in document["images"][0]["labels"]] == pytest.approx(
        sorted(expected[document["images"][0]["path"]], reverse=True), abs=1e-4
    )


def test_labels_by_themselves_need_a_calibration(photos: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    url, _ = photos
    assert main(["label", url, "--labels", "cat", "--independent"]) == 2
    said = capsys.readouterr().err
    assert "toy cannot judge a label by itself: it has no logit bias" in said
    assert "tandem calibrate captions.parquet --model /" in said


def test_the_command_says_what_is_wrong_before_it_works(
    photos: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, _ = photos
    assert main(["label", url, "--labels", "cat,dog", "--out", "labels.doc"]) == 2
    assert "labels.doc: expected a name ending in .csv, .jsonl, .parquet" in capsys.readouterr().err
    assert main(["label", str(tmp_path / "none.tandem"), "--labels", "cat,dog"]) == 2
    assert "none.tandem" in capsys.readouterr().err
    assert main(["label", url]) == 2
    assert "no labels" in capsys.readouterr().err
    assert main(["label", url, "--labels", "cat,dog", "--where", "width > 99999"]) == 0
    assert "none of the 6 photos matches the filter" in capsys.readouterr().err
