"""Labels beside photos: which hold, which sidecar is edited, and albums that touch nothing but their own links."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tandem.errors import SidecarError, TandemError
from tandem.scores.scoring import Scoring
from tandem.search.stores.backends import create_store
from tandem.search.stores.protocol import Records, Schema, Store
from tandem.search.tagging import albums as albums_module
from tandem.search.tagging.album_names import folder_name
from tandem.search.tagging.albums import NOTES, AlbumReport, make_albums
from tandem.search.tagging.deciding import ABOVE, Decided, decide
from tandem.search.tagging.sidecars import Sidecars
from tandem.search.tagging.tagging import tag
from tandem.search.tagging.xmp import keywords_of

LABELS = ["cat", "dog"]


def touch(*paths: Path) -> list[Path]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())
    return list(paths)


# --- deciding --------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three images: on the side of the cat, between both, on no side."""
    made = create_store(str(tmp_path / "s.tandem"), Schema(3, {"path": "text", "paths": "text"}), {})
    vectors = np.array([[1, 0, 0], [0.605, 0.6, 0.5233784], [0, 0, 1]], dtype=np.float32)
    paths = [str(tmp_path / f"{name}.jpg") for name in "abc"]
    columns = {"path": paths, "paths": [json.dumps([path]) for path in paths]}
    made.upsert(Records([f"{i:032x}" for i in range(3)], vectors, columns))
    yield made
    made.close()


def test_labels_that_stand_alone_hold_are_false_or_open(store: Store) -> None:
    vectors = np.eye(3, dtype=np.float32)[:2]
    found = {d.paths[0][-5]: d for d in decide(store, LABELS, vectors, Scoring("sigmoid", 10.0, -5.0))}
    assert {name: (each.holds, each.unclear) for name, each in found.items()} == {
        "a": (("cat",), ()),  # 0.99, and 0.007
        "b": ((), ("cat", "dog")),  # 0.73 each
        "c": ((), ()),
    }
    found = {d.paths[0][-5]: d for d in decide(store, LABELS, vectors, Scoring("sigmoid", 10.0, -5.0), above=0.6)}
    assert found["b"].holds == ("cat", "dog")
    found = {d.paths[0][-5]: d for d in decide(store, LABELS, vectors, Scoring("sigmoid", 10.0, -3.0))}
    assert found["b"].holds == ("cat", "dog")  # 0.95
    found = {d.paths[0][-5]: d for d in decide(store, LABELS, vectors, Scoring("sigmoid", 1.0, 0.0), above=0.5)}
    assert (found["c"].holds, found["c"].unclear) == (("cat", "dog"), ())  # exactly a half
    found = {d.paths[0][-5]: d for d in decide(store, LABELS, vectors, Scoring("sigmoid", 10.0, -7.0))}
    assert found["b"].unclear == ("cat", "dog")  # 0.28 each, and false from 0.2 down


def test_of_labels_that_compete_one_holds_or_is_open(store: Store) -> None:
    vectors = np.eye(3, dtype=np.float32)[:2]
    found = {d.paths[0][-5]: d for d in decide(store, LABELS, vectors, Scoring("softmax", 100.0))}
    assert found["a"].holds == ("cat",)
    assert (found["b"].holds, found["b"].unclear) == ((), ("cat",))  # 0.62
    assert (found["c"].holds, len(found["c"].unclear)) == ((), 1)  # 0.5 each: only the likeliest may hold


@pytest.mark.parametrize("above", [0.4, 1.1, float("nan")])
def test_a_probability_is_between_a_half_and_one(store: Store, above: float) -> None:
    with pytest.raises(TandemError, match=r"expected a probability from 0\.5 to 1"):
        list(decide(store, LABELS, np.eye(3, dtype=np.float32)[:2], Scoring("softmax", 1.0), above=above))


# --- sidecars --------------------------------------------------------------------------------------------------------


