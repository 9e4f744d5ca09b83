"""What assistants can do: only with the collections, only with the folders that were opened, in bounded sizes."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import skip_without, toy
from support.serving import toy_collection

skip_without("av")

from support import films  # noqa: E402

import tandem  # noqa: E402
from tandem.errors import StoreError, TandemError  # noqa: E402
from tandem.mcp_server import toolbox as tools  # noqa: E402
from tandem.mcp_server.permission import permitted  # noqa: E402
from tandem.mcp_server.toolbox import Toolbox  # noqa: E402


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos.tandem` of nine toy images and a film, `others.tandem`, a folder `more`, and a secret beside them."""
    here = tmp_path_factory.mktemp("tools")
    toy_collection(here)
    toy_collection(here, "others")
    films.make(here / "film.mp4")
    with tandem.open(here / "photos.tandem") as photos:
        photos.add(here / "film.mp4")
    toy.write_images(here / "more", 3)
    (here / "secret.png").write_bytes((here / "more/0.png").read_bytes())
    (here / "more/link.png").symlink_to(here / "secret.png")
    (here / "more/notes.txt").write_text("private")
    return here


@pytest.fixture(scope="module")
def box(here: Path) -> Iterator[Toolbox]:
    made = Toolbox([str(here / "photos.tandem"), str(here / "others.tandem")], files=[here / "more"])
    yield made
    made.close()


@pytest.mark.slow
def test_collections_are_listed_without_a_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.model.load", lambda *_, **__: pytest.fail("a model was loaded"))
    box = Toolbox([str(here / "photos.tandem")])
    found = box.collections()
    assert found["collections"][0]["name"] == "photos"
    assert found["collections"][0]["count"] == 9 + 3
    assert "time" in found["collections"][0]["filter_columns"]
    assert (found["can_write"], found["files_may_be_named_under"]) == (False, [])
    box.close()


def test_search_by_words_and_by_picture(box: Toolbox, here: Path) -> None:
    found = box.search("a cat", k=5)
    assert (found["collection"], found["total"], len(found["hits"])) == ("photos", 12, 5)
    assert {"id", "path", "score", "relevance", "width", "height", "format"} <= found["hits"][0].keys()
    with tandem.open(here / "photos.tandem") as photos:
        expected = [hit.id for hit in photos.search("a cat", k=5).hits]
    assert [hit["id"] for hit in found["hits"]] == expected
    first = found["hits"][0]
    for named in (first["id"], first["path"]):
        assert box.search(image=named, k=1, moments=0)["hits"][0]["id"] == first["id"]
    assert box.search(image=str(here / "more/1.png"), k=1)["hits"][0]["score"] > 0.99  # by the file's content
    assert len(box.search("a", collection="others", k=50)["hits"]) == 9
    assert box.search("a", where="time > 1", moments=0)["hits"][0]["time"] > 1


def test_a_picture_is_looked_at_smaller_and_a_moment_is_its_frame(box: Toolbox, here: Path) -> None:
    hit = box.search("a", where="time = 2", moments=0)["hits"][0]
    content, known = box.look(hit["id"], side=64)
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.size) == ("JPEG", (64, 48))
    assert films.colour_of(np.asarray(image)) == "green"
    assert known["time"] == 2.0
    assert known["image"].endswith("film.mp4#t=2.000")
    Image.new("RGB", (3000, 1000)).save(here / "more/large.png")
    content, known = box.look(str(here / "more/large.png"))
    assert Image.open(io.BytesIO(content)).size == (768, 256)
    assert (known["width"], known["height"]) == (3000, 1000)


def test_a_picture_whose_file_changed_is_shown_as_it_was_indexed(tmp_path: Path) -> None:
    box = Toolbox([str(toy_collection(tmp_path))])
    hit = box.search("a", k=1)["hits"][0]
    (tmp_path / "secret.png").write_bytes(Path(hit["path"]).read_bytes()[:-1] + b"x")
    os.replace(tmp_path / "secret.png", hit["path"])
    assert box.look(hit["path"])[1]["of_thumbnail"]
    assert box.classify(hit["id"], ["a", "b"])["of_thumbnail"]
    box.close()


