"""`tandem index`, `search`, `label` and `migrate` on a collection of toys."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

import tandem
from tandem.cli import main
from tandem.cli.commands.search import show
from tandem.cli.label_rows import show_labels
from tandem.errors import StoreBusyError, StoreError, TandemError
from tandem.search.results import Results, SearchHit
from tandem.search.stores.backends import open_store

pytest_plugins = ["support.photos"]


def test_index_and_search_as_commands(
    tmp_path: Path, image_folder: Path, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (image_folder / "bad.png").write_bytes(b"")
    target = str(tmp_path / "p.tandem")
    assert main(["index", str(image_folder), "--to", target, "--model", str(models[0])]) == 1
    out, err = capsys.readouterr()
    assert "8 photos; 8 added" in out
    assert "bad.png: empty" in err
    assert main(["search", target, "a cat", "--top", "2", "--page", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["hits"]) == 2
    assert set(document["hits"][0]) == {"id", "path", "score", "relevance", "metadata"}
    assert main(["search", target, "a cat", "--where", "width > 99999"]) == 0
    assert "none of the 8 photos matches the filter" in capsys.readouterr().err
    assert main(["search", target, "a cat", "--where", "width >"]) == 2
    assert main(["search", target]) == 2
    assert main(["search", str(tmp_path / "none"), "a cat"]) == 2
    assert "tandem index" in capsys.readouterr().err


@pytest.mark.slow
def test_a_contact_sheet_is_drawn(tmp_path: Path, photos: tandem.Collection) -> None:
    pytest.importorskip("matplotlib")
    assert main(["search", photos.url, "a cat", "--plot", str(tmp_path / "sheet.png")]) == 0
    assert Image.open(tmp_path / "sheet.png").width > 300


@pytest.mark.slow
def test_migrate_as_a_command(
    photos: tandem.Collection, image_folder: Path, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (image_folder / "0.png").unlink()
    assert main(["migrate", photos.url]) == 2
    assert "--model: expected the model to move to" in capsys.readouterr().err
    assert main(["migrate", photos.url, "--model", str(models[1])]) == 2
    assert "--drop-missing" in capsys.readouterr().err
    assert main(["migrate", photos.url, "--model", str(models[1]), "--drop-missing", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["images"] == 7


def test_a_second_writer_is_refused(photos: tandem.Collection, image_folder: Path) -> None:
    writer = open_store(photos.url, write=True)
    try:
        with pytest.raises(StoreBusyError, match="writing"):
            photos.add(image_folder)
        assert len(photos.search("a cat")) == 8
    finally:
        writer.close()


@pytest.mark.parametrize("url", ["", " ", "htp://localhost/photos", "s3://photos"])
def test_an_address_of_no_known_kind_is_no_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="expected a folder, lance"):
        tandem.open(url)


def test_what_is_no_collection_is_reported(image_folder: Path) -> None:
    with pytest.raises(StoreError, match="a folder of other things; to search in it: tandem index"):
        tandem.open(image_folder, must_exist=True)
    with pytest.raises(StoreError, match="got a file"):
        tandem.open(image_folder / "0.png", must_exist=True)


def test_a_new_collection_from_a_list_on_standard_input(
    tmp_path: Path, image_folder: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = "\n".join(str(path) for path in sorted(image_folder.iterdir())[:3]).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert main(["index", "-", "--to", str(tmp_path / "c.tandem"), "--model", str(models[0])]) == 0
    assert len(tandem.open(tmp_path / "c.tandem")) == 3


@pytest.mark.parametrize("sources", [[], [""]])
def test_nothing_to_index_makes_no_collection(sources: list[str], tmp_path: Path, models: tuple[Path, Path]) -> None:
    with pytest.raises(TandemError, match=r"nothing to index|empty name"):
        tandem.open(tmp_path / "c.tandem", models[0]).add(sources)
    assert not (tmp_path / "c.tandem").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not take")
def test_names_are_shown_as_they_are_and_command_nothing(
    photos: tandem.Collection, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["[old].png", "[/].png".replace("/", "-"), ":cat:.png", "line\nbreak.png", "red\x1b[31m.png"]
    for path, name in zip(sorted(image_folder.iterdir()), names, strict=False):
        path.rename(image_folder / name)
    (image_folder / "bad\x1b[31m.png").write_bytes(b"")
    assert main(["index", str(image_folder), "--to", photos.url]) == 1
    assert "\x1b" not in capsys.readouterr().err
    for command in (["search", "a cat"], ["label", "--labels", "a cat,[/] dog,[old] car"]):
        assert main([command[0], photos.url, *command[1:]]) == 0
        shown = capsys.readouterr().out
        assert all(name in shown for name in ("[old].png", "[-].png", ":cat:.png", r"line\nbreak.png", r"red\x1b[31m"))
        assert "\x1b" not in shown


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard output from now on: 60 letters wide."""
    shown = Terminal()
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdout", shown)
    return shown


def test_a_narrow_terminal_cuts_the_paths_of_labels_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = narrow_terminal(monkeypatch)
    image = {"path": f"/{'folder/' * 12}photo-1.jpg", "probability": 0.5, "score": 0.25}
    show_labels([{"label": "a cat", "images": [image, image]}])
    heading, *lines = shown.getvalue().splitlines()
    assert all(name in heading for name in ("label", "probability", "cosine", "photo"))
    assert "a cat" in lines[0]
    for line in lines:
        assert "50.0%" in line
        assert "0.250" in line
        assert "…" in line
        assert line.rstrip().endswith("photo-1.jpg")
        assert len(re.sub("\x1b\\[[0-9;]*m", "", line)) <= 60


def test_a_narrow_terminal_cuts_paths_and_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = narrow_terminal(monkeypatch)
    hits = tuple(SearchHit("x", 0.25, 0.5, {"path": f"/{'folder/' * 12}photo-{i}.jpg"}) for i in range(2))
    show(Results({"text": "a cat"}, "one", "f", hits, best=0.5, threshold=0.1, offset=98), relevance=True)
    lines = shown.getvalue().splitlines()
    assert "relevance" in lines[0]
    assert "cosine" in lines[0]
    for rank, line in enumerate(lines[1:]):
        assert f"{99 + rank} " in line
        assert "50%" in line
        assert "0.250" in line
        assert line.rstrip().endswith(f"photo-{rank}.jpg")


def test_a_tour_goes_into_a_folder(
    photos: tandem.Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "tour").write_text("x")
    assert main(["explore", photos.url, "--out", str(tmp_path / "tour")]) == 2
    assert "expected a folder, got a file" in capsys.readouterr().err


def test_the_command_says_how_many_files_are_gone(
    tmp_path: Path, image_folder: Path, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["index", str(image_folder), "--to", str(tmp_path / "c.tandem"), "--model", str(models[0])]
    assert main(command) == 0
    assert "gone" not in capsys.readouterr().err
    for name in ("1.png", "2.png", "3.png"):
        (image_folder / name).unlink()
    assert main(command) == 0
    assert "3 files are gone; --prune removes them" in capsys.readouterr().err
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gone"] == 3
    assert main([*command, "--prune"]) == 0
    captured = capsys.readouterr()
    assert "gone" not in captured.err
    assert "5 photos" in captured.out