def test_which_sidecar_a_photo_has(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a.jpg", "b.jpg", "b.xmp", "c.jpg", "c.cr2", "c.xmp", "d.JPG", "D.jpg.XMP")))
    names = {photo: Sidecars().path_of(tmp_path / photo).name for photo in ("a.jpg", "b.jpg", "c.jpg", "d.JPG")}
    assert names == {"a.jpg": "a.jpg.xmp", "b.jpg": "b.xmp", "c.jpg": "c.jpg.xmp", "d.JPG": "D.jpg.XMP"}
    stem = Sidecars("stem")
    assert stem.path_of(tmp_path / "a.jpg").name == "a.xmp"
    assert stem.path_of(tmp_path / "c.jpg").name == "c.jpg.xmp"  # c.xmp is that of c.cr2


def test_a_sidecar_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (photo,) = touch(tmp_path / "a.jpg")
    dry = Sidecars(dry_run=True).update(photo, ["cat"], LABELS)
    assert (dry.added, dry.is_new, dry.is_changed) == (("cat",), True, True)
    assert not dry.path.exists()
    made = Sidecars().update(photo, ["cat"], LABELS)
    made.path.chmod(0o640)
    again = Sidecars().update(photo, ["dog"], LABELS)
    assert (again.added, again.withdrawn, again.is_new) == (("dog",), ("cat",), False)
    assert keywords_of(made.path.read_bytes()) == ["dog"]
    assert made.path.stat().st_mode & 0o777 == 0o640
    before = made.path.stat().st_mtime_ns
    assert not Sidecars().update(photo, ["dog"], LABELS).is_changed
    assert made.path.stat().st_mtime_ns == before
    assert not list(tmp_path.glob(".*"))
    nothing = Sidecars().update(touch(tmp_path / "b.jpg")[0], [], LABELS)
    assert not nothing.path.exists()


def test_a_sidecar_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (photo,) = touch(tmp_path / "a.jpg")
    made = Sidecars().update(photo, ["cat"], LABELS).path
    made.rename(tmp_path / "elsewhere.xmp")
    made.symlink_to("elsewhere.xmp")
    Sidecars().update(photo, ["dog"], LABELS)
    assert made.is_symlink()
    assert keywords_of((tmp_path / "elsewhere.xmp").read_bytes()) == ["dog"]


def test_a_link_to_nothing_makes_no_file_elsewhere(tmp_path: Path) -> None:
    (photo,) = touch(tmp_path / "a.jpg")
    (tmp_path / "a.jpg.xmp").symlink_to("elsewhere.xmp")
    with pytest.raises(SidecarError, match=r"it is a link to .*, which is not there"):
        Sidecars().update(photo, ["cat"], LABELS)
    assert not (tmp_path / "elsewhere.xmp").exists()


def test_each_folder_has_its_own_sidecars(tmp_path: Path) -> None:
    touch(tmp_path / "x/a.jpg", tmp_path / "x/a.xmp", tmp_path / "y/a.jpg", tmp_path / "y/b.jpg", tmp_path / "y/b.xmp")
    sidecars = Sidecars()
    names = [sidecars.path_of(tmp_path / photo).name for photo in ("x/a.jpg", "y/a.jpg", "y/b.jpg", "x/a.jpg")]
    assert names == ["a.xmp", "a.jpg.xmp", "b.xmp", "a.xmp"]


def test_keywords_of_labels_that_are_not_asked_about(tmp_path: Path) -> None:
    (photo,) = touch(tmp_path / "a.jpg")
    tag([Decided("1", (str(photo),), ("cat",), ())], LABELS, write_xmp=True)
    none = [Decided("1", (str(photo),), (), ())]
    assert tag(none, ["bird"], write_xmp=True).withdrawn == 0
    assert tag(none, ["bird"], write_xmp=True, withdraw_all=True).withdrawn == 1


def test_a_sidecar_that_changes_meanwhile_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photo,) = touch(tmp_path / "a.jpg")
    path = Sidecars().update(photo, ["cat"], LABELS).path
    import tandem.search.tagging.sidecars as module

    real = module._read

    def read(target: Path, name: str) -> bytes:
        content = real(target, name)
        target.write_bytes(content + b"\n")
        return content

    monkeypatch.setattr(module, "_read", read)
    with pytest.raises(SidecarError, match="another program changed it"):
        Sidecars().update(photo, ["dog"], LABELS)
    assert keywords_of(path.read_bytes()) == ["cat"]