def test_no_other_file_is_seen(box: Toolbox, here: Path) -> None:
    closed = Toolbox([str(here / "photos.tandem")])
    refused = [
        "/etc/passwd",
        str(here / "secret.png"),
        str(here / "more/../secret.png"),
        str(here / "more/link.png"),
        "../secret.png",
        "http://127.0.0.1/a.png",
        f"file://{here}/more/0.png",
    ]
    for path in refused:
        for call in (
            box.look,
            closed.look,
            lambda path: box.search(image=path),
            lambda path: box.locate(path, ["a"]),
        ):
            with pytest.raises(TandemError, match=r"not an image of the collections|no such file"):
                call(path)
    with pytest.raises(TandemError, match="no folder was opened with --files"):
        closed.look(str(here / "more/0.png"))
    with pytest.raises(TandemError, match="not an image"):
        box.look(str(here / "more/notes.txt"))
    for path in ("", "a\0b", "x" * 5000):
        with pytest.raises(TandemError, match="expected the"):
            box.look(path)
        with pytest.raises(TandemError, match="expected the path"):
            permitted(path, [here])
    closed.close()


def test_an_image_is_found_by_the_name_of_its_file_where_only_one_has_it(here: Path, tmp_path: Path) -> None:
    alone = Toolbox([str(here / "photos.tandem")])
    moment = alone.search("a", where="time = 2", moments=0)["hits"][0]
    for named in ("film.mp4 @ 0:00:02", "film.mp4#t=2.000", moment["path"].replace("#t=2.000", " @ 0:00:02")):
        assert alone.look(named, side=64)[1]["image"] == moment["path"]
        assert alone.search(image=named, k=1, moments=0)["hits"][0]["id"] == moment["id"]
    assert alone.look("photos/3.png", side=64)[1]["image"] == str(here / "photos/3.png")
    with pytest.raises(TandemError, match=r"ilm\.mp4.*give the id that search returned"):
        alone.look("ilm.mp4 @ 0:00:02")
    alone.close()
    for name in "ab":
        (tmp_path / name).mkdir()
    toy_collection(tmp_path / "a", "first")
    toy_collection(tmp_path / "b", "second")
    both = Toolbox([str(tmp_path / "a/first.tandem"), str(tmp_path / "b/second.tandem")])
    with pytest.raises(TandemError, match=r"3\.png: 2 images are called that; give the id that search returned"):
        both.look("3.png")
    assert both.look("3.png", "second")[1]["image"] == str(tmp_path / "b/second/3.png")
    both.close()


