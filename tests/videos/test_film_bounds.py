"""Films whose clocks and lengths are wrong, where reading begins again, what tells films apart, what is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import skip_without

skip_without("av")

from support import films  # noqa: E402

from tandem.errors import DataError  # noqa: E402
from tandem.videos import choosing, digest, film  # noqa: E402
from tandem.videos.moments import _taken, moment_at, moments  # noqa: E402


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """12 s, a frame that others are built on every second."""
    return str(films.make(tmp_path_factory.mktemp("films") / "film.mp4", [("red", 12.0)], options={"g": "10"}))


def test_a_film_that_is_entered_too_late_is_read_from_its_beginning(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    enter = film.Film._enter
    monkeypatch.setattr(film.Film, "_enter", lambda self, since_s: enter(self, since_s + 4))
    with film.Film(path) as opened:
        assert next(iter(opened.frames(5.0))).time_s == pytest.approx(5.0, abs=0.5)


@pytest.mark.parametrize(("said_s", "is_cut"), [(30.0, True), (13.0, False)])
def test_a_film_that_ends_before_its_length_was_cut_off(
    path: str, monkeypatch: pytest.MonkeyPatch, said_s: float, is_cut: bool
) -> None:
    """Nothing in it is damaged: only its length says so. Two seconds are within what cameras write."""
    monkeypatch.setattr(film.Film, "length_s", property(lambda self: said_s))
    found = moments(path)
    if is_cut:
        with pytest.raises(DataError, match="damaged or cut off after 0:00:11 of 0:00:30; what comes before is kept"):
            list(found)
    else:
        assert len(list(found)) == 1


def test_times_never_go_back(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = film.Film._raw

    def jumps(self: film.Film) -> Any:
        for number, frame in enumerate(raw(self)):
            if number == 3:
                frame.pts = 0
            yield frame

    monkeypatch.setattr(film.Film, "_raw", jumps)
    with film.Film(path) as opened:
        times = [frame.time_s for frame in opened.frames()]
    assert len(times) > 5
    assert times == sorted(set(times))


def test_a_digest_is_of_the_size_and_of_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_BLOCK", 16)  # 16 of them in 1,000 bytes
    made = set()
    for name, content in {
        "zeros": bytes(1000), "longer": bytes(1001), "first": b"1" + bytes(999), "last": bytes(999) + b"1",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        made.add(digest.digest(str(tmp_path / name)))
    assert len(made) == 4


def test_the_picture_at_a_path_is_that_of_its_id_or_none(path: str) -> None:
    (moment,) = moments(path)
    found = moment_at(moment.path, moment.id)
    assert found is not None
    np.testing.assert_array_equal(found.pixels, moment.pixels)
    assert moment_at(moment.path, "0" * 32) is None  # another film lies there by now


@pytest.mark.parametrize("written", ["1904-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "never", None])
def test_a_camera_without_a_clock_tells_no_date(written: str | None) -> None:
    assert _taken(written, 1.0) is None


def grey(value: int) -> np.ndarray:
    return np.full((18, 32, 3), value, np.uint8)


def test_a_scene_that_begins_within_a_second_of_another_is_kept_when_that_is_over() -> None:
    chooser = choosing.FrameChooser(every_s=5.0)
    shown = {0.0: 20, 0.5: 200, 0.9: 200, 1.3: 200, 1.7: 200}
    assert [time for time, value in shown.items() if chooser.is_kept(time, grey(value))] == [0.0, 1.3]


def test_after_a_frame_like_another_the_next_one_is_looked_at_some_seconds_later() -> None:
    chooser = choosing.FrameChooser(every_s=5.0)
    shown = {0.0: 90, 5.0: 90, 6.0: 100, 9.0: 100, 10.0: 100}  # at 6 s a little lighter: no cut
    assert [time for time, value in shown.items() if chooser.is_kept(time, grey(value))] == [0.0, 10.0]
