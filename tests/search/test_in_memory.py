"""Images and vectors in memory, put into a collection: ids, replacing, failures, and what is refused."""

import copy
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy

import tandem
from tandem.errors import TandemError
from tandem.search import identity
from tandem.search.indexing.image_record import image_id


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.folder(tmp_path_factory.mktemp("models") / "one")


@pytest.fixture
def photos(tmp_path: Path, model: Path) -> tandem.Collection:
    return tandem.open(tmp_path / "photos.tandem", model)


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def test_images_of_all_kinds_are_found_by_their_ids(photos: tandem.Collection) -> None:
    report = photos.add(
        {
            "a": toy.random_image(1),
            "b": np.asarray(toy.random_image(2)),
            "c": encoded(toy.random_image(3)),
            "d": io.BytesIO(encoded(toy.random_image(4))),
        }
    )
    assert (report.added, report.total, report.failures) == (4, 4, [])
    for seed, id in enumerate("abcd", 1):
        hit = photos.search(image=toy.random_image(seed), k=1)[0]
        assert (hit.id, hit.path, hit.paths, hit.missing) == (id, "", (), False)
        assert hit.score == pytest.approx(1, abs=1e-5)
    (stored,) = photos.get("c")
    assert (stored.metadata["format"], stored.metadata["width"]) == ("PNG", toy.random_image(3).width)
    assert stored.metadata["bytes"] == len(encoded(toy.random_image(3)))
    assert photos.thumbnail("a") is not None


def test_ids_beside_a_list_and_ids_of_the_content(photos: tandem.Collection) -> None:
    images = [toy.random_image(seed) for seed in range(3)]
    assert photos.add(iter(images), ids=(f"n{i}" for i in range(3))).added == 3
    assert [image.id for image in photos.get(["n2", "none", "n0"])] == ["n2", "n0"]
    content = encoded(toy.random_image(9))
    assert photos.add([content, toy.random_image(8)]).added == 2
    assert photos.get(image_id(content))
    again = photos.add([content, toy.random_image(8), toy.random_image(8)])
    assert (again.added, again.changed, again.total) == (0, 0, 5)
    assert photos.add(toy.random_image(7), ids="single").added == 1


def test_an_id_that_is_there_is_replaced(photos: tandem.Collection) -> None:
    photos.add({"a": toy.random_image(1)})
    report = photos.add({"a": toy.random_image(2)})
    assert (report.changed, report.total) == (1, 1)
    assert photos.search(image=toy.random_image(2), k=1)[0].score == pytest.approx(1, abs=1e-5)


def test_the_id_of_an_indexed_file_stays_that_of_its_image(photos: tandem.Collection, tmp_path: Path) -> None:
    small, large = toy.random_image(1), toy.random_image(2).resize((90, 70))
    small.save(tmp_path / "one.png")
    photos.add(tmp_path / "one.png")
    before = photos.search(image=small, k=1)[0]
    report = photos.add({before.id: large, "other": large})
    assert (report.added, report.changed, report.total) == (1, 0, 2)
    assert [(failure.path, failure.reason) for failure in report.failures] == [
        (before.id, f"{before.id!r} belongs to an indexed file: choose another id")
    ]
    vector = photos.model.embed_images(large)
    with pytest.raises(TandemError, match=f"ids: '{before.id}' belongs to an indexed file"):
        photos.add_vectors(["new", before.id], np.concatenate([vector, vector]))
    assert photos.search(image=small, k=1)[0] == before
    assert photos.thumbnail(before.id) is not None
    report = photos.add({before.id: (tmp_path / "one.png").read_bytes()})
    assert (report.unchanged, report.failures, report.total) == (1, [], 2)  # it is the same image


def test_ids_of_vectors_and_of_images_in_memory_are_replaced(photos: tandem.Collection) -> None:
    vector = photos.model.embed_images(toy.random_image(1))
    for _ in range(2):
        assert photos.add_vectors(["a"], vector, {"path": ["/x/1.jpg"], "caption": ["first"]}) == 1
        assert photos.add({"a": toy.random_image(2)}).total == 1
        (stored,) = photos.get("a")
        assert (stored.paths, stored.metadata["caption"]) == (("/x/1.jpg",), "first")


def test_what_cannot_be_read_is_named_and_the_others_are_there(photos: tandem.Collection) -> None:
    report = photos.add({"good": toy.random_image(1), "bad": b"no image"}, batch_size=1)
    assert report.added == 1
    assert [failure.path for failure in report.failures] == ["bad"]
    assert [failure.path for failure in photos.add([b"no image"]).failures] == ["<bytes> 0"]


