"""`tandem quantize`, what `tandem models --explain` says of it, and which commands `auto` may give its model to."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.commands import one_line

import tandem as package
from tandem import precisions, sample_photos, weights
from tandem.cli.commands import classify
from tandem.config import Quantization
from tandem.errors import TandemError
from tandem.model import load
from tandem.precisions import Candidate
from tandem.quantize import building, explaining
from tandem.quantize.calibration import QuantizedLayer


@pytest.mark.slow
def test_a_folder_is_written_that_loads_like_any_other(tandem, tmp_path):
    target = tmp_path / "small"
    ran = tandem("quantize", "tandem-mini", target, "--weights-only", "--no-search", "--json")
    assert ran.code == 0, ran.err
    model, source = load(target), load()
    assert model.fingerprint == ran.json["model"]["fingerprint"] != source.fingerprint
    assert ran.json["source"]["fingerprint"] == source.fingerprint == model.config.quantization.source_fingerprint
    assert ran.json["bytes"]["quantized"] < 0.55 * ran.json["bytes"]["source"]
    texts = ["a dog on the beach", "two children"]
    assert (model.embed_texts(texts) * source.embed_texts(texts)).sum(1).min() > 0.999
    card = (target / "README.md").read_text()
    assert "## Quantization" in card
    assert "Every block was quantized with the default settings (--no-search)." in card
    assert "no --images: sample pictures are used, which say little of yours" in ran.err
    assert (ran.json["searched"], ran.json["own_images"]) == (False, False)
    assert f"{ran.json['agreement']['top1']:.1%}" in card
    again = tandem("quantize", target, tmp_path / "other", "--weights-only")
    assert "quantised already: quantise tandem-mini, which it was made from" in one_line(again)


def test_too_few_images_and_texts_are_refused(tandem, tmp_path, photos, model_folder):
    few = tandem("quantize", model_folder, tmp_path / "t", "--weights-only", "--images", tmp_path / "photos")
    assert "expected at least 30 different images" in one_line(few)
    lines = tmp_path / "texts.txt"
    lines.write_text("one\ntwo\n")
    few = tandem("quantize", model_folder, tmp_path / "t", "--weights-only", "--texts", lines)
    assert "expected at least 30 different texts, one a line, got 2" in one_line(few)
    taken = tandem("quantize", model_folder, tmp_path / "photos", "--weights-only")
    assert "the folder is not empty" in one_line(taken)


class Head:
    classes = ("cat",)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("classify", "0.png", "--labels", "cat,dog"), True),
        (("classify", "0.png", "--labels", "cat,dog", "--independent"), False),
        (("classify", "0.png", "--head", "some.tandem-head"), False),
        (("embed", "0.png", "--json"), True),
        (("embed", "0.png", "--states", "--out", "states.parquet"), False),
        (("index", "0.png", "--to", "new.tandem"), False),
        (("verify", "tandem-mini", "--against", "tandem-mini"), False),
    ],
)
def test_auto_may_be_a_quantised_model_only_where_nothing_is_bound_to_the_fingerprint(
    tandem, tmp_path, photos, monkeypatch, arguments, allowed
):
    asked = []

    def noted(*_, allow_quantized=False, **__):
        asked.append(allow_quantized)
        raise TandemError("stop here")

    monkeypatch.setattr("tandem.model.load", noted)
    monkeypatch.setattr(classify, "read_head", lambda given: Head() if given.head else None)
    monkeypatch.chdir(next((tmp_path / "photos").rglob("*.png")).parent)
    photo = next(Path().glob("*.png")).name
    tandem(*(photo if each == "0.png" else each for each in arguments))
    assert asked == [allowed]


def test_no_other_code_asks_for_it():
    """Whoever adds one has to think of collections, heads, calibrations and kept vectors."""
    folder = Path(package.__file__).parent
    asks = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if "allow_quantized" in path.read_text()
    }
    commands = {"cli/commands/classify.py", "cli/commands/embed.py"}
    assert asks == {"model.py", "precisions.py", "cli/options/model.py"} | commands


def candidates(model, folder):
    own = Candidate("float32", None, None, model.fingerprint, 10, 10, 1, 1, True)
    return own, Candidate("float32", folder, "int8-weights", "q" * 64, 20, 20, 0.995, 0.96, True)


def test_a_choice_is_explained_measured_again_and_told_from_its_model(tandem, model_folder, monkeypatch):
    measured = []

    def measure(model, say):
        measured.append(model.fingerprint)
        return explaining.choice_of(model, candidates(model, "small"))

    monkeypatch.setattr(explaining, "measure", measure)
    monkeypatch.setattr(explaining, "_folders", lambda model: {"small": None} if len(measured) < 3 else {})
    monkeypatch.setattr(explaining, "fingerprint_of_folder", lambda folder: "q" * 64)
    monkeypatch.setattr(explaining.engines, "available_precisions", lambda: ("float32",))
    first = tandem("models", "--explain", model_folder)
    assert "auto is int8 weights for toy here: the fastest that keeps the promise, 2.0 times float32" in first.out
    assert "small, for classify and embed; with collections, heads and calibrations of toy auto is float32" in first.out
    assert "delete that file, and auto is float32 again for every model" in first.err
    found = tandem("models", "--explain", model_folder, "--json").json
    assert len(measured) == 1
    source = {"name": "toy", "fingerprint": measured[0]}
    assert found["model"] == source
    assert (found["auto"]["name"], found["auto"]["folder"], found["auto"]["fingerprint"]) == (
        "int8 weights",
        "small",
        "q" * 64,
    )
    assert found["auto_same_weights"]["name"] == "float32"
    assert found["auto_same_weights"]["fingerprint"] == source["fingerprint"]
    assert "measuring again: --again" in tandem("models", "--explain", model_folder, "--again").err
    tandem("models", "--explain", model_folder, "--again")
    assert len(measured) == 3
    assert "measuring again: small is gone" in tandem("models", "--explain", model_folder).err
    assert len(measured) == 4
    assert "--again goes with --explain" in one_line(tandem("models", "--again"))


def test_without_sample_photos_the_extra_is_named(tandem, model_folder, monkeypatch):
    monkeypatch.setattr(sample_photos, "PHOTOS", {})
    said = one_line(tandem("models", "--explain", model_folder))
    assert "tandem models --explain needs scikit-image and scikit-learn" in said
    assert "tandem-clip[quantize]" in said
    assert not precisions.path_of_choices().exists()


@pytest.fixture(scope="module")
def int8_folder(model_folder, tmp_path_factory):
    """A model that multiplies eight bits, with one range."""
    read = weights.read(model_folder)
    name = next(each for each in read.tensors if each.endswith("c_fc.weight"))
    layer = QuantizedLayer(np.float32(-8), np.float32(8), None, None)
    plan = building.Plan({"image": {name.removesuffix(".weight"): layer}})
    made = building.build(read.config, read.tensors, plan, [name])
    about = Quantization("int8", "toy", weights.fingerprint(read), 9, 9, 1, 1, 1, 1, 1)
    config = dataclasses.replace(read.config, name="toy int8", quantization=about)
    target = tmp_path_factory.mktemp("int8") / "toy-int8"
    return str(weights.write(dataclasses.replace(read, config=config, tensors=made), target))


def test_commands_say_of_a_quantised_model_what_they_want_instead(tandem, int8_folder, tmp_path):
    explained = one_line(tandem("models", "--explain", int8_folder))
    assert "is quantised already: explain toy, which it was made from" in explained
    again = one_line(tandem("quantize", int8_folder, tmp_path / "twice", "--weights-only"))
    assert "is quantised already: quantise toy, which it was made from" in again
    alone = one_line(tandem("verify", int8_folder))
    assert "computes in int8 alone: there is nothing to compare it with; give its source with --against" in alone


def test_a_search_names_the_model_that_answered(collection, int8_folder, tandem):
    found = tandem("search", collection, "a cat", "--model", int8_folder, "--json")
    assert found.json["model"] == {"name": "toy int8", "fingerprint": load(int8_folder).fingerprint}
    assert tandem("search", collection, "a cat", "--json").json["model"]["name"] == "toy"


def test_what_cannot_go_together_is_refused(tandem, model_folder):
    assert "--explain and --for cannot go together" in one_line(tandem("models", "--explain", "x", "--for", "cpu"))
    assert "--explain and --measure" in one_line(tandem("models", "--explain", "x", "--measure", "y"))
