"""Films in a collection: their moments go in, and stay as the films are."""

import os
import shutil
from pathlib import Path

import pytest
from support import skip_without, toy
from support.collection_toys import contents, counts, never, reasons, run, values

skip_without("av")

from support import films  # noqa: E402

from tandem.errors import MissingExtraError, TandemError  # noqa: E402
from tandem.search.indexing import local, shards  # noqa: E402
from tandem.search.indexing.image_record import COLUMNS  # noqa: E402
from tandem.search.indexing.ledger import Ledger  # noqa: E402
from tandem.search.indexing.run import IndexingOptions, open_sources  # noqa: E402
from tandem.search.indexing.sources import NoImagesError  # noqa: E402
from tandem.search.stores.backends import create_store, open_store  # noqa: E402
from tandem.search.stores.protocol import Schema  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films that no test changes."""
    folder = tmp_path_factory.mktemp("films")
    films.make(folder / "film.mp4")
    films.make(folder / "other.mp4", [("blue", 2.0), ("green", 1.0), ("red", 1.0)])
    return folder


@pytest.fixture
def home(tmp_path: Path, made: Path) -> Path:
    """A folder with `in/film.mp4` and `in/0.png`, for a collection beside it."""
    toy.write_images(tmp_path / "in", 1)
    shutil.copy(made / "film.mp4", tmp_path / "in/film.mp4")
    return tmp_path


def times(home: Path) -> list[float]:
    """Of the moments in the collection."""
    return sorted(
        float(path.rpartition("#t=")[2]) for paths, _ in contents(home).values() for path in paths if "#" in path
    )


def test_moments_go_in_with_time_and_thumbnail_beside_photos(home: Path) -> None:
    report = run(home, home / "in", batch_size=2)
    assert counts(report) == {"added": 4}
    assert report.failures == []
    stored = values(home, f"{home / 'in/film.mp4'}#t=2.000")
    assert set(stored) == set(COLUMNS)
    assert (stored["time"], stored["width"], stored["height"], stored["format"]) == (2.0, 64, 48, "MP4")
    assert stored["thumbnail"][:2] == b"\xff\xd8"
    assert values(home, home / "in/0.png")["time"] is None
    store = open_store(str(home / "c.tandem"))
    assert (store.count("time > 1"), store.count("time >= 0"), store.count("path like '%film.mp4%'")) == (2, 3, 3)
    store.close()
    again = run(home, home / "in", model=never)
    assert counts(again) == {"unchanged": 4}


def test_a_changed_film_is_replaced_and_a_moved_one_keeps_its_moments(home: Path, made: Path) -> None:
    run(home, home / "in")
    before = contents(home)
    os.rename(home / "in/film.mp4", home / "in/renamed.mp4")
    report = run(home, home / "in")
    assert counts(report) == {"unchanged": 1, "moved": 3}
    assert contents(home).keys() == before.keys()
    shutil.copy(made / "other.mp4", home / "in/renamed.mp4")
    report = run(home, home / "in")
    assert times(home) == [0.0, 2.0, 3.0]
    assert len(contents(home).keys() & before.keys()) == 1  # the photo
    assert report.total == 4
    assert report.added + report.changed == 3
    assert report.pruned == 1  # at 3.5 s; at the other two times there is another picture
    os.utime(home / "in/renamed.mp4", (1, 1))
    assert counts(run(home, home / "in")) == {"unchanged": 4}
    (home / "in/renamed.mp4").unlink()
    report = run(home, home / "in")
    assert (report.gone, report.total) == (3, 4)
    assert counts(run(home, home / "in", prune=True)) == {"unchanged": 1, "pruned": 3}


@pytest.mark.slow
def test_another_interval_reads_a_film_again(home: Path) -> None:
    films.make(home / "in/film.mp4", [("red", 9)], moving=True, size=(96, 96))
    run(home, home / "in/film.mp4")
    assert len(times(home)) == 2
    run(home, home / "in/film.mp4", every_s=2)
    assert len(times(home)) == 5
    assert counts(run(home, home / "in/film.mp4", model=never)) == {"unchanged": 5}  # what was not asked again stays
    run(home, home / "in/film.mp4", every_s=5)
    assert len(times(home)) == 2
    for wrong in (0, -1, 61, float("nan"), True, "2"):
        with pytest.raises(TandemError, match=r"every: expected 0\.2 to 60 seconds"):
            run(home, home / "in/film.mp4", every_s=wrong)


def interrupted(home: Path, film: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    """A run that is stopped after two batches."""
    begin, left = local._begun, [2]

    def stops(batch: list[object], model: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return begin(batch, model)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(local, "_begun", stops)
        with pytest.raises(KeyboardInterrupt):
            run(home, film, batch_size=batch_size)


def test_an_interrupted_film_goes_on_where_it_was(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.videos.choosing.STRETCH_S", 4.0)
    colours = [("red", 2.0), ("green", 2.0), ("blue", 2.0), ("grey", 2.0), ("red", 2.0), ("green", 2.0)]
    film = films.make(home / "in/film.mp4", colours)
    other = home / "other"
    other.mkdir()
    run(other, film)
    interrupted(home, film, monkeypatch, batch_size=2)
    assert times(home) == [0.0, 2.0, 4.0, 6.0]
    began = []
    read = shards.entries
    monkeypatch.setattr(
        shards, "entries", lambda *args, **options: began.append(options["since_s"]) or read(*args, **options)
    )
    report = run(home, film, batch_size=2)
    assert began == [6.0]
    assert counts(report) == {"unchanged": 2, "added": 2}  # from the stretch at 4 s on
    assert contents(home).keys() == contents(other).keys()


def test_a_film_that_is_cut_off_keeps_what_was_read_and_is_not_tried_again(home: Path) -> None:
    whole = films.make(home / "whole.mp4", [("red", 4.0), ("green", 4.0), ("blue", 4.0)], size=(160, 120), moving=True,
                       options={"g": "10", "crf": "10"}, container={"movflags": "faststart"})  # fmt: skip
    (home / "in/film.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (home / "in/text.mov").write_text("no film")
    report = run(home, home / "in")
    assert "damaged or cut off after" in reasons(report)["film.mp4"]
    assert reasons(report)["text.mov"] == "it is damaged, incomplete, or no film"
    assert report.added >= 3
    again = run(home, home / "in", model=never)
    assert counts(again) == {"unchanged": report.added}
    assert again.not_retried == 2


def test_no_film_ends_a_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise OverflowError("Python int too large")

    monkeypatch.setattr("tandem.videos.film.Frame.picture", raises)
    report = run(home, home / "in")
    assert counts(report) == {"added": 1}  # the photo
    assert reasons(report) == {"film.mp4": "it cannot be read: Python int too large"}


def test_a_film_that_is_read_on_has_no_more_moments_than_one_read_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.videos.choosing.STRETCH_S", 2.0)
    monkeypatch.setattr("tandem.videos.moments.MAX_MOMENTS", 3)
    film = films.make(home / "in/film.mp4", [("red", 2.0), ("green", 2.0), ("blue", 2.0), ("grey", 2.0), ("red", 2.0)])
    interrupted(home, film, monkeypatch, batch_size=1)
    assert times(home) == [0.0, 2.0]
    report = run(home, film)
    assert times(home) == [0.0, 2.0, 4.0]
    assert "more than 3 moments; those before 0:00:06 are kept" in reasons(report)["film.mp4"]


def test_copies_of_a_film_are_one_and_a_moment_that_was_removed_comes_back(home: Path) -> None:
    shutil.copy(home / "in/film.mp4", home / "in/copy.mp4")
    report = run(home, home / "in")
    assert counts(report) == {"added": 4, "duplicates": 3}
    assert report.total == 4
    id = next(id for id, (paths, _) in contents(home).items() if len(paths) == 2)
    store = open_store(str(home / "c.tandem"), write=True)
    store.delete([id])
    store.close()
    assert run(home, home / "in").total == 4


def test_a_film_that_was_read_to_its_end_is_read_from_its_beginning(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.videos.choosing.STRETCH_S", 2.0)
    film = home / "in/film.mp4"
    run(home, film)
    before = times(home)
    first = next(id for id, (paths, _) in contents(home).items() if paths[0].endswith("#t=0.000"))
    store = open_store(str(home / "c.tandem"), write=True)
    store.delete([first])
    store.close()
    run(home, film)
    assert times(home) == before  # not only from the stretch of the last moment on


def test_films_without_pyav_are_counted_in_one_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.videos.naming.is_installed", lambda: False)
    shutil.copy(home / "in/film.mp4", home / "in/another.mov")
    report = run(home, home / "in")
    assert counts(report) == {"added": 1}
    assert report.failures == []
    assert report.unread_films is not None
    assert report.unread_films.count == 2
    assert [Path(path).name for path in report.unread_films.paths] == ["another.mov", "film.mp4"]
    assert "tandem-clip[video]" in report.unread_films.reason
    with pytest.raises(MissingExtraError, match="reading films needs PyAV"):
        run(home, home / "in/film.mp4")
    (home / "in/0.png").unlink()
    with pytest.raises(NoImagesError, match="reading films needs PyAV"):
        run(home, home / "in")


def test_a_collection_from_before_takes_photos_and_names_films(home: Path) -> None:
    columns = {name: kind for name, kind in COLUMNS.items() if name != "time"}
    create_store(str(home / "c.tandem"), Schema(toy.DIMENSIONS, columns), {"format": "1", "identity": "toy"}).close()
    report = run(home, home / "in")
    assert counts(report) == {"added": 1}
    assert report.unread_films is not None
    assert "was made before films" in report.unread_films.reason


def test_listed_moments_are_those_that_go_in(home: Path) -> None:
    film = home / "in/film.mp4"
    listed = home / "list"
    listed.write_text(f"{film}#t=2.000\n{film}#t=3.500\n{home / 'in/0.png'}\n")
    with open(listed, "rb") as file:
        report = run(home, "-", standard_input=file)
    assert counts(report) == {"added": 3}
    assert times(home) == [2.0, 3.5]


def test_the_ledger_and_the_sources_know_the_film_of_a_moment(home: Path) -> None:
    film = str(home / "in/film.mp4")
    with open_sources([film], IndexingOptions()) as found:
        assert found.covers(f"{film}#t=2.000")
        assert not found.covers(f"{film}2#t=2.000")
    with Ledger.open(home / "ledger.sqlite") as ledger:
        assert ledger.counts_under(f"{film}#") == (0, 0)


def test_the_film_of_a_live_photo_is_left_to_its_photo(home: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is named, or too large to be one."""
    os.rename(home / "in/film.mp4", home / "in/IMG_1.MOV")
    os.rename(home / "in/0.png", home / "in/IMG_1.JPG")
    report = run(home, home / "in")
    assert counts(report) == {"added": 1}
    assert report.excluded == 1
    assert counts(run(home, home / "in/IMG_1.MOV")) == {"added": 3}
    monkeypatch.setattr("tandem.search.indexing.walking.LIVE_PHOTO_BYTES", 10)
    assert counts(run(home, home / "in")) == {"unchanged": 4}
