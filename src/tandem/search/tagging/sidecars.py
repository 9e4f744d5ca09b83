"""XMP sidecars: the file beside a photo that holds its keywords. Knows files and names; nothing of labels' worth.

Two names are usual: `photo.jpg.xmp` (darktable, digiKam) and `photo.xmp` (Adobe, ISO 16684-1), which a raw file of the
same name may share. The one that is there is edited; `photo.xmp` only where it can belong to no other file.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tandem.errors import SidecarError
from tandem.files import write_bytes
from tandem.search.tagging import rdf, xmp

Naming: TypeAlias = Literal["full", "stem"]  # photo.jpg.xmp, or photo.xmp
_NO_IMAGES = (".xmp", ".txt", ".json")  # beside a photo, of the same name


@dataclass(frozen=True)
class Change:
    """What was done to one sidecar, or would be."""

    path: Path
    added: tuple[str, ...]
    withdrawn: tuple[str, ...]
    is_new: bool

    @property
    def is_changed(self) -> bool:
        return bool(self.added or self.withdrawn)


class Sidecars:
    """The sidecars of photos. Looks at each folder once, so photos should come folder by folder."""

    def __init__(self, naming: Naming = "full", *, dry_run: bool = False) -> None:
        self.naming, self.dry_run = naming, dry_run
        self._folder: str | None = None
        self._names: dict[str, str] = {}  # by their lower case
        self._stems: dict[str, int] = {}  # how many images share a stem

    def path_of(self, photo: Path) -> Path:
        """The sidecar that is there, else the one to make."""
        self._look(str(photo.parent))
        full, stem = f"{photo.name}.xmp", f"{photo.stem}.xmp"
        alone = self._stems.get(photo.stem.lower(), 0) <= 1
        if full.lower() in self._names:
            return photo.parent / self._names[full.lower()]
        if stem.lower() in self._names and alone:
            return photo.parent / self._names[stem.lower()]
        return photo.parent / (stem if self.naming == "stem" and alone else full)

    def update(self, photo: Path, holds: Collection[str], judged: Collection[str] | None) -> Change:
        """Bring the keywords of a photo up to date: see `xmp.edited`. Written whole or not at all.

        Raises `SidecarError` for a sidecar that is left as it is, `OSError` for one that cannot be read or written.
        """
        path = self.path_of(photo)
        target = Path(os.path.realpath(path))  # a link stays a link
        before = _signature(target)
        if before is None and path.is_symlink():
            raise SidecarError(f"{path}: left as it is: it is a link to {target}, which is not there")
        content = _read(target, path.name) if before is not None else None
        result = xmp.edited(content, holds, judged, str(path))
        change = Change(path, result.added, result.withdrawn, content is None)
        if result.content == (content or b"") or self.dry_run:
            return change
        if _signature(target) != before:
            raise SidecarError(f"{path}: left as it is: another program changed it meanwhile")
        write_bytes(target, result.content)
        self._names.setdefault(path.name.lower(), path.name)
        return change

    def _look(self, folder: str) -> None:
        if folder == self._folder:
            return
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        self._folder = folder
        self._names = {name.lower(): name for name in names if name.lower().endswith(".xmp")}
        self._stems = {}
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix and suffix.lower() not in _NO_IMAGES:
                self._stems[stem.lower()] = self._stems.get(stem.lower(), 0) + 1


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _read(path: Path, name: str) -> bytes:
    if not path.is_file():
        raise SidecarError(f"{path}: left as it is: expected a file")
    with path.open("rb") as file:
        content = file.read(rdf.MAX_BYTES + 1)
    if len(content) > rdf.MAX_BYTES:
        raise SidecarError(f"{path.parent / name}: left as it is: more than {rdf.MAX_BYTES:,} bytes")
    return content
