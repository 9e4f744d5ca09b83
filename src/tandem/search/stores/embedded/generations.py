"""The folder of a local collection: which generation is in use, who may write to it. Knows no records.

    photos.tandem/
      current          the name of the generation in use ("g1"), replaced in one step
      g1/              records.sqlite, vectors-*.f32, index-*.faiss, writer.lock
      g2/              a staging collection that is being filled, until `promote` makes it the current one

A generation is prepared under another name and renamed when it is complete, so a crash leaves no partial one.
"""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.errors import StoreBusyError, StoreError, StoreExistsError, StoreNotFoundError
from tandem.files import open_regular, sync, write_text

if TYPE_CHECKING:
    from filelock import BaseFileLock

CURRENT = "current"
_OURS = rf"g\d+(\.|$)|\.?{CURRENT}\..*(part|draft)"  # generations, and what a crash left of them
LOCK = "writer.lock"
WRITER = "writer.pid"
LONGEST_NAME = 100  # bytes of what these two files hold
MAKING = f".{CURRENT}.lock.draft"  # held by whoever makes the first generation


def folder(url: str, *, staging: bool = False) -> Path:
    """The folder of the generation in use, or of the staging one (which need not be there).

    `StoreNotFoundError` if no generation is in use.
    """
    root = Path(url)
    number = _current(root)
    return root / f"g{number + 1 if staging else number}"


def signature(url: str) -> tuple[int, int]:
    """Changes whenever a generation is put in use, also where the folder was deleted and created again."""
    path = Path(url) / CURRENT
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFoundError(f"{url}: {_instead(Path(url))}") from None
    except OSError as error:
        raise StoreError(f"{url}: the collection cannot be read ({error})") from error
    return status.st_ino, status.st_mtime_ns


def exists(url: str, *, staging: bool = False) -> bool:
    root = Path(url)
    if not (root / CURRENT).is_file():
        return False
    return folder(url, staging=True).is_dir() if staging else True


def prepare(url: str, fill: Callable[[Path], None], *, staging: bool = False) -> Path:
    """Create a generation: `fill` gets an empty folder, which is then renamed. `StoreExistsError` if there is one."""
    root = Path(url)
    if staging:
        generation = folder(url, staging=True)
    else:
        if exists(url):
            raise StoreExistsError(f"{url}: there is a collection already; open it, or choose another name")
        if root.exists() and not root.is_dir():
            raise StoreError(f"{url}: expected a folder for a new collection, and this is a file; choose another name")
        if root.is_dir() and (others := [p.name for p in root.iterdir() if not re.match(_OURS, p.name)]):
            raise StoreError(
                f"{url}: expected an empty or a new folder, and it has {sorted(others)[0]!r} in it; choose another name"
            )
        if lost := recovery_hint(root):
            raise StoreError(f"{url}: {lost}, or choose another name")
        generation = root / "g1"
    with contextlib.nullcontext() if staging else _making(url):
        return _prepared(url, generation, fill, staging)


def _prepared(url: str, generation: Path, fill: Callable[[Path], None], staging: bool) -> Path:
    """The last steps of `prepare`; those of a new collection are for one at a time."""
    root = Path(url)
    if not staging:
        if exists(url):  # by now
            raise StoreExistsError(f"{url}: there is a collection already; open it, or choose another name")
        if generation.is_dir():  # left by a crash between the last two steps of a creation
            shutil.rmtree(generation)
    if generation.exists():
        raise StoreExistsError(
            f"{url}: there is a staging collection already; open it, or remove the folder {generation}"
        )
    draft = generation.with_name(f"{generation.name}.draft-{uuid.uuid4().hex[:8]}")
    try:
        draft.mkdir(parents=True)
        fill(draft)
        sync(draft)
        draft.rename(generation)
        if not staging:
            write_text(root / CURRENT, generation.name, fsync=True)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise StoreError(f"{url}: the collection cannot be made here ({error.strerror or error})") from error
    return generation


@contextlib.contextmanager
def _making(url: str) -> Iterator[None]:
    """Only one makes a collection at a time: what one has not finished would look like what a crash left."""
    from filelock import FileLock, Timeout

    root = Path(url)
    is_new = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / MAKING, thread_local=False)
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreBusyError(f"{url}: another process is making this collection; wait until it is done") from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{url}: the collection cannot be made here ({reason})") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps open files: then the next one uses it
            (root / MAKING).unlink()
        lock.release()
        if is_new:
            with contextlib.suppress(OSError):  # there is a collection in it
                root.rmdir()


def promote(url: str) -> None:
    """The staging generation becomes the current one in one step; the old one is deleted."""
    root = Path(url)
    old, new = folder(url), folder(url, staging=True)
    if not new.is_dir():
        raise StoreError(f"{url}: there is no staging collection to take its place")
    lock = lock_for_writing(url, old)
    try:
        write_text(root / CURRENT, new.name, fsync=True)
    finally:
        lock.release()
    shutil.rmtree(old, ignore_errors=True)  # Windows keeps open files: then the next writer deletes them


