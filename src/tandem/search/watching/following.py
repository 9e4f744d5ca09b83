"""Changes -> batches of indexing: waits until files are at rest, indexes, rests itself. Knows no command line.

Indexing finds out by itself what changed (its ledger), so a change is only the occasion to look. Files that are still
being written are waited for: a batch begins when nothing changed for `quiet_s`, or `at_most_s` after the first change.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tandem.errors import StoreBusyError
from tandem.image import IMAGE_SUFFIXES
from tandem.search.indexing.ignoring import IGNORE_FILE
from tandem.search.indexing.run import IndexingReport
from tandem.search.indexing.sources import NoImagesError, SourceNotFoundError
from tandem.search.indexing.walking import CAPTION_FILES
from tandem.videos.naming import FILM_SUFFIXES

QUIET_S, AT_MOST_S = 1.0, 30.0
RETRY_S = 5.0  # until a collection that another process writes to, or a folder that is gone, is tried again
REST = 4.0  # times as long as a look took: looking at many folders takes at most a fifth of the time
REST_AFTER_WORK_S = 10.0  # at most, where photos were read: a long first run must not be followed by hours of rest


@dataclass(frozen=True)
class Batch:
    """What one look at the folders changed; or why there was none."""

    report: IndexingReport | None = None
    problem: str | None = None  # said once, until it is another
    unsettled: frozenset[str] = frozenset()  # files that still change: what is wrong with them may be right soon


def follow(
    index: Callable[[], IndexingReport],
    changes: Iterator[frozenset[str]],
    *,
    is_relevant: Callable[[str], bool] = lambda path: True,
    quiet_s: float = QUIET_S,
    at_most_s: float = AT_MOST_S,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Batch, None, None]:
    """Index once, then after every change. Ends with the stream of changes.

    Args:
        index: looks at the folders and brings the collection up to date.
        changes: paths that changed, and often empty sets.
        is_relevant: of a path, whether a change of it may matter.
        quiet_s, at_most_s: see above.
        clock: seconds.

    What happened before, while nobody followed, is in the first batch. Raises what `index` raises, but for what may
    pass: a collection that is busy, a folder that is gone.
    """
    pending: dict[str, float] = {}  # when each path changed last
    first = clock()
    rests_until = first
    problem: str | None = None
    # The stream is begun before the folders are looked at: no change falls between the two.
    waiting = next(changes, None)
    due = True
    while waiting is not None:
        now = clock()
        fresh = [path for path in waiting if is_relevant(path)]
        if fresh and not pending:
            first = now
        pending |= dict.fromkeys(fresh, now)
        unsettled = frozenset(path for path, at in pending.items() if now - at < quiet_s)
        ready = bool(pending) and (not unsettled or now - first >= at_most_s)
        if now >= rests_until and (due or ready):
            batch = _looked(index, unsettled)
            after = clock()
            failed = batch.problem is not None
            rests_until = after + (RETRY_S if failed else _rest_s(batch.report, after - now))
            due = failed
            pending = {path: at for path, at in pending.items() if path in unsettled}
            first = now
            if batch.problem is None or batch.problem != problem:
                yield batch
            problem = batch.problem
        waiting = next(changes, None)


def _rest_s(report: IndexingReport | None, took_s: float) -> float:
    worked = report is not None and (report.added or report.changed or report.moved or report.duplicates)
    return min(REST * took_s, REST_AFTER_WORK_S) if worked else REST * took_s


def _looked(index: Callable[[], IndexingReport], unsettled: frozenset[str]) -> Batch:
    try:
        return Batch(index(), unsettled=unsettled)
    except NoImagesError:
        return Batch(unsettled=unsettled)  # an empty folder is no error of somebody who waits for photos
    except StoreBusyError as error:
        return Batch(problem=str(error), unsettled=unsettled)
    except SourceNotFoundError as error:
        return Batch(problem=f"{error}; waiting for it", unsettled=unsettled)


def relevant_in(folders: Sequence[str], collection: str) -> Callable[[str], bool]:
    """Of a path in the folders, whether it may matter to the index: no hidden files, nothing of the collection."""
    own = os.path.realpath(collection) + os.sep
    known = {*IMAGE_SUFFIXES, *FILM_SUFFIXES, *CAPTION_FILES}

    def is_relevant(path: str) -> bool:
        if path in folders:
            return True
        if os.path.realpath(path).startswith(own):
            return False
        root = next((folder for folder in folders if path.startswith(folder.rstrip(os.sep) + os.sep)), None)
        parts = Path(path if root is None else os.path.relpath(path, root)).parts
        if parts[-1] != IGNORE_FILE and any(part.startswith(".") for part in parts):
            return False
        if parts[-1] == IGNORE_FILE or os.path.splitext(path)[1].lower() in known:
            return True
        return os.path.isdir(path) or not os.path.lexists(path)  # what is gone may have been a folder

    return is_relevant
