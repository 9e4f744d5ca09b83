"""Digests of files: remembered, and never wrong."""

import os
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tandem.datasets import hashing, memory
from tandem.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(memory, "SETTLED_NS", 0)  # files of tests are new


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read."""
    found: list[str] = []
    read = hashing._read_file

    def counting(path: str) -> tuple[bytes, memory.Status | None]:
        found.append(Path(path).name)
        return read(path)

    monkeypatch.setattr(hashing, "_read_file", counting)
    return found


def write(folder: Path, names: str) -> list[str]:
    for name in names:
        (folder / name).write_bytes(name.encode() * 100)
    return [str(folder / name) for name in names]


def digests_now(paths: list[str]) -> list[bytes]:
    return [sha256(Path(path).read_bytes()).digest() for path in paths]


def test_unchanged_files_are_read_once(tmp_path: Path, reads: list[str]) -> None:
    paths = write(tmp_path, "abc")
    assert hashing.file_digests(paths) == digests_now(paths)
    assert sorted(reads) == ["a", "b", "c"]
    reads.clear()
    assert hashing.file_digests(paths[::-1]) == digests_now(paths)[::-1]
    assert reads == []
    more = [*paths, *write(tmp_path, "d")]
    assert hashing.file_digests(more) == digests_now(more)
    assert reads == ["d"]


def test_a_changed_byte_is_seen_with_the_same_size_and_time(tmp_path: Path, reads: list[str]) -> None:
    paths = write(tmp_path, "ab")
    hashing.file_digests(paths)
    reads.clear()
    before = os.stat(paths[0])
    Path(paths[0]).write_bytes(b"x" + b"a" * 99)
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(paths[0]).st_mtime_ns == before.st_mtime_ns
    assert hashing.file_digests(paths) == digests_now(paths)
    assert reads == ["a"]


def test_swapped_files_are_seen(tmp_path: Path) -> None:
    paths = write(tmp_path, "ab")
    before = [os.stat(path) for path in paths]
    hashing.file_digests(paths)
    os.rename(paths[0], tmp_path / "c")
    os.rename(paths[1], paths[0])
    os.rename(tmp_path / "c", paths[1])
    for path, status in zip(paths, before, strict=True):
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hashing.file_digests(paths) == digests_now(paths)


def test_what_has_just_changed_is_not_remembered(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SETTLED_NS", 10**12)  # as if clocks ticked every quarter of an hour
    paths = write(tmp_path, "ab")
    hashing.file_digests(paths)
    hashing.file_digests(paths)
    assert sorted(reads) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("damage", ["text", "folder", "no table"])
def test_a_damaged_memory_costs_time_only(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "cache" / memory.FILE
    path.parent.mkdir()
    if damage == "text":
        path.write_text("not a database, and long enough to be taken for one" * 100)
    elif damage == "folder":
        path.mkdir()
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE files (x TEXT)")
    paths = write(tmp_path, "ab")
    for _ in range(2):
        assert hashing.file_digests(paths) == digests_now(paths)


@pytest.mark.parametrize("content", [bytes(32), bytes(36), b"short", b"", "text", 5])
def test_a_damaged_digest_is_not_known(tmp_path: Path, reads: list[str], content: object) -> None:
    paths = write(tmp_path, "ab")
    hashing.file_digests(paths)
    with sqlite3.connect(tmp_path / "cache" / memory.FILE) as connection:
        connection.execute("UPDATE files SET content = ? WHERE path = ?", [content, os.fsencode(paths[1])])
    reads.clear()
    assert hashing.file_digests(paths) == digests_now(paths)
    assert reads == ["b"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: cannot be read: No such file"):
        hashing.file_digests([*write(tmp_path, "a"), str(tmp_path / "gone")])


def test_rows_of_a_shard_are_added_to_what_is_known(tmp_path: Path) -> None:
    (path,) = map(Path, write(tmp_path, "s"))
    asked: list[int] = []

    def read(rows: list[int]) -> Iterator[bytes]:
        asked.extend(rows)
        return (b"row %d" % row for row in rows)

    def check(rows: list[int], part: str = "p") -> None:
        asked.clear()
        found = hashing.shard_digests(path, part, rows, read)  # type: ignore[arg-type]
        assert found == [sha256(b"row %d" % row).digest() for row in rows]

    check([1, 4])
    assert asked == [1, 4]
    check([0, 1, 2])
    assert asked == [0, 2]
    check([0, 1, 2, 4, 9])
    assert asked == [9]
    check([0], part="other")
    assert asked == [0]
    path.write_bytes(b"changed")
    check([0, 9])
    assert asked == [0, 9]


def test_what_is_found_in_a_file_is_found_once(tmp_path: Path) -> None:
    (path,) = map(Path, write(tmp_path, "s"))
    assert memory.remembered(path, "p", lambda: b"first") == b"first"
    assert memory.remembered(path, "p", lambda: b"second") == b"first"
    path.write_bytes(b"changed")
    assert memory.remembered(path, "p", lambda: b"second") == b"second"
