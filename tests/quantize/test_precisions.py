"""What `auto` means on this machine: what was measured once, while it still fits, and for whom."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from support import toy

from tandem import engine as engines
from tandem import precisions, weights
from tandem.config import Quantization
from tandem.errors import EngineError
from tandem.model import Model, load
from tandem.precisions import Candidate, Choice
from tandem.quantize import building, explaining
from tandem.quantize.agreement import Answers
from tandem.quantize.explaining import choice_of, outdated
from tandem.quantize.samples import Part, Samples
from tandem.weights import known_fingerprints

AGREES = {"top1": 1.0, "neighbours": 1.0, "mixed_neighbours": 1.0, "mean_cosine": 1.0, "least_cosine": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy.folder(tmp_path_factory.mktemp("auto") / "toy")


@pytest.fixture(scope="module")
def read(folder):
    return weights.read(folder)


@pytest.fixture(scope="module")
def small(read, tmp_path_factory):
    """The folder of a quantised model of the toy."""
    rounded = [name for name in read.tensors if name.endswith("c_fc.weight")]
    made = building.build(read.config, read.tensors, building.Plan(), rounded)
    about = Quantization("int8-weights", "toy", weights.fingerprint(read), 9, 9, **AGREES)
    config = dataclasses.replace(read.config, quantization=about)
    target = tmp_path_factory.mktemp("auto") / "small"
    return weights.write(dataclasses.replace(read, config=config, tensors=made), target)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


def candidate(precision, images, texts, *, kept=True, folder=None, fingerprint="toy", method=None):
    return Candidate(precision, folder, method, fingerprint, images, texts, 1.0, 1.0, kept)


class Named:
    name, fingerprint = "toy", "toy"


INT8 = candidate("int8", 40, 30, folder="f", fingerprint="q", method="int8")


@pytest.mark.parametrize(
    ("others", "chosen", "same_weights", "reason"),
    [
        ([candidate("bfloat16", 20, 18)], "bfloat16", "bfloat16", "1.9 times"),
        ([candidate("bfloat16", 20, 18), INT8], "int8", "bfloat16", "3.5 times"),
        ([INT8], "int8", "float32", "3.5 times"),
        ([candidate("bfloat16", 20, 18, kept=False)], "float32", "float32", "nothing that keeps the promise"),
        ([dataclasses.replace(INT8, keeps_promise=False)], "float32", "float32", "nothing that keeps the promise"),
        ([candidate("bfloat16", 10.5, 10.5)], "float32", "float32", "nothing that keeps the promise"),
    ],
)
def test_the_fastest_that_keeps_the_promise_is_chosen(others, chosen, same_weights, reason):
    found = choice_of(Named(), (candidate("float32", 10, 10), *others))
    assert (found.best.precision, found.same_weights.precision) == (chosen, same_weights)
    assert found.same_weights.folder is None
    assert reason in found.reason
    assert found.best.fingerprint == ("q" if chosen == "int8" else "toy")


def choice(read, best=None, same_weights=None):
    digest = weights.fingerprint(read)
    own = candidate("float32", 1, 1, fingerprint=digest)
    return Choice("toy", digest, best or own, same_weights or own, "measured", (own, *([best] if best else [])))


def stand_in(small, **changes):
    digest = weights.fingerprint(weights.read(small))
    made = candidate("float32", 9, 9, folder=str(small), fingerprint=digest, method="int8-weights")
    return dataclasses.replace(made, **changes)


def test_auto_is_float32_until_something_was_measured(folder, read, home, monkeypatch):
    digest = weights.fingerprint(read)
    assert precisions.chosen(digest) is None
    assert load(folder).engine.precision == "float32"
    assert not home.exists()
    precisions.remember(choice(read))
    assert precisions.chosen(digest) == choice(read)
    assert precisions.chosen("another") is None
    # Nothing of another processor, of another version, and nothing of a damaged file
    path = precisions.path_of_choices()
    kept = json.loads(path.read_text())
    for changed in ("processor", "openvino", "tandem"):
        path.write_text(json.dumps({**kept, changed: "another"}))
        assert precisions.chosen(digest) is None
    path.write_text("{")
    assert precisions.chosen(digest) is None


def test_a_quantised_model_is_loaded_only_where_nothing_is_bound_to_the_fingerprint(folder, read, small):
    mine = weights.fingerprint(weights.read(small))
    assert mine != weights.fingerprint(read)
    precisions.remember(choice(read, stand_in(small)))
    assert load(folder, allow_quantized=True).fingerprint == mine
    assert load(folder).fingerprint == weights.fingerprint(read)
    assert load(folder, precision="float32", allow_quantized=True).fingerprint == weights.fingerprint(read)


def test_without_it_auto_is_the_best_precision_of_the_same_weights(folder, read, small, monkeypatch):
    own = candidate("bfloat16", 5, 5, fingerprint=weights.fingerprint(read))
    precisions.remember(choice(read, stand_in(small), own))
    assert precisions.resolve(folder)[1] == "bfloat16"
    assert precisions.resolve(folder, allow_quantized=True)[1] == "auto"
    asked = []

    def build(config, tensors, **how):
        asked.append(how["precision"])
        raise EngineError("stop here")

    monkeypatch.setattr(engines, "build", build)
    for options in ({}, {"device": "cpu"}, {"engine": "torch"}, {"device": "gpu"}, {"precision": "float32"}):
        with pytest.raises(EngineError):
            load(folder, **options)
    assert asked == ["bfloat16", "bfloat16", "auto", "auto", "float32"]  # of this machine's CPU, by OpenVINO


@pytest.mark.parametrize("changed", ["weights", "tokenizer"])
def test_a_model_that_differs_from_the_measured_one_anywhere_gets_no_stand_in(read, small, tmp_path, changed):
    """Also where it differs in few rows of one tensor, or in its tokenizer alone."""
    precisions.remember(choice(read, stand_in(small)))
    other = tmp_path / "other"
    if changed == "weights":
        tensors = {name: np.array(array) for name, array in read.tensors.items()}
        tensors["token_embedding.weight"][300:] = np.roll(tensors["token_embedding.weight"][300:], 1, axis=0)
        weights.write(dataclasses.replace(read, tensors=tensors), other)
    else:
        weights.write(read, other)
        document = json.loads((other / "tokenizer.json").read_text())
        first, second = sorted(document["model"]["vocab"], key=document["model"]["vocab"].get)[:2]
        vocabulary = document["model"]["vocab"]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        (other / "tokenizer.json").write_text(json.dumps(document))
    found = load(other, allow_quantized=True)
    assert found.config.quantization is None
    assert found.fingerprint != weights.fingerprint(read)


def test_what_lies_in_the_chosen_folder_has_to_be_made_from_the_model(folder, read, small, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    plain = json.loads((copy / "config.json").read_text())
    plain["quantization"]["source_fingerprint"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(plain))
    for best in (stand_in(copy), stand_in(small, fingerprint="another")):
        precisions.remember(choice(read, best))
        with pytest.warns(UserWarning, match="no longer the model that was measured; computing in float32"):
            assert load(folder, allow_quantized=True).fingerprint == weights.fingerprint(read)


def test_a_chosen_folder_that_is_gone_is_said(folder, read, small, tmp_path):
    precisions.remember(choice(read, stand_in(small, folder=str(tmp_path / "gone"))))
    with pytest.warns(UserWarning, match=r"gone.*computing in float32, until tandem models --explain chooses again"):
        assert load(folder, allow_quantized=True).fingerprint == weights.fingerprint(read)


def test_a_fingerprint_is_remembered_while_no_file_changes(read, small, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    weights.write(read, folder)
    precisions.remember(choice(read, stand_in(small)))
    hashed = []
    monkeypatch.setattr(
        known_fingerprints, "fingerprint", lambda each: hashed.append(each) or weights.fingerprint(each)
    )
    for _ in range(2):
        assert load(folder, allow_quantized=True).config.quantization is not None
    assert len(hashed) == 2  # the model, and the stand-in
    # The same bytes in a file of the same size, written again
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    load(folder, allow_quantized=True)
    assert len(hashed) == 3
    (folder / "tokenizer.json").unlink()
    (folder / "open_clip_config.json").write_text("{}")  # its tokenizer may be another repository's
    assert known_fingerprints.file_identity(folder) is None


def test_a_choice_is_outdated_where_its_candidates_are_others(read, small, monkeypatch):
    monkeypatch.setattr(explaining.engines, "available_precisions", lambda: ("float32",))
    model = Model(read, type("E", (), {"precision": "float32"})())
    assert outdated(choice(read), model) is None
    precisions.remember_folder(model.fingerprint, small)
    assert outdated(choice(read), model) == f"{small} is new"
    assert outdated(choice(read, stand_in(small)), model) is None
    assert outdated(choice(read, stand_in(small, fingerprint="x")), model) == f"{small} was written anew"
    assert outdated(choice(read, stand_in(small, folder="moved")), model) == "moved is gone"
    monkeypatch.setattr(explaining.engines, "available_precisions", lambda: ("float32", "bfloat16"))
    assert outdated(choice(read, stand_in(small)), model) == "the precisions of the device are others"


def test_what_is_remembered_of_others_stays(read, small, tmp_path):
    precisions.remember(choice(read))
    precisions.remember(dataclasses.replace(choice(read), fingerprint="other"))
    assert precisions.chosen(weights.fingerprint(read)) == choice(read)
    for fingerprint, folder in (("a", small), ("b", small), ("a", small), ("a", tmp_path)):
        precisions.remember_folder(fingerprint, folder)
    assert precisions.quantised_folders("a") == precisions.quantised_folders("b") == [str(small)]  # tmp_path has none


@pytest.mark.parametrize(
    "changes",
    [
        {"same_weights": {"precision": "float16"}},
        {"same_weights": {"precision": "int8"}},
        {"same_weights": {"folder": "elsewhere"}},
        {"best": {"precision": "int8", "folder": None}},
        {"best": {"folder": "x" * 100_000}},
        {"best": {"fingerprint": 7}},
    ],
)
def test_a_damaged_choice_is_float32_with_a_warning(folder, read, small, changes):
    path = precisions.remember(choice(read, stand_in(small)))
    document = json.loads(path.read_text())
    (entry,) = document["models"].values()
    for key, values in changes.items():
        entry[key] |= values
    path.write_text(json.dumps(document))
    with pytest.warns(UserWarning, match="damaged, and auto is float32"):
        found = load(folder, allow_quantized=True)
    assert (found.fingerprint, found.engine.precision) == (weights.fingerprint(read), "float32")


@pytest.fixture
def measured(folder, small, read, tmp_path, monkeypatch):
    """What is measured of the toy and a quantised model, beside one of another source and a damaged one."""
    digest = weights.fingerprint(read)

    def copied(name, **changes):
        shutil.copytree(small, tmp_path / name)
        file = tmp_path / name / "config.json"
        plain = json.loads(file.read_text())
        plain["quantization"] |= changes
        file.write_text(json.dumps(plain))
        precisions.remember_folder(digest, tmp_path / name)
        return str(tmp_path / name)

    def measure(**changes):
        mine = copied("mine", **changes)
        copied("stranger", source_fingerprint="0" * 64)
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "config.json").write_text("{")
        precisions.remember_folder(digest, tmp_path / "broken")
        rng = np.random.default_rng(0)
        size = read.config.preprocessing.image_size
        part = Part(np.zeros((12, size, size, 3), np.uint8), ("a cat", "a dog", "cat dog"))
        samples = Samples(part, part, part, ("cat", "dog"), False, "")
        vectors = rng.standard_normal((12, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        monkeypatch.setattr(explaining, "answers", lambda *_: Answers(vectors, vectors, vectors))
        monkeypatch.setattr(explaining, "gather", lambda *_, **__: samples)
        monkeypatch.setattr(explaining, "speeds", lambda models, _: {key: (9 if key else 1,) * 2 for key in models})
        monkeypatch.setattr(explaining.engines, "available_precisions", lambda: ("float32",))
        said = []
        return explaining.measure(load(folder, engine="openvino", precision="float32"), said.append), mine, said

    return measure


def test_candidates_are_the_models_own_and_their_card_counts(measured, read, small):
    choice, mine, said = measured(top1=0.991, neighbours=0.951, least_cosine=0.9)
    assert [each.folder for each in choice.candidates] == [None, mine]
    made = choice.candidates[1]
    assert (made.top1, made.neighbours, made.keeps_promise, made.name) == (0.991, 0.951, True, "int8 weights")
    assert choice.best == made
    assert choice.fingerprint == choice.same_weights.fingerprint == weights.fingerprint(read)
    assert made.fingerprint == weights.fingerprint(weights.read(small))
    assert sum("left out" in each for each in said) == 2


@pytest.mark.parametrize("card", [{"top1": 0.98}, {"neighbours": 0.9}, {"least_cosine": 1.1}])
def test_what_is_not_good_or_computes_otherwise_here_is_shown_and_not_chosen(measured, card):
    choice, mine, _ = measured(**{"least_cosine": 0.9, **card})
    assert [(each.folder, each.keeps_promise) for each in choice.candidates] == [(None, True), (mine, False)]
    assert choice.best.folder is None


def test_int8_of_a_model_that_is_not_quantised_names_those_that_are(folder, read, small):
    with pytest.raises(EngineError, match="make one with `tandem quantize"):
        load(folder, precision="int8")
    precisions.remember_folder(weights.fingerprint(read), small)
    with pytest.raises(EngineError, match=f"on this machine: {small}: load one of them"):
        load(folder, precision="int8")
    with pytest.raises(EngineError, match="computes in float"):
        load(small, precision="int8")
