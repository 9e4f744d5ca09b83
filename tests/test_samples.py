"""Files of many images have one kind for every reader: indexing, calibration, training and validation."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.images import encoded, scene
from support.training_toys import add

from tandem.errors import DataError
from tandem.samples import image_bytes, read_samples, shard_kind
from tandem.search.calibration.caption_set import read_captioned
from tandem.search.indexing import entries, shards, sources
from tandem.search.indexing.entries import Entry, Shard
from tandem.train.data.index import indexed_file, open_index
from tandem.train.data.paths import file_kind
from tandem.train.recipe import Source

TARS = {"a.tar": "w", "a.TAR": "w", "a.tar.gz": "w:gz", "a.tgz": "w:gz", "a.tar.bz2": "w:bz2", "a.Tar.XZ": "w:xz"}
PARQUETS = ("a.parquet", "a.PARQUET", "a.pq", "a.Pq")
IMAGE = encoded(scene(), "PNG")


@pytest.fixture(params=[*TARS, *PARQUETS])
def shard(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / request.param
    if path.name in TARS:
        with tarfile.open(path, TARS[path.name]) as tar:  # type: ignore[call-overload]
            add(tar, "0.png", IMAGE)
            add(tar, "0.json", json.dumps({"caption": "a scene"}).encode())
    else:
        pq.write_table(pa.table({"image": [{"bytes": IMAGE, "path": "0.png"}], "caption": ["a scene"]}), path)
    return path


def test_indexing_reads_every_spelling(shard: Path) -> None:
    for named in (shard, shard.parent / "a.*"):
        with sources.find([named]) as found:
            (item,) = found.items()
        assert isinstance(item, Shard)
        (entry,) = shards.entries(item)
        assert isinstance(entry, Entry)
        assert entry.caption == "a scene"
        assert entries.shard_of(entry.path) == str(shard)
        assert shards.length(item) == 1


def test_calibration_reads_every_spelling(shard: Path) -> None:
    (sample,) = read_captioned([shard])
    assert (sample.image, sample.texts) == (IMAGE, ("a scene",))


def test_training_reads_every_spelling(shard: Path) -> None:
    assert file_kind(shard) == shard_kind(shard)
    source = Source(path=shard.name, image="image", text="caption", kind="captions", per_batch=1)
    found = indexed_file(shard, source, shard.parent / "cache")
    assert found is not None
    assert (found.count, found.skipped) == (1, 0)
    assert json.loads(open_index(found).texts[0]) == ["a scene"]


def test_validation_reads_every_spelling(shard: Path) -> None:
    (sample,) = read_samples(shard, "caption")
    assert (sample.image, sample.texts) == (IMAGE, ("a scene",))


@pytest.mark.parametrize("name", ["a.tar.zst", "a.zip", "parquet", "a.parquet.txt", "a.csv"])
def test_other_files_are_no_shards(tmp_path: Path, name: str) -> None:
    assert shard_kind(name) is None
    (tmp_path / name).write_bytes(b"x")
    if name != "a.csv":
        with pytest.raises(DataError, match=r"expected a tar, \.parquet"):
            file_kind(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"x", b"x"),
        ({"bytes": b"x", "path": "a"}, b"x"),
        ({"bytes": None, "path": "a"}, None),
        ({"path": "a"}, None),
        ("a.png", None),
        (None, None),
    ],
)
def test_image_bytes(value: Any, expected: bytes | None) -> None:
    assert image_bytes(value) == expected
