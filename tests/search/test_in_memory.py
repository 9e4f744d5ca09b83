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
            "a": toy.picture(1),
            "b": np.asarray(toy.picture(2)),
            "c": encoded(toy.picture(3)),
            "d": io.BytesIO(encoded(toy.picture(4))),
        }
    )
    assert (report.added, report.total, report.failures) == (4, 4, [])
    for seed, id in enumerate("abcd", 1):
        hit = photos.search(image=toy.picture(seed), k=1)[0]
        assert (hit.id, hit.path, hit.paths, hit.missing) == (id, "", (), False)
        assert hit.score == pytest.approx(1, abs=1e-5)
    (stored,) = photos.get("c")
    assert (stored.metadata["format"], stored.metadata["width"]) == ("PNG", toy.picture(3).width)
    assert stored.metadata["bytes"] == len(encoded(toy.picture(3)))
    assert photos.thumbnail("a") is not None


def test_ids_beside_a_list_and_ids_of_the_content(photos: tandem.Collection) -> None:
    images = [toy.picture(seed) for seed in range(3)]
    assert photos.add(iter(images), ids=(f"n{i}" for i in range(3))).added == 3
    assert [image.id for image in photos.get(["n2", "none", "n0"])] == ["n2", "n0"]
    content = encoded(toy.picture(9))
    assert photos.add([content, toy.picture(8)]).added == 2
    assert photos.get(image_id(content))
    again = photos.add([content, toy.picture(8), toy.picture(8)])
    assert (again.added, again.changed, again.total) == (0, 0, 5)
    assert photos.add(toy.picture(7), ids="single").added == 1


def test_an_id_that_is_there_is_replaced(photos: tandem.Collection) -> None:
    photos.add({"a": toy.picture(1)})
    report = photos.add({"a": toy.picture(2)})
    assert (report.changed, report.total) == (1, 1)
    assert photos.search(image=toy.picture(2), k=1)[0].score == pytest.approx(1, abs=1e-5)


def test_an_image_that_is_replaced_keeps_its_paths_and_gets_new_values(
    photos: tandem.Collection, tmp_path: Path
) -> None:
    small, large = toy.picture(1), toy.picture(2).resize((90, 70))
    small.save(tmp_path / "one.png")
    photos.add(tmp_path / "one.png")
    id = photos.search(image=small, k=1)[0].id
    assert photos.add({id: large}).changed == 1
    (after,) = photos.get(id)
    assert after.paths == (str(tmp_path / "one.png"),)
    assert (after.metadata["width"], after.metadata["height"]) == (90, 70)


def test_what_cannot_be_read_is_named_and_the_others_are_there(photos: tandem.Collection) -> None:
    report = photos.add({"good": toy.picture(1), "bad": b"no image"}, batch_size=1)
    assert report.added == 1
    assert [failure.path for failure in report.failures] == ["bad"]
    assert [failure.path for failure in photos.add([b"no image"]).failures] == ["<bytes> 0"]


@pytest.mark.parametrize(
    ("sources", "ids", "said"),
    [
        ({"a": toy.picture(1)}, ["b"], "ids: expected none beside a mapping"),
        ([toy.picture(1), toy.picture(2)], ["a", "a"], "ids: 'a' comes twice"),
        ([toy.picture(1)], [" "], "ids: expected texts"),
        ([toy.picture(1), toy.picture(2)], ["a"], "ids: expected one for each image"),
        ([], None, "nothing to index: name a folder"),
        ([toy.picture(1), "a.jpg"], None, "a.jpg: expected an image in memory"),
        (["a.jpg", toy.picture(1)], None, "expected a path, as the others, got <image>"),
        (["a.jpg"], ["a"], "ids: expected with images in memory"),
    ],
)
def test_what_makes_no_sense_is_refused(photos: tandem.Collection, sources: Any, ids: Any, said: str) -> None:
    with pytest.raises(TandemError, match=said):
        photos.add(sources, ids=ids)


def test_a_long_stream_is_not_held(photos: tandem.Collection) -> None:
    drawn = 0

    def many() -> Iterator[Image.Image]:
        nonlocal drawn
        for drawn in range(1, 201):
            yield toy.picture(drawn)

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
    vectors = photos.model.embed_images([toy.picture(1), toy.picture(2)])
    assert photos.add_vectors(["a", "b"], vectors, {"path": ["/x/1.jpg", None], "width": [10, 20]}) == 2
    hit = photos.search(image=toy.picture(1), k=1)[0]
    assert (hit.id, hit.paths, hit.metadata["width"]) == ("a", ("/x/1.jpg",), 10)
    assert photos.count("width > 15") == 1
    for ids, made, metadata, said in (
        (["a"], vectors, None, r"expected an array \[1 12\]"),
        (["a", "b"], 2 * vectors, None, "vectors: expected unit length, got 2 for 'a'"),
        (["a", "b"], vectors * np.nan, None, "expected unit length, got nan"),
        (["a", "a"], vectors, None, "ids: 'a' comes twice"),
        (["a", "b"], vectors, {"colour": [1, 2]}, "metadata: no column 'colour'"),
        (["a", "b"], vectors, {"width": [1]}, "metadata: width: expected 2 values, got 1"),
    ):
        with pytest.raises(TandemError, match=said):
            photos.add_vectors(ids, made, metadata)  # type: ignore[arg-type]
    assert photos.count() == 2


