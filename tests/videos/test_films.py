"""Films are read to moments: scenes at their times, upright, and what of a damaged one can be read."""

import struct
from pathlib import Path

import numpy as np
import pytest
from support import skip_without

skip_without("av")

from support import films  # noqa: E402

from tandem.errors import DataError, MissingExtraError  # noqa: E402
from tandem.image import Limits  # noqa: E402
from tandem.videos import choosing, film, naming  # noqa: E402
from tandem.videos.moments import Moment, _taken, expected, moments, moments_at  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


def read(path: Path, **options: object) -> tuple[list[Moment], str | None]:
    """The moments of a film, and why there are no more of them."""
    found: list[Moment] = []
    try:
        for moment in moments(str(path), **options):  # type: ignore[arg-type]
            found.append(moment)  # those before the error count
    except DataError as error:
        return found, str(error).removeprefix(f"{path}: ")
    return found, None


def scenes(found: list[Moment]) -> list[tuple[float, str]]:
    return [(moment.time_s, films.colour_of(moment.pixels)) for moment in found]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4"), ("m2ts", "libx264")],
)
def test_each_scene_is_found_at_its_time(folder: Path, suffix: str, codec: str) -> None:
    path = films.make(folder / f"scenes.{suffix}", codec=codec)
    found, wrong = read(path)
    assert wrong is None
    assert scenes(found) == [(0.0, "red"), (2.0, "green"), (3.5, "blue")]
    assert [moment.path for moment in found] == [f"{path}#t=0.000", f"{path}#t=2.000", f"{path}#t=3.500"]
    assert {(moment.width, moment.height, moment.format) for moment in found} == {(64, 48, suffix.upper())}
    assert len({moment.id for moment in found}) == 3


def test_a_film_is_shown_upright(folder: Path) -> None:
    upright, _ = read(films.make(folder / "upright.mp4"))
    for degrees, (white, black) in {90: ((-5, 5), (5, 5)), 180: ((-5, -5), (5, 5)), -90: ((5, -5), (5, 5))}.items():
        (first, *_), _ = read(films.make(folder / f"turned{degrees}.mp4", rotation=degrees))
        assert (first.width, first.height) == ((48, 64) if degrees % 180 else (64, 48))
        assert first.pixels.shape == (first.height, first.width, 3)
        assert first.pixels[white].min() > 200 > first.pixels[black].min()
    assert upright[0].pixels[5, 5].min() > 200  # the bar is where it was drawn


def test_times_count_from_the_beginning_and_follow_a_variable_rate(folder: Path) -> None:
    for name in ("late.mkv", "late.mp4", "late.m2ts"):
        found, wrong = read(films.make(folder / name, offset_s=7))
        assert (scenes(found), wrong) == ([(0.0, "red"), (2.0, "green"), (3.5, "blue")], None)
    found, _ = read(films.make(folder / "variable.mp4", gaps=True))
    assert [colour for _, colour in scenes(found)] == ["red", "green", "blue"]
    np.testing.assert_allclose([moment.time_s for moment in found], [0, 2, 3.5], atol=0.5)


def test_within_a_scene_frames_are_kept_as_often_as_asked_where_they_differ(folder: Path) -> None:
    still = films.make(folder / "still.mp4", [("red", 12)])
    assert [moment.time_s for moment in read(still)[0]] == [0.0]
    moving = films.make(folder / "moving.mp4", [("red", 12)], moving=True, size=(96, 96))
    times = [moment.time_s for moment in read(moving)[0]]
    assert len(times) == 3
    assert times[0] == 0
    often = [moment.time_s for moment in read(moving, every_s=2)[0]]
    assert len(often) == 6
    assert expected(str(moving)) == 2
    assert expected(str(moving), 1) == 12


def test_reading_on_finds_the_same_moments_and_begins_before_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.videos.choosing.STRETCH_S", 4.0)
    colours = [("red", 3.0), ("green", 3.0), ("blue", 3.0), ("grey", 3.0), ("red", 3.0)]
    for suffix in ("mp4", "mkv", "avi"):
        path = films.make(folder / f"long.{suffix}", colours, codec="mpeg4" if suffix == "avi" else "libx264")
        whole, _ = read(path)
        for since in (0.0, 5.0, 9.1, 14.0):
            rest, _ = read(path, since_s=since)
            begin = since // 4 * 4
            assert [moment.id for moment in rest] == [moment.id for moment in whole if moment.time_s >= begin]
            assert rest[0].time_s <= since + 1


