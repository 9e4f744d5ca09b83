"""`tandem embed`: vectors in files and as JSON, whole or not at all."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy
from support.commands import Run, one_line

from tandem.model import load


def test_embed_photos_to_npz(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    target = tmp_path / "vectors.npz"
    outcome = tandem("embed", *photos, "gone.png", "--out", target, "--model", model_folder, "--batch-size", "2")
    assert outcome.code == 1
    assert "gone.png" in outcome.err
    model = load(model_folder)
    with np.load(target) as file:
        assert list(file["ids"]) == photos
        np.testing.assert_allclose(file["vectors"], model.embed_images(photos), atol=1e-6)
        assert (str(file["fingerprint"]), str(file["model"]), str(file["kind"])) == (model.fingerprint, "toy", "images")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos", "vectors.npz"]


def test_embed_texts_to_parquet(
    tandem: Run, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from tandem.cli import embedding, vector_files

    monkeypatch.setattr(embedding, "_TEXT_BATCH", 3)
    monkeypatch.setattr(vector_files, "_ROW_BATCH", 5)
    texts = [f"a cat number {i}" for i in range(11)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    target = tmp_path / "vectors.parquet"
    outcome = tandem("embed", "--texts", tmp_path / "texts.txt", "--out", target, "--model", model_folder, "--json")
    assert outcome.code == 0
    assert outcome.json["count"] == 11
    model = load(model_folder)
    file = parquet.ParquetFile(target)
    assert file.metadata.num_row_groups == 2
    table = file.read()
    assert table["id"].to_pylist() == texts
    np.testing.assert_allclose(table["vector"].to_pylist(), model.embed_texts(texts), atol=1e-6)
    about = json.loads(table.schema.metadata[b"tandem"])
    assert about == {"model": "toy", "fingerprint": model.fingerprint, "kind": "texts"}


def test_embed_as_json(tandem: Run, model_folder: str) -> None:
    document = tandem("embed", "--text", "a cat", "--text", "a dog", "--json", "--model", model_folder).json
    model = load(model_folder)
    assert document["model"] == {"name": "toy", "fingerprint": model.fingerprint}
    assert [result["id"] for result in document["results"]] == ["a cat", "a dog"]
    vectors = [result["vector"] for result in document["results"]]
    np.testing.assert_allclose(vectors, model.embed_texts(["a cat", "a dog"]), atol=1e-6)


def test_embed_refuses_early(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    start = ("embed", "--model", model_folder)
    assert "nothing to embed" in one_line(tandem(*start, "--out", tmp_path / "v.npz"))
    assert "--out" in one_line(tandem(*start, photos[0]))
    assert ".csv" in one_line(tandem(*start, photos[0], "--out", tmp_path / "v.csv"))
    assert "run the command twice" in one_line(tandem(*start, photos[0], "--text", "x", "--out", tmp_path / "v.npz"))
    long = one_line(tandem(*start, "--text", "cat " * 100, "--out", tmp_path / "v.npz"))
    assert "shorten it, or add --long truncate or --long split" in long
    assert tandem(*start, "--text", "cat " * 100, "--truncate", "--out", tmp_path / "v.npz").code == 0
    for both in (("--long", "split", "--truncate"), ("--truncate", "--long", "split")):
        message = one_line(tandem(*start, "--text", "x", *both, "--out", tmp_path / "both.npz"))
        assert re.search("--truncate: not allowed with argument --long|--long: not allowed with .* --truncate", message)
    assert not (tmp_path / "both.npz").exists()


def test_long_texts_are_split_where_asked(tandem: Run, model_folder: str) -> None:
    text = "the cat runs. " * 20
    document = tandem("embed", "--model", model_folder, "--text", text, "--long", "split", "--json").json
    expected = load(model_folder).embed_texts(text, long="split")
    np.testing.assert_allclose([document["results"][0]["vector"]], expected, atol=1e-6)


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_nothing_half_written_is_left(
    tandem: Run, model_folder: str, photos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    target = tmp_path / f"vectors.{ending}"
    target.write_bytes(b"from before")
    assert "gone.png" in one_line(tandem("embed", "gone.png", "--out", target, "--model", model_folder))
    assert target.read_bytes() == b"from before"

    from tandem.cli import embedding

    def fails_half_way(*_: Any, **__: Any) -> Any:
        yield ["a"], np.zeros((1, toy.DIMENSIONS), dtype=np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "embed_images", fails_half_way)
    assert tandem("embed", *photos, "--out", target, "--model", model_folder).code == 130
    assert target.read_bytes() == b"from before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos", target.name]


@pytest.mark.parametrize("ending", ["npz", "parquet", "json"])
def test_ids_are_utf8_whatever_the_files_are_called(
    tandem: Run, model_folder: str, photos: list[str], tmp_path: Path, ending: str
) -> None:
    odd = os.path.join(os.fsencode(tmp_path), b"b\xff.png")
    try:
        Path(os.fsdecode(odd)).write_bytes(Path(photos[0]).read_bytes())
    except OSError:
        pytest.skip("this file system wants UTF-8")
    target = tmp_path / f"q.{ending}"
    to = ("--json",) if ending == "json" else ("--out", target)
    outcome = tandem("embed", os.fsdecode(odd), *to, "--model", model_folder)
    assert outcome.code == 0
    if ending == "json":
        ids = [result["id"] for result in outcome.json["results"]]
    elif ending == "npz":
        ids = np.load(target)["ids"].tolist()
    else:
        ids = pytest.importorskip("pyarrow.parquet").read_table(target)["id"].to_pylist()
    assert ids == [str(tmp_path / "b") + r"\xff.png"]


def test_embed_accepts_uppercase_suffixes_and_creates_the_folder(
    tandem: Run, model_folder: str, tmp_path: Path
) -> None:
    target = tmp_path / "new" / "deep" / "v.NPZ"
    assert tandem("embed", "--text", "a cat", "--out", target, "--model", model_folder).code == 0
    assert np.load(target)["ids"].tolist() == ["a cat"]
    (tmp_path / "file").write_text("x")
    one_line(tandem("embed", "--text", "a cat", "--out", tmp_path / "file" / "v.npz", "--model", model_folder))


def test_states_to_parquet(
    tandem: Run, model_folder: str, photos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from tandem.cli import states_file

    monkeypatch.setattr(states_file, "_ROW_GROUP_BYTES", 2 * 17 * 24 * 4)  # two images
    target = tmp_path / "states.parquet"
    outcome = tandem(
        "embed", *photos, "gone.png", "--states", "--layer", "1", "--out", target, "--model", model_folder, "--json"
    )
    assert outcome.code == 1
    assert "gone.png" in outcome.err
    model = load(model_folder)
    expected = model.image_states(photos, layer=1)
    file = parquet.ParquetFile(target)
    assert file.metadata.num_row_groups == (len(photos) + 1) // 2
    about = json.loads(file.schema_arrow.metadata[b"tandem"])
    assert about == {
        "model": "toy",
        "fingerprint": model.fingerprint,
        "kind": "image states",
        "layer": 1,
        "norm": None,
        "projection": False,
        "class_token": True,
    }
    assert outcome.json["model"] == {"name": "toy", "fingerprint": model.fingerprint}
    assert (outcome.json["count"], outcome.json["dimensions"], outcome.json["layer"]) == (len(photos), 24, 1)
    table = file.read()
    assert table["id"].to_pylist() == photos
    assert (table["rows"].to_pylist(), table["columns"].to_pylist()) == ([4] * len(photos), [4] * len(photos))
    for i in range(len(photos)):
        states = table["states"][i].values.flatten().to_numpy().reshape(-1, 24)
        np.testing.assert_allclose(states, expected.states[i], atol=1e-6)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos", target.name]


def test_projected_patches_alone(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "states.parquet"
    options = ("--layer", "-1", "--projection", "--no-class-token")
    outcome = tandem("embed", *photos, "--states", *options, "--out", target, "--model", model_folder)
    assert outcome.code == 0
    assert f"states of {len(photos)} photos at layer -1, {toy.DIMENSIONS} dimensions each, by toy" in outcome.out
    table = parquet.read_table(target)
    assert json.loads(table.schema.metadata[b"tandem"])["class_token"] is False
    expected = load(model_folder).image_states(photos, layer=-1, projection=True).patch_tokens
    np.testing.assert_allclose(table["states"].to_pylist(), expected, atol=1e-5)


def test_states_are_refused_early(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    start, target = ("embed", "--model", model_folder), tmp_path / "s.parquet"
    assert "--states are of photos" in one_line(tandem(*start, "--text", "x", "--states", "--out", target))
    assert "too many numbers for JSON" in one_line(tandem(*start, photos[0], "--states", "--json"))
    assert ".parquet alone" in one_line(tandem(*start, photos[0], "--states", "--out", tmp_path / "s.npz"))
    for option in (("--layer", "3"), ("--no-norm",), ("--projection",), ("--no-class-token",)):
        line = one_line(tandem(*start, photos[0], *option, "--out", target))
        assert f"{option[0].replace('no-norm', 'norm')} goes with --states" in line
    wrong = one_line(tandem(*start, photos[0], "--states", "--layer", "9", "--out", target))
    assert "layer: expected -3..2, got 9" in wrong
    assert not target.exists()
    assert "gone.png" in one_line(tandem(*start, "gone.png", "--states", "--out", target))
    assert not target.exists()


def test_large_photos_shrink_while_they_are_decoded(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    photo = tmp_path / "large.jpg"
    grid = np.mgrid[0:300, 0:400].sum(axis=0) % 256
    Image.fromarray(np.stack([grid, grid[::-1], 255 - grid], axis=-1).astype(np.uint8)).save(photo)
    asked = ("embed", photo, "--json", "--model", model_folder)
    whole, fast = (tandem(*asked, *flags).json for flags in ((), ("--fast-decode",)))
    assert ("decoding" in whole, fast["decoding"]) == (False, "fast")
    expected = load(model_folder).embed_images(photo, fast_decode=True)[0]
    np.testing.assert_allclose(fast["results"][0]["vector"], expected, atol=1e-6)
    assert fast["results"][0]["vector"] != whole["results"][0]["vector"]
    for flags in (("--text", "a cat", "--json"), (photo, "--states", "--out", tmp_path / "states.parquet")):
        outcome = tandem("embed", *flags, "--fast-decode", "--model", model_folder)
        assert outcome.code == 2
        assert "--fast-decode" in one_line(outcome)