@pytest.mark.parametrize(
    ("sources", "ids", "message"),
    [
        ({"a": toy.random_image(1)}, ["b"], "ids: expected none beside a mapping"),
        ([toy.random_image(1), toy.random_image(2)], ["a", "a"], "ids: 'a' comes twice"),
        ([toy.random_image(1)], [" "], "ids: expected texts"),
        ([toy.random_image(1), toy.random_image(2)], ["a"], "ids: expected one for each image"),
        ([], None, "nothing to index: name a folder"),
        ({}, None, "nothing to index: no images in the mapping"),
        (None, None, "sources: expected paths or images, got NoneType"),
        (5, None, "sources: expected paths or images, got int"),
        ([toy.random_image(1)], 5, "ids: expected a text for each image, got 5"),
        ([toy.random_image(1)], ["a", "b"], "expected one for each image; there are more ids than 1"),
        ([toy.random_image(1), "a.jpg"], None, "a.jpg: expected an image in memory"),
        (["a.jpg", toy.random_image(1)], None, "expected a path, as the others, got <image>"),
        (["a.jpg"], ["a"], "ids: expected with images in memory"),
    ],
)
def test_what_makes_no_sense_is_refused(photos: tandem.Collection, sources: Any, ids: Any, message: str) -> None:
    with pytest.raises(TandemError, match=message):
        photos.add(sources, ids=ids)


@pytest.mark.slow
def test_a_long_stream_is_not_held(photos: tandem.Collection) -> None:
    drawn = 0

    def many() -> Iterator[Image.Image]:
        nonlocal drawn
        for drawn in range(1, 201):
            yield toy.random_image(drawn)

    counts: list[int] = []
    real = photos.model.engine.encode_images

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def encode_images(self, pixels: np.ndarray) -> np.ndarray:
            counts.append(drawn)
            return real(pixels)

    engine, photos.model.engine = photos.model.engine, Counting()  # type: ignore[assignment]
    assert photos.add(many(), batch_size=8).added == 200
    assert max(count - 8 * batch for batch, count in enumerate(counts)) <= 8 + 2 * 8 + 8


def test_ready_vectors(photos: tandem.Collection) -> None:
    vectors = photos.model.embed_images([toy.random_image(1), toy.random_image(2)])
    assert photos.add_vectors(["a", "b"], vectors, {"path": ["/x/1.jpg", None], "width": [10, 20]}) == 2
    hit = photos.search(image=toy.random_image(1), k=1)[0]
    assert (hit.id, hit.paths, hit.metadata["width"]) == ("a", ("/x/1.jpg",), 10)
    assert photos.count("width > 15") == 1
    for ids, made, metadata, message in (
        (["a"], vectors, None, r"expected an array \[1 d\], got \[2, 12\]"),
        (["a", "b"], np.eye(2, 7), None, r"expected an array \[2 12\], got \[2, 7\]"),
        (["a", "b"], 2 * vectors, None, "vectors: expected unit length, got 2 for 'a'"),
        (["a", "b"], vectors * np.nan, None, "expected unit length, got nan"),
        (["a", "a"], vectors, None, "ids: 'a' comes twice"),
        (["a", "b"], vectors, {"colour": [1, 2]}, "metadata: no column 'colour'"),
        (["a", "b"], vectors, {"width": [1]}, "metadata: width: expected 2 values, got 1"),
    ):
        with pytest.raises(TandemError, match=message):
            photos.add_vectors(ids, made, metadata)  # type: ignore[arg-type]
    assert photos.count() == 2


def test_collections_and_results_can_be_pickled_and_copied(photos: tandem.Collection) -> None:
    photos.add({"a": toy.random_image(1), "b": toy.random_image(2)})
    results = photos.search("a cat")
    for other in (pickle.loads(pickle.dumps(photos)), copy.deepcopy(photos)):
        assert other.url == photos.url
        assert other.search("a cat") == results
    for again in (pickle.loads(pickle.dumps(results)), copy.deepcopy(results)):
        assert again == results
        assert again.thumbnail("a") == photos.thumbnail("a")


