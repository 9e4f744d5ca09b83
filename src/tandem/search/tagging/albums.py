"""Albums: a folder for each label with links to its photos. Nothing but our own links is ever removed.

What was linked is noted in a file of the folder, with how: a symbolic link's text, or a hard link's inode. A run makes
what is missing and removes what it noted and no longer wants, if it still is that link. Knows files and names.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tandem.errors import TandemError
from tandem.files import display_name, user_path, write_json, write_text
from tandem.search.tagging.album_names import folders_of, links_of

How: TypeAlias = Literal["auto", "symbolic", "hard", "list"]
NOTES = ".tandem-albums.json"
_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # nothing can be written after these
LISTS = ".m3u8"  # a path a line, in UTF-8: where links are refused


@dataclass(frozen=True)
class AlbumReport:
    """What a run did to a folder of albums, or would do."""

    made: int
    removed: int
    kept: int
    how: str
    left: tuple[str, ...]  # paths that were noted here, and are something else now: they are their owner's
    failed: tuple[tuple[str, str], ...] = ()  # paths that could not be made or removed, with reasons

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "links": self.how,
            "made": self.made,
            "removed": self.removed,
            "kept": self.kept,
            "left": list(self.left),
            "failures": [{"path": display_name(path), "error": reason} for path, reason in self.failed],
        }


def make_albums(
    folder: str | Path, albums: Mapping[str, Iterable[tuple[str, str]]], *, how: How = "auto", dry_run: bool = False
) -> AlbumReport:
    """Bring a folder of albums up to date: `albums` has (id, path) of the photos of each label.

    `auto` makes symbolic links, hard links where the
    file system refuses those, and lists of paths where it refuses both. Raises `TandemError`, `OSError`.
    """
    root = user_path(folder)
    if root.exists() and not root.is_dir():
        raise TandemError(f"{root}: expected a folder for albums, found a file")
    noted = _read_notes(root)
    is_new = not root.exists() or not any(root.iterdir())
    wanted = links_of(albums)
    if not dry_run:
        root.mkdir(parents=True, exist_ok=True)
        if is_new:  # else indexing a folder above would find every photo twice
            write_text(root / ".tandemignore", "*\n")
    way = _way(root, wanted, how, dry_run=dry_run)
    if way == "list":
        return _write_lists(root, albums, noted, dry_run=dry_run)
    links = _Links(root, noted, way, dry_run)
    try:
        for name, target in sorted(wanted.items()):
            with _noting(root / name, links.failed):
                links.put(name, target)
        for name in noted.keys() - wanted.keys():
            with _noting(root / name, links.failed):
                links.take_away(name)
    finally:  # what was linked is known as ours, even if the disk is full now
        if not dry_run:
            write_json(root / NOTES, {"links": links.notes})
    if not dry_run:
        _remove_empty(root, noted)
    return AlbumReport(links.made, links.removed, links.kept, way, tuple(links.left), tuple(links.failed))


# --- links -----------------------------------------------------------------------------------------------------------


class _Links:
    """The links of a folder as they are brought up to date."""

    def __init__(self, root: Path, noted: Mapping[str, Any], way: str, dry_run: bool) -> None:
        self.root, self.noted, self.way, self.dry_run = root, noted, way, dry_run
        self.notes = dict(noted)
        self.made = self.removed = self.kept = 0
        self.left: list[str] = []
        self.failed: list[tuple[str, str]] = []

    def put(self, name: str, target: str) -> None:
        """Let a link lead to a photo, unless something else has its name."""
        place = self.root / name
        ours = self._is_ours(name) or (place.is_symlink() and os.readlink(place) == _text(place, target))
        if ours and _leads_to(place, target):
            self.kept += 1
            if place.is_symlink():  # also one of a run that could not note it any more
                self.notes[name] = {"text": os.readlink(place)}
            return
        if not ours and (os.path.lexists(place) or self._leads_out(name)):
            self.left.append(str(place))
            self.notes.pop(name, None)
            return
        if not self.dry_run:
            if ours:
                place.unlink()
            place.parent.mkdir(parents=True, exist_ok=True)
            self.notes[name] = _link(place, target, self.way)
        self.made += 1

    def take_away(self, name: str) -> None:
        """Remove a link that was noted and is not wanted any more, if it still is that link."""
        place = self.root / name
        if self._is_ours(name):
            if not self.dry_run:
                place.unlink()
            self.removed += 1
        elif os.path.lexists(place):
            self.left.append(str(place))
        self.notes.pop(name, None)

    def _is_ours(self, name: str) -> bool:
        return name in self.noted and not self._leads_out(name) and _is_ours(self.root / name, self.noted[name])

    def _leads_out(self, name: str) -> bool:
        """Whether a folder on the way is a link: what is behind it is not ours."""
        return any((self.root / parent).is_symlink() for parent in Path(name).parents if parent != Path("."))


@contextlib.contextmanager
def _noting(place: Path, failed: list[tuple[str, str]]) -> Iterator[None]:
    """One name that cannot be made does not stop the others, unless none of them can be."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_MORE:
            raise
        failed.append((str(place), error.strerror or str(error)))


