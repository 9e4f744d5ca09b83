"""`tandem remove`, lists that `tandem index` takes, `tandem calibrate`: what they ask and what they leave alone."""

import os
from pathlib import Path

import pytest
from support.commands import Run, one_line, run_in_terminal

import tandem as library
from tandem.cli import known_collections, terminal
from tandem.search.stores import backends

# --- remove --------------------------------------------------------------------------------------------------------


def ids(tandem: Run, collection: Path) -> list[str]:
    return [hit["id"] for hit in tandem("search", collection, "a", "cat", "--json").json["hits"]]


def test_photos_are_removed_by_id(tandem: Run, collection: Path) -> None:
    first, second, *others = ids(tandem, collection)
    outcome = tandem("remove", collection, first, second, "--yes")
    assert (outcome.code, outcome.out) == (0, f"{collection}: 6 photos; 2 removed\n")
    assert sorted(ids(tandem, collection)) == sorted(others)
    again = tandem("remove", collection, first, others[0], "--yes", "--json")
    assert (again.code, again.json) == (
        1,
        {"collection": str(collection), "removed": 1, "not_found": [first], "total": 5},
    )
    assert first in again.err
    assert tandem("remove", collection, "-", "--yes", stdin=f"{others[1]}\0{others[2]}\0".encode()).code == 0
    assert sorted(ids(tandem, collection)) == sorted(others[3:])
    assert all(path.exists() for path in (collection.parents[0], collection))


def test_photos_are_removed_by_filter_or_all_of_them(tandem: Run, collection: Path) -> None:
    outcome = tandem("remove", collection, "--where", "path like '%/3.png' or path like '%/4.png'", "-y")
    assert "6 photos; 2 removed" in outcome.out
    assert "0 photos; 6 removed" in tandem("remove", collection, "--all", "-y").out
    assert backends.exists(str(collection))


def test_a_collection_is_removed_as_a_whole(tandem: Run, collection: Path) -> None:
    files = [hit["path"] for hit in tandem("search", collection, "a", "--json").json["hits"]]
    tandem("info", collection)
    no = run_in_terminal("remove", collection, "--collection", columns=120, answer="n\n")
    assert no.code == 2
    assert backends.exists(str(collection))
    outcome = tandem("remove", collection, "--collection", "--yes")
    assert (outcome.code, outcome.out) == (0, f"{collection} is removed; it had 8 photos\n")
    assert not collection.exists()
    assert all(Path(file).exists() for file in files)
    assert known_collections.known() == []
    assert "no collection" in one_line(tandem("remove", collection, "--collection", "--yes"))


def test_nothing_is_removed_that_was_not_agreed_to(tandem: Run, collection: Path) -> None:
    first = ids(tandem, collection)[0]
    assert "--yes" in one_line(tandem("remove", collection, first, stdin=b""))
    assert "exactly one of" in one_line(tandem("remove", collection, "--yes"))
    assert "exactly one of" in one_line(tandem("remove", collection, first, "--all", "--yes"))
    no = run_in_terminal("remove", collection, "--all", columns=120, answer="n\n")
    assert no.code == 2
    assert "remove 8 photos (all) from" in no.out
    assert "nothing was changed" in no.out
    assert len(ids(tandem, collection)) == 8
    assert run_in_terminal("remove", collection, first, columns=120, answer="y\n").code == 0
    assert len(ids(tandem, collection)) == 7


# --- index ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (b"", "empty"),
        (b"\n\n", "no images in the list"),
        (b"\x89PNG\r\n\x1a\n....", "is an image"),
        (b"\xff\xd8\xff\xe0", "is an image"),
    ],
)
def test_what_is_no_list_makes_no_collection(
    tandem: Run, tmp_path: Path, model_folder: str, listed: bytes, says: str
) -> None:
    target = tmp_path / "c.tandem"
    assert says in one_line(tandem("index", "-", "--to", target, "--model", model_folder, stdin=listed))
    assert not target.exists()


@pytest.mark.parametrize("between", [b"\n", b"\0"])
def test_a_list_is_indexed(tandem: Run, tmp_path: Path, photos: list[str], model_folder: str, between: bytes) -> None:
    listed = between.join(map(os.fsencode, photos)) + between
    outcome = tandem("index", "-", "--to", tmp_path / "c.tandem", "--model", model_folder, stdin=listed)
    assert "3 photos; 3 added" in outcome.out


def test_an_empty_folder_prunes_nothing_and_the_line_says_what_would(
    tandem: Run, tmp_path: Path, collection: Path, model_folder: str
) -> None:
    (tmp_path / "unmounted").mkdir()
    options = ("index", tmp_path / "unmounted", "--to", collection, "--model", model_folder)
    said = one_line(tandem(*options, "--prune"))
    assert said.endswith(
        f"nothing was removed: to take out every photo, {terminal.program()} remove {collection} --all\n"
    )
    assert "Collection.delete" not in said
    assert "remove" not in one_line(tandem(*options))
    assert library.open(collection).count() == 8


# --- calibrate -----------------------------------------------------------------------------------------------------


def test_calibration_is_confirmed_and_can_be_undone(tandem: Run, model_folder: str, home: Path, tmp_path: Path) -> None:
    model = library.load(model_folder)
    own = home / "relevance" / f"{model.fingerprint}.json"
    own.parent.mkdir()
    own.write_text("{}")
    captions = tmp_path / "captions.tar"
    captions.write_bytes(b"")
    refused = one_line(tandem("calibrate", captions, "--model", model_folder, stdin=b""))
    assert str(own) in refused
    assert "--yes" in refused
    assert own.read_text() == "{}"
    assert "takes no dataset" in one_line(tandem("calibrate", captions, "--reset", "--model", model_folder))
    undone = tandem("calibrate", "--reset", "--model", model_folder)
    assert undone.out == f"removed {own}\nsearches show no relevance\n"
    assert not own.exists()
    again = tandem("calibrate", "--reset", "--model", model_folder, "--json")
    assert again.json == {
        "model": {"name": "toy", "fingerprint": model.fingerprint}, "removed": None, "calibration": None,
    }  # fmt: skip
    shipped = tandem("calibrate", "--reset").out
    assert "searches use the one that came with the model" in shipped
    assert "no data to calibrate with" in one_line(tandem("calibrate"))
