"""`learn`: what is claimed of a head is what heads say of images they have not seen, and no more."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy

import tandem
from tandem.datasets import open_dataset
from tandem.datasets.dataset import Dataset
from tandem.errors import DataError, TandemError
from tandem.evaluate.features import Features, embed_dataset
from tandem.evaluate.learning import Learned, learn, near_duplicates
from tandem.heads.fitting import METHODS, fit_head, fit_shots
from tandem.heads.head_file import read_head, write_head
from tandem.heads.leave_out import leave_out
from tandem.heads.shots import check_shots
from tandem.model import Model
from tandem.scores.scoring import softmax


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return tandem.load(toy.folder(tmp_path_factory.mktemp("models") / "toy"))


def features(model: Model, labels: Sequence[int], *, noise: float = 0.3, seed: int = 0, **changes: Any) -> Features:
    """Vectors around a centre for each class, which has nothing to do with its name; `noise` above 2 hides it."""
    draw = np.random.default_rng(seed)
    names = ("cat", "dog", "owl", "cow")[: max(labels) + 1]
    centres = draw.normal(size=(4, model.config.embed_dim))
    vectors = centres[list(labels)] + noise * draw.normal(size=(len(labels), model.config.embed_dim)) * 2
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    dataset = Dataset(
        name="animals",
        source="/home/me/animals",
        layout="folder",
        split=None,
        keys=tuple(f"{place}.png" for place in range(len(labels))),
        digests=tuple(bytes([place]) for place in range(len(labels))),
        open_images=lambda places: [],
        classes=names,
        label_sets=tuple((label,) for label in labels),
    )
    dataset = dataclasses.replace(dataset, **changes)
    return Features(dataset, vectors.astype(np.float32), model.name, model.fingerprint)


def shots_of(model: Model, data: Features) -> Any:
    texts = model.class_vectors(data.dataset.classes)
    return check_shots(data.vectors, data.dataset.labels, data.dataset.classes, texts, model.logit_scale)


@pytest.fixture(scope="module")
def learned(model: Model) -> Learned:
    return learn(model, features(model, [0, 1, 2] * 6), method="clap")


def test_the_accuracy_is_that_of_images_left_out(model: Model, learned: Learned) -> None:
    data = features(model, [0, 1, 2] * 6)
    shots = shots_of(model, data)
    expected = (leave_out("clap", shots).logits.argmax(axis=1) == shots.labels).mean()
    figure = learned.figures["accuracy"]
    assert figure.value == expected
    assert figure.low <= figure.value <= figure.high
    assert (figure.n, figure.chance) == (18, pytest.approx(1 / 3))
    zero_shot = learned.figures["zero_shot"]
    assert zero_shot.value == (shots.zero_shot_logits.argmax(axis=1) == shots.labels).mean()
    gain = learned.figures["gain"]
    assert gain.value == pytest.approx(figure.value - zero_shot.value)
    assert (learned.verdict, gain.low > 0) == ("gain", True)


def test_the_head_is_that_of_all_images_at_a_temperature(model: Model, learned: Learned) -> None:
    """A temperature changes no answer; with it the probabilities of images left out are nearer the truth."""
    data = features(model, [0, 1, 2] * 6)
    shots = shots_of(model, data)
    whole = fit_head(
        "clap",
        shots.vectors,
        shots.labels,
        shots.classes,
        shots.class_vectors,
        logit_scale=model.logit_scale,
        fingerprint=model.fingerprint,
    )
    temperature = learned.head.card["probabilities_temperature"]
    np.testing.assert_allclose(learned.head.weights * temperature, whole.weights, rtol=1e-4, atol=1e-4)
    logits, rows = leave_out("clap", shots).logits, np.arange(18)
    target = np.full((18, 3), 1 / 20 / 3)
    target[rows, shots.labels] += 1 - 1 / 20  # as if one more of each kind of answer were there
    near = (temperature, 1.0, 0.9 * temperature, 1.1 * temperature)
    losses = [-(target * np.log(softmax(logits / np.float32(each)))).sum() for each in near]
    assert losses[0] == min(losses)
    assert learned.figures["calibration_error"].chance is None


def test_the_bias_is_at_the_temperature_too(model: Model) -> None:
    data = features(model, [0, 1, 2] * 6)
    shots = shots_of(model, data)
    found = learn(model, data, method="gda").head
    whole = fit_shots("gda", shots)
    temperature = found.card["probabilities_temperature"]
    assert abs(temperature - 1) > 0.01
    assert np.ptp(whole.bias) > 0.01  # else it would change nothing
    np.testing.assert_allclose(found.bias * temperature, whole.bias, rtol=1e-4)
    np.testing.assert_allclose(found.logits(data.vectors) * temperature, whole.logits(data.vectors), rtol=1e-3)


def test_the_folds_are_drawn_by_the_seed(model: Model) -> None:
    data = features(model, [0, 1, 2] * 6, noise=1)
    shots, accuracies = shots_of(model, data), set()
    for seed in range(4):
        expected = (leave_out("clap", shots, seed=seed).logits.argmax(axis=1) == shots.labels).mean()
        assert learn(model, data, method="clap", seed=seed).figures["accuracy"].value == pytest.approx(expected)
        accuracies.add(expected)
    assert len(accuracies) > 1


def test_names_that_say_the_same_are_right_for_no_image(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tie counts against zero-shot, as it does against the head."""
    data = features(model, [0, 1] * 4)
    same = np.repeat(model.class_vectors(("cat",)), 2, axis=0)
    monkeypatch.setattr(Model, "class_vectors", lambda *_, **__: same)
    assert learn(model, data, method="clap").figures["zero_shot"].value == 0


