"""Atomic writes of files and folders (to a temporary name, then renamed), and file names that users type or read.

Knows paths, permissions and the disk; nothing of the contents.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from tandem.errors import DataError, TandemError

_LONGEST_NAME = 150  # characters of the target's name in the temporary one; file systems allow 255 bytes


def display_name(path: str) -> str:
    """A path as text that can be stored and printed: bytes that are not UTF-8 become `\\xff`."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that encode no byte: it never was a path
        return path.encode("utf-8", "backslashreplace").decode("utf-8")


def user_path(path: str | os.PathLike[str], *, strict: bool = True) -> Path:
    """A path that a user typed, with a leading `~` or `~name` expanded to the home folder.

    Where there is no such user, the path may name an existing file or folder: `~draft/a.jpg`. Otherwise raises
    `TandemError`, or with `strict=False` returns the path unchanged, for a caller that reports missing files.
    """
    written = os.fspath(path)
    try:
        expanded = os.path.expanduser(written)
        first = Path(expanded).parts[0] if expanded.startswith("~") else ""
        known = not first or os.path.lexists(first)
    except ValueError:  # a NUL or an empty user name
        expanded, known = written, False
    if strict and not known:
        user = display_name(Path(written).parts[0])
        how = "set the environment variable HOME" if user == "~" else "write the path in full"
        raise TandemError(f"{display_name(written)}: no home folder is known for {user}: {how}")
    return Path(expanded)


def open_regular(path: str | Path) -> FileIO:
    """A regular file, open for reading, unbuffered. `OSError` for anything else: a pipe might never answer."""
    file = open(  # noqa: SIM115
        path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    )
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


@contextlib.contextmanager
def atomic_write(path: str | Path, *, fsync: bool = False) -> Iterator[Path]:
    """Give the path of an empty temporary file that atomically replaces `path` when the block succeeds.

    If the block raises, or removes the temporary file, `path` is unchanged. A replaced file keeps its permissions; a
    new one gets those of the umask. With `fsync=True`, content and name are on disk afterwards, so that both survive
    a power failure. Raises `OSError`; the folder must exist.
    """
    path = Path(path)
    mode = _mode_to_keep(path)
    temporary = temporary_path(path)
    try:
        temporary.touch()
        if mode is None:
            mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        if not temporary.exists():
            return
        if stat.S_IMODE(temporary.stat().st_mode) != mode:  # some libraries create files that only the owner can read
            with contextlib.suppress(PermissionError):  # a file system without permissions
                temporary.chmod(mode)
        if fsync:
            sync(temporary)
        os.replace(temporary, path)
        if fsync:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say where there was no space: the system's error about a write names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def atomic_folder(path: str | Path, *, fsync: bool = False) -> Iterator[Path]:
    """Give the path of an empty temporary folder that replaces `path` when the block succeeds.

    An existing folder is moved away first and removed last: a crash in between leaves one of the two
    complete, under its own name or a hidden one. `fsync` as in `atomic_write`, for each file in the folder. Raises
    `OSError`; the parent folder is created.
    """
    path = Path(path)
    temporary = temporary_path(path)
    previous = temporary.with_suffix(".old")
    try:
        temporary.mkdir(parents=True)
        with _naming(path):
            yield temporary
        if fsync:
            for entry in temporary.rglob("*"):
                sync(entry)
            sync(temporary)
        if path.exists():
            os.rename(path, previous)
        try:
            os.rename(temporary, path)
        except OSError:
            if previous.exists():
                os.rename(previous, path)
            raise
        if fsync:
            sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(previous, ignore_errors=True)


def folder_to_write(path: str | Path, names: Sequence[str], what: str) -> Path:
    """The path of a folder for files of these names: new, empty, or one with the first of them and no others.

    Raises `DataError` for anything else; `what` the folder holds is said with its article, as in "a run".
    """
    target = user_path(path)
    bare = what.split(" ", 1)[1]
    if target.is_file() or target.is_symlink():
        raise DataError(f"{target}: expected a folder for the {bare}, found a file or a link")
    if target.is_dir():
        there = {each.name for each in target.iterdir()}
        if there and not (names[0] in there and there <= set(names)):
            raise DataError(f"{target}: the folder holds something else than {what}; give a new one")
    return target


def write_bytes(path: str | Path, content: bytes, *, fsync: bool = False) -> None:
    """Write a whole file, as `atomic_write` does."""
    with atomic_write(path, fsync=fsync) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str, *, fsync: bool = False) -> None:
    """Write a whole file in UTF-8, as `atomic_write` does. Line endings are not translated."""
    write_bytes(path, text.encode("utf-8"), fsync=fsync)


def json_text(document: Any, *, indent: int | None = 2) -> str:
    """One JSON document that every reader takes. NaN is not JSON: it raises `ValueError`.

    Bytes of names that are not UTF-8 are lone surrogates, which JSON readers reject: they become `b\\xff.png`.
    """
    text = json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False)
    return re.sub("[\udc80-\udcff]", lambda found: display_name(found[0]).replace("\\", "\\\\"), text)


def write_json(path: str | Path, value: Any, *, indent: int | None = 2, fsync: bool = False) -> None:
    """Write a value as indented JSON, as `atomic_write` does."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n", fsync=fsync)


def temporary_path(path: Path) -> Path:
    """A unique hidden name beside `path`; it ends in `.part`, which no search for files matches."""
    return path.with_name(f".{path.name[:_LONGEST_NAME]}.{secrets.token_hex(4)}.part")


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mode_to_keep(path: Path) -> int | None:
    """The permissions of an existing file, None if there is none. Refuses to replace a device or a pipe."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return stat.S_IMODE(mode)
