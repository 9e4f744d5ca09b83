"""Corrections ("this is a ...") kept as a folder of classes, which `tandem learn` reads and people can look through.

An image stands once, in the folder of its last label, under a name made of its content: nothing that a client sends
becomes part of a path but a label that is a plain name. Labels that a data set would not tell apart (`Tree_Frog`, `tree
frog`) share the folder that is there, and none is without images, so that the folder can be learnt from at any time.
Knows files; no HTTP and no models.
"""

import contextlib
import os
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tandem.datasets.class_names import readable
from tandem.datasets.split_names import is_split
from tandem.errors import TandemError
from tandem.files import sync, write_bytes
from tandem.search.indexing.image_record import image_id
from tandem.serve.collections.originals import file_name
from tandem.serve.collections.quotas import Quota, Uploads

MAX_IMAGES = 10_000
MAX_BYTES = 2 * 2**30
KEY_IMAGES, KEY_BYTES = MAX_IMAGES // 2, MAX_BYTES // 2  # of one key: nobody fills the folder alone
MAX_LABELS = 1_000
MAX_LABEL_BYTES = 150  # file systems allow 255
_UNFIT = re.compile(r'[/\\:*?"<>|%]')  # what separates paths, and what Windows cannot name
# What is unseen, commands a terminal or hides the order of letters: controls, format characters, lone surrogates...
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
# ... and characters that are drawn as nothing.
_BLANK = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0") | {chr(0xFE00 + number) for number in range(16)}
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class CorrectionsFullError(TandemError):
    """The folder has as many corrections as the server keeps, or cannot take another one."""


@dataclass(frozen=True)
class Kept:
    """A correction that was kept: its label, and the label that the same image had before, if another."""

    label: str
    replaced: str | None
    counts: dict[str, int]  # images of these labels now, where there are any


