"""The cache of blocks of shards at URLs: bounded, shared by processes, and never the end of a run."""

import errno
import os
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support import skip_without, toy
from support.range_server import RangeServer, serving
from support.training_toys import all_images, recipe, write_tar

from tandem.train.data import block_cache, remote
from tandem.train.data.block_cache import BlockCache
from tandem.train.data.loader import Loader
from tandem.train.data.remote import RemoteFile
from tandem.train.data.shard_reader import ShardReader
from tandem.train.run.validation import read_validation

skip_without("fsspec", "aiohttp")
CONTENT = np.random.default_rng(0).bytes(950)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    (folder / "a.tar").write_bytes(CONTENT)
    write_tar(folder / "t.tar", all_images())
    write_tar(folder / "v.tar", all_images()[::-1])
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[RangeServer]:
    with serving(root) as running:
        yield running


def stored(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.rglob("*.block"))


def test_the_cache_is_bounded_and_forgets_what_was_used_least_recently(tmp_path: Path) -> None:
    file = RemoteFile("https://host/a.tar", 10 * 100 - 50, "ETag x")
    cache = BlockCache(tmp_path / "cache", 450, block_bytes=100)
    for block in range(4):
        cache.put(file, block, bytes([block]) * 100)
        os.utime(cache._path(file, block), (1000 + block, 1000 + block))
    assert cache.get(file, 0, 20, 30) == bytes(10)  # used now
    other = BlockCache(tmp_path / "cache", 450, block_bytes=100)  # as of another process
    other.put(file, 9, b"9" * 50)
    assert [block for block in range(10) if cache.has(file, block)] == [0, 2, 3, 9]
    assert stored(tmp_path / "cache") <= 450
    assert other.get(file, 9, 0, 50) == b"9" * 50
    assert cache.get(file, 1, 0, 100) is None
    for block in range(1, 9):
        cache.put(file, block, bytes(100))
        assert stored(tmp_path / "cache") <= 450
    assert not cache.has(RemoteFile(file.url, file.size, "ETag y"), 9)  # another version is another file
    BlockCache(tmp_path / "small", 50, block_bytes=100).put(file, 0, bytes(100))
    assert stored(tmp_path / "small") == 0


def test_several_share_a_cache(tmp_path: Path) -> None:
    """Each with its own view of it, as processes have: all blocks are right or away, and the limit holds."""
    file = RemoteFile("https://host/a.tar", 8 * 100, "ETag x")
    caches = [BlockCache(tmp_path, 450, block_bytes=100) for _ in range(4)]

    def work(number: int) -> list[bytes]:
        cache, random = caches[number], np.random.default_rng(number)
        for block in random.integers(8, size=25).tolist():
            cache.put(file, block, bytes([block]) * 100)
        found = [cache.get(file, block, 0, 100) for block in range(8)]
        return [content for block, content in enumerate(found) if content not in (None, bytes([block]) * 100)]  # type: ignore[misc]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[]] * 4
    assert 0 < stored(tmp_path) <= int((tmp_path / "bytes").read_text()) <= 450
    assert not list(tmp_path.rglob("*.part"))


