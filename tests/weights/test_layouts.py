"""Every layout: a round trip keeps every bit, what is written is whole, and the fingerprint tells models apart."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import toy
from support import weights_toys as toys

from tandem import weights
from tandem.config import ResNet
from tandem.errors import TandemError, WeightsError
from tandem.tokenizer import Tokenizer
from tandem.weights import Checkpoint

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
VIT_LAYOUTS: list[Any] = ["tandem", "transformers", "open_clip"]
MODELS = {"vit": toys.vit(), "gelu": toys.vit(activation="gelu"), "resnet": toys.resnet(), "basic": toys.basic()}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("model", "to"),
    [(m, to) for m in ("vit", "gelu") for to in VIT_LAYOUTS]
    + [("resnet", "tandem"), ("resnet", "open_clip"), ("basic", "tandem")],
)
def test_a_round_trip_keeps_every_bit_and_the_fingerprint(tmp_path: Path, model: str, to: Any, dtype: Any) -> None:
    checkpoint = toys.checkpoint(MODELS[model], dtype)
    folder = weights.write(checkpoint, tmp_path / "out", to)
    back = weights.read(folder)
    toys.same(back.tensors, checkpoint.tensors)
    for field in ("embed_dim", "vision", "text", "preprocessing"):
        assert getattr(back.config, field) == getattr(checkpoint.config, field), field
    assert back.config.notes == {}
    assert back.tokenizer(["a cat and a dog"]).tolist() == checkpoint.tokenizer(["a cat and a dog"]).tolist()
    assert weights.fingerprint(back) == weights.fingerprint(checkpoint)


def test_mixed_precision_is_kept(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint()
    checkpoint.tensors["visual.proj"] = checkpoint.tensors["visual.proj"].astype(np.float16)
    for to in VIT_LAYOUTS:
        toys.same(weights.read(weights.write(checkpoint, tmp_path / to, to)).tensors, checkpoint.tensors)


def test_a_chain_through_all_formats_ends_where_it_began(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint(dtype=np.float16)
    current = checkpoint
    for i, to in enumerate([*VIT_LAYOUTS, *reversed(VIT_LAYOUTS)]):
        current = weights.read(weights.write(current, tmp_path / str(i), to))
    toys.same(current.tensors, checkpoint.tensors)
    assert weights.fingerprint(current) == weights.fingerprint(checkpoint)


@pytest.mark.parametrize("to", VIT_LAYOUTS)
def test_unusual_settings_travel(tmp_path: Path, to: Any) -> None:
    config = toys.vit(pad_id=7, start_id=toys.VOCABULARY - 1, end_id=toys.VOCABULARY - 2, mlp_width=133)
    config = dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, heads=4),
        preprocessing=dataclasses.replace(
            config.preprocessing,
            mean=(0.5, 0.4, 0.3),
            std=(0.1, 0.2, 0.3),
            resize_mode="squash",
            interpolation="bilinear",
        ),
    )
    back = weights.read(weights.write(toys.checkpoint(config), tmp_path / "out", to)).config
    assert (back.vision, back.text, back.preprocessing) == (config.vision, config.text, config.preprocessing)


def test_our_folder_keeps_name_licence_data_and_notes(tmp_path: Path) -> None:
    config = dataclasses.replace(toys.vit(), name="n", licence="CC0-1.0", data="toys", notes={"activation": "assumed"})
    folder = weights.write(toys.checkpoint(config), tmp_path / "out")
    assert weights.read(folder).config == config
    card = (folder / "README.md").read_text()
    assert "license: cc0-1.0" in card
    assert "| trained on | toys |" in card
    assert "- assumed" in card


@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_golden_models_are_read_from_one_file(shared: Path, model: str) -> None:
    path = shared / "golden" / f"{model}-tiny.safetensors"
    config, tensors = weights.read_tensors(path)
    stored = {n: a for n, a in load_file(path).items() if not n.endswith("num_batches_tracked")}
    toys.same(tensors, stored)
    assert (config.text.context_length, config.text.vocabulary_size, config.embed_dim) == (20, 600, 48)
    assert config.notes == {}  # the original's own arguments stand in the header
    if model == "resnet":
        assert config.vision == ResNet(96, (1, 2, 1, 1), 16, 8)


def test_the_fingerprint_covers_what_changes_vectors_and_nothing_else() -> None:
    base = toys.checkpoint()
    config = base.config
    same = [
        dataclasses.replace(base, source="elsewhere", tensors=dict(reversed(base.tensors.items()))),
        dataclasses.replace(
            base, config=dataclasses.replace(config, name="x", licence="y", data="z", notes={"a": "b"})
        ),
    ]
    assert {weights.fingerprint(one) for one in same} == {weights.fingerprint(base)}
    changed = dict(base.tensors)
    changed["logit_scale"] = np.nextafter(changed["logit_scale"], np.float32(9))
    half = {name: array.astype(np.float16) for name, array in base.tensors.items()}
    other_words = Tokenizer.clip()
    different = [
        dataclasses.replace(base, tensors=changed),
        dataclasses.replace(base, tensors=half),
        dataclasses.replace(base, config=toys.vit(activation="gelu")),
        dataclasses.replace(base, config=toys.vit(pad_id=3)),
        dataclasses.replace(base, tokenizer=other_words),
        dataclasses.replace(
            base,
            config=dataclasses.replace(
                config, preprocessing=dataclasses.replace(config.preprocessing, interpolation="bilinear")
            ),
        ),
    ]
    prints = [weights.fingerprint(one) for one in [base, *different]]
    assert len(set(prints)) == len(prints)
    assert all(len(value) == 64 and int(value, 16) for value in prints)


def test_nothing_is_overwritten_by_default_and_never_a_foreign_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    first = toys.checkpoint()
    weights.write(first, target)
    second = Checkpoint(first.config, toys.tensors(first.config, seed=1), first.tokenizer, "second")
    with pytest.raises(WeightsError, match="not empty"):
        weights.write(second, target)
    toys.same(weights.read(target).tensors, first.tensors)
    weights.write(second, target, "transformers", overwrite=True)
    toys.same(weights.read(target).tensors, second.tensors)
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(WeightsError, match=r"thesis.tex is not part of a model"):
        weights.write(first, target, overwrite=True)
    assert (target / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(WeightsError, match="expected a folder to write to, got a file"):
        weights.write(first, file, overwrite=True)


def test_a_model_can_be_written_over_the_folder_it_was_read_from(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(), tmp_path / "out")
    read = weights.read(folder)
    before = {name: array.copy() for name, array in read.tensors.items()}
    weights.write(read, folder, overwrite=True)
    toys.same(weights.read(folder).tensors, before)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = weights.write(toys.checkpoint(), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tandem.weights.folder.write_safetensors", full)
    with pytest.raises(WeightsError, match=r"out: cannot be written: No space left on device"):
        weights.write(toys.checkpoint(), target, overwrite=True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_tensors_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint()
    del checkpoint.tensors["logit_scale"]
    with pytest.raises(WeightsError, match="missing: logit_scale"):
        weights.write(checkpoint, tmp_path / "out")
    with pytest.raises(WeightsError, match="expected one of tandem, transformers, open_clip"):
        weights.write(toys.checkpoint(), tmp_path / "out", "onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_weights_have_the_permissions_of_their_folder(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(MODELS["vit"], np.float16), tmp_path / "out")
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_an_activation_that_contradicts_the_file_is_warned_of(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(MODELS["gelu"], np.float32), tmp_path / "out")
    note = weights.read(folder, activation="quick_gelu").config.notes["activation"]
    assert "quick_gelu, as asked, although the model states gelu" in note
    assert "activation" not in weights.read(folder, activation="gelu").config.notes


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"embed_dim":', '"embed_dim": 1, "embed_dim":', "the key 'embed_dim' comes twice"),
        ('"version": 1', '"version": true', "version: expected 1, got True"),
        ('"version": 1', '"version": 2', "a newer Tandem wrote it"),
    ],
)
def test_a_configuration_of_two_meanings_is_refused(tmp_path: Path, before: str, after: str, says: str) -> None:
    config = toy.folder(tmp_path / "model") / "config.json"
    config.write_text(config.read_text().replace(before, after, 1))
    with pytest.raises(TandemError, match=says):
        weights.read(config.parent)