@pytest.mark.parametrize("prefix", ["", "lance:"])
def test_pickled_results_show_their_images_in_another_working_directory(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    if prefix:
        pytest.importorskip("lancedb")
    monkeypatch.chdir(tmp_path)
    collection = tandem.open(f"{prefix}photos", model)
    collection.add({"a": toy.random_image(1)})
    content = pickle.dumps(collection.search("a cat"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = pickle.loads(content)
    assert "data:image/jpeg;base64," in again._repr_html_()
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert "no thumbnail" in pickle.loads(content)._repr_html_()


def test_results_in_notebooks_and_tables(photos: tandem.Collection, tmp_path: Path) -> None:
    toy.random_image(1).save(tmp_path / "<one>.png")
    photos.add(tmp_path / "<one>.png")
    photos.add({"b": toy.random_image(2)})
    results = photos.search("a <b>cat</b>")
    shown = results._repr_html_()
    assert shown.count("data:image/jpeg;base64,") == 2
    assert "&lt;one&gt;.png" in shown
    assert "<b>cat" not in shown
    table = results.to_pandas()
    assert table["id"].tolist() == [hit.id for hit in results]
    assert table["path"].tolist() == [hit.path for hit in results]
    assert {"score", "relevance", "missing", "width", "paths"} <= set(table.columns)
    assert len(photos.search("a cat", where="width < 0").to_pandas()) == 0
    assert results.plot(tmp_path / "sheet.png") == tmp_path / "sheet.png"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 100


def test_a_plot_without_a_path_is_shown(photos: tandem.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.add({"b": toy.random_image(2)})
    shown: list[float] = []
    monkeypatch.setattr("tandem.plots.page.Page.show", lambda page: shown.append(page.width))
    assert photos.search("a cat").plot() is None
    assert len(shown) == 1
    with pytest.raises(TandemError, match="nothing to draw"):
        photos.search("a cat", where="width < 0").plot()


def test_paths_may_come_from_a_generator(photos: tandem.Collection, tmp_path: Path) -> None:
    assert photos.add(path for path in toy.write_images(tmp_path / "images", 3)).added == 3


def test_a_collection_made_before_these_notes_were_is_read(
    photos: tandem.Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = identity.notes_for
    monkeypatch.setattr(
        identity, "notes_for", lambda model: {key: value for key, value in real(model).items() if key != "created"}
    )
    photos.add({"a": toy.random_image(1)})
    info = tandem.open(photos.url).info()
    assert (info.created, info.roots, info.count) == (None, (), 1)
    toy.write_images(tmp_path / "images", 2)
    photos.add(tmp_path / "images")
    assert tandem.open(photos.url).info().roots == (str(tmp_path / "images"),)


def test_what_a_collection_is(photos: tandem.Collection, tmp_path: Path) -> None:
    toy.write_images(tmp_path / "images", 3)
    photos.add(tmp_path / "images")
    photos.add([tmp_path / "images" / "0.png", tmp_path / "images"])
    info = tandem.open(photos.url).info()
    assert (info.url, info.count, info.model) == (photos.url, 3, photos.model.name)
    assert info.fingerprint == photos.model.fingerprint
    assert info.roots == (str(tmp_path / "images"),)
    assert {"path", "width"} <= set(info.columns)
    for column in info.columns:
        assert photos.count(f"{column} is null or {column} is not null") == 3, column
    assert info.size_bytes is not None
    assert info.size_bytes > 1000
    assert info.created is not None
    assert "width" in info.columns


def test_a_hit_whose_files_are_all_gone_is_marked(photos: tandem.Collection, tmp_path: Path) -> None:
    toy.write_images(tmp_path / "images", 3)
    (tmp_path / "images" / "copy.png").write_bytes((tmp_path / "images" / "1.png").read_bytes())
    photos.add(tmp_path / "images")
    for name in ("0.png", "1.png"):
        (tmp_path / "images" / name).unlink()
    found = {Path(hit.path).name: hit.missing for hit in photos.search("a cat", k=3)}
    assert found == {"0.png": True, "1.png": False, "2.png": False}
    hits = photos.search("a cat", k=3).as_dict()["hits"]
    assert [hit.get("missing", False) for hit in hits] == [Path(hit["path"]).name == "0.png" for hit in hits]
    (tmp_path / "images").rename(tmp_path / "elsewhere")  # or a disk that is not mounted: nobody knows
    assert not any(hit.missing for hit in photos.search("a cat", k=3))


def test_a_bar_is_drawn_on_request(
    photos: tandem.Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.write_images(tmp_path / "images", 3)
    photos.add(tmp_path / "images", progress=False)
    photos.add(tmp_path / "images")  # nobody is watching
    assert capsys.readouterr().err == ""
    photos.add(tmp_path / "images", progress=True)
    assert "indexing" in capsys.readouterr().err
    photos.add({"b": toy.random_image(20)}, progress=True)
    assert "adding" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"batch_size": value}, "batch_size: expected at least 1") for value in ("3", 1.5, 0, True, None)),
        *(({"workers": value}, "workers: expected at least 1") for value in ("3", 1.5, 0)),
        *(({"exclude": value}, "exclude: expected a list of patterns") for value in ([3], "*.png", 3)),
        ({"prune": True}, "prune: expected with folders and files"),
        ({"fast_decode": True}, "fast_decode: expected with folders"),
        ({"caption": "txt"}, "caption: expected with folders"),
        ({"exclude": ["*.png"]}, "exclude: expected with folders"),
        ({"workers": 2}, "workers: expected with folders"),
    ],
)
def test_options_that_make_no_sense_are_refused(photos: tandem.Collection, options: Any, message: str) -> None:
    with pytest.raises(TandemError, match=message):
        photos.add({"a": toy.random_image(1)}, **options)
    assert not Path(photos.url).exists()


@pytest.mark.parametrize(
    ("ids", "vectors", "metadata", "message"),
    [
        ("z", np.eye(1, 12), None, "ids: expected a list of texts, got 'z'"),
        (b"z", np.eye(1, 12), None, "ids: expected a list of texts"),
        (5, np.eye(1, 12), None, "ids: expected a list of texts, got 5"),
        (None, np.eye(1, 12), None, "ids: expected a list of texts, got NoneType"),
        ([5], np.eye(1, 12), None, "ids: expected texts, got 5"),
        (np.array(5), np.eye(1, 12), None, r"ids: expected a list of texts, got an array \[\]"),
        (["a", "b"], [[1.0, 0.0], [1.0]], None, "vectors: expected an array .*different lengths"),
        (["a"], None, None, "vectors: expected an array of real numbers, got NoneType"),
        (["a"], np.eye(1, 12, dtype=complex), None, "vectors: expected an array of real numbers, got .*complex128"),
        (["a"], np.eye(1, 12), 5, "metadata: expected a mapping"),
        (["a"], np.eye(1, 12), "width", "metadata: expected a mapping"),
        (["a"], np.eye(1, 12), {"width": None}, "metadata: width: expected a list of 1 values, got NoneType"),
        (["a"], np.eye(1, 12), {"width": 5}, "metadata: width: expected a list of 1 values, got 5"),
        (["a"], np.eye(1, 12), {"caption": "a"}, "metadata: caption: expected a list of 1 values, got 'a'"),
        (["a"], np.eye(1, 12), {"path": [b"x"]}, "metadata: path: expected texts, got b'x'"),
        ([], np.eye(1, 12), None, r"vectors: expected an array \[0 d\]"),
    ],
)
def test_vectors_that_make_no_sense_are_refused(
    photos: tandem.Collection, ids: Any, vectors: Any, metadata: Any, message: str
) -> None:
    with pytest.raises(TandemError, match=message):
        photos.add_vectors(ids, vectors, metadata)
    assert not Path(photos.url).exists()


def test_values_that_do_not_fit_their_column_are_refused(photos: tandem.Collection) -> None:
    for metadata in ({"latitude": [np.inf]}, {"width": [True]}, {"width": ["x"]}, {"caption": [5]}):
        with pytest.raises(TandemError, match=f"column {next(iter(metadata))}"):
            photos.add_vectors(["a"], np.eye(1, 12), metadata)  # type: ignore[arg-type]
    assert photos.count() == 0


def test_ids_and_values_may_be_arrays_and_generators(photos: tandem.Collection) -> None:
    assert photos.add_vectors(np.array([]), np.empty((0, 12))) == 0
    assert not Path(photos.url).exists()
    assert photos.add_vectors((f"n{i}" for i in range(2)), np.eye(2, 12), {"width": np.array([7, 8])}) == 2  # type: ignore[arg-type]
    assert photos.count("width = 8") == 1


def test_an_image_that_cannot_be_converted_is_one_failure(
    photos: tandem.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    premultiplied = toy.random_image(1).convert("LA").convert("La")
    broken = toy.random_image(2)
    monkeypatch.setattr(broken, "convert", lambda *_: 1 / 0)
    report = photos.add({"a": premultiplied, "b": broken, "c": toy.random_image(3)})
    assert report.total == 2
    assert [failure.path for failure in report.failures] == ["b"]


def test_an_error_of_the_callers_own_generator_comes_through(photos: tandem.Collection) -> None:
    def broken() -> Iterator[Image.Image]:
        yield toy.random_image(1)
        raise ValueError("mine")

    for ids in (None, ["a", "b"]):
        with pytest.raises(ValueError, match=r"^mine$"):
            photos.add(broken(), ids=ids)


def test_images_that_cannot_be_read_make_no_collection(photos: tandem.Collection) -> None:
    report = photos.add([b"no image", np.array(5)])
    assert (report.total, len(report.failures)) == (0, 2)
    assert not Path(photos.url).exists()
    assert photos.add([b"no image", toy.random_image(1)], batch_size=1).total == 1
    assert photos.add([b"no image"]).total == 1


def test_progress_of_images_in_memory_is_reported(photos: tandem.Collection) -> None:
    seen: list[tuple[int, int]] = []
    photos.add(
        [toy.random_image(1), b"bad", toy.random_image(2)], on_progress=lambda now: seen.append((now.done, now.skipped))
    )
    assert seen[-1] == (3, 1)
    photos.add(iter([toy.random_image(3)]), on_progress=lambda now: seen.append((now.done, now.skipped)))
    assert seen[-1] == (1, 0)