def test_moments_are_found_again_by_their_times(folder: Path) -> None:
    path = films.make(folder / "again.mp4")
    whole, _ = read(path)
    some = list(moments_at(str(path), [3.5, 2.0, 99.0]))
    assert [moment.id for moment in some] == [moment.id for moment in whole[1:]]
    np.testing.assert_array_equal(some[1].pixels, whole[2].pixels)


def test_what_can_be_read_of_a_damaged_film_is_kept_and_it_is_said(folder: Path) -> None:
    colours = [("red", 4.0), ("green", 4.0), ("blue", 4.0)]
    options = {"g": "10", "crf": "10"}
    whole = films.make(folder / "whole.mp4", colours, size=(160, 120), moving=True, options=options,
                       container={"movflags": "faststart"})  # fmt: skip
    content = whole.read_bytes()
    (cut := folder / "cut.mp4").write_bytes(content[: len(content) // 2])
    found, wrong = read(cut)
    assert found[0].time_s == 0
    assert found[-1].time_s > 3.5
    assert wrong is not None
    assert wrong.startswith("damaged or cut off after 0:00:0")
    assert "of 0:00:12; " in wrong
    noise = bytearray(content)
    noise[len(noise) // 2 :] = np.random.default_rng(0).bytes(len(noise) - len(noise) // 2)
    (damaged := folder / "damaged.mp4").write_bytes(noise)
    found, wrong = read(damaged)
    assert found[0].time_s == 0
    assert wrong is not None
    assert "what comes before is kept" in wrong
    (no_index := folder / "no_index.mp4").write_bytes(films.make(folder / "plain.mp4").read_bytes()[:-600])
    assert read(no_index) == ([], "it is damaged, incomplete, or no film")


def test_what_is_no_film_is_refused_in_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(films.make_sound(folder / "sound.mp4")) == ([], "only sound in it, no pictures")
    (text := folder / "text.mp4").write_text("hello")
    assert read(text)[1] == "it is damaged, incomplete, or no film"
    small = films.make(folder / "small.mp4")
    assert read(small, limits=Limits(max_pixels=3000))[1] == "64 x 48 pixels, more than the limit of 3,000"
    # A playlist that calls itself a film would make the reader open other files.
    (playlist := folder / "list.mp4").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:6,\n{small}\n#EXT-X-ENDLIST\n"
    )
    assert read(playlist)[1] == "it is damaged, incomplete, or no film"
    assert read(folder / "none.mp4")[1] == "no such file"
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tandem-clip\[video\]'"):
        film.Film(str(small))


def shaped(film: Path, to: Path, wide: int, high: int) -> Path:
    """A copy of an MP4 of MPEG-4 video in which the shape of pixels, `pasp`, is said to be this."""
    content, box = film.read_bytes(), struct.pack(">I4sII", 16, b"pasp", wide, high)
    entry = content.index(b"mp4v") - 4
    end = entry + int.from_bytes(content[entry : entry + 4])
    patched = bytearray(content[:end] + box + content[end:])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"mp4v"):
        place = patched.index(name) - 4
        size = int.from_bytes(patched[place : place + 4])
        patched[place : place + 4] = (size + len(box)).to_bytes(4)
    to.write_bytes(patched)
    return to


def test_pixels_of_an_impossible_shape_are_refused_in_a_line(folder: Path) -> None:
    square = films.make(folder / "square.mp4", [("red", 1.0)], codec="mpeg4")
    (moment,), wrong = read(shaped(square, folder / "wide.mp4", 4, 3))
    assert (moment.width, moment.height, wrong) == (85, 48, None)
    for wide, high in ((2**31 - 1, 1), (20_000, 1), (1, 600), (17, 1)):
        found, wrong = read(shaped(square, folder / f"{wide}-{high}.mp4", wide, high))
        assert (found, wrong) == ([], f"damaged: the shape of its pixels is said to be {wide:,}:{high:,}")
    tall = shaped(square, folder / "tall.mp4", 1, 16)
    assert read(tall)[0][0].pixels.shape == (768, 64, 3)
    larger = films.make(folder / "larger.mp4", [("red", 1.0)], codec="mpeg4", size=(320, 240))
    shown = shaped(larger, folder / "shown.mp4", 1, 16)  # 77 thousand pixels as it is stored
    wanted = "320 x 3,840 pixels, more than the limit of 1,000,000"
    assert read(shown, limits=Limits(max_pixels=1_000_000)) == ([], wanted)


def test_a_picture_is_bounded_on_both_sides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "LONG_SIDE", 200)
    square = films.make(folder / "bounded.mp4", [("red", 1.0)], codec="mpeg4")
    ((moment,), _) = read(shaped(square, folder / "flat.mp4", 10, 1))
    assert (moment.width, moment.height, moment.pixels.shape) == (640, 48, (15, 200, 3))


