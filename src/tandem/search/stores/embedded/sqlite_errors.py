"""Errors of SQLite and of the disk, as one line about the collection."""

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tandem.errors import StoreError, StoreFullError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}  # no space left, no quota, a limit
SHARED_MEMORY_BYTES = 1 << 20
OPENING_STEPS, STEPS_AT_ONCE = 20_000_000, 1000  # of SQLite's machine: 0.2 s; about 700 are needed
STEPS_A_BYTE = 10  # of a database of which one table is walked from end to end; less than one is needed


@contextmanager
def database_errors(folder: Path) -> Iterator[None]:
    """`StoreError` for errors of SQLite and of files, in a block about the collection in a folder."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = _primary_code(error)
        if code == sqlite3.SQLITE_INTERRUPT:
            raise
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _has_no_space(folder)):
            raise _disk_full(folder) from error
        raise _mendable(folder, f"the collection's database cannot be used ({error})") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # its messages quote what is no UTF-8 any more
        raise _mendable(folder, f"the collection's database is damaged ({error})") from error
    except OSError as error:
        if error.errno in _FULL:
            raise _disk_full(folder) from error
        raise StoreError(f"{folder}: the collection's files cannot be used ({error.strerror or error})") from error


def _mendable(folder: Path, what: str) -> StoreError:
    return StoreError(f"{folder}: {what}", remedy="repair", collection=str(folder.parent))


@contextmanager
def few_steps(connection: sqlite3.Connection, most: int | None = None) -> Iterator[None]:
    """In this block no statement takes more steps than a collection needs to be opened: pages of a crafted database
    may lead to each other without end. Steps and not seconds: a slow disk, and waiting for a writer, are no damage.
    """
    left = (most or OPENING_STEPS) // STEPS_AT_ONCE

    def is_over() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    connection.set_progress_handler(is_over, STEPS_AT_ONCE)
    try:
        yield
    except sqlite3.OperationalError as error:
        if _primary_code(error) != sqlite3.SQLITE_INTERRUPT:
            raise
        raise sqlite3.DatabaseError("what it says of itself does not end") from None
    finally:
        connection.set_progress_handler(None, 0)


@contextmanager
def walk(connection: sqlite3.Connection) -> Iterator[None]:
    """The same for a statement that looks at all of a table: as many steps as the size of the database explains."""
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    with few_steps(connection, OPENING_STEPS + STEPS_A_BYTE * pages * size):
        yield


def _primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's code without the details in its higher bits; None for errors of Python's module itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _has_no_space(folder: Path) -> bool:
    """SQLite reports an I/O error where there is no room for the file that readers and writers share."""
    try:
        return shutil.disk_usage(folder).free < SHARED_MEMORY_BYTES
    except OSError:
        return False


def _disk_full(folder: Path) -> StoreError:
    return StoreFullError(f"{folder}: the disk is full; make room and try again (nothing that was stored is lost)")
