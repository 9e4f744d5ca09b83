"""Streams of changed paths: from the operating system, or by looking again and again. Knows folders; no collections.

A stream yields sets of paths, and an empty one a few times a second, so that whoever follows it can watch the clock. It
tells that something changed, never what is there now: that is the index's to find out.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

from tandem.errors import MissingExtraError, TandemError

TICK_S = 0.2
_GROUP_MS = 50  # changes within it come as one set


def changes(folders: Sequence[str], *, tick_s: float = TICK_S) -> Iterator[frozenset[str]]:
    """What the operating system reports of folders and all that is in them.

    A folder that vanishes (a disk that is unmounted) is waited for; when it is back, or another takes its place, its
    own path is reported, as if all in it had changed. Raises `MissingExtraError`, and `TandemError` where the system
    cannot watch so many folders.
    """
    try:
        import watchfiles
    except ImportError:
        raise MissingExtraError("watchfiles", "watch", "following folders (without --poll)") from None

    everything: frozenset[str] = frozenset()  # reported once a watch that is not the first has begun
    while True:
        before = [_identity(folder) for folder in folders]
        there = [folder for folder, known in zip(folders, before, strict=True) if known is not None]
        if not there:
            yield frozenset()
            time.sleep(tick_s)
            continue
        try:
            found = watchfiles.watch(
                *there,
                watch_filter=None,
                debounce=int(1000 * tick_s),
                step=_GROUP_MS,
                rust_timeout=int(1000 * tick_s),
                yield_on_timeout=True,
                force_polling=False,
                ignore_permission_denied=True,
            )
            with contextlib.closing(found) as stream:
                for some in stream:
                    yield everything | {path for _, path in some}
                    everything = frozenset()
                    if [_identity(folder) for folder in folders] != before:
                        break
        except FileNotFoundError:
            continue  # it vanished just now
        except (OSError, RuntimeError) as error:  # RuntimeError: watchfiles' own
            raise TandemError(
                f"the system reports no changes in {', '.join(there)}: {error}; --poll 60 looks every minute instead"
            ) from None
        everything = frozenset(folders)
        yield everything


def polled(
    folders: Sequence[str], every_s: float, *, tick_s: float = TICK_S, clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[frozenset[str]]:  # fmt: skip
    """The folders themselves every so often, for file systems that report nothing, as those of networks do."""
    last = clock()
    while True:
        if clock() - last >= every_s:
            last = clock()
            yield frozenset(folders)
        else:
            yield frozenset()
            sleep(min(tick_s, every_s))


def _identity(folder: str) -> tuple[int, int] | None:
    """Which folder is at a path; None where there is none."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