@pytest.mark.parametrize(
    "error", [OverflowError("too large"), MemoryError(), RuntimeError("odd\nlines"), KeyError("k")]
)
def test_whatever_decoding_raises_is_the_failure_of_that_film(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = films.make(folder / "raises.mp4")

    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(film.Frame, "picture", raises)
    found, wrong = read(path)
    assert found == []
    assert wrong is not None
    assert wrong.startswith("it cannot be read: ")
    assert "\n" not in wrong
    monkeypatch.setattr(film.Film, "length_s", property(raises))
    with pytest.raises(DataError, match="it cannot be read"):
        expected(str(path))


def test_a_film_has_at_most_so_many_moments_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.videos.moments.MAX_MOMENTS", 2)
    path = films.make(folder / "many.mp4")
    found, wrong = read(path)
    assert [moment.time_s for moment in found] == [0.0, 2.0]
    assert wrong == "more than 2 moments; those before 0:00:03 are kept: a larger --every keeps fewer"
    assert len(read(path, earlier=1)[0]) == 1


def test_a_date_beyond_all_calendars_is_none() -> None:
    assert _taken("9999-12-31T23:59:50.000000Z", 20.0) is None
    assert _taken("2023-05-01T12:00:00.000000Z", 1e15) is None


def test_ids_are_of_the_content_and_the_time(folder: Path) -> None:
    one = films.make(folder / "one.mp4")
    (copy := folder / "copy.mp4").write_bytes(one.read_bytes())
    other = films.make(folder / "other.mp4", [("blue", 2.0), ("green", 1.5), ("red", 2.5)])
    ids = [[moment.id for moment in read(path)[0]] for path in (one, copy, other)]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])
    made = films.make(folder / "made.mp4", metadata={"creation_time": "2023-05-01T12:00:00.000000Z"})
    assert [moment.taken for moment in read(made)[0]][1] == "2023-05-01T12:00:02+00:00"


def test_paths_of_moments() -> None:
    path = naming.moment_path("/films/a#t=1.mp4", 83.2)
    assert path == "/films/a#t=1.mp4#t=83.200"
    assert naming.moment_of(path) == ("/films/a#t=1.mp4", 83.2)
    assert naming.moment_of("/films/a#t=1.000.mp4") is None
    assert naming.moment_of("/films/a.jpg#t=1.000") is None
    assert naming.shown(path) == "/films/a#t=1.mp4 @ 0:01:23"
    assert naming.shown("a.jpg") == "a.jpg"
    assert naming.file_of(path) == "/films/a#t=1.mp4"
    assert naming.clock(3_725.9) == "1:02:05"
    assert naming.is_film("A.MP4")
    assert not naming.is_film("a.ts")


def test_a_cut_between_alike_scenes_is_not_kept_twice_within_a_minute() -> None:
    chooser = choosing.FrameChooser(every_s=5.0)
    dark, light = (np.full((18, 32, 3), value, np.uint8) for value in (20, 200))
    times = [step / 2 for step in range(200)]  # 100 s: the pictures take turns, 2 s each
    kept = [time for time in times if chooser.is_kept(time, dark if int(time) // 2 % 2 == 0 else light)]
    assert kept == [0.0, 2.0, 60.0]  # and at 62 s it is as the last one before that minute


def test_a_still_film_of_hours_needs_one_moment_in_five_minutes() -> None:
    chooser = choosing.FrameChooser(every_s=5.0)
    black = np.zeros((18, 32, 3), np.uint8)
    kept = [time for time in range(0, 7200, 61) if chooser.is_kept(float(time), black)]
    assert len(kept) == 7200 / choosing.STRETCH_S
    # What changes slowly is seen: each is compared with what was kept, not with the frame before.
    dusk = [time for time in range(0, 240) if chooser.is_kept(8000.0 + time, np.full_like(black, 200 - time // 2))]
    assert len(dusk) > 10


def test_something_small_that_enters_a_still_room_is_seen() -> None:
    chooser = choosing.FrameChooser(every_s=5.0)
    room = np.full((18, 32, 3), 90, np.uint8)
    entered = room.copy()
    entered[8:10, 4:6] = 200  # 0.7% of the picture
    assert chooser.is_kept(0.0, room)
    assert not chooser.is_kept(5.0, room)
    assert chooser.is_kept(10.0, entered)