def test_what_is_written_for_a_collection(tmp_path: Path) -> None:
    good, bad, other = touch(tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg")
    Path(f"{bad}.xmp").write_bytes(b"<!DOCTYPE x><x/>")
    decided = [
        Decided("1", (str(good), str(other)), ("cat",), ()),  # an image with two files
        Decided("2", (str(bad), str(tmp_path / "gone.jpg"), f"{tmp_path}/s.tar/x.jpg"), ("dog",), ("cat",)),
        Decided("3", (), (), ("dog",)),
    ]
    report = tag(decided, LABELS, write_xmp=True)
    assert (report.images, report.made, report.added, report.gone, report.inside) == (3, 2, 2, 1, 1)
    document = json.loads(json.dumps(report.as_dict()))
    assert document["labels"][0] == {"label": LABELS[0], "images": 1, "cannot_tell": 1}
    assert (document["sidecars"]["made"], document["failures"][0]["image"]) == (2, str(bad))
    assert "albums" not in document
    assert (report.holds, report.unclear, report.undecided) == ({"cat": 1, "dog": 1}, {"cat": 1, "dog": 1}, 1)
    ((path, reason),) = report.failures
    assert path == str(bad)
    assert "document type" in reason
    assert keywords_of(Path(f"{other}.xmp").read_bytes()) == ["cat"]
    assert Path(f"{bad}.xmp").read_bytes() == b"<!DOCTYPE x><x/>"


# --- albums ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> list[tuple[str, str]]:
    """(id, path); two of them have one name."""
    files = touch(tmp_path / "p" / "a.jpg", tmp_path / "p" / "x" / "A.jpg", tmp_path / "p" / "b.jpg")
    return [(f"{i}" * 32, str(path)) for i, path in enumerate(files)]


def test_albums_are_relative_links_and_rerun_replaces_its_own(tmp_path: Path, photos: list[tuple[str, str]]) -> None:
    root = tmp_path / "albums"
    report = make_albums(root, {"cat": photos, "animal|dog": photos[2:]})
    assert report == AlbumReport(4, 0, 0, "symbolic", ())
    names = ["cat/A (11111111).jpg", "cat/a (00000000).jpg", "cat/b.jpg", "animal/dog/b.jpg"]
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*.jpg")) == sorted(names)
    for name in names:
        assert not os.path.isabs(os.readlink(root / name))
        assert (root / name).read_bytes()
    assert (root / ".tandemignore").read_text() == "*\n"
    assert make_albums(root, {"cat": photos, "animal|dog": photos[2:]}) == AlbumReport(0, 0, 4, "symbolic", ())
    assert make_albums(root, {"cat": photos[2:]}) == AlbumReport(0, 3, 1, "symbolic", ())
    assert not (root / "animal").exists()  # nothing is in it any more


def test_an_owners_files_are_left(tmp_path: Path, photos: list[tuple[str, str]]) -> None:
    root = tmp_path / "albums"
    (own,) = touch(root / "cat" / "b.jpg")
    assert make_albums(root, {"cat": photos[2:]}).left == (str(own),)
    assert own.read_bytes() == b"b.jpg"
    assert not (root / ".tandemignore").exists()  # the folder was there, with something in it
    own.unlink()
    assert make_albums(root, {"cat": photos[2:]}).made == 1
    own.unlink()
    own.write_text("mine now")
    assert make_albums(root, {}).left == (str(own),)
    assert own.read_text() == "mine now"


def test_an_owners_link_in_place_of_ours_is_left(tmp_path: Path, photos: list[tuple[str, str]]) -> None:
    root = tmp_path / "albums"
    make_albums(root, {"cat": photos[2:]})
    link = root / "cat" / "b.jpg"
    link.unlink()
    link.symlink_to(photos[0][1])  # the owner's own choice
    assert make_albums(root, {"cat": photos[2:]}).left == (str(link),)
    assert os.readlink(link) == photos[0][1]
    link.unlink()
    make_albums(root, {"cat": photos[2:]})
    link.unlink()
    link.symlink_to(photos[0][1])
    assert make_albums(root, {}).left == (str(link),)
    assert os.readlink(link) == photos[0][1]


def test_what_was_linked_is_noted_when_the_disk_is_full(
    tmp_path: Path, photos: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, root = albums_module._link, tmp_path / "albums"

    def link(place: Path, target: str, way: str) -> object:
        if place.parent.name == "dog":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(place, target, way)

    monkeypatch.setattr(albums_module, "_link", link)
    with pytest.raises(OSError, match="No space left"):
        make_albums(root, {"cat": photos, "dog": photos})
    assert len(json.loads((root / NOTES).read_text())["links"]) == 3
    monkeypatch.undo()
    assert make_albums(root, {}).removed == 3


@pytest.mark.parametrize("how", ["symbolic", "list"])
def test_one_album_that_cannot_be_made_does_not_stop_the_others(
    tmp_path: Path, photos: list[tuple[str, str]], how: albums_module.How
) -> None:
    root = tmp_path / "albums"
    touch(root / "animal")  # a file where a folder would be
    report = make_albums(root, {"animal|cat": photos[2:], "dog": photos[2:]}, how=how)
    ((path, reason),) = report.failed
    assert (report.made, Path(path).parts[-3:-1]) == (
        1,
        ("animal", "cat") if how == "symbolic" else ("albums", "animal"),
    )
    assert reason in ("Not a directory", "File exists")
    assert report.as_dict()["failures"] == [{"path": path, "error": reason}]


def test_names_fit_the_file_system(tmp_path: Path) -> None:
    long = "\N{CAT FACE}" * 60 + "12345678901"  # 251 bytes
    files = touch(tmp_path / "x" / f"{long}.jpg", tmp_path / "y" / f"{long}.jpg")
    photos = [(f"{i}" * 32, str(path)) for i, path in enumerate(files)]
    for how in ("symbolic", "list"):
        labels = ["\N{CAT FACE}" * 120, "\N{CAT FACE}" * 121]
        report = make_albums(tmp_path / how, dict.fromkeys(labels, photos), how=how)
        assert (report.made, report.failed) == (4 if how == "symbolic" else 2, ())
    assert all(path.exists() for path in (tmp_path / "symbolic").rglob("*.jpg"))


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path, photos: list[tuple[str, str]]) -> None:
    root = tmp_path / "albums"
    make_albums(root, {"cat": photos[2:]})
    (root / "cat").rename(tmp_path / "elsewhere")
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    assert make_albums(root, {"cat": photos}).made == 0
    assert len(make_albums(root, {}).left) <= 1
    assert (tmp_path / "elsewhere" / "b.jpg").is_symlink()


def test_a_dry_run_writes_nothing(tmp_path: Path, photos: list[tuple[str, str]]) -> None:
    root = tmp_path / "albums"
    assert make_albums(root, {"cat": photos}, dry_run=True).made == 3
    assert not root.exists()
    make_albums(root, {"cat": photos})
    before = sorted(map(str, root.rglob("*")))
    assert make_albums(root, {}, dry_run=True).removed == 3
    assert sorted(map(str, root.rglob("*"))) == before


def test_hard_links_and_the_last_name_of_a_photo(
    tmp_path: Path, photos: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no symbolic links here")

    monkeypatch.setattr(albums_module.os, "symlink", refuse)
    root = tmp_path / "albums"
    assert make_albums(root, {"cat": photos[2:]}) == AlbumReport(1, 0, 0, "hard", ())
    link = root / "cat" / "b.jpg"
    assert os.path.samefile(link, photos[2][1])
    os.unlink(photos[2][1])
    assert make_albums(root, {}).left == (str(link),)  # removing it would lose the photo
    assert link.read_bytes() == b"b.jpg"


def test_lists_where_links_are_refused(
    tmp_path: Path, photos: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(albums_module.os, "symlink", refuse)
    monkeypatch.setattr(albums_module.os, "link", refuse)
    root = tmp_path / "albums"
    assert make_albums(root, {"cat": photos, "dog": photos[:1]}) == AlbumReport(2, 0, 0, "list", ())
    listed = root / "cat.m3u8"
    assert listed.read_text().splitlines() == sorted(path for _, path in photos)
    assert make_albums(root, {"cat": photos}, how="list") == AlbumReport(0, 1, 1, "list", ())
    listed.write_text("mine\n")
    assert make_albums(root, {"cat": photos}, how="list").left == (str(listed),)
    assert listed.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("a/b", "a_b"),
        ("..", "_"),
        (".hidden", "_.hidden"),
        ("con", "_con"),
        ("animal|cat", "animal/cat"),
        ("what?", "what_"),
        ("x" * 300, "x" * 120),
        ("cat. ", "cat"),
        ("a\ud800", "a_"),
        ("ü" * 130, "ü" * 100),
        ("\N{CAT FACE}" * 120, "\N{CAT FACE}" * 50),
    ],
)
def test_labels_as_folders(label: str, name: str) -> None:
    assert folder_name(label) == name


def test_labels_with_one_folder_name(tmp_path: Path, photos: list[tuple[str, str]]) -> None:
    make_albums(tmp_path / "albums", {"a/b": photos[:1], "A?b": photos[2:]})
    assert sorted(p.name for p in (tmp_path / "albums").iterdir() if p.is_dir()) == ["A_b (2)", "a_b"]


@pytest.mark.parametrize("notes", ["no json", '{"links": {"../x": {"text": "y"}}}', '{"links": {"/x": {}}}', "[]"])
def test_notes_that_are_none_are_refused(tmp_path: Path, notes: str) -> None:
    (tmp_path / NOTES).write_text(notes)
    with pytest.raises(TandemError, match="damaged"):
        make_albums(tmp_path, {})


def test_the_command_has_the_same_default() -> None:
    from tandem.cli.options.tagging import ABOVE as SHOWN

    assert SHOWN == ABOVE
