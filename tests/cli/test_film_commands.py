"""`tandem index`, `search`, `label` and `remove` with films, and `tandem mcp` up to its protocol."""

from pathlib import Path

import pytest
from support import skip_without, toy
from support.commands import Run, one_line

skip_without("av")

from support import films  # noqa: E402


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("films")
    toy.folder(home / "model")
    toy.write_images(home / "in", 2)
    films.make(home / "in/film.mp4")
    return home


@pytest.mark.slow
def test_films_from_the_folder_to_the_hit(home: Path, tandem: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    (home / "in/text.mov").write_text("no film")
    made = tandem("index", "in", "--to", "c.tandem", "--model", "model")
    assert (made.code, made.out.partition("; ")[0]) == (1, "c.tandem: 5 photos (3 of films)")
    assert "text.mov: it is damaged, incomplete, or no film" in made.err
    assert "5 photos (3 of films); all is well" in tandem("check", "c.tandem").out
    assert ["photos", "5 (3 of films)"] in tandem("info", "c.tandem").rows
    (home / "in/text.mov").unlink()
    again = tandem("index", "in", "--to", "c.tandem", "--json")
    assert (again.code, again.json["unchanged"], again.json["moments"], again.json["unread_films"]) == (0, 5, 3, 0)
    piped = tandem("search", "c.tandem", "a", "--moments", "0", "--where", "time >= 0").rows
    film = str(home / "in/film.mp4")
    assert {path for *_, path in piped} == {f"{film}#t=0.000", f"{film}#t=2.000", f"{film}#t=3.500"}
    assert tandem("search", "c.tandem", "a", "--where", "time >= 0", "--paths-only").out == f"{film}\n"
    assert tandem("label", "c.tandem", "--labels", "cat", "--where", "time >= 0", "--paths-only").out == f"{film}\n"
    labelled = tandem("label", "c.tandem", "--labels", "cat", "--where", "time = 2", "--json").json["labels"][0][
        "images"
    ]
    assert [image["path"] for image in labelled] == [f"{film}#t=2.000"]
    monkeypatch.setattr("tandem.videos.naming.is_installed", lambda: False)
    left = tandem("index", "in", "--to", "c.tandem")
    assert (left.code, left.out.count("\n")) == (0, 1)
    assert "left out 1 film (film.mp4): reading films needs PyAV; install it with:" in left.err
    asked = tandem("remove", "c.tandem", "--where", "time > 1", "--yes", "--json").json
    assert (asked["removed"], asked["total"]) == (2, 3)
    assert "every: expected 0.2 to 60 seconds" in one_line(tandem("index", "in", "--to", "c.tandem", "--every", "0"))


@pytest.mark.slow
def test_a_film_moves_to_another_model_with_its_moments(home: Path, tandem: Run, tmp_path: Path) -> None:
    url = tmp_path / "c.tandem"
    film = films.make(tmp_path / "moving.mp4", [("red", 9)], moving=True, size=(96, 96))
    tandem("index", film, "--to", url, "--model", home / "model", "--every", "2")
    before = {hit["path"] for hit in tandem("search", url, "a", "--moments", "0", "--json").json["hits"]}
    toy.folder(tmp_path / "other", seed=1)
    moved = tandem("migrate", url, "--model", tmp_path / "other")
    assert moved.code == 0
    hits = tandem("search", url, "a", "--moments", "0", "--json").json["hits"]
    assert {hit["path"] for hit in hits} == before
    assert {hit["metadata"]["time"] for hit in hits} == {float(path.rpartition("=")[2]) for path in before}
    assert len(before) == 5


def test_mcp_prints_what_starts_it_and_refuses_in_a_line(
    home: Path, tandem: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    toy.write_images(home / "few", 1)
    tandem("index", "few", "--to", "few.tandem", "--model", "model")
    shown = tandem("mcp", "few.tandem", "--files", "few", "--allow-writes", "--config").json["mcpServers"]["tandem"]
    expected = ["mcp", str(home / "few.tandem"), "--files", str(home / "few"), "--allow-writes"]
    assert shown["args"] == ["-m", "tandem", *expected]
    assert "no collection there" in one_line(tandem("mcp", "none.tandem"))
    assert "expected a folder" in one_line(tandem("mcp", "few.tandem", "--files", "few/0.png"))
    assert "expected a port" in one_line(tandem("mcp", "few.tandem", "--http", "0"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "speaking to assistants needs mcp; install it with:" in one_line(tandem("mcp", "few.tandem"))