def test_collections_and_results_can_be_pickled_and_copied(photos: tandem.Collection) -> None:
    photos.add({"a": toy.picture(1), "b": toy.picture(2)})
    results = photos.search("a cat")
    for other in (pickle.loads(pickle.dumps(photos)), copy.deepcopy(photos)):
        assert other.url == photos.url
        assert other.search("a cat") == results
    for again in (pickle.loads(pickle.dumps(results)), copy.deepcopy(results)):
        assert again == results
        assert again.thumbnail("a") == photos.thumbnail("a")


def test_results_in_notebooks_and_tables(photos: tandem.Collection, tmp_path: Path) -> None:
    toy.picture(1).save(tmp_path / "<one>.png")
    photos.add(tmp_path / "<one>.png")
    photos.add({"b": toy.picture(2)})
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
    photos.add({"b": toy.picture(2)})
    shown: list[float] = []
    monkeypatch.setattr("tandem.plots.page.Page.show", lambda page: shown.append(page.width))
    assert photos.search("a cat").plot() is None
    assert len(shown) == 1
    with pytest.raises(TandemError, match="nothing to draw"):
        photos.search("a cat", where="width < 0").plot()


def test_paths_may_come_from_a_generator(photos: tandem.Collection, tmp_path: Path) -> None:
    assert photos.add(path for path in toy.pictures(tmp_path / "pictures", 3)).added == 3


def test_a_collection_made_before_these_notes_were_is_read(
    photos: tandem.Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = identity.notes_for
    monkeypatch.setattr(
        identity, "notes_for", lambda model: {key: value for key, value in real(model).items() if key != "created"}
    )
    photos.add({"a": toy.picture(1)})
    info = tandem.open(photos.url).info()
    assert (info.created, info.roots, info.count) == (None, (), 1)
    toy.pictures(tmp_path / "pictures", 2)
    photos.add(tmp_path / "pictures")
    assert tandem.open(photos.url).info().roots == (str(tmp_path / "pictures"),)


def test_what_a_collection_is(photos: tandem.Collection, tmp_path: Path) -> None:
    toy.pictures(tmp_path / "pictures", 3)
    photos.add(tmp_path / "pictures")
    photos.add([tmp_path / "pictures" / "0.png", tmp_path / "pictures"])
    info = tandem.open(photos.url).info()
    assert (info.url, info.count, info.model) == (photos.url, 3, photos.model.name)
    assert info.fingerprint == photos.model.fingerprint
    assert info.roots == (str(tmp_path / "pictures"),)
    assert {"path", "width"} <= set(info.columns)
    for column in info.columns:
        assert photos.count(f"{column} is null or {column} is not null") == 3, column
    assert info.size_bytes is not None
    assert info.size_bytes > 1000
    assert info.created is not None
    assert "width" in info.columns


def test_a_hit_whose_files_are_all_gone_is_marked(photos: tandem.Collection, tmp_path: Path) -> None:
    toy.pictures(tmp_path / "pictures", 3)
    (tmp_path / "pictures" / "copy.png").write_bytes((tmp_path / "pictures" / "1.png").read_bytes())
    photos.add(tmp_path / "pictures")
    for name in ("0.png", "1.png"):
        (tmp_path / "pictures" / name).unlink()
    found = {Path(hit.path).name: hit.missing for hit in photos.search("a cat", k=3)}
    assert found == {"0.png": True, "1.png": False, "2.png": False}
    hits = photos.search("a cat", k=3).as_dict()["hits"]
    assert [hit.get("missing", False) for hit in hits] == [Path(hit["path"]).name == "0.png" for hit in hits]
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")  # or a disk that is not mounted: nobody knows
    assert not any(hit.missing for hit in photos.search("a cat", k=3))


def test_a_bar_is_drawn_on_request(
    photos: tandem.Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.pictures(tmp_path / "pictures", 3)
    photos.add(tmp_path / "pictures", progress=False)
    photos.add(tmp_path / "pictures")  # nobody is watching
    assert capsys.readouterr().err == ""
    photos.add(tmp_path / "pictures", progress=True)
    assert "indexing" in capsys.readouterr().err
    photos.add({"b": toy.picture(20)}, progress=True)
    assert "adding" in capsys.readouterr().err
