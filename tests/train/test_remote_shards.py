"""Training sets at URLs give the batches that they give as local files; what goes wrong is said in one line."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import s3_server, skip_without, toy
from support.range_server import RangeServer, serving
from support.training_toys import NAMES, all_images, recipe, write_tar

from tandem.errors import MissingExtraError, RemoteFileError, TandemError
from tandem.train.data import remote
from tandem.train.data.index import indexed_file
from tandem.train.data.loader import Loader
from tandem.train.data.remote import RemoteFile
from tandem.train.data.shard_reader import RemoteShard, ShardReader
from tandem.train.recipe import Source
from tandem.train.run.validation import read_validation

skip_without("fsspec", "aiohttp", "s3fs")
SOURCE = {"path": "{a,b}.tar", "text": "captions", "per_batch": 12}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    images = all_images()
    write_tar(folder / "a.tar", images)
    write_tar(folder / "b.tar", images[::-1])
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[RangeServer]:
    with serving(root) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSES_S", (0.01, 0.02))


def loader(url: str, folder: Path, cache_gb: float = 1.0, patience_s: float = 5.0, **source: Any) -> Loader:
    settings = {"cache_folder": str(folder / "cache"), "cache_gb": cache_gb, "patience_s": patience_s}
    chosen = recipe(folder, SOURCE | source, data_root=url, remote=settings)
    return Loader(chosen, toy.tokenizer())


def stored(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.rglob("*.block"))


@pytest.mark.parametrize("cached", ["all", "one of two", "none"])
def test_batches_are_those_of_local_files(root: Path, server: RangeServer, tmp_path: Path, cached: str) -> None:
    size = (root / "a.tar").stat().st_size
    limit_gb = {"all": 1.0, "one of two": 1.5 * size / 1e9, "none": 0.0}[cached]
    here = Loader(recipe(tmp_path / "here", SOURCE, data_root=str(root)), toy.tokenizer())
    there = loader(server.url, tmp_path, limit_gb)
    for step in (0, 1, 7):
        mine, theirs = there.batch(step), here.batch(step)
        assert (mine.keys, mine.texts) == (theirs.keys, theirs.texts)
        assert mine.pixels.tobytes() == theirs.pixels.tobytes()
    assert stored(tmp_path / "cache") == {"all": 2 * (size + 4), "one of two": size + 4, "none": 0}[cached]
    # Started again, what is kept is not sent again, and neither are the indexes.
    server.sent.clear()
    again = loader(server.url, tmp_path, limit_gb)
    assert again.batch(1).pixels.tobytes() == here.batch(1).pixels.tobytes()
    if cached == "all":
        assert server.sent == []
    elif cached == "none":
        images = {number: len(image) for number, image in enumerate(all_images())}
        assert server.bytes_sent() <= 12 * max(images.values())


def test_a_shard_that_was_cut_off_is_the_same_as_a_local_one(root: Path, server: RangeServer, tmp_path: Path) -> None:
    """Behind the damage is nothing; the image that it cuts is broken, and replaced by the same other one."""
    content = (root / "a.tar").read_bytes()
    with tarfile.open(root / "a.tar") as tar:
        members = [member for member in tar if member.name.endswith(".png")]
    for cut in (members[20].offset_data + members[20].size // 2, members[20].offset + 100):
        (root / "cut.tar").write_bytes(content[:cut])
        here = Loader(
            recipe(tmp_path / f"here{cut}", SOURCE | {"path": "cut.tar"}, data_root=str(root)), toy.tokenizer()
        )
        there = loader(server.url, tmp_path / f"there{cut}", path="cut.tar")
        assert there.sample_counts() == here.sample_counts() == [20]
        assert len(there.skipped()) == len(here.skipped()) >= 1
        for step in range(2):
            mine, theirs = there.batch(step), here.batch(step)
            assert (mine.keys, mine.replaced) == (theirs.keys, theirs.replaced)
            assert mine.pixels.tobytes() == theirs.pixels.tobytes()


def test_validation_sets_can_be_at_urls(root: Path, server: RangeServer, tmp_path: Path) -> None:
    chosen = {"retrieval": "a.tar", "sets": [{"name": "held", "path": "b.tar", "kind": "retrieval", "hold_out": 0.5}]}
    settings = {"cache_folder": str(tmp_path / "cache")}
    found = read_validation(recipe(tmp_path, SOURCE, data_root=server.url, remote=settings, validation=chosen))
    here = read_validation(recipe(tmp_path / "here", SOURCE, data_root=str(root), validation=chosen))
    assert [(one.texts, one.pixels.tobytes()) for one in found] == [(one.texts, one.pixels.tobytes()) for one in here]
    (root / "names.parquet").write_bytes(b"PAR1")
    other = recipe(tmp_path, SOURCE, data_root=server.url, validation={"zero_shot": "names.parquet"})
    with pytest.raises(RemoteFileError, match=r"names\.parquet: expected a \.tar"):
        read_validation(other)


def test_an_index_needs_no_more_than_headers_and_texts(server: RangeServer, root: Path, tmp_path: Path) -> None:
    """Of images that are large enough for a request of their own to pay."""
    with tarfile.open(root / "large.tar", "w") as tar:
        for number in range(12):
            for suffix, content in ((".jpg", bytes(300_000 + number)), (".txt", f"caption {number}".encode())):
                info = tarfile.TarInfo(f"{number:04d}{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    reader = ShardReader(patience_s=5)
    [file] = reader.find([f"{server.url}/large.tar"])
    indexed = indexed_file(file, Source("large.tar", "txt"), tmp_path, reader)
    assert indexed is not None
    assert (indexed.count, indexed.skipped) == (12, 0)
    assert server.bytes_sent() < file.size / 10
    local = indexed_file(root / "large.tar", Source("large.tar", "txt"), tmp_path)
    assert local is not None
    assert local.count == indexed.count


def test_a_remote_file_reads_like_a_file(server: RangeServer, root: Path) -> None:
    content = (root / "a.tar").read_bytes()
    reader = ShardReader(patience_s=5)
    [file] = reader.find([f"{server.url}/a.tar"])
    opened, random = RemoteShard(reader, file).open(), np.random.default_rng(0)
    for _ in range(30):
        at, size = int(random.integers(len(content) + 100)), int(random.integers(40_000))
        assert opened.seek(at) == at
        assert opened.read(size) == content[at : at + size]
    assert opened.seek(0, os.SEEK_END) == len(content)
    assert opened.read(10) == b""


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.tar", r"/none\.tar: no such file at this URL"),
        ("{a,none}.tar", r"/none\.tar: no such file at this URL"),
        ("*.tar", "a web server lists no files; name them with braces"),
        ("a.tar.gz", r"a\.tar\.gz: expected a \.tar that is not compressed"),
        ("packed.tar", r"packed\.tar: it is compressed"),
        ("ftp://host/a.tar", "ftp://host/a.tar: expected a path, s3://, gs:// or https://"),
        ("https://me:secret@host/a.tar", r"https://\.\.\.@\.\.\.: a recipe must not hold credentials; .*netrc"),
        ("s3://key:secret@host/a.tar", r"s3://\.\.\.@\.\.\.: .*set AWS_ACCESS_KEY_ID"),
        (
            "https://host/a.tar?X-Amz-Date=1&X-Amz-Signature=secret",
            r"^https://host/a\.tar\?\.\.\.: a signed URL, .*netrc",
        ),
        ("https://host/a.tar?sv=2024&sig=secret", "a signed URL, and a recipe must not hold credentials"),
        ("https://host/a.tar?Expires=1&Signature=secret&Key-Pair-Id=K", "a signed URL"),
        ("https://host/a.tar?access_token=secret", "a signed URL"),
    ],
)
def test_what_cannot_be_read_is_named(root: Path, server: RangeServer, tmp_path: Path, path: str, message: str) -> None:
    (root / "packed.tar").write_bytes(gzip.compress((root / "a.tar").read_bytes()))
    (root / "a.tar.gz").write_bytes(b"x")
    with pytest.raises(TandemError, match=message) as raised:
        loader(server.url, tmp_path, path=path)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_refused_file_asks_for_credentials_and_shows_no_signature(server: RangeServer, tmp_path: Path) -> None:
    server.status = [403] * 4
    with pytest.raises(RemoteFileError, match=r"/a\.tar: access is refused; name the host in ~/\.netrc") as raised:
        loader(server.url, tmp_path, path="a.tar?version=hidden")
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("status", [400, 429, 503])
def test_no_error_shows_a_query(server: RangeServer, tmp_path: Path, status: int) -> None:
    """A redirect may lead to a URL that is signed."""
    server.status = [status] * 1000
    with pytest.raises(RemoteFileError, match=rf"/a\.tar: cannot be read: HTTP {status};") as raised:
        loader(server.url, tmp_path, path="a.tar?version=hidden", patience_s=0.05)
    assert "hidden" not in str(raised.value)
    error = ValueError("Invalid URL https://cdn.host/x?Signature=hidden&Expires=1 here")
    assert "hidden" not in str(remote._final("https://host/a.tar", error))
    assert "hidden" not in str(remote._gone("https://host/a.tar", OSError(str(error))))


def test_another_range_than_was_asked_for_is_not_taken(server: RangeServer, root: Path) -> None:
    [file] = remote.find([f"{server.url}/a.tar"], 5)
    server.sends_range = "bytes 0-9/*"
    with pytest.raises(RemoteFileError, match=r"it sends bytes 0-9/\* instead of bytes 10-19;"):
        remote.read(file, 10, 20, 0.05)
    server.sends_range = f"bytes 10-19/{file.size + 1}"
    with pytest.raises(RemoteFileError, match="it changed while it was read"):
        remote.read(file, 10, 20, 5)


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_the_patience(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    [file] = remote.find([f"{server.url}/a.tar"], 5)
    monkeypatch.setattr(remote, "_LEAST_S", 0.05)
    with server.silent():
        with pytest.raises(RemoteFileError, match=r"/a\.tar: cannot be read: it does not answer;"):
            remote.find([file.url], 0.05)
        with pytest.raises(RemoteFileError, match=r"/a\.tar: cannot be read: it does not answer;"):
            remote.read(file, 0, 10, 0.05)


def test_a_query_that_is_no_signature_names_a_file(server: RangeServer, tmp_path: Path) -> None:
    there = loader(server.url, tmp_path, path=["a.tar?design=1", "a.tar?design=2"])
    assert len(there.samples[0].files) == 2
    assert len({each.index for each in there.samples[0].files}) == 2


def test_a_server_that_comes_back_changes_nothing(server: RangeServer, root: Path, tmp_path: Path) -> None:
    there = loader(server.url, tmp_path, 0.0)
    server.status = [503, 0, 500, 0]  # refused, cut, refused, cut
    here = Loader(recipe(tmp_path / "here", SOURCE, data_root=str(root)), toy.tokenizer())
    assert there.batch(3).pixels.tobytes() == here.batch(3).pixels.tobytes()
    assert server.status == []


def test_a_server_that_stays_away_ends_the_run_in_one_line(root: Path, tmp_path: Path) -> None:
    with serving(root) as server:
        there = loader(server.url, tmp_path, 0.0, patience_s=0.1)
    with pytest.raises(RemoteFileError, match=r"\.tar: cannot be read: .*start again when .* back") as raised:
        there.batch(0)
    assert "\n" not in str(raised.value)
    with pytest.raises(RemoteFileError, match="cannot be read"):  # not "no such file"
        loader(server.url, tmp_path, 0.0, patience_s=0.1)


@pytest.mark.parametrize("heeds_if_match", [True, False])
def test_a_shard_that_changes_during_a_run_ends_it(root: Path, tmp_path: Path, heeds_if_match: bool) -> None:
    (tmp_path / "a.tar").write_bytes((root / "a.tar").read_bytes())
    with serving(tmp_path) as server:
        server.heeds_if_match = heeds_if_match
        there = loader(server.url, tmp_path, 0.0, path="a.tar")
        before = there.batch(0)
        write_tar(tmp_path / "a.tar", all_images()[::-1])
        with pytest.raises(RemoteFileError, match=r"/a\.tar: it changed while it was read"):
            there.batch(0)
        again = loader(server.url, tmp_path, 0.0, path="a.tar")  # another start sees the new one
        assert again.batch(0).keys == before.keys
        assert again.batch(0).pixels.tobytes() != before.pixels.tobytes()


@pytest.mark.parametrize("told", ["Last-Modified", "nothing", "weak"])
def test_a_server_without_etags_is_held_to_time_and_size(root: Path, tmp_path: Path, told: str) -> None:
    content = (root / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(content)
    with serving(tmp_path) as server:
        server.versions = {"Last-Modified": told, "nothing": "", "weak": "ETag"}[told]
        server.weak_etags = told == "weak"
        server.heeds_if_match = False
        [file] = remote.find([f"{server.url}/a.tar"], 5)
        assert remote.read(file, 10, 20, 5) == content[10:20]
        if told == "nothing":
            (tmp_path / "a.tar").write_bytes(content + bytes(512))
        elif told == "weak":
            (tmp_path / "a.tar").write_bytes(content[::-1])
        else:
            os.utime(tmp_path / "a.tar", (1000, 1000))
        with pytest.raises(RemoteFileError, match=r"/a\.tar: it changed while it was read"):
            remote.read(file, 10, 20, 5)


def test_a_server_without_ranges_is_refused(server: RangeServer, tmp_path: Path) -> None:
    server.ranges = False
    with pytest.raises(RemoteFileError, match=r"its server sends no ranges of bytes; fetch the file"):
        loader(server.url, tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gcsfs", "gcsfs.core"):  # another test may have imported it
        monkeypatch.setitem(__import__("sys").modules, name, None)
    monkeypatch.setattr(remote, "_systems", {})
    with pytest.raises(MissingExtraError, match=r"reading gs:// needs gcsfs; install it with: .*tandem-clip\[gcs\]"):
        loader("gs://bucket", tmp_path)


def test_what_img2dataset_writes_is_read(tmp_path: Path) -> None:
    """Its shards: `KEY.jpg`, `KEY.txt`, `KEY.json`; images that failed have none of them, only a row in the Parquet."""
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for number, image in enumerate(all_images()[:4]):
            about = {"caption": f"a {NAMES[number]} one", "url": "https://host/1.jpg", "key": f"00000000{number}"}
            about |= {"status": "success", "error_message": None, "width": 24, "height": 20, "exif": "{}"}
            parts = {"jpg": image, "json": json.dumps(about, indent=4).encode(), "txt": about["caption"].encode()}  # type: ignore[union-attr]
            for suffix, content in parts.items():
                info = tarfile.TarInfo(f"00000000{number}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    (tmp_path / "00000_stats.json").write_text("{}")
    for text in ("", "txt", "caption"):
        source = {"path": "*.tar", "text": text, "per_batch": 2}
        found = Loader(recipe(tmp_path, source), toy.tokenizer())
        assert found.all_texts() == [f"a {name} one" for name in dict.fromkeys(NAMES[:4])]
        assert found.sample_counts() == [4]
        assert found.skipped() == []


# --- S3 ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket(root: Path) -> str:
    import fsspec

    running = s3_server.shared_server()
    system = fsspec.filesystem("s3", endpoint_url=running.endpoint)
    for name in ("a", "b"):
        system.put_file(str(root / f"{name}.tar"), f"{s3_server.BUCKET}/shards/{name}.tar")
    return f"s3://{s3_server.BUCKET}/shards"


@pytest.mark.s3
def test_a_run_from_s3_that_is_killed_ends_in_the_bits_of_one_from_files(
    bucket: str, root: Path, tmp_path: Path
) -> None:
    from support import run_toys

    plain = ["steps=6", "stages=[]", "validation={every_steps=100}", "workers=1", "vocabulary=530"]
    plain += ["model.text.vocabulary_size=530", "model.text.start_id=528", "model.text.end_id=529"]
    source = 'data=[{{path="{}", text="captions", per_batch=12}}]'

    def run(name: str, path: str, die: str = "") -> list[int | None]:
        recipe_file = run_toys.write_recipe(root, tmp_path / name)
        overrides = [*plain, source.format(path), f'remote.cache_folder="{tmp_path}/cache"']
        return run_toys.finish(run_toys.start(recipe_file, overrides, die=die))

    assert run("here", "{a,b}.tar") == [0]
    assert run("there", f"{bucket}/*.tar", die="step 5") == [-9]
    assert run("there", f"{bucket}/*.tar") == [0]
    mine, theirs = (run_toys.last_state(tmp_path / name) for name in ("there", "here"))
    assert mine["step"] == theirs["step"] == 6
    assert mine.keys() == theirs.keys()
    assert not [name for name in mine if name != "step" and mine[name].tolist() != theirs[name].tolist()]
    assert stored(tmp_path / "cache") == sum((root / f"{name}.tar").stat().st_size + 4 for name in "ab")


@pytest.mark.s3
def test_errors_of_s3_are_one_line(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_systems", {})
    with pytest.raises(RemoteFileError, match=r"s3://photos/shards/none\.tar: no such file at this URL"):
        loader(bucket, tmp_path, path="none.tar")
    with pytest.raises(RemoteFileError, match=r"s3://photos/shards/c\*\.tar: no such file at this URL"):
        loader(bucket, tmp_path, path="c*.tar")
    [file] = remote.find([f"{bucket}/a.tar"], 5)
    changed = RemoteFile(file.url, file.size, 'ETag "0"')
    with pytest.raises(RemoteFileError, match="it changed while it was read"):
        remote.read(changed, 0, 10, 5)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(remote, "_systems", {})
    with pytest.raises(RemoteFileError, match="no credentials for s3://; set AWS_ACCESS_KEY_ID"):
        loader(bucket, tmp_path, path="a.tar")
