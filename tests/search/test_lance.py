"""LanceDB: what the contract (contract/) does not ask: collections, limits and errors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import s3_server, skip_without, toy
from support.lance_toys import SCHEMA, D, ids_of, records, table_of, unit

import tandem
from tandem import weights
from tandem.cli import main
from tandem.errors import (
    MissingExtraError,
    StoreBusyError,
    StoreError,
    TandemError,
)
from tandem.search.migration import migrate
from tandem.search.stores.backends import backend, create_store, exists, open_store
from tandem.search.stores.lance.database import Database, _translated, parse_address
from tandem.search.stores.protocol import Records, Schema, Store

skip_without("lancedb")

pytest_plugins = ["support.lance_toys"]


# --- collections ---


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that are alike in all but their weights."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "other")):
        weights.write(toy.checkpoint(seed=seed, name=name), folder / name, "tandem")
    return folder / "one", folder / "other"


@pytest.mark.slow
def test_a_collection_is_filled_searched_and_moved(
    url: str, tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    images = tmp_path / "images"
    images.mkdir()
    for i in range(8):
        toy.random_image(i, (40 + 10 * i, 60)).save(images / f"{i}.png")
    photos = tandem.open(url, models[0])
    assert photos.add(images).added == 8
    (ledger,) = (tmp_path / "home" / "ledgers").glob("*.sqlite")
    assert ledger.stem == photos.store.notes["identity"]

    other = tandem.open(url)
    assert other.search(image=images / "3.png", k=1)[0].path == str(images / "3.png")
    assert len(other.search("a dog", k=5, where="width >= 60")) == 5
    first = other.search(image=images / "5.png", k=1)[0]
    assert other.delete([first.id]) == 1
    assert photos.count() == 7
    assert photos.add(images).added == 1  # a removed image is added again with its file

    moved = migrate(url, tandem.load(models[1]))
    assert (moved.done, moved.images, moved.lost) == (True, 8, 0)
    assert other.store.is_stale()
    now = tandem.open(url)
    assert now.model.name == "other"
    assert now.search(image=images / "3.png", k=1)[0].score == pytest.approx(1, abs=1e-5)
    assert now.add(images).unchanged >= 7


def test_index_and_search_as_commands(
    url: str,
    tmp_path: Path,
    models: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    toy.random_image(1, (40, 60)).save(tmp_path / "a.png")
    assert main(["index", str(tmp_path / "a.png"), "--to", url, "--model", str(models[0])]) == 0
    assert main(["search", url, "--image", str(tmp_path / "a.png")]) == 0
    assert "a.png" in capsys.readouterr().out
    assert main(["search", f"{url}_other", "a dog"]) == 2
    assert "no collection there" in capsys.readouterr().err


# --- limits and errors ---


def test_odd_texts_and_values_that_are_refused(store: Store) -> None:
    ids = ["a\\b", "it's", "nl\nx", "日本🐈", 'say "b"', "%", "", "a`b"]
    store.upsert(Records(ids, unit(len(ids)), {"path": list(ids)}))
    assert list(store.get(ids, columns=["path"]).columns["path"]) == ids
    assert store.delete(ids[:3]) == 3
    bad = (
        ({"path": ["fine", "\udcff"]}, "column path.*Unicode"),
        ({"width": [1, 2**63]}, "column width.*larger"),
        ({"width": [1, "two"]}, "column width is integer"),
        ({"width": [1, True]}, "column width is integer"),
    )
    for columns, words in bad:
        with pytest.raises(TandemError, match=words):
            store.upsert(Records(["a", "b"], unit(2), columns))
    with pytest.raises(TandemError, match="NaN"):
        store.search(np.full((1, D), np.nan, np.float32), 3)
    assert len(store.get(["\udcff"])) == store.delete(["\udcff"]) == 0
    assert store.count() == len(ids) - 3
    store.close()
    for act in (store.count, lambda: store.upsert(records(1))):
        with pytest.raises(StoreError, match="closed"):
            act()


def test_columns_of_any_name(local: Store, tmp_path: Path) -> None:
    """A column that no field can be called is kept under another; the others stay as they are, for other tools."""
    names = ["path", "Path", "a column", "vector", "_rowid", "column_1", "order", "x`y", "äö", "_distance", "select"]
    store = create_store(f"lance:{tmp_path}/other", Schema(4, dict.fromkeys(names, "integer")), {})
    store.upsert(Records(["a", "b"], unit(2, 4), {name: [number, -1] for number, name in enumerate(names)}))
    for number, name in enumerate(names):
        quoted = '"' + name + '"'
        assert ids_of(store, f"{quoted} = {number}") == ["a"]
    assert store.get(["a"], columns=names).row(0) == {name: number for number, name in enumerate(names)}
    (hits,) = store.search(unit(2, 4)[:1], 1)
    assert hits[0].metadata == {name: number for number, name in enumerate(names)}
    assert {"path", "order", "select"} <= set(table_of(store).schema.names)
    store.close()


def test_what_tandem_did_not_make(url: str, tmp_path: Path) -> None:
    import pyarrow as pa

    Database(parse_address(url)).create_table("tandem", pa.schema([pa.field("x", pa.string())]))
    for act in (
        lambda: open_store(url),
        lambda: exists(url),
        lambda: create_store(url, SCHEMA, {}),
        backend(url).remove,
    ):
        with pytest.raises(StoreError, match="Tandem did not make"):
            act()
    (tmp_path / "notes.txt").write_text("mine")
    for address, words in ((f"lance:{tmp_path}", "empty or a new folder"), (f"lance:{tmp_path}/notes.txt", "a file")):
        with pytest.raises(StoreError, match=words):
            create_store(address, SCHEMA, {})
    assert not exists(f"lance:{tmp_path}/nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("lance+s3://user:secret@bucket/photos", "AWS_ACCESS_KEY_ID"),
        ("lance+s3://bucket/photos?key=secret", "AWS_ACCESS_KEY_ID"),
        ("lance+s3://bucket", "lance\\+s3://BUCKET/NAME"),
        ("lance+s3:///photos", "lance\\+s3://BUCKET/NAME"),
        ("lance+ftp://bucket/photos", "lance\\+s3://BUCKET/NAME"),
        ("lance+s3://[bucket/photos", "cannot be read"),
        ("lance:", "lance:FOLDER"),
        ("lance://photos", "lance:FOLDER"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, words: str) -> None:
    for act in (lambda: open_store(address), lambda: create_store(address, SCHEMA, {})):
        with pytest.raises(StoreError, match=words) as caught:
            act()
        assert "secret" not in str(caught.value)


def test_a_forgotten_prefix_is_found_out(tmp_path: Path) -> None:
    folder = tmp_path / "photos.lance"
    create_store(f"lance:{folder}", SCHEMA, {}).close()
    for act in (lambda: open_store(folder), lambda: create_store(folder, SCHEMA, {}), lambda: tandem.open(folder)):
        with pytest.raises(StoreError, match=f"did you mean lance:{folder}\\?$"):
            act()
    for scheme in ("s3", "gs", "az"):
        with pytest.raises(StoreError, match=rf"did you mean lance\+{scheme}://bucket/x\?$"):
            backend(f"{scheme}://bucket/x")
    for text in ("ftp://bucket/x", "s3://key:secret@bucket/x"):
        with pytest.raises(StoreError, match="expected a folder") as caught:
            backend(text)
        assert "did you mean" not in str(caught.value)


def test_addresses() -> None:
    place = backend("lance+s3://bucket/some/where/photos/")
    assert (place.url, place.name, place.is_shared) == ("lance+s3://bucket/some/where/photos", "photos", True)
    assert parse_address("lance+gs://bucket/photos").uri == "gs://bucket/photos"
    assert parse_address("lance+az://container/photos").uri == "az://container/photos"
    assert backend("lance:~/photos.lance").url == f"lance:{Path.home()}/photos.lance"
    assert backend("lance:photos.lance").name == "photos"


@pytest.mark.s3
@pytest.mark.slow
def test_unreachable_buckets_are_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto")
    s3_server.shared_server()
    with pytest.raises(StoreError, match="no bucket of that name"):
        open_store("lance+s3://nosuchbucket/photos")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"cannot be reached.*AWS_ENDPOINT_URL") as caught:
        open_store(f"lance+s3://{s3_server.BUCKET}/photos")
    assert "\n" not in str(caught.value)


def test_errors_of_object_storage_are_ours() -> None:
    address = parse_address("lance+s3://bucket/photos")
    for message, kind, words in (
        ("Generic S3 error: Client error with status 403 Forbidden: AccessDenied", StoreError, "credentials"),
        ("Failed to get AWS credentials: ProviderError", StoreError, "credentials"),
        ("lance error: Commit conflict for version 7: this transaction was ...", StoreBusyError, "other processes"),
        ("kind: Builder, source: BadScheme", StoreError, "AWS_ALLOW_HTTP"),
        ("Too many\nconcurrent writers", StoreBusyError, "other processes"),
        (
            "lance error: LanceError(IO): Generic S3 error: Failed to resolve region for bucket 'bucket', "
            "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/lance-io-13.0.0/src/object_store/aws.rs:319:13",
            StoreError,
            "set AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL for other S3 servers)",
        ),
        ("something\n  else", StoreError, "LanceDB: something else"),
    ):
        error = _translated(address, RuntimeError(message))
        assert type(error) is kind
        assert words in str(error)


def test_messages_do_not_name_places_in_the_source_of_libraries() -> None:
    address = parse_address("lance:photos.lance")
    for message in (
        "lance error: LanceError(IO): disk on fire, /root/.cargo/registry/src/index/lance-13.0.0/src/io.rs:319:13",
        "lance error: LanceError(IO): disk on fire, rust/lance-io/src/local.rs:31",
        "lance error: LanceError(IO): disk on fire (at C:\\cargo\\src\\io.rs:3:4)",
    ):
        assert str(_translated(address, OSError(message))).endswith("LanceError(IO): disk on fire")


@pytest.mark.slow
def test_nothing_is_written_to_stderr_and_lancedb_is_imported_when_it_is_needed(tmp_path: Path) -> None:
    program = f"""
import sys
from tandem.search.stores.backends import backend, create_store, open_store
from tandem.search.stores.protocol import Records, Schema
import numpy as np
create_store({str(tmp_path / "c.tandem")!r}, Schema(4, {{"width": "integer"}}), {{}}).close()
backend("lance+s3://bucket/photos")
assert "lancedb" not in sys.modules and "pyarrow" not in sys.modules
store = create_store({f"lance:{tmp_path}/c.lance"!r}, Schema(4, {{"width": "integer"}}), {{}})
from tandem.search.stores.lance import maintenance
maintenance.LOOK_EVERY = maintenance.INDEX_FROM = 1
rows = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
for _ in range(3):
    store.upsert(Records([str(i) for i in range(300)], rows))
assert len(store.search(rows[:1], 5)[0]) == 5
store.close()
print("as it should")
"""
    done = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "as it should\n")


def test_without_lancedb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtraError, match=r"tandem-clip\[lance\]"):
        open_store("lance+s3://bucket/photos")
    with pytest.raises(MissingExtraError, match=r"tandem-clip\[lance\]"):
        create_store(f"lance:{tmp_path}/photos", SCHEMA, {})
