"""Training sets at gs://, through gcsfs, from a server on loopback that answers as Google's JSON API does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import gcs_server, skip_without, toy
from support.gcs_server import BUCKET, GcsServer
from support.training_toys import all_images, recipe, write_tar

from tandem.errors import RemoteFileError
from tandem.train.data import remote
from tandem.train.data.loader import Loader

skip_without("fsspec", "aiohttp", "gcsfs")
SOURCE = {"path": "*.tar", "text": "captions", "per_batch": 12}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_tar(folder / "a.tar", all_images())
    write_tar(folder / "b.tar", all_images()[::-1])
    return folder


@pytest.fixture
def server(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    import fsspec.config

    with gcs_server.serving() as running:
        for name in ("a.tar", "b.tar"):
            running.put(f"set/{name}", (root / name).read_bytes())
        monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon", "endpoint_url": running.url})
        monkeypatch.setattr(remote, "_systems", {})
        monkeypatch.setattr(remote, "_PAUSES_S", (0.01, 0.02))
        yield running


def loader(folder: Path, path: str = "*.tar") -> Loader:
    settings = {"cache_folder": str(folder / "cache"), "cache_gb": 0.0, "patience_s": 5.0}
    chosen = recipe(folder, SOURCE | {"path": path}, data_root=f"gs://{BUCKET}/set", remote=settings)
    return Loader(chosen, toy.tokenizer())


def test_batches_are_those_of_local_files(root: Path, server: GcsServer, tmp_path: Path) -> None:
    here = Loader(recipe(tmp_path / "here", SOURCE, data_root=str(root)), toy.tokenizer())
    there = loader(tmp_path)
    server.sent.clear()
    mine, theirs = there.batch(3), here.batch(3)
    assert mine.pixels.tobytes() == theirs.pixels.tobytes()
    assert mine.texts == theirs.texts
    assert sum(size for _, size in server.sent) <= 12 * max(map(len, all_images()))


def test_a_shard_of_another_generation_ends_the_run(root: Path, server: GcsServer, tmp_path: Path) -> None:
    """Of the same size: nothing else tells them apart."""
    there = loader(tmp_path, "a.tar")
    before = there.batch(0)
    server.put("set/a.tar", server.objects["set/a.tar"][1])
    with pytest.raises(RemoteFileError, match=r"^gs://shards/set/a\.tar: it changed while it was read"):
        there.batch(0)
    assert loader(tmp_path, "a.tar").batch(0).pixels.tobytes() == before.pixels.tobytes()


def test_errors_are_one_line(server: GcsServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RemoteFileError, match=r"^gs://shards/set/none\.tar: no such file at this URL$"):
        loader(tmp_path, "none.tar")
    there = loader(tmp_path, "a.tar")
    server.status = [403] * 12
    with pytest.raises(RemoteFileError, match=r"a\.tar: access is refused; set GOOGLE_APPLICATION_CREDENTIALS"):
        there.batch(0)
    assert capfd.readouterr().err == ""