def test_the_card_says_how_and_names_no_path(learned: Learned, model: Model, tmp_path: Path) -> None:
    card = read_head(write_head(learned.head, tmp_path / "x.tandem-head")).card
    assert card["shots"] == {"cat": 6, "dog": 6, "owl": 6}
    assert card["accuracy"] == learned.figures["accuracy"].as_dict()
    assert card["gain"]["unit"] == "difference"
    assert (card["verdict"], card["measured_by"], card["model"]) == ("gain", "8 folds", model.name)
    assert len(card["data"]["hash"]) == 64
    assert card["tandem"] == tandem.__version__
    assert "/home/me" not in str(card)


def test_no_gain_is_claimed_of_labels_without_meaning(model: Model) -> None:
    found = learn(model, features(model, [0, 1] * 10, noise=50), method="clap")
    assert found.verdict == "no difference shown"
    gain = found.figures["gain"]
    assert gain.low <= 0 <= gain.high
    assert sum(each.images for each in found.confusions) == round(20 * (1 - found.figures["accuracy"].value))


def test_a_loss_is_called_one(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are always right, and labels of the images left out that no head can tell."""
    data = features(model, [0, 1] * 15, noise=50)
    names = model.class_vectors(("cat", "dog"))[data.dataset.labels]
    vectors = names + 0.7 * data.vectors / np.linalg.norm(data.vectors, axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    right = dataclasses.replace(data, vectors=vectors.astype(np.float32))
    monkeypatch.setattr(
        "tandem.evaluate.learning.leave_out",
        lambda method, shots, seed: dataclasses.replace(
            leave_out(method, shots), logits=-shots.zero_shot_logits, scheme="8 folds"
        ),
    )
    assert learn(model, right, method="clap").verdict == "loss"


def test_classes_with_one_image_are_learnt_but_not_measured(model: Model) -> None:
    found = learn(model, features(model, [0, 1, 2, 0, 1]))
    assert found.head.method == "clap"
    assert found.figures["accuracy"].n == 4
    assert [each.images for each in found.classes] == [2, 2, 1]
    assert np.isnan(found.classes[2].accuracy)
    assert found.classes[2].as_dict()["accuracy"] is None
    assert "classes with one image cannot be measured: owl" in found.notes
    alone = learn(model, features(model, [0, 1, 2]))
    assert (alone.verdict, dict(alone.figures)) == ("not measured", {})
    assert alone.head.logits(features(model, [0, 1, 2]).vectors).argmax(axis=1).tolist() == [0, 1, 2]


def test_gda_where_there_are_enough(model: Model) -> None:
    enough = METHODS["gda"].learned_from
    assert enough == 8  # as the guide says
    assert learn(model, features(model, [0, 1] * enough)).head.method == "gda"
    assert learn(model, features(model, ([0, 1] * enough)[:-1])).head.method == "clap"


def test_a_data_set_by_its_name_and_a_model_by_its_own(model: Model, tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "cat", "dog", "dog")):
        (tmp_path / "animals" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (60 * number, 0, 200)).save(tmp_path / "animals" / name / f"{number}.png")
    toy_model = toy.folder(tmp_path / "toy")
    found = learn(toy_model, tmp_path / "animals", cache=False, progress=False)
    features = embed_dataset(tandem.load(toy_model), open_dataset(tmp_path / "animals"), cache=False)
    same = learn(tandem.load(toy_model), features)
    assert found.head.card == same.head.card
    assert np.array_equal(found.head.weights, same.head.weights)
    with pytest.raises(DataError, match="another model"):
        learn(None, features)


def test_gda_looks_at_its_shots_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its axes cost far more than the rest of it: the head and leaving out share them."""
    computed = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: computed.append(len(matrix)) or eigh(matrix))
    learn(model, features(model, [0, 1] * 4), method="gda")
    assert computed == [model.config.embed_dim]


