"""What `auto` means on this machine: what was measured once, while it still fits."""

import dataclasses
import json

import pytest
from support import toy

from tandem import precisions, weights
from tandem.config import Quantization
from tandem.model import load
from tandem.precisions import Choice, Way
from tandem.quantize import building
from tandem.quantize.explaining import _choice


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy.folder(tmp_path_factory.mktemp("auto") / "toy")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def way(precision, images, texts, *, kept=True, folder=None):
    return Way(precision, folder, images, texts, 1.0, 1.0, kept)


class Named:
    name = "toy"


@pytest.mark.parametrize(
    ("others", "chosen", "reason"),
    [
        ([way("bfloat16", 20, 18)], "bfloat16", "1.9 times"),
        ([way("bfloat16", 20, 18), way("int8", 40, 30, folder="f")], "int8", "3.5 times"),
        ([way("bfloat16", 20, 18, kept=False)], "float32", "nothing that keeps the promise"),
        ([way("bfloat16", 10.5, 10.5)], "float32", "nothing that keeps the promise"),
    ],
)
def test_the_fastest_that_keeps_the_promise_is_chosen(others, chosen, reason):
    found = _choice(Named(), (way("float32", 10, 10), *others), {("int8", "f"): "digest"})
    assert found.precision == chosen
    assert reason in found.reason
    assert found.fingerprint == ("digest" if chosen == "int8" else None)


def choice(precision, folder=None, fingerprint=None):
    return Choice("toy", precision, folder, fingerprint, "measured", (way("float32", 1, 1),))


def test_auto_is_float32_until_something_was_measured(folder, home):
    read = weights.read(folder)
    assert precisions.chosen(read) is None
    assert not home.exists()
    assert load(folder).engine.precision == "float32"
    precisions.remember(read, choice("float32"))
    assert precisions.chosen(read) == choice("float32")
    other = {name: array + 1 if name == "logit_scale" else array for name, array in read.tensors.items()}
    assert precisions.chosen(dataclasses.replace(read, tensors=other)) is None
    # Nothing of another processor, and nothing of a damaged file
    path = home / "precisions.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "processor": "another"}))
    assert precisions.chosen(read) is None
    path.write_text("{")
    assert precisions.chosen(read) is None


def test_auto_loads_the_quantised_model_that_was_chosen(folder, tmp_path):
    read = weights.read(folder)
    about = {"top1": 1.0, "neighbours": 1.0, "mixed_neighbours": 1.0, "mean_cosine": 1.0, "least_cosine": 1.0}
    made = building.build(
        read.config, read.tensors, building.Plan(), [n for n in read.tensors if n.endswith("c_fc.weight")]
    )
    config = dataclasses.replace(
        read.config, quantization=Quantization("int8-weights", "toy", weights.fingerprint(read), 9, 9, **about)
    )
    target = weights.write(dataclasses.replace(read, config=config, tensors=made), tmp_path / "small")
    small = weights.read(target)
    mine = weights.fingerprint(small)
    assert mine != weights.fingerprint(read)
    assert small.tensors.stored.keys() == made.stored.keys()
    precisions.remember_folder(weights.fingerprint(read), target)
    assert precisions.quantised_folders(weights.fingerprint(read)) == [str(target)]
    precisions.remember(read, choice("int8", str(target), mine))
    assert load(folder).fingerprint == mine
    assert load(folder, precision="float32").fingerprint == weights.fingerprint(read)
    precisions.remember(read, choice("int8", str(target), "another"))  # written anew since then
    assert load(folder).fingerprint == weights.fingerprint(read)
    precisions.remember(read, choice("int8", str(tmp_path / "gone"), mine))
    assert load(folder).fingerprint == weights.fingerprint(read)
