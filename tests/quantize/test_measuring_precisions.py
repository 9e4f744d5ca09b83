"""What `tandem models --explain` measures of a model's own precisions, and what makes it out of date."""

import types

import numpy as np
import pytest
from support import toy

from tandem import engine as engines
from tandem import precisions, version
from tandem.model import Model
from tandem.precisions import Candidate, Choice
from tandem.quantize import explaining
from tandem.quantize.agreement import Answers
from tandem.quantize.samples import Part, Samples


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("changed", ["processor", "openvino", "tandem"])
def test_nothing_that_was_measured_holds_on_another_machine(changed, monkeypatch):
    """Nor with another OpenVINO, or another Tandem: kernels differ."""
    own = Candidate("bfloat16", None, None, "f", 2, 2, 1.0, 1.0, True)
    precisions.remember(Choice("toy", "f", own, own, "measured", (own,)))
    assert precisions.chosen("f").best == own
    if changed == "processor":
        monkeypatch.setattr(precisions, "processor", lambda: "another")
    elif changed == "openvino":
        real = engines.version_of
        monkeypatch.setattr(engines, "version_of", lambda name: "another" if name == "openvino" else real(name))
    else:
        monkeypatch.setattr(version, "__version__", "another")
    assert precisions.chosen("f") is None
    precisions.remember(Choice("toy", "g", own, own, "measured", (own,)))
    assert precisions.chosen("g").best == own


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def part(number):
    return Part(np.full((15, 4, 4, 3), number, np.uint8), (f"a cat {number}", f"a dog {number}"))


@pytest.mark.parametrize(("apart", "keeps"), [(0.0, True), (3.0, False)])
def test_a_precision_is_judged_by_its_own_answers(apart, keeps, monkeypatch):
    """On images and texts that none was calibrated with."""
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((count, 8)) for count in (30, 4, 2)]
    noise = [rng.standard_normal(each.shape) for each in rows]
    seen = []

    def answers(model, looked, names):
        seen.append((model.engine.precision, looked.pixels[:, 0, 0, 0].tolist(), looked.texts, names))
        far = apart if model.engine.precision == "bfloat16" else 0.0
        return Answers(*(unit(each + far * other) for each, other in zip(rows, noise, strict=True)))

    monkeypatch.setattr(explaining, "answers", answers)
    monkeypatch.setattr(
        explaining, "gather", lambda *_, **__: Samples(part(1), part(2), part(3), ("cat", "dog"), False, "")
    )
    monkeypatch.setattr(
        explaining,
        "speeds",
        lambda models, _: {
            key: (3, 5) if each.engine.precision == "float32" else (6, 20) for key, each in models.items()
        },
    )
    monkeypatch.setattr(engines, "available_precisions", lambda: ("float32", "bfloat16"))
    monkeypatch.setattr(engines, "build", lambda *_, precision, **__: types.SimpleNamespace(precision=precision))
    model = Model(toy.checkpoint(), types.SimpleNamespace(precision="float32"))
    found = explaining.measure(model)
    own, light = found.candidates
    assert [(each.precision, each.images_per_second, each.texts_per_second) for each in found.candidates] == [
        ("float32", 3, 5),
        ("bfloat16", 6, 20),
    ]
    assert (own.top1, own.neighbours, own.keeps_promise) == (1, 1, True)
    assert light.keeps_promise is keeps
    assert (light.neighbours == 1) is keeps
    assert light.fingerprint == own.fingerprint == found.fingerprint == model.fingerprint
    assert found.best == found.same_weights == (light if keeps else own)
    expected = ([2] * 15 + [3] * 15, (*part(2).texts, *part(3).texts), ("a photo of a cat.", "a photo of a dog."))
    assert seen == [(precision, *expected) for precision in ("float32", "bfloat16")]
