"""A film to its moments: pictures with a time, streamed. Joins decoding and choosing."""

import contextlib
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from tandem.errors import DataError
from tandem.image_source import DEFAULT_LIMITS, Limits
from tandem.videos.choosing import SMALL, FrameChooser, begin_of
from tandem.videos.digest import digest
from tandem.videos.film import Film, Frame, film_errors
from tandem.videos.naming import EVERY_S, clock, moment_id, moment_of, moment_path

MAX_MOMENTS = 20_000  # of a film: more than a day, one every 5 s


@dataclass(frozen=True, eq=False)
class Moment:
    """A picture of a film. Can be sent to another process."""

    path: str  # `film.mp4#t=83.200`
    id: str  # 32 hexadecimal digits: of the film's digest and the time
    time_s: float
    width: int  # upright, of the film
    height: int
    format: str  # of the film's file: MP4
    taken: str | None  # ISO 8601: when the film was made, and the time after it
    pixels: NDArray[np.uint8] = field(repr=False)  # [h w 3], upright, not larger than `film.SIDE` asks for


def moments(
    path: str,
    *,
    every_s: float | None = None,
    since_s: float = 0.0,
    earlier: int = 0,
    limits: Limits = DEFAULT_LIMITS,
) -> Generator[Moment, None, None]:
    """The moments of a film in order: at scene changes, and every so many seconds where the picture changed.

    `since_s` is where an earlier reading came to: this one begins at `begin_of` it, and finds the same moments again;
    `earlier` is how many came before that. A film has at most `MAX_MOMENTS`.
    Raises `DataError` of one line where the film cannot be read on, after the moments before; `MissingExtraError`
    without PyAV.
    """
    chooser = FrameChooser(EVERY_S if every_s is None else every_s)
    found = _chosen(path, begin_of(since_s), lambda time_s, frame: chooser.is_kept(time_s, frame.small(SMALL)), limits)
    with contextlib.closing(found):
        for number, moment in enumerate(found, start=earlier):
            if number >= MAX_MOMENTS:
                kept = f"more than {MAX_MOMENTS:,} moments; those before {clock(moment.time_s)} are kept"
                raise DataError(f"{path}: {kept}: a larger --every keeps fewer")
            yield moment


def moments_at(
    path: str, times_s: Collection[float], *, limits: Limits = DEFAULT_LIMITS
) -> Generator[Moment, None, None]:
    """The moments of a film at these times, as `moments` gave them: a time without a picture gives none."""
    wanted = set(times_s)
    begin_s = max(0.0, min(wanted) - 0.001)  # the times are rounded
    with contextlib.closing(_chosen(path, begin_s, lambda time_s, frame: time_s in wanted, limits)) as chosen:
        for _, moment in zip(range(len(wanted)), chosen, strict=False):
            yield moment


def moment_at(path: str, identifier: str) -> Moment | None:
    """The picture at the path of a moment; None where that film is gone, or is another one by now.

    `MissingExtraError` without PyAV.
    """
    found = moment_of(path)
    try:
        moment = None if found is None else next(moments_at(found[0], [found[1]]), None)
    except DataError:
        return None
    return moment if moment is not None and moment.id == identifier else None


def _chosen(
    path: str, since_s: float, is_kept: Callable[[float, Frame], bool], limits: Limits
) -> Generator[Moment, None, None]:
    made = digest(path)
    with (
        film_errors(path),
        Film(path, limits.max_pixels) as film,
        contextlib.closing(film.frames(since_s)) as frames,
    ):
        for frame in frames:
            time_s = round(frame.time_s, 3)
            if is_kept(time_s, frame):
                place, id, (width, height) = moment_path(path, time_s), moment_id(made, time_s), frame.size
                taken = _taken(film.created, time_s)
                yield Moment(place, id, time_s, width, height, film.format, taken, frame.picture())


def expected(path: str, every_s: float | None = None) -> int:
    """About how many moments a film has, by its length. `DataError` where it cannot be read."""
    with film_errors(path), Film(path) as film:
        return max(1, round((film.length_s or 0.0) / (EVERY_S if every_s is None else every_s)))


def _taken(created: str | None, time_s: float) -> str | None:
    try:
        began = datetime.fromisoformat(created) if created else None
        if began is None or began.year < 1980:  # cameras without a clock count from 1904 or 1970
            return None
        return (began + timedelta(seconds=time_s)).isoformat(timespec="seconds")
    except (ValueError, OverflowError):  # no date, or one after the year 9999
        return None
