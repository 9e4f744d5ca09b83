"""A film as a kind of shard: its moments, how far it was read, what is left of an earlier version of it.

Knows the ledger; no store and no model.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tandem.prefetch import in_thread
from tandem.search.indexing.entries import Entry, FilmShard
from tandem.search.indexing.ledger import FileRecord, Ledger
from tandem.search.indexing.sources import films_need_pyav
from tandem.videos.choosing import begin_of
from tandem.videos.naming import moment_of

MOMENTS_AHEAD = 16  # decoded pictures of a film that wait, 1.4 MB each at most for films of usual shapes
FILMS_NAMED = 3  # of those that were not read


@dataclass(frozen=True)
class UnreadFilms:
    """Films that were found and not read: how many, the first of them, and why."""

    count: int
    paths: tuple[str, ...]
    reason: str


def unread_films(paths: Sequence[str], *, keeps_times: bool) -> UnreadFilms | None:
    """What is said of films that were left alone. `keeps_times`: the collection has a place for times of moments."""
    if not paths:
        return None
    reason = str(films_need_pyav())
    if not keeps_times:
        reason = "this collection was made before films could be in one: index them to a new one"
    return UnreadFilms(len(paths), tuple(paths[:FILMS_NAMED]), reason)


def entries(film: FilmShard, every_s: float | None, since_s: float, earlier: int) -> Iterator[Entry]:
    """Its moments, decoded in a thread of its own, while what came before is encoded."""
    from tandem.videos.moments import moments, moments_at

    if film.times_s is None:
        decoding = moments(film.path, every_s=every_s, since_s=since_s, earlier=earlier)
    else:
        decoding = moments_at(film.path, film.times_s)
    with contextlib.closing(in_thread(decoding, ahead=MOMENTS_AHEAD)) as found:
        for moment in found:
            yield Entry(moment.path, film.signature, film.path, moment=moment)


def length(film: FilmShard, every_s: float | None) -> int:
    """About how many moments it has. Raises `DataError`."""
    from tandem.videos.moments import expected

    return expected(film.path, every_s) if film.times_s is None else len(film.times_s)


def read_until(ledger: Ledger, film: FilmShard, before: FileRecord | None) -> tuple[float, int]:
    """Up to where an interrupted run read a film: the time of the last moment that it wrote down.

    And how many there are before the place where reading begins again for that.
    """
    if before is not None and before.is_unchanged(film.signature):
        return 0.0, 0  # it was read to its end, and moments were taken out since
    known = (one for one in ledger.under(f"{film.path}#") if one.is_unchanged(film.signature))
    times = [moment[1] for one in known if (moment := moment_of(one.path))]
    since_s = max(times, default=0.0)
    return since_s, sum(time_s < begin_of(since_s) for time_s in times)


def outdated(ledger: Ledger, film: FilmShard) -> list[tuple[str, str]]:
    """The path and the id of each moment that a film had before it changed; none where only some were asked for."""
    if film.times_s is not None:
        return []
    of_film = ledger.under(f"{film.path}#")
    return [(one.path, one.id) for one in of_film if one.id and not one.is_unchanged(film.signature)]