def remove(url: str) -> None:
    """Remove all generations; first the name of the current one, so that no one opens a partly removed collection.

    What else is in the folder stays.
    """
    root = Path(url)
    lock = lock_for_writing(url, folder(url))
    try:
        (root / CURRENT).unlink()
    except OSError as error:
        raise StoreError(f"{url}: the collection cannot be removed ({error.strerror or error})") from error
    finally:
        lock.release()
    for path in root.iterdir():
        if re.match(_OURS, path.name):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not empty
        root.rmdir()


def lock_for_writing(url: str, generation: Path) -> "BaseFileLock":
    """The lock of the only writer, released when the process ends. `StoreBusyError` if another process holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(generation / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            number = _read_name(generation / WRITER)
        except (OSError, UnicodeDecodeError):
            number = ""
        writer = f"process {number}" if number else "another process"  # it writes its number after it has the lock
        raise StoreBusyError(
            f"{url}: {writer} is writing to this collection; wait until it is done (it can be searched meanwhile)"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise StoreError(
            f"{url}: cannot be opened for writing ({getattr(error, 'strerror', None) or error})"
        ) from error
    try:
        (generation / WRITER).write_text(str(os.getpid()))
    except OSError as error:
        lock.release()
        raise StoreError(f"{url}: cannot be written to ({error.strerror or error})") from error
    return lock


def remove_leftovers(url: str) -> None:
    """Delete replaced generations and what crashes left. The caller holds the lock of the current generation."""
    root = Path(url)
    number = _current(root)
    for path in root.iterdir():
        if re.fullmatch(rf"\.{CURRENT}\..*\.part", path.name):
            path.unlink(missing_ok=True)
        match = re.fullmatch(r"g(\d+)(\.draft-.*)?", path.name)
        if match and int(match[1]) < number:
            shutil.rmtree(path, ignore_errors=True)


def remove_staging(url: str) -> None:
    """Remove the staging generation."""
    shutil.rmtree(folder(url, staging=True))


def lost_name(url: str) -> str | None:
    """The only generation with records, where the file that names the one in use does not name it; else None."""
    root = Path(url)
    with contextlib.suppress(StoreError):
        if (root / f"g{_current(root)}").is_dir():
            return None
    found = [path.name for path in _with_records(root)] if root.is_dir() else []
    return found[0] if len(found) == 1 else None


def restore_name(url: str) -> None:
    """Write the name of the generation in use again, where it is lost and there is only one that it can be."""
    if (name := lost_name(url)) is not None:
        write_text(Path(url) / CURRENT, name, fsync=True)


def recovery_hint(root: Path) -> str | None:
    """How to recover a collection that has records and cannot be opened; None if there is none.

    Of several generations the oldest was in use: another is a staging one that may not be whole.
    """
    if _is_current(root):
        return None
    lost = [path.name for path in _with_records(root)]
    if not lost:
        return None
    return (
        f"there are photos in {' and in '.join(lost)}, but not the file {CURRENT!r} that names the "
        f"generation in use; write {lost[0]} into {root / CURRENT}"
    )


def _instead(root: Path) -> str:
    """A message about a path that has no collection, and what to do."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return f"no collection there; make one: tandem index ~/Pictures --to {root}"
    if root.is_dir() and (lost := recovery_hint(root)):
        return lost
    if root.is_dir() and all(re.match(_OURS, path.name) for path in root.iterdir()):
        return (
            "no collection there yet, another process may be making it; or make one: "
            f"tandem index ~/Pictures --to {root}"
        )
    what = "a folder of other things" if root.is_dir() else "a file"
    return f"expected a collection, got {what}; to search in it: tandem index {root} --to photos.tandem"


def _with_records(root: Path) -> list[Path]:
    """The generations that hold records: nobody can add any before the last step of their creation."""
    found = {path.parent for path in root.glob("g*/vectors-*.f32") if path.stat().st_size}
    return sorted(path for path in found if re.fullmatch(r"g\d+", path.name))


def _is_current(root: Path) -> bool:
    return (root / CURRENT).exists()


def _read_name(path: Path) -> str:
    with open_regular(path) as file:
        return file.read(LONGEST_NAME).decode("utf-8").strip()


def _current(root: Path) -> int:
    try:
        text = _read_name(root / CURRENT)
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise StoreNotFoundError(f"{root}: {_instead(root)}") from None
        raise StoreError(f"{root}: the collection cannot be read ({error})") from error
    match = re.fullmatch(r"g(\d{1,9})", text)
    if not match:
        raise StoreError(f"{root / CURRENT}: expected the name of a generation such as g1, got {text[:40]!r}")
    return int(match[1])
