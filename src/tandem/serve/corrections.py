"""Corrections ("this is a ...") kept as a folder of classes, which `tandem learn` reads and people can look through.

An image stands once, in the folder of its last label, under a name made of its content: nothing that a client sends
becomes part of a path but a label that is a plain name. Knows files; no HTTP and no models.
"""

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from tandem.errors import TandemError
from tandem.files import write_bytes
from tandem.search.indexing.image_record import image_id
from tandem.serve.collections.originals import file_name

MAX_IMAGES = 10_000
MAX_BYTES = 2 * 2**30
MAX_LABELS = 1_000
MAX_LABEL_BYTES = 150  # file systems allow 255
# What separates paths, what Windows cannot name, and what commands a terminal or hides the order of letters.
_UNFIT = re.compile('[/\\\\:*?"<>|%\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class CorrectionsFullError(TandemError):
    """The folder has as many corrections as the server keeps."""


@dataclass(frozen=True)
class Kept:
    """A correction that was kept: its label, and the label that the same image had before, if another."""

    label: str
    replaced: str | None


class Corrections:
    """A folder of corrections, bounded in images, bytes and labels. Thread-safe; one process writes to it."""

    def __init__(self, folder: Path, *, max_images: int = MAX_IMAGES, max_bytes: int = MAX_BYTES) -> None:
        """Makes the folder, and counts what is in it. Raises `TandemError` where it cannot be written to."""
        self.folder = folder
        self.max_images, self.max_bytes = max_images, max_bytes
        self._lock = threading.Lock()
        self._files: dict[str, Path] = {}  # by the name without its ending: the image's hash
        self._bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file in folder.glob("*/*"):
                if file.is_file() and not file.name.startswith("."):
                    self._files[file.stem] = file
                    self._bytes += file.stat().st_size
        except OSError as error:
            raise TandemError(f"{folder}: corrections cannot be kept there: {error.strerror or error}") from None

    def counts(self) -> dict[str, int]:
        """The number of images of each label, by label."""
        with self._lock:
            labels = [file.parent.name for file in self._files.values()]
        return {label: labels.count(label) for label in sorted(set(labels))}

    def keep(self, content: bytes, kind: str, label: str) -> Kept:
        """Keep an image of a format under a label, durably; one that is there already moves to the new label.

        Raises `TandemError` for a label that is no plain name, and `CorrectionsFullError`.
        """
        label = check_label(label)
        name = image_id(content)
        target = self.folder / label / file_name(name, kind)
        with self._lock:
            before = self._files.get(name)
            replaced = before.parent.name if before is not None and before.parent.name != label else None
            if before is None:
                self._check_room(len(content), label)
                self._bytes += len(content)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                if before is None:
                    raise FileNotFoundError
                os.replace(before, target)
            except FileNotFoundError:  # it is new, or somebody has moved it meanwhile
                write_bytes(target, content, fsync=True)
            self._files[name] = target
        return Kept(label, replaced)

    def _check_room(self, more: int, label: str) -> None:
        full = ""
        if len(self._files) >= self.max_images:
            full = f"{self.max_images:,} images"
        elif self._bytes + more > self.max_bytes:
            full = f"{self.max_bytes // 2**20:,} MB"
        elif len(labels := {file.parent.name for file in self._files.values()}) >= MAX_LABELS and label not in labels:
            full = f"{MAX_LABELS:,} labels"
        if full:
            raise CorrectionsFullError(
                f"the server keeps at most {full} of corrections; learn from them, and move them"
            )


def check_label(label: str) -> str:
    """A label that can be the name of a folder everywhere, without blanks around it. Raises `TandemError`."""
    label = " ".join(label.split())
    unfit = _UNFIT.search(label)
    if not label or unfit or label.startswith(".") or label.endswith(".") or _RESERVED.fullmatch(label):
        why = f"it has {unfit[0]!a} in it" if unfit else "it is no name of a folder"
        raise TandemError(f"label: expected a plain name such as 'golden retriever', got {label[:60]!a}: {why}")
    if len(label.encode()) > MAX_LABEL_BYTES:
        raise TandemError(f"label: expected at most {MAX_LABEL_BYTES} bytes, got {len(label.encode()):,}")
    return label