def _way(root: Path, wanted: Mapping[str, str], how: How, *, dry_run: bool) -> str:
    """How links are made here: tried with one, beside where they go."""
    if how != "auto" or not wanted or dry_run:
        return "symbolic" if how == "auto" else how
    target = next(iter(wanted.values()))
    trial = root / f".tandem-trial-{os.getpid()}"
    for way in ("symbolic", "hard"):
        try:
            _link(trial, target, way)
        except (OSError, NotImplementedError):
            continue
        trial.unlink()
        return way
    return "list"


def _link(place: Path, target: str, way: str) -> dict[str, Any]:
    """Make a link, and give the note of it."""
    if way == "symbolic":
        text = _text(place, target)
        os.symlink(text, place)
        return {"text": text}
    os.link(os.path.realpath(target), place)
    status = place.lstat()
    return {"device": status.st_dev, "inode": status.st_ino}


def _text(place: Path, target: str) -> str:
    """A symbolic link's text: relative, so that photos and albums can move together."""
    return os.path.relpath(target, os.path.realpath(place.parent))


def _is_ours(place: Path, note: Mapping[str, Any]) -> bool:
    """Whether a path still is the link that was noted."""
    with contextlib.suppress(OSError):
        if "text" in note:
            return place.is_symlink() and os.readlink(place) == note["text"]
        status = place.lstat()
        # The last name of a file is the photo itself: it may have been deleted elsewhere
        return not place.is_symlink() and _inode(note) == (status.st_dev, status.st_ino) and status.st_nlink > 1
    return False


def _inode(note: Mapping[str, Any]) -> tuple[Any, Any]:
    return note.get("device"), note.get("inode")


def _leads_to(place: Path, target: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(place, target)
    return False


def _remove_empty(root: Path, noted: Mapping[str, Any]) -> None:
    """Folders of albums that hold nothing any more."""
    for name in sorted({os.path.dirname(name) for name in noted}, key=len, reverse=True):
        folder = root / name
        while folder != root:
            try:
                folder.rmdir()
            except OSError:  # something is in it
                break
            folder = folder.parent


def _write_lists(
    root: Path, albums: Mapping[str, Iterable[tuple[str, str]]], noted: Mapping[str, Any], *, dry_run: bool
) -> AlbumReport:
    """A list of paths for each label, where the file system has no links."""
    left: list[str] = []
    failed: list[tuple[str, str]] = []
    notes: dict[str, Any] = {}
    made = kept = removed = 0
    for folder, label in folders_of(albums).items():
        name = f"{folder}{LISTS}"
        place, text = root / name, "".join(f"{path}\n" for path in sorted({path for _, path in albums[label]}))
        before = _content(place)
        if os.path.lexists(place) and (name not in noted or noted[name].get("list") != before):
            left.append(str(place))
            continue
        if before == text:
            notes[name] = {"list": text}
            kept += 1
            continue
        with _noting(place, failed):
            if not dry_run:
                place.parent.mkdir(parents=True, exist_ok=True)
                write_text(place, text)
            notes[name] = {"list": text}
            made += 1
    for name, note in noted.items():
        place = root / name
        ours = _content(place) == note["list"] if "list" in note else _is_ours(place, note)
        if name not in notes and ours:
            removed += 1
            if not dry_run:
                place.unlink()
    if not dry_run:
        write_json(root / NOTES, {"links": notes})
    return AlbumReport(made, removed, kept, "list", tuple(left), tuple(failed))


def _content(place: Path) -> str | None:
    try:
        return place.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def _read_notes(root: Path) -> dict[str, Any]:
    """What earlier runs linked. Raises `TandemError` for notes that are none: they decide what may be removed."""
    try:
        text = (root / NOTES).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        links = json.loads(text)["links"]
        good = all(_is_inside(name) and isinstance(note, dict) for name, note in links.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        good = False
    if not good:
        raise TandemError(f"{root / NOTES}: damaged; delete it, and the links beside it, to begin again")
    return dict(links)


def _is_inside(name: str) -> bool:
    """Whether a noted path stays in the folder: somebody else may have written the notes."""
    parts = name.split("/")
    return not os.path.isabs(name) and "\0" not in name and all(part not in ("", ".", "..") for part in parts)
