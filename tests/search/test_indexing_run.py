"""How indexing runs: stages that overlap, bounded memory, progress, fast decoding."""

import gc
import io
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy
from support.collection_toys import ToyEngine, contents, counts, fresh, never, run, toy_model, values, writing
from support.tars import tar_of
from test_sources import encoded

from tandem.errors import TandemError
from tandem.model import Model
from tandem.search.indexing import preparing, progress
from tandem.search.indexing.local import index
from tandem.search.indexing.progress import IndexingProgress
from tandem.search.indexing.run import IndexingOptions, open_sources


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with `images/`, five of them, for a collection beside it."""
    toy.write_images(tmp_path / "images", 5)
    return tmp_path


# --- how it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stages_overlap_and_only_the_caller_writes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a batch is written the next one is encoded, and while that happens others are decoded."""
    toy.write_images(home / "images", 24)
    decoding, encoding = threading.Event(), threading.Event()
    seen: set[str] = set()
    engine = ToyEngine()
    real_encode, real_decode = engine.encode_images, preparing.decode_in_budget

    def encode(pixels: np.ndarray) -> np.ndarray:
        encoding.set()
        decoding.clear()
        if decoding.wait(0.5):
            seen.add("decoded while encoding")
        return real_encode(pixels)

    def decode(*arguments: Any, **options: Any) -> Any:
        decoding.set()
        return real_decode(*arguments, **options)

    engine.encode_images = encode  # type: ignore[method-assign]
    monkeypatch.setattr(preparing, "decode_in_budget", decode)
    with writing(home) as (store, ledger):
        real_upsert = store.upsert
        writers = set()

        def upsert(records: Any) -> None:
            writers.add(threading.get_ident())
            encoding.clear()
            if encoding.wait(0.5):
                seen.add("encoded while writing")
            real_upsert(records)

        monkeypatch.setattr(store, "upsert", upsert)
        options = IndexingOptions(batch_size=3)
        with open_sources([home / "images"], options) as sources:
            index(store, lambda: Model(toy.checkpoint(), engine), sources, ledger, options)  # type: ignore[arg-type]
    assert seen == {"decoded while encoding", "encoded while writing"}
    assert writers == {threading.get_ident()}
    assert threading.get_ident() not in engine.threads


@pytest.mark.parametrize("count", [60, pytest.param(180, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_files(home: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The images alive at any time are those that are under way, however many there are."""
    toy.write_images(home / "images", count)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0
    real = preparing.preprocess

    class Counted(np.ndarray):
        pass

    def preprocess(*arguments: Any) -> Any:
        nonlocal most
        pixels = real(*arguments).view(Counted)
        alive.add(Weak(pixels))
        most = max(most, len(alive))
        return pixels

    class Weak:
        def __init__(self, array: Counted) -> None:
            array.owner = self  # type: ignore[attr-defined]  # lives as long as the array

    monkeypatch.setattr(preparing, "preprocess", preprocess)
    run(home, home / "images", batch_size=4)
    gc.collect()
    assert 4 <= most <= 4 * 6  # two batches ahead of the encoder, one in it, and those waiting for the writer
    assert len(alive) == 0


def test_progress_counts_up_to_all_there_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0)
    toy.write_images(home / "images", 30)
    (home / "images/bad.jpg").write_bytes(b"bad")
    tar_of(home / "s.tar", {f"{i}.png": encoded(100 + i) for i in range(5)})
    reports: list[IndexingProgress] = []
    run(home, home / "images", home / "s.tar", batch_size=4, on_progress=reports.append)
    assert [one.done for one in reports] == sorted(one.done for one in reports)
    assert len(reports) > 2
    last = reports[-1]
    assert (last.done, last.total, last.skipped, last.seconds_left) == (36, 36, 1, 0)
    assert last.rate > 0
    reports.clear()
    run(home, home / "images", home / "s.tar", on_progress=reports.append, model=never)
    assert (reports[-1].done, reports[-1].skipped) == (36, 1)


def test_a_collection_inside_its_own_source_is_left_alone(home: Path) -> None:
    toy.random_image(99).save(home / "top.png")
    assert counts(run(home, home)) == {"added": 6}
    (home / "c.tandem/trap.png").write_bytes(encoded(98))
    assert counts(run(home, home)) == {"unchanged": 6}


def test_the_sources_are_checked_before_anything_is_done(home: Path) -> None:
    with pytest.raises(TandemError, match="nowhere"):
        run(home, home / "images", home / "nowhere", model=never)
    assert contents(home) == {}


# --- fast decoding -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fast_decoding_is_recorded_and_counted(home: Path) -> None:
    photos = home / "photos"
    photos.mkdir()
    toy.random_image(1, size=(2400, 1600)).save(photos / "large.jpg", quality=90)
    toy.random_image(2, size=(300, 260)).save(photos / "small.jpg")
    toy.random_image(3, size=(2400, 1600)).save(photos / "large.png", compress_level=1)
    report = run(home, photos, fast_decode=True)
    assert report.fast == 1
    large = values(home, photos / "large.jpg")
    assert (large["decoding"], large["width"], large["height"]) == ("fast", 2400, 1600)
    assert max(Image.open(io.BytesIO(large["thumbnail"])).size) == 256
    assert [values(home, photos / name)["decoding"] for name in ("small.jpg", "large.png")] == ["full", "full"]
    fast, full = contents(home), fresh(home, photos)
    assert fast.keys() == full.keys()
    for id, (_, vector) in fast.items():
        assert vector @ full[id][1] > 0.99
    assert run(home, photos).fast == 1  # what is there stays as it was made, and the report says so


def test_the_embedding_of_an_image_does_not_depend_on_its_batch() -> None:
    """What makes a run after a crash end like one without: other batches, the same vectors."""
    from tandem import engine as engines

    described = toy.checkpoint()
    engine = engines.build(described.config, described.tensors, engine="openvino")
    pixels = np.random.default_rng(0).integers(0, 256, (33, toy.SIZE, toy.SIZE, 3), dtype=np.uint8)
    whole = engine.encode_images(pixels)
    for size in (1, 2, 7, 32):
        parts = [engine.encode_images(pixels[i : i + size]) for i in range(0, 33, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-6)


def test_the_toy_model_is_one() -> None:
    assert toy_model().engine.encode_images(np.zeros((2, toy.SIZE, toy.SIZE, 3), np.uint8)).shape == (2, 12)