def test_room_is_made_in_the_folder_that_is_written_into(tmp_path: Path) -> None:
    """Its only block is what was used least recently: the folder goes, and is needed at once."""
    x, y = (RemoteFile(f"https://host/{name}.tar", 200, "ETag x") for name in "xy")
    cache = BlockCache(tmp_path / "cache", 350, block_bytes=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, (file, block) in enumerate(((x, 0), (y, 0), (y, 1), (x, 1))):
            cache.put(file, block, bytes([number]) * 100)
            os.utime(cache._path(file, block), (1000 + number, 1000 + number))
    assert cache.get(x, 1, 0, 100) == b"\3" * 100
    assert stored(tmp_path / "cache") <= 350


def test_a_folder_that_another_process_removes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RemoteFile("https://host/a.tar", 200, "ETag x")
    cache = BlockCache(tmp_path / "cache", 350, block_bytes=100)
    cache.put(file, 0, bytes(100))
    total = cache._total

    def remove_and_count() -> int:  # before the lock was held, as far as `put` can tell
        path = Path(cache._path(file, 0))
        path.unlink()
        path.parent.rmdir()
        return total()

    monkeypatch.setattr(cache, "_total", remove_and_count)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(file, 1, b"1" * 100)
    assert cache.get(file, 1, 0, 100) == b"1" * 100


def test_what_is_not_of_the_cache_is_left_alone(tmp_path: Path) -> None:
    """A pipe is not waited for, a sum below 0 not believed, a link not written through, and no other file removed."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("film.part", "7.block"):
        (mine / name).write_bytes(bytes(900))
        os.utime(mine / name, (1, 1))
    file = RemoteFile("https://host/a.tar", 900, "ETag x")
    cache = BlockCache(tmp_path, 350, block_bytes=100)
    (tmp_path / "bytes").write_text("-1000000")
    for block in range(9):
        cache.put(file, block, bytes(100))
        assert stored(tmp_path) - 900 <= 350
    assert len(list(mine.iterdir())) == 2
    (tmp_path / "bytes").unlink()
    (tmp_path / "precious").write_text("1")
    (tmp_path / "bytes").symlink_to("precious")
    cache.put(file, 0, bytes(100))
    assert (tmp_path / "precious").read_text() == "1"
    path = Path(cache._path(file, 5))
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.warns(UserWarning, match="parts of shards cannot be kept"):
        assert cache.get(file, 5, 0, 10) is None


def test_what_dead_processes_left_goes_and_what_is_there_counts_once(tmp_path: Path) -> None:
    file = RemoteFile("https://host/a.tar", 900, "ETag x")
    cache = BlockCache(tmp_path, 350, block_bytes=100)
    for _ in range(3):
        cache.put(file, 0, bytes(100))
    assert (tmp_path / "bytes").read_text() == "104"
    folder = Path(cache._path(file, 0)).parent
    dead, alive = (block_cache.temporary_path(folder / f"{number}.block") for number in (7, 8))
    for path in (dead, alive):
        path.write_bytes(bytes(50))
    os.utime(dead, (1, 1))
    for block in range(1, 5):
        cache.put(file, block, bytes(100))
    assert not dead.exists()


def test_a_damaged_block_is_fetched_again(server: RangeServer, tmp_path: Path) -> None:
    reader = ShardReader(cache := BlockCache(tmp_path, 10**9), 5)
    [file] = reader.find([f"{server.url}/a.tar"])
    right = reader.read(file, 100, 200)
    path = Path(cache._path(file, 0))
    path.write_bytes(bytes(path.stat().st_size))  # what a machine that went down may leave
    again = ShardReader(BlockCache(tmp_path, 10**9), 5)
    again.find([f"{server.url}/a.tar"])
    assert again.read(file, 100, 200) == right == CONTENT[100:200]
    assert BlockCache(tmp_path, 10**9).get(file, 0, 100, 200) == right


# --- a cache that keeps nothing ------------------------------------------------------------------------------------


def test_a_run_goes_on_without_a_cache_that_cannot_be_written(root: Path, server: RangeServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    source = {"path": "t.tar", "text": "captions", "per_batch": 12}
    here = Loader(recipe(tmp_path / "here", source, data_root=str(root)), toy.tokenizer())
    settings = {"cache_folder": str(tmp_path / "cache"), "patience_s": 5.0}
    with warnings.catch_warnings(record=True) as warned:
        there = Loader(recipe(tmp_path, source, data_root=server.url, remote=settings), toy.tokenizer())
        found = [there.batch(step).pixels.tobytes() for step in range(3)]
    [warning] = [str(each.message) for each in warned]
    assert "cache: parts of shards cannot be kept (Not a directory)" in warning
    assert "another remote.cache_folder" in warning
    assert found == [here.batch(step).pixels.tobytes() for step in range(3)]


def test_a_disk_that_fills_up_costs_no_bytes(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is still read from there, of the rest no more is fetched than is asked for; one warning."""
    cache = BlockCache(tmp_path, 10**9, block_bytes=100)
    reader = ShardReader(cache, 5)
    [file] = reader.find([f"{server.url}/a.tar"])
    reader.read(file, 0, 100)
    server.sent.clear()

    def full(path: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(block_cache, "temporary_path", full)
    wanted = [(file, 150, 160), (file, 290, 310), (file, 20, 30), (file, 710, 720)]
    with warnings.catch_warnings(record=True) as warned:
        reader.prefetch(wanted[:1])
        assert [reader.read(*each) for each in wanted[:1]] == [CONTENT[150:160]]
        reader.prefetch(wanted[1:])
        assert [reader.read(*each) for each in wanted[1:]] == [CONTENT[first:last] for _, first, last in wanted[1:]]
        cache.put(file, 5, bytes(100))
        again = pickle.loads(pickle.dumps(cache))
        again.put(file, 5, bytes(100))
    assert ["No space left on device" in str(each.message) for each in warned] == [True]
    assert sorted(size for _, size in server.sent) == [10, 10, 10, 100]
    monkeypatch.undo()
    assert again.get(file, 0, 0, 100) == CONTENT[:100]


def test_training_and_validation_share_the_limit(root: Path, server: RangeServer, tmp_path: Path) -> None:
    """The cache has room for one of both shards: the training set's, which is read again and again."""
    size = (root / "t.tar").stat().st_size
    settings = {"cache_folder": str(tmp_path / "cache"), "cache_gb": 1.5 * size / 1e9, "patience_s": 5.0}
    source = {"path": "t.tar", "text": "captions", "per_batch": 12}
    chosen = recipe(tmp_path, source, data_root=server.url, remote=settings, validation={"retrieval": "v.tar"})
    loader = Loader(chosen, toy.tokenizer())
    (found,) = read_validation(chosen, (), loader.reader)
    assert len(found.pixels) == len(all_images())
    names = {
        file.name: loader.reader.is_cached(file) for file in remote.find([f"{server.url}/{n}.tar" for n in "tv"], 5)
    }
    assert names == {"t.tar": True, "v.tar": False}
    assert stored(tmp_path / "cache") <= size + 4


def test_threads_make_one_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_systems", {})
    make, made = remote._new_file_system, []

    def slowly(scheme: str) -> object:
        made.append(scheme)
        os.sched_yield()
        return make(scheme)

    monkeypatch.setattr(remote, "_new_file_system", slowly)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: remote._file_system("https"), range(16)))
    assert made == ["https"]
    assert len(set(map(id, found))) == 1