class Corrections:
    """A folder of corrections, bounded in images, bytes and labels. Thread-safe; one process writes to it."""

    def __init__(
        self,
        folder: Path,
        *,
        max_images: int = MAX_IMAGES,
        max_bytes: int = MAX_BYTES,
        key_images: int = KEY_IMAGES,
        key_bytes: int = KEY_BYTES,
    ) -> None:
        """Makes the folder, and counts what is in it. Raises `TandemError` where it cannot be written to."""
        self.folder = folder
        self.max_images, self.max_bytes = max_images, max_bytes
        self._lock = threading.Lock()
        self._files: dict[str, Path] = {}  # by the name without its ending: the image's hash
        self._counts: Counter[str] = Counter()  # of each label that has images
        self._known: dict[str, str] = {}  # the label that is there, by what it is told apart by
        self._bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file in sorted(folder.glob("*/*")):
                if file.is_file() and not file.name.startswith("."):
                    self._files[file.stem] = file
                    self._count(file.parent.name, 1)
                    self._bytes += file.stat().st_size
            self._uploads = Uploads(folder, Quota(key_images, key_bytes, max_bytes))
        except OSError as error:
            raise TandemError(f"{folder}: corrections cannot be kept there: {error.strerror or error}") from None

    def counts(self) -> dict[str, int]:
        """The number of images of each label, by label."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def keep(self, content: bytes, kind: str, label: str, key: str | None = None) -> Kept:
        """Keep an image of a format under a label, durably; one that is there already moves to the new label. It counts
        for the key that brought it first.

        The label is the one that is there already where they differ in case, underscores or the encoding of accents
        alone. Raises `TandemError` for a label that is no plain name, `QuotaError` and `CorrectionsFullError`.
        """
        label = check_label(label)
        name = image_id(content)
        with self._lock:
            label = self._known.get(_alike(label), label)
            target = self.folder / label / file_name(name, kind)
            before = self._files.get(name)
            if before is None:
                self._check_room(len(content), label)
            elif self._counts[before.parent.name] > 1:  # whose label stays
                self._check_labels(label)
            new = {name: len(content)} if before is None else {}
            with _full_where_refused(), self._counted(key, new), _no_empty_folder(target.parent):
                made = not target.parent.exists()
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    if before is None:
                        raise FileNotFoundError
                    os.replace(before, target)
                except FileNotFoundError:  # it is new, or somebody has moved it meanwhile
                    write_bytes(target, content, fsync=True)
                else:
                    sync(target.parent)
                if made:
                    sync(self.folder)  # the name of the label's folder
            self._files[name] = target
            self._count(label, 1)
            if before is None:
                self._bytes += len(content)
                return Kept(label, None, {label: self._counts[label]})
            old = before.parent.name
            self._count(old, -1)
            if old != label and _remove_if_empty(before.parent):
                with _full_where_refused():
                    sync(self.folder)  # a power failure must not bring an empty class back
            counts = {each: self._counts[each] for each in (label, old) if each in self._counts}
            return Kept(label, old if old != label else None, counts)

    @contextlib.contextmanager
    def _counted(self, key: str | None, new: dict[str, int]) -> Iterator[None]:
        """Count new images for a key, before they are kept; no longer where that fails. Raises `QuotaError`."""
        self._uploads.check(key, new)
        self._uploads.add(key, new)
        try:
            yield
        except OSError:
            with contextlib.suppress(OSError):
                self._uploads.remove(list(new))
            raise

    def _count(self, label: str, more: int) -> None:
        self._counts[label] += more
        if self._counts[label]:
            self._known.setdefault(_alike(label), label)
        else:
            del self._counts[label]
            if self._known.get(_alike(label)) == label:
                del self._known[_alike(label)]

    def _check_room(self, more: int, label: str) -> None:
        if len(self._files) >= self.max_images:
            raise _full(f"{self.max_images:,} images")
        if self._bytes + more > self.max_bytes:
            raise _full(f"{self.max_bytes // 2**20:,} MB")
        self._check_labels(label)

    def _check_labels(self, label: str) -> None:
        if label not in self._counts and len(self._counts) >= MAX_LABELS:
            raise _full(f"{MAX_LABELS:,} labels")


def _full(of: str) -> CorrectionsFullError:
    return CorrectionsFullError(f"the server keeps at most {of} of corrections; learn from them, and move them")


@contextlib.contextmanager
def _full_where_refused() -> Iterator[None]:
    """`CorrectionsFullError` for a disk that takes nothing. It names no path: it is told to clients."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CorrectionsFullError(f"the server cannot keep the correction now: {reason}") from None


@contextlib.contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """Leave no folder without images where they could not be written: it would be a class that cannot be learnt."""
    try:
        yield
    except OSError:
        _remove_if_empty(folder)
        raise


def _remove_if_empty(folder: Path) -> bool:
    """Whether it was empty, and is gone now."""
    try:
        folder.rmdir()
    except OSError:  # it has other files, or is gone
        return False
    return True


def _alike(label: str) -> str:
    """What labels are told apart by: neither case nor underscores, nor how a letter is encoded."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", readable(label)).casefold())


def check_label(label: str) -> str:
    """A label that can be the name of a folder everywhere, and of a class. Raises `TandemError`."""
    label = readable(unicodedata.normalize("NFC", label))
    if is_split(label):
        raise TandemError(f"label: expected what the image shows, got {label!a}, which names a split of a data set")
    unfit = _unfit(label)
    if not label or unfit or label.startswith(".") or label.endswith(".") or _RESERVED.fullmatch(label):
        why = f"it has {unfit!a} in it" if unfit else "it is no name of a folder"
        raise TandemError(f"label: expected a plain name such as 'golden retriever', got {label[:60]!a}: {why}")
    if len(label.encode()) > MAX_LABEL_BYTES:
        raise TandemError(f"label: expected at most {MAX_LABEL_BYTES} bytes, got {len(label.encode()):,}")
    return label


def _unfit(label: str) -> str | None:
    """The first character that cannot be in a label."""
    for character in label:
        if _UNFIT.match(character) or unicodedata.category(character) in _UNSEEN or character in _BLANK:
            return character
    return None
