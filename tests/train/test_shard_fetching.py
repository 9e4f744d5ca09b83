"""How many bytes of remote shards are asked for at once and ahead, and what is kept of them and of their indexes."""

import asyncio
import os
import pickle
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
from support import skip_without
from support.range_server import serving
from support.training_toys import all_images, write_tar

from tandem.errors import RemoteFileError
from tandem.files import temporary_path
from tandem.train.data import remote, shard_reader
from tandem.train.data.block_cache import BlockCache
from tandem.train.data.index import indexed_file
from tandem.train.data.remote import RemoteFile
from tandem.train.data.shard_reader import ShardReader
from tandem.train.recipe import Source

FILE = RemoteFile("https://host/a.tar", 1000, "ETag x")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[int, "Future[bytes]"]:
    """What was begun ahead of its reader, by its first byte; nothing else may be fetched, and no more than 30 bytes."""
    futures: dict[int, Future[bytes]] = {}

    def start(file: RemoteFile, first: int, stop: int, patience_s: float) -> "Future[bytes]":
        futures[first] = Future()
        return futures[first]

    monkeypatch.setattr(remote, "start_read", start)
    monkeypatch.setattr(remote, "read", lambda *asked: pytest.fail(f"{asked} was not begun ahead"))
    monkeypatch.setattr(shard_reader, "_AHEAD_BYTES", 30)
    return futures


def test_what_was_read_makes_room_for_what_comes(begun: dict[int, "Future[bytes]"]) -> None:
    reader = ShardReader()
    reader.prefetch((FILE, 10 * number, 10 * number + 10) for number in range(8))
    assert list(begun) == [0, 10, 20]
    for number in range(8):
        begun[10 * number].set_result(bytes([number]) * 10)
        assert reader.read(FILE, 10 * number, 10 * number + 10) == bytes([number]) * 10
        assert len(begun) == min(number + 4, 8)


def test_a_reader_of_a_new_worker_begins_anew(begun: dict[int, "Future[bytes]"]) -> None:
    reader = ShardReader()
    reader.prefetch((FILE, 10 * number, 10 * number + 10) for number in range(8))
    there = pickle.loads(pickle.dumps(reader))
    before = dict(begun)
    begun.clear()
    there.prefetch([(FILE, 500, 510), (FILE, 510, 520)])
    assert list(begun) == [500, 510]
    reader.prefetch([(FILE, 600, 610)])  # others are read next: what has not begun yet is not fetched
    assert list(begun) == [500, 510, 600]
    assert all(future.cancelled() for future in before.values())
    assert not any(future.cancelled() for future in begun.values())


def test_a_reader_that_was_stopped_reads_nothing(begun: dict[int, "Future[bytes]"]) -> None:
    reader = ShardReader()
    reader.prefetch([(FILE, 0, 10)])
    begun[0].set_result(bytes(10))
    reader.stop()
    with pytest.raises(RemoteFileError, match=r"https://host/a\.tar: it was no longer read"):
        reader.read(FILE, 0, 10)


def test_a_server_is_asked_for_sixteen_ranges_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, most = 0, 0

    async def once(system: object, file: RemoteFile, start: int, stop: int) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(5):
            await asyncio.sleep(0)  # the others' turn
        now -= 1
        return bytes(stop - start)

    async def all_of_them() -> list[bytes]:
        return list(await asyncio.gather(*(remote._read(None, FILE, n, n + 1, 1.0) for n in range(50))))

    monkeypatch.setattr(remote, "_limits", {})
    monkeypatch.setattr(remote, "_once", once)
    assert asyncio.run(all_of_them()) == [b"\0"] * 50
    assert most == 16


def test_an_etag_that_does_not_stand_for_the_bytes_is_no_condition(tmp_path: Path) -> None:
    """A weak one never matches (RFC 9110, 13.1.1): servers that compress tell such."""
    skip_without("fsspec", "aiohttp")
    (tmp_path / "a.tar").write_bytes(bytes(range(100)))
    with serving(tmp_path) as server:
        server.weak_etags = True
        [file] = remote.find([f"{server.url}/a.tar"], 0.0)
        assert file.version.startswith("ETag W/")
        assert remote.read(file, 10, 20, 0.0) == bytes(range(10, 20))
        server.weak_etags = False
        [file] = remote.find([f"{server.url}/a.tar"], 0.0)
        assert remote.read(file, 10, 20, 0.0) == bytes(range(10, 20))


def test_shards_of_one_name_have_indexes_of_their_own(tmp_path: Path) -> None:
    """`train/00000.tar` and `test/00000.tar`: neither replaces the other's, and each names its own images."""
    skip_without("fsspec", "aiohttp")
    images = all_images()
    for name, some in (("train", images), ("test", images[::-1])):
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "00000.tar", some)
    source = Source("00000.tar", "captions")
    with serving(tmp_path) as server:
        reader = ShardReader(patience_s=1.0)
        files = reader.find([f"{server.url}/{name}/00000.tar" for name in ("train", "test")])
        made = [indexed_file(file, source, tmp_path / "cache", reader) for file in files]
        assert len({each.index for each in made if each}) == 2
        server.sent.clear()
        assert [indexed_file(file, source, tmp_path / "cache", reader) for file in files] == made
        assert server.sent == []


def test_a_block_is_kept_and_counted_once(tmp_path: Path) -> None:
    cache, other = (BlockCache(tmp_path / "cache", 450, block_bytes=100) for _ in range(2))
    cache.put(FILE, 0, bytes(100))
    os.utime(cache._path(FILE, 0), (1000, 1000))
    other.put(FILE, 0, bytes(100))  # two processes fetched it at the same time
    assert (tmp_path / "cache" / "bytes").read_text() == "104"
    assert os.stat(cache._path(FILE, 0)).st_mtime == 1000


def test_what_dead_processes_left_behind_is_removed(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path / "cache", 450, block_bytes=100)
    cache.put(FILE, 0, bytes(100))
    old, new = (temporary_path(Path(cache._path(FILE, block))) for block in (1, 2))
    for path, age_s in ((old, 2 * 3600), (new, 60)):
        path.write_bytes(bytes(100))
        os.utime(path, (time.time() - age_s,) * 2)
    (tmp_path / "cache" / "bytes").unlink()  # so that the sizes are counted
    cache.put(FILE, 1, bytes(100))
    assert not old.exists()
    assert new.exists()  # somebody writes it now
    assert (tmp_path / "cache" / "bytes").read_text() == str(104 + 100 + 104)
