"""`tandem search`, `label`, `list` and `info`: what they print, pass on to other programs and refuse."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from support import toy
from support.calibrations import save_telling
from support.commands import Run, one_line, run_in_terminal, widest

import tandem as library
from tandem.cli import known_collections
from tandem.errors import TandemError
from tandem.home import data_folder

# --- search --------------------------------------------------------------------------------------------------------


def test_quotes_are_not_needed(tandem: Run, collection: Path) -> None:
    quoted = tandem("search", collection, "a black cat", "--json")
    assert tandem("search", collection, "a", "black", "cat", "--json").json == quoted.json
    assert tandem("search", collection, "a", "--top", "10", "black", "cat", "--json").json == quoted.json
    assert quoted.json["query"] == {"text": "a black cat"}
    assert "no query" in one_line(tandem("search", collection))


def test_a_long_text_is_split_where_asked(tandem: Run, collection: Path) -> None:
    text = "a black cat runs. " * 20
    assert "or add --long truncate or --long split" in one_line(tandem("search", collection, text))
    with library.open(collection) as photos:
        for long in ("split", "truncate"):
            hits = photos.search(text, k=3, long=long)
            shown = tandem("search", collection, text, "-k", "3", "--long", long, "--json").json["hits"]
            assert [hit["id"] for hit in shown] == [hit.id for hit in hits]
            assert [hit["score"] for hit in shown] == pytest.approx([hit.score for hit in hits], abs=1e-5)


def test_labels_in_a_language(tandem: Run, collection: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("en,de\ndog,Hund\ncat,Katze\n", encoding="utf-8")
    named = {"dog": {"de": "Hund"}, "cat": {"de": "Katze"}}
    with library.open(collection) as photos:
        expected = photos.label(named, language="de", k=2)
        rows = list(photos.iter_labels(named, language="de", k=2))
    assert expected.keys() == {"dog", "cat"}
    assert {label for _, labels in rows for label, _ in labels} == {"dog", "cat"}
    shown = tandem("label", collection, "--labels-file", table, "--language", "de", "--top", "2", "--json").json
    assert {each["label"]: [image["id"] for image in each["images"]] for each in shown["labels"]} == {
        label: [image.id for image in images] for label, images in expected.items()
    }


def test_piped_a_hit_is_rank_cosine_and_path(tandem: Run, collection: Path) -> None:
    """With --relevance that stands between, empty where it is not known; then it is said why."""
    with library.open(collection) as photos:
        hits = photos.search("a cat", k=3, offset=3).hits
    command = ("search", collection, "a", "cat", "-k", "3", "--page", "2")
    plain = tandem(*command)
    assert plain.rows == [[str(rank), f"{hit.score:.6f}", hit.path] for rank, hit in enumerate(hits, start=4)]
    assert plain.err == ""
    judged = tandem(*command, "--relevance")
    assert judged.rows == [[rank, "", *others] for rank, *others in plain.rows]
    assert "no relevance: toy has no calibration; to make one" in judged.err
    assert "no relevance: toy has no calibration" in tandem(*command, "--threshold", "0.5").err


@pytest.mark.slow
def test_percentages_are_shown_where_they_are_asked_for_and_mean_something(tandem: Run, tmp_path: Path) -> None:
    """Where a model can tell of images, and of short texts cannot."""
    save_telling("images")
    files = toy.write_images(tmp_path / "photos", 12)
    url = tmp_path / "c.tandem"
    assert tandem("index", tmp_path / "photos", "--to", url).code == 0
    by_image = ("search", url, "--image", files[3])
    document = tandem(*by_image, "--json").json
    assert document["relevance_reason"] is None
    assert all(0 <= hit["relevance"] <= 1 for hit in document["hits"])
    rows = tandem(*by_image, "--relevance").rows
    assert [row[1] for row in rows] == [f"{hit['relevance']:.4f}" for hit in document["hits"]]
    assert {len(row) for row in tandem(*by_image).rows} == {3}
    none = ("--threshold", "1")
    assert "nothing matches well; these are the nearest photos" in tandem(*by_image, *none).err
    assert "below 100%" in tandem(*by_image, *none, "--relevance").err
    by_text = tandem("search", url, "a cat", *none, "--relevance")
    assert "cannot separate matches of texts of up to 8 words from others among 12 images" in by_text.err
    assert "nothing matches" not in by_text.err
    assert {row[1] for row in by_text.rows} == {""}
    document = tandem("search", url, "a cat", "--json").json
    assert {hit["relevance"] for hit in document["hits"]} == {None}
    assert (document["nothing_matches"], document["threshold"]) == (False, None)
    assert "cannot separate" in document["relevance_reason"]
    for query, shown in ((by_image, True), (("search", url, "a cat"), False)):
        assert "%" not in run_in_terminal(*query, columns=100).out
        assert ("%" in run_in_terminal(*query, "--relevance", columns=100).out) is shown


def test_paths_only_is_for_other_programs(tandem: Run, collection: Path) -> None:
    paths = [row[-1] for row in tandem("search", collection, "a", "cat").rows]
    assert tandem("search", collection, "a", "cat", "--paths-only").out == "".join(f"{path}\n" for path in paths)
    assert tandem("search", collection, "a", "cat", "--paths-only", "-0").out == "".join(f"{p}\0" for p in paths)
    assert "--paths-only" in one_line(tandem("search", collection, "a", "cat", "-0"))
    labelled = tandem("label", collection, "--labels", "cat,dog", "--top", "2", "--paths-only", "--null").out
    assert set(labelled.rstrip("\0").split("\0")) <= set(paths)
    assert "--by label" in one_line(tandem("label", collection, "--labels", "a,b", "--by", "image", "--paths-only"))


def test_an_image_gets_three_labels_by_default(tandem: Run, collection: Path) -> None:
    """As in Python and over HTTP: ten images of a label, three labels of an image."""
    by_image = ("label", collection, "--labels", "a,b,c,d,e", "--by", "image")
    assert {len(image["labels"]) for image in tandem(*by_image, "--json").json["images"]} == {3}
    assert {len(image["labels"]) for image in tandem(*by_image, "--top", "4", "--json").json["images"]} == {4}


@pytest.mark.parametrize(("page", "top", "pages"), [(1000, 10, "1 page of 10"), (4, 3, "3 pages of 3")])
def test_a_page_behind_the_last_says_how_many_there_are(
    tandem: Run, collection: Path, page: int, top: int, pages: str
) -> None:
    outcome = tandem("search", collection, "a", "cat", "--page", page, "--top", top)
    assert (outcome.code, outcome.out) == (0, "")
    assert f"no page {page:,}: 8 photos make {pages}" in outcome.err


def test_an_image_on_standard_input_is_looked_for(tandem: Run, collection: Path) -> None:
    image = toy.write_images(collection.parent / "one", 1)[0]
    expected = tandem("search", collection, "--image", image, "--json").json["hits"]
    piped = tandem("search", collection, "--image", "-", "--json", stdin=Path(image).read_bytes()).json
    assert piped["hits"] == expected
    assert piped["query"] == {"image": "<stdin>"}
    assert "empty" in one_line(tandem("search", collection, "--image", "-", stdin=b""))


def test_a_photo_of_the_collection_is_looked_for_by_id(tandem: Run, collection: Path) -> None:
    first = tandem("search", collection, "a", "cat", "--json").json["hits"][0]["id"]
    found = tandem("search", collection, "--like", first, "--json").json
    assert found["hits"][0]["id"] == first
    assert found["query"] == {"like": first}


@pytest.mark.parametrize("columns", [40, 80])
def test_search_and_label_fit_the_terminal(collection: Path, columns: int) -> None:
    labels = "図書館の猫の写真を撮る人々,dog"
    for command in (("search", collection, "a", "cat"), ("label", collection, "--labels", labels)):
        shown = run_in_terminal(*command, columns=columns).out
        table = [line for line in shown.splitlines() if not line.startswith("tandem: ") and ".png" in line]
        assert len(table) >= 8
        assert widest("\n".join(table)) <= columns
        assert all(line.endswith(".png") for line in table)


def test_a_photo_that_is_gone_is_marked_for_people(tandem: Run, made_collection: Path, collection: Path) -> None:
    moved = made_collection.parent / "photos" / "3.png"
    moved.rename(moved.with_suffix(".away"))
    try:
        shown = run_in_terminal("search", collection, "a", "cat", columns=40).out.splitlines()
        assert [line.endswith("3.png (missing)") for line in shown if ".png" in line].count(True) == 1
        assert sum("(missing)" in line for line in shown) == 1
        rows = tandem("search", collection, "a", "cat").rows
        assert [row[3:] for row in rows if row[2] == str(moved)] == [["missing"]]
        assert {len(row) for row in rows if row[2] != str(moved)} == {3}
        paths = tandem("search", collection, "a", "cat", "--paths-only")
        assert paths.out.splitlines() == [row[2] for row in rows if row[2] != str(moved)]
        assert "left out 1 hit whose files are gone" in paths.err
        labelled = tandem("label", collection, "--labels", "cat,dog", "--paths-only")
        assert sorted(labelled.out.splitlines()) == sorted(paths.out.splitlines())
        assert "left out 1 photo whose files are gone" in labelled.err
    finally:
        moved.with_suffix(".away").rename(moved)


# --- list, info ----------------------------------------------------------------------------------------------------


def test_collections_that_were_used_are_listed(
    tandem: Run, collection: Path, photos: list[str], model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no collections yet" in tandem("list").err
    monkeypatch.chdir(collection.parent)
    tandem("search", collection.name, "a", "cat")  # by a relative path
    tandem("index", *photos, "--to", "new.tandem", "--model", model_folder)
    listed = tandem("list", "--json").json["collections"]
    assert [each["url"] for each in listed] == [str(collection.with_name("new.tandem")), str(collection)]
    assert [(each["images"], each["model"], each["state"]) for each in listed] == [(3, "toy", "ok"), (8, "toy", "ok")]
    assert tandem("list").rows[1][:3] == [str(collection), "8", "toy"]


def test_a_collection_that_is_served_is_listed(tandem: Run, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    known_collections.forget(str(collection))
    monkeypatch.setattr("tandem.serve.app.build_app", lambda service: service.close())
    monkeypatch.setattr(uvicorn, "Config", lambda *_, **__: None)
    monkeypatch.setattr(uvicorn, "Server", lambda _: SimpleNamespace(run=lambda sockets: sockets[0].close()))
    assert tandem("serve", collection, "--port", "0").code == 0
    assert [each.url for each in known_collections.known()] == [str(collection)]


def test_a_collection_that_is_gone_is_marked_and_can_be_forgotten(tandem: Run, collection: Path) -> None:
    tandem("info", collection)
    damaged = collection.with_name("damaged.tandem")  # its disk may be mended
    collection.rename(damaged)
    tandem("info", damaged)
    next(damaged.glob("*/records.sqlite")).write_bytes(b"")
    listed = [str(damaged), "not reachable"], [str(collection), "gone"]
    assert [row[:2] for row in tandem("list").rows] == list(listed)
    assert [row[0] for row in tandem("list", "--forget-missing").rows] == [str(damaged)]
    assert [each.url for each in known_collections.known()] == [str(damaged)]


def test_damaged_entries_are_passed_over(tandem: Run, collection: Path) -> None:
    tandem("info", collection)
    (entry,) = (data_folder() / "collections").glob("*.json")
    for number, content in enumerate(
        (
            '{"url": "/x", "used": 1e999}', '{"url": "/x", "used": NaN}', '{"url": "/x", "used": 1e15}',
            '{"url": "/x", "used": -1e15}', '{"url": "~nobodyx/z", "used": 1}', '{"url": "", "used": 1}', "[]", "{",
            "[" * 100_000,
        )
    ):  # fmt: skip
        entry.with_name(f"{number}.json").write_text(content)
    entry.with_name("odd.json").write_text('{"url": "/a\\u0000b", "used": 1}')
    rows = tandem("list").rows
    assert [row[:2] for row in rows] == [[str(collection), "8"], ["/a\\x00b", "not reachable"]]


@pytest.mark.slow
def test_a_collection_in_a_folder_of_lancedb_is_listed_by_its_full_address(
    tandem: Run, photos: list[str], model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lancedb")
    monkeypatch.chdir(tmp_path)
    assert tandem("index", *photos, "--to", "lance:lc.lance", "--model", model_folder).code == 0
    assert tandem("list").rows[0][:2] == [f"lance:{tmp_path / 'lc.lance'}", str(len(photos))]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert tandem("list", "--forget-missing", "--json").json["collections"][0]["state"] == "ok"
    monkeypatch.chdir(tmp_path)
    assert tandem("remove", "lance:lc.lance", "--collection", "-y").code == 0
    assert known_collections.known() == []


@pytest.mark.parametrize("address", ["~nobodyx/x", "lance:~nobodyx/x", "a\0b", "lance:a\0b"])
def test_what_no_folder_can_be_called_is_one_line(tandem: Run, address: str) -> None:
    if address.startswith("lance:"):
        pytest.importorskip("lancedb")
    outcome = tandem("info", address)
    assert outcome.code == 2
    said = "no home folder is known for ~nobodyx" if "~" in address else "expected the path of a folder"
    assert said in one_line(outcome)


def test_ids_and_addresses_that_are_not_utf8(
    tandem: Run, collection: Path, photos: list[str], model_folder: str, tmp_path: Path
) -> None:
    odd = "a\udcff"  # as the shell's bytes arrive
    for arguments in (("remove", collection, odd, "-y"), ("search", collection, "--like", odd)):
        outcome = tandem(*arguments)
        assert 0 < outcome.code < 70
        assert "a\\udcff" in outcome.err
        assert outcome.err.count("\n") == 1
    with library.open(collection) as found:
        assert (found.get(odd), found.thumbnail(odd), found.delete(odd)) == ([], None, 0)
        with pytest.raises(TandemError, match="ids: expected Unicode"):
            found.add({odd: toy.random_image(71)})
    target = tmp_path / "bad\udcff.tandem"
    assert tandem("index", *photos, "--to", target, "--model", model_folder).code == 0
    assert tandem("info", target, "--json").json["count"] == 3


def test_an_empty_list_of_ids_is_an_error(tandem: Run, collection: Path) -> None:
    outcome = tandem("remove", collection, "-", "-y", stdin=b"")
    assert outcome.code > 0
    assert "standard input is empty" in one_line(outcome)


def test_a_photo_without_a_path_is_named_by_its_id(tandem: Run, collection: Path) -> None:
    with library.open(collection) as found:
        found.add({"mine": toy.random_image(70)})
    assert "mine?" in one_line(tandem("remove", collection, "mine"))


def test_a_home_that_cannot_be_written_is_no_error(
    tandem: Run, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "file"))
    assert tandem("info", collection).code == 0
    assert tandem("list", "--json").json == {"collections": []}


def test_what_is_no_note_of_a_collection_is_passed_over(tandem: Run, home: Path) -> None:
    (home / "collections").mkdir()
    (home / "collections" / "a.json").write_text("{")
    (home / "collections" / "b.json").write_text('{"url": "x"}')
    assert tandem("list", "--json").json == {"collections": []}


def test_info_says_what_a_collection_holds(tandem: Run, collection: Path, model_folder: str) -> None:
    document = tandem("info", collection, "--json").json
    model = library.load(model_folder)
    assert (document["count"], document["model"], document["dimensions"]) == (8, "toy", toy.DIMENSIONS)
    assert (document["fingerprint"], document["model_source"]) == (model.fingerprint, model_folder)
    assert {"path", "width", "taken"} <= set(document["columns"])
    assert document["size_bytes"] > 0
    shown = dict(tandem("info", collection).rows)
    assert shown["photos"] == "8"
    assert shown["model"] == f"toy ({toy.DIMENSIONS} dimensions)"
    assert shown["folders"] == document["roots"][0]
    assert widest(run_in_terminal("info", collection, columns=80).out.partition("columns")[2]) <= 80
    assert "no collection" in one_line(tandem("info", collection.parent / "none"))


def test_local_addresses_are_known_by_their_full_paths(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("here.tandem", "lance:here.lance", "milvus-lite:here.db/photos", "milvus://host/photos"):
        known_collections.remember(url)
    urls = {each.url for each in known_collections.known()}
    assert urls == {
        f"{tmp_path}/here.tandem",
        f"lance:{tmp_path}/here.lance",
        f"milvus-lite:{tmp_path}/here.db/photos",
        "milvus://host/photos",
    }
    (tmp_path / "here.db").touch()
    there = {f"milvus-lite:{tmp_path}/here.db/photos", "milvus://host/photos"}
    assert {url for url in urls if not known_collections.is_gone(url)} == there
    known_collections.forget("lance:here.lance")
    assert len(known_collections.known()) == 3


def test_a_missing_collection_lists_the_others(
    tandem: Run, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is photos.tandem" in one_line(tandem("search", "a", "black", "cat"))
    assert "did you mean 'photos.tandem'?" in one_line(tandem("info", "photo.tandem"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "there " not in one_line(tandem("search", "a", "cat")).replace("collection there", "")
    known_collections.remember(str(collection))
    assert f"there is {collection}" in one_line(tandem("search", "a", "cat"))


def test_missing_arguments_say_how_to_give_them(tandem: Run, collection: Path, photos: list[str]) -> None:
    assert "give --to photos.tandem" in one_line(tandem("index", photos[0]))
    assert "--weight" in one_line(tandem("search", collection, "cat", "--weight", "0.3"))
    assert "--weight" in one_line(tandem("search", collection, "--image", photos[0], "--weight", "0.3"))
    assert tandem("search", collection, "cat", "--image", photos[0], "--weight", "0.3").code == 0
    assert "this is a folder; expected a WebDataset" in one_line(tandem("calibrate", Path(photos[0]).parent))


def test_the_question_of_remove_breaks_no_path(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(collection.parent)
    shown = run_in_terminal("remove", collection.name, "--all", columns=40, answer="n\n").out
    question = shown.partition("[y/N]")[0]
    assert widest(question) <= 40
    assert question.count(".png,") == 3


def test_csv_has_the_line_ends_of_the_shell(tandem: Run, collection: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    assert tandem("label", collection, "--labels", "a,b", "--by", "image", "--out", table).code == 0
    assert b"\r" not in table.read_bytes()
