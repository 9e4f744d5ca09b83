"""One run at a time in a folder: two would overwrite each other's checkpoints.

The lock is the operating system's, so that it ends with its process, however that ends. Knows a folder; no recipe.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tandem.errors import DataError
from tandem.train.parallel.process import Processes

LOCK = ".lock"
PATIENCE_S = 5.0  # workers of a run that was killed hold its lock until they are gone


@contextmanager
def only_run(folder: Path, processes: Processes) -> Iterator[None]:
    """Hold the folder while a run is in it. All processes must call it; the main one holds the lock.

    Raises `DataError` on all of them where another run holds it. A file system without locks has none to hold.
    """
    from filelock import FileLock, Timeout

    lock, refused = FileLock(folder / LOCK), False
    if processes.is_main:
        try:
            lock.acquire(timeout=PATIENCE_S)
        except Timeout:
            refused = True
        except (OSError, NotImplementedError):
            pass
    if processes.broadcast_object(refused):
        raise DataError(f"{folder}: another run is training here; wait for its end, stop it, or give another folder=")
    try:
        yield
    finally:
        lock.release()