def test_a_name_is_looked_up_by_the_stores_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read grows with what is called so, not with the collection; every copy of an image has its name."""
    url = toy_collection(tmp_path)
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies/by_the_sea.png").write_bytes((tmp_path / "photos/4.png").read_bytes())
    with tandem.open(url) as photos:
        photos.add(tmp_path / "copies", progress=False)
    box = Toolbox([str(url)])
    (collection,) = box._collections.values()
    scan, read = collection.store.scan, []

    def counted(**options: Any) -> Iterator[Any]:
        for some in scan(**options):
            read.append(len(some))
            yield some

    monkeypatch.setattr(collection.store, "scan", counted)
    for named in ("3.png", "photos/5.png", "by_the_sea.png"):
        read.clear()
        box.look(named, side=64)
        assert sum(read) == 1
    read.clear()
    for named in ("png", "p", "photos", "by-the-sea.png"):
        with pytest.raises(TandemError, match="not an image of the collections"):
            box.look(named)
    assert sum(read) == 0
    assert box.look("by_the_sea.png")[1]["image"] == box.look("4.png")[1]["image"]
    with pytest.raises(TandemError, match="not an image of the collections"):
        box.look("___the_sea.png")  # no wildcards
    box.close()


def test_a_collection_that_is_named_is_the_only_one_that_is_looked_in(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    toy_collection(tmp_path / "a", "first")
    toy_collection(tmp_path / "b", "second")
    box = Toolbox([str(tmp_path / "a/first.tandem"), str(tmp_path / "b/second.tandem")])
    path = str(tmp_path / "a/first/3.png")
    assert box.look(path, "first")[1]["image"] == path
    with pytest.raises(TandemError, match="not an image of the collections"):
        box.look(path, "second")
    box.close()


def test_a_folder_whose_name_begins_with_an_opened_ones_is_closed(tmp_path: Path) -> None:
    for name in ("photos", "photos-private"):
        toy.write_images(tmp_path / name, 1)
    assert permitted(str(tmp_path / "photos/0.png"), [tmp_path / "photos"]) == tmp_path / "photos/0.png"
    for path in (str(tmp_path / "photos-private/0.png"), "../photos-private/0.png"):
        with pytest.raises(TandemError, match="not an image of the collections, nor under"):
            permitted(path, [tmp_path / "photos"])


def test_quotes_in_a_path_are_part_of_it(tmp_path: Path) -> None:
    toy.write_images(tmp_path / "Ann's", 2)
    with tandem.open(tmp_path / "photos.tandem", toy.folder(tmp_path / "toy")) as photos:
        photos.add(tmp_path / "Ann's", progress=False)
    box = Toolbox([str(tmp_path / "photos.tandem")], model=str(tmp_path / "toy"))
    for named in (str(tmp_path / "Ann's/1.png"), "Ann's/1.png"):
        assert box.look(named, side=64)[1]["image"] == str(tmp_path / "Ann's/1.png")
    with pytest.raises(TandemError, match="not an image"):
        box.look("' or width > 0 or path = '")
    box.close()


def test_pages_of_hits_fit_together_and_the_total_is_of_what_passes(box: Toolbox) -> None:
    options = {"where": "time is null", "k": 4}
    pages = [box.search("a cat", offset=offset, **options) for offset in (0, 4, 8)]
    ids = [hit["id"] for page in pages for hit in page["hits"]]
    assert len(ids) == len(set(ids)) == 9
    assert [hit["id"] for hit in box.search("a cat", where="time is null", k=9)["hits"]] == ids
    assert {page["total"] for page in pages} == {9}  # of 12


def test_labels_and_places(box: Toolbox) -> None:
    hit = box.search("a", k=1)["hits"][0]
    found = box.classify(hit["id"], ["cat", "dog"])
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    places = box.locate(hit["id"], ["a cat", "a dog"])
    assert [each["text"] for each in places["locations"]] == ["a cat", "a dog"]
    assert places["image"] == found["image"] == hit["path"]
    assert places["model"] == found["model"] == box.search("a")["model"]
    (first, *_) = box.collections()["collections"]
    assert places["model"] == {"name": first["model"], "fingerprint": first["fingerprint"]}
    assert not places["of_thumbnail"]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda box: box.search(), "nothing to look for"),
        (lambda box: box.search("a", k=51), "k: expected 1 to 50, got 51"),
        (lambda box: box.search("a", offset=-1), "offset: expected 0"),
        (lambda box: box.search("a" * 3000), "text: expected a text of 1 to 2,000 characters, got 3,000"),
        (lambda box: box.search("a", where="nonsense ="), "no column 'nonsense'"),
        (lambda box: box.search("a", collection="x"), "no collection 'x'; there are photos, others"),
        (lambda box: box.look("0" * 32, side=5000), "side: expected 64 to 1,536, got 5,000"),
        (lambda box: box.classify("0" * 32, []), "labels: expected 1 to 200, got 0"),
        (lambda box: box.classify("0" * 32, ["a"] * 201), "labels: expected 1 to 200, got 201"),
        (lambda box: box.locate("0" * 32, []), "texts: expected 1 to 16"),
        (lambda box: box.add(["x"]), "this server only reads: start it with --allow-writes"),
        (lambda box: box.set_caption("x", "y"), "this server only reads"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(box: Toolbox, call: object, why: str) -> None:
    with pytest.raises(TandemError, match=why) as raised:
        call(box)  # type: ignore[operator]
    assert "\n" not in str(raised.value)


def test_writing_adds_from_opened_folders_and_captions_stay_in_the_collection(tmp_path: Path) -> None:
    url = str(toy_collection(tmp_path))
    toy.write_images(tmp_path / "more", 12)
    box = Toolbox([url], files=[tmp_path / "more"], allow_writes=True)
    report = box.add([str(tmp_path / "more")])
    assert (report["added"] + report["unchanged"], report["count"]) == (3, 12)  # nine were there: the same content
    with pytest.raises(TandemError, match="not an image of the collections"):
        box.add([str(tmp_path / "photos")])
    path = str(tmp_path / "photos/0.png")
    before = Path(path).read_bytes()
    assert box.set_caption(path, "a house by the sea")["caption"] == "a house by the sea"
    assert Path(path).read_bytes() == before
    (hit,) = box.search("a", where="caption like '%sea%'")["hits"]
    assert hit["caption"] == "a house by the sea"
    assert box.set_caption(hit["id"], "")["caption"] is None
    with pytest.raises(TandemError, match="not an image of photos"):
        box.set_caption("/nowhere.png", "x")
    box.close()


def test_collections_have_to_exist_and_to_have_different_names(here: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Toolbox([str(tmp_path / "none.tandem")])
    with pytest.raises(TandemError, match="two collections are called photos"):
        Toolbox([str(here / "photos.tandem")] * 2)
    with pytest.raises(TandemError, match="expected a folder"):
        Toolbox([str(here / "photos.tandem")], files=[here / "secret.png"])
    assert tools.MAX_HITS == 50