def test_a_copy_does_not_answer_for_its_original(model: Model) -> None:
    digests = tuple(bytes([place % 6]) for place in range(12))
    labels = [0, 1, 2, 0, 1, 2] * 2
    found = learn(model, features(model, labels, digests=digests))
    assert found.figures["accuracy"].n == 6
    assert any("6 copies" in note for note in found.notes)
    with pytest.raises(DataError, match=r"two labels: 0\.png is 'cat', 7\.png is 'dog'"):
        learn(model, features(model, [0, 1, 0, 1, 0, 1, 0, 1], digests=tuple(bytes([i % 7]) for i in range(8))))


def test_near_duplicates_are_counted(model: Model) -> None:
    data = features(model, [0, 1, 0, 1])
    data.vectors[2] = data.vectors[0]
    data.vectors[3] = data.vectors[0]  # of another class
    assert near_duplicates(shots_of(model, data)) == 1
    assert any("near-duplicate" in note for note in learn(model, data).notes)


def test_most_images_of_one_class_are_mentioned(model: Model) -> None:
    found = learn(model, features(model, [0] * 18 + [1] * 2))
    assert any("always answering 'cat' would be right for 90.0%" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({"classes": ("cat",), "label_sets": ((0,),) * 4}, {}, "'cat'; add a class 'other'"),
        ({"classes": ("cat", "dog", "owl")}, {}, "no image of 'owl'"),
        ({"multi_label": True}, {}, "several labels"),
        ({}, {"method": "svm"}, "expected one of auto, clap, gda"),
        ({}, {"templates": "no slot"}, "{}"),
    ],
)
def test_what_cannot_be_learnt(model: Model, changes: dict[str, Any], options: dict[str, Any], expected: str) -> None:
    with pytest.raises(TandemError, match=expected):
        learn(model, features(model, [0, 1, 0, 1], **changes), **options)


def test_gda_needs_two_of_every_class(model: Model) -> None:
    with pytest.raises(DataError, match="at least 2 images of every class; fewer of 'dog'"):
        learn(model, features(model, [0, 0, 1]), method="gda")
