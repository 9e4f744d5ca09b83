"""The files in a tar, in order: names, offsets, the bytes of those that are wanted. Knows no samples but their keys.

A tar is streamed: memory does not grow with its length, nor with files in it that nobody wants.
"""

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tandem.errors import DataError

_TAR_BLOCK = 512  # bytes


@dataclass(frozen=True)
class TarMember:
    """A file inside a tar: its offset and size, and its bytes if they were requested."""

    name: str
    at: int
    size: int
    content: bytes | None

    @property
    def key(self) -> str:
        """The WebDataset key: folder, and name up to the first dot."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def end(self) -> int:
        """The offset of what follows it in the tar; -1 in a compressed tar."""
        return -1 if self.at < 0 else self.at + -(-self.size // _TAR_BLOCK) * _TAR_BLOCK

    @property
    def suffix(self) -> str:
        """The rest of the name after the key: `.jpg`, `.json`, `.seg.png`."""
        return self.name[len(self.key) :].lower()


def tar_members(path: Path, wanted: Sequence[str] = (), if_compressed: Sequence[str] = ()) -> Iterator[TarMember]:
    """The regular files of a tar, in order, with the bytes of those whose names have a `wanted` suffix.

    In a compressed tar, where none can be read later by its offset, `if_compressed` suffixes are wanted, too. `at` is
    the offset of a file's bytes in the tar; -1 in a compressed tar. Yields the files before any damage, then raises
    `DataError`.
    """
    try:
        tar = _open_tar(path)
        with tar:
            compressed = tar.fileobj is not None and not _is_plain(path)
            suffixes = (*wanted, *if_compressed) if compressed else tuple(wanted)
            while (found := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else they are all kept until the end
                if not found.isreg() or found.issparse():
                    continue
                member = TarMember(found.name, -1 if compressed else found.offset_data, found.size, None)
                if found.name.lower().endswith(suffixes):
                    stream = tar.extractfile(found)
                    content = stream.read() if stream is not None else b""
                    member = TarMember(found.name, member.at, found.size, content)
                yield member
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise DataError(f"{path}: cannot read it as a WebDataset tar: {error}") from None


def _open_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "r:" if _is_plain(path) else "r:*", errors="surrogateescape")


def _is_plain(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(6)
    return not head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"))


def tar_has_end(path: Path, at: int) -> bool:
    """Whether an empty block follows the last member, at its `end`: tarfile takes a truncated tar for a whole one."""
    with path.open("rb") as file:
        file.seek(at)
        return file.read(_TAR_BLOCK) == bytes(_TAR_BLOCK)


def tar_groups(members: Iterable[TarMember]) -> Iterator[list[TarMember]]:
    """Consecutive files with the same key, as WebDataset stores a sample."""
    group: list[TarMember] = []
    for member in members:
        if group and member.key != group[0].key:
            yield group
            group = []
        group.append(member)
    if group:
        yield group
