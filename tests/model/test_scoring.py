"""Probabilities of labels: among each other, each by the model's sigmoid, each by a calibration."""

import copy
import dataclasses
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
from support import toy

import tandem
from tandem import engine, weights
from tandem.answer import Answer, highlighted
from tandem.errors import TandemError
from tandem.model import Model
from tandem.scores.calibration_files import FILE, save_calibration
from tandem.scores.query_prior import NO_PRIOR
from tandem.scores.relevance import Calibration, Coefficients
from tandem.scores.scoring import LabelCoefficients, Scoring, digits, percent, probabilities, sigmoid, softmax

LABELS = ["cat", "dog", "a red sofa"]
UNFITTED = Coefficients(0, 1, 0, 0, 0, 0, 10, 0.1, 0.1)


def cosines(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return toy.write_images(tmp_path_factory.mktemp("images"), 3)


@pytest.fixture(scope="module")
def sigmoid_model() -> Model:
    """A model of single pairs, as SigLIP is."""
    checkpoint = toy.checkpoint(logit_bias=True)
    checkpoint.tensors["logit_bias"] = np.array(-1.5, dtype=np.float32)  # type: ignore[index]
    return Model(checkpoint, engine.build(checkpoint.config, checkpoint.tensors))


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model without a bias, from a folder that may be given a calibration."""
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    return tandem.load(toy.folder(tmp_path / "model"))


def calibration(model: Model, area: float | None = 0.9, **changes: object) -> Calibration:
    labels = LabelCoefficients(-1.0, 8.0, -3.0, tuple(np.linspace(-0.2, 0.2, model.config.embed_dim).tolist()))
    areas = {} if area is None else {"labels": {1: area}}
    made = Calibration(model.fingerprint, "toy", UNFITTED, UNFITTED, UNFITTED, NO_PRIOR, labels, areas)  # type: ignore[arg-type]
    return dataclasses.replace(made, **changes)


# --- the arithmetic --------------------------------------------------------------------------------------------------


def test_a_sigmoid_is_exact_at_both_ends_and_keeps_its_type() -> None:
    log_odds = np.array([-800, -30, -1, 0, 1, 30, 800], dtype=np.float64)
    found = sigmoid(log_odds)
    assert found[1] == pytest.approx(np.exp(-30), rel=1e-12)  # not 0, nor the rounding of 1 - 1
    assert (found[0], found[3], found[6]) == (0, 0.5, 1)
    np.testing.assert_allclose(found + found[::-1], 1, rtol=1e-15)
    assert sigmoid(log_odds.astype(np.float32)).dtype == np.float32


def test_small_probabilities_are_not_shown_as_none() -> None:
    assert [percent(share) for share in (0, 1e-9, 0.0004, 0.0006, 0.5, 1)] == [
        "0.0%", "<0.1%", "<0.1%", "0.1%", "50.0%", "100.0%",
    ]  # fmt: skip
    assert [digits(share) for share in (0, 1.23456e-9, 0.000123456, 0.5, 0.99999)] == [
        "0", "1.235e-09", "0.0001235", "0.500000", "0.999990",
    ]  # fmt: skip


def test_labels_that_compete_sum_to_one_and_others_need_not() -> None:
    logits = cosines(5, 4) * 6
    np.testing.assert_allclose(probabilities("softmax", logits).sum(1), 1, rtol=1e-6)
    for kind in ("sigmoid", "calibrated"):
        np.testing.assert_allclose(probabilities(kind, logits), 1 / (1 + np.exp(-logits)), rtol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "scoring",
    [
        Scoring("softmax", 20.0),
        Scoring("softmax", 20.0, -10.0),
        Scoring("sigmoid", 20.0, -10.0),
        Scoring("calibrated", 5.0, np.array([-2, -1, 0.5, 3], dtype=np.float32)),
    ],
)
def test_whichever_way_it_is_asked_a_scoring_gives_the_same_probabilities(scoring: Scoring) -> None:
    scores = cosines(7, 4)
    expected = scoring.probabilities(scores)
    by_label = scoring.from_evidence(scoring.evidence(scores.T)).T
    np.testing.assert_allclose(by_label, expected, rtol=2e-5, atol=1e-7)
    order = np.argsort(-scoring.logits(scores), axis=1)[:, :2]
    best = scoring.best_probabilities(scores, order, np.take_along_axis(scores, order, 1))
    if scoring.keeps_order:
        np.testing.assert_array_equal(order, np.argsort(-scores, axis=1)[:, :2])
    np.testing.assert_allclose(best, np.take_along_axis(expected, order, 1), rtol=2e-5, atol=1e-7)


def test_the_evidence_of_an_unlikely_label_still_ranks_images() -> None:
    """As probabilities of float32 both images have 0."""
    scoring = Scoring("sigmoid", 100.0, -10.0)
    evidence = scoring.evidence(np.array([[-0.99, -0.98]], dtype=np.float32))
    assert evidence[0, 1] > evidence[0, 0]


def test_a_label_that_scores_high_with_everything_needs_a_higher_cosine() -> None:
    mean = np.array([1.0, 0.0], dtype=np.float32)
    coefficients = LabelCoefficients(-1.0, 8.0, -3.0, (1.0, 0.0))
    usual, unusual = coefficients.scoring(np.stack([mean, mean[::-1]])).probabilities(np.full((1, 2), 0.5, np.float32))[
        0
    ]
    assert usual < unusual
    assert unusual == pytest.approx(1 / (1 + np.exp(1 - 8 * 0.5)), rel=1e-5)


# --- models with a bias ----------------------------------------------------------------------------------------------


def test_logits_have_the_bias_and_labels_by_themselves_their_sigmoid(sigmoid_model: Model, images: list[Path]) -> None:
    assert sigmoid_model.logit_bias == -1.5
    vectors, texts = sigmoid_model.embed_images(images), sigmoid_model.class_vectors(LABELS)
    expected = sigmoid_model.logit_scale * sigmoid_model.similarity(vectors, texts).astype(np.float64) - 1.5
    np.testing.assert_allclose(sigmoid_model.logits(vectors, texts), expected, rtol=1e-5)
    answer = sigmoid_model.classify(images, LABELS, independent=True)
    assert answer.scoring == "sigmoid"
    np.testing.assert_allclose(answer.probabilities, 1 / (1 + np.exp(-expected)), rtol=1e-5)
    among = sigmoid_model.classify(images, LABELS)
    assert among.scoring == "softmax"
    np.testing.assert_allclose(among.probabilities.sum(1), 1, rtol=1e-6)  # a bias makes no difference
    np.testing.assert_allclose(among.probabilities, softmax(expected.astype(np.float32)), rtol=1e-5)


def test_one_label_is_enough(sigmoid_model: Model, images: list[Path]) -> None:
    assert (sigmoid_model.classify(images, ["cat"]).probabilities == 1).all()
    alone = sigmoid_model.classify(images, ["cat"], independent=True).probabilities
    every = sigmoid_model.classify(images, LABELS, independent=True).probabilities
    np.testing.assert_allclose(alone[:, 0], every[:, 0], rtol=1e-5)
    assert (alone < 1).all()


def test_no_image_is_an_answer_of_the_same_scoring(sigmoid_model: Model) -> None:
    empty = sigmoid_model.classify([], LABELS, independent=True)
    assert (empty.scoring, empty.probabilities.shape) == ("sigmoid", (0, 3))


# --- models without one ----------------------------------------------------------------------------------------------


def test_without_a_calibration_it_is_refused_with_the_command_that_makes_one(plain: Model, images: list[Path]) -> None:
    with pytest.raises(
        TandemError, match="toy cannot judge a label by itself: it has no logit bias, and it has no cal"
    ) as e:
        plain.classify(images, LABELS, independent=True)
    assert str(e.value).endswith(f"tandem calibrate captions.parquet --model {shlex.quote(plain.checkpoint.source)}")
    save_calibration(calibration(plain))  # is found without loading the model again
    assert plain.classify(images, LABELS, independent=True).scoring == "calibrated"


def test_a_calibrated_model_judges_each_label_by_itself(plain: Model, images: list[Path], tmp_path: Path) -> None:
    made = calibration(plain)
    save_calibration(made, tmp_path / "model" / FILE)
    answer = plain.classify(images, LABELS, independent=True)
    classes = plain.class_vectors(LABELS)
    scores = plain.similarity(plain.embed_images(images), classes).astype(np.float64)
    log_odds = -1 + 8 * scores - 3 * classes @ np.linspace(-0.2, 0.2, plain.config.embed_dim)
    np.testing.assert_allclose(answer.logits, log_odds, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer.probabilities, 1 / (1 + np.exp(-log_odds)), rtol=1e-4)
    alone = plain.classify(images, LABELS[1:2], independent=True)
    np.testing.assert_allclose(alone.probabilities[:, 0], answer.probabilities[:, 1], rtol=1e-4)
    assert not np.allclose(answer.probabilities.sum(1), 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"area": 0.69}, r"area under the ROC curve 0\.690, below 0\.7\); let labels compete, or load"),
        ({"area": None}, "does not say how well it separates labels"),
        ({"labels": None}, "says nothing of labels; to make one"),
        ({"labels": None, "figures": {"no_labels": "this model cannot tell"}}, "of labels: this model cannot tell$"),
    ],
)
def test_a_calibration_that_cannot_tell_is_no_calibration(
    plain: Model, images: list[Path], changes: dict[str, object], said: str
) -> None:
    save_calibration(calibration(plain, **changes))  # type: ignore[arg-type]
    with pytest.raises(TandemError, match=said):
        plain.classify(images, LABELS, independent=True)
    assert plain.classify(images, LABELS).scoring == "softmax"


@pytest.mark.parametrize("other", [{"templates": "{}"}, {"templates": tandem.prompts.ENSEMBLE}, {"long": "split"}])
def test_calibrated_labels_are_those_of_the_default_template(
    plain: Model, sigmoid_model: Model, images: list[Path], other: dict[str, object]
) -> None:
    save_calibration(calibration(plain))
    with pytest.raises(TandemError, match="expected the default template with calibrated labels"):
        plain.classify(images, LABELS, independent=True, **other)  # type: ignore[arg-type]
    with pytest.raises(TandemError, match="expected the default template with calibrated labels"):
        plain.classify([], LABELS, independent=True, **other)  # type: ignore[arg-type]
    assert plain.classify(images, LABELS, **other).scoring == "softmax"  # type: ignore[arg-type]
    assert sigmoid_model.classify(images, LABELS, independent=True, **other).scoring == "sigmoid"  # type: ignore[arg-type]
    given = plain.classify(images, LABELS, independent=True, templates=[tandem.prompts.DEFAULT_TEMPLATE])
    assert given.scoring == "calibrated"


def test_no_calibrated_label_is_in_a_language_that_the_model_does_not_read(
    plain: Model, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_calibration(calibration(plain))
    monkeypatch.setattr(Model, "is_english_only", True)
    assert plain.classify(images, LABELS, independent=True, language="en-GB").scoring == "calibrated"
    refused = pytest.raises(TandemError, match=r"English labels.*'de'.*models --for languages$")
    with pytest.warns(UserWarning, match="English texts"), refused:
        plain.classify(images, ["Hund"], independent=True, language="de")
    monkeypatch.setattr(Model, "is_english_only", False)
    assert plain.classify(images, ["Hund"], independent=True, language="de").scoring == "calibrated"


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def answer(sigmoid_model: Model) -> Answer:
    """An image of which two labels are true, one of which none is."""
    logits = np.array([[2.0, -3.0, 1.0], [-1.0, -2.0, -4.0]], dtype=np.float32)
    return Answer(sigmoid_model, tuple(LABELS), ("a.jpg", "b.jpg"), logits, scoring="sigmoid")


def test_several_labels_may_be_true_and_none_too(answer: Answer) -> None:
    assert answer.above() == [["cat", "a red sofa"], []]
    assert answer.above(0.01) == [["cat", "a red sofa", "dog"], ["cat", "dog", "a red sofa"]]
    assert answer.best == ["cat", "cat"]
    assert answer.top(2)[1] == [("cat", pytest.approx(0.2689, abs=1e-4)), ("dog", pytest.approx(0.1192, abs=1e-4))]
    assert [highlighted(answer.scoring, best) for best in answer.top()] == [2, 0]
    assert [highlighted("softmax", best) for best in answer.top()] == [1, 1]


def test_every_form_of_an_answer_is_of_the_same_scoring(answer: Answer, tmp_path: Path) -> None:
    expected = answer.probabilities
    assert answer.as_dict()["scoring"] == "sigmoid"
    assert list(answer.as_dict()["results"][0]["probabilities"].values()) == pytest.approx(expected[0].tolist())
    assert list(answer[1].probabilities.values()) == pytest.approx(expected[1].tolist())
    assert [list(row.probabilities.values()) for row in answer] == [pytest.approx(row.tolist()) for row in expected]
    for other in (answer[:], Answer.join([answer[:1], answer[1:]]), copy.deepcopy(answer)):
        assert other.scoring == "sigmoid"
        np.testing.assert_array_equal(other.probabilities, expected)
    kept = Answer(
        tandem.answer.ModelIdentity("toy", "f"),
        *(getattr(answer, name) for name in ("labels", "sources", "logits")),
        scoring="sigmoid",
    )
    assert pickle.loads(pickle.dumps(kept)).scoring == "sigmoid"
    assert "2 images, 3 labels, each by itself (sigmoid)" in repr(answer)
    assert "each by itself (sigmoid)" in answer._repr_html_()
    frame = answer.to_pandas()
    np.testing.assert_array_equal(frame[LABELS].to_numpy(), expected)


def test_weights_with_a_bias_go_through_a_folder(tmp_path: Path, sigmoid_model: Model) -> None:
    weights.write(sigmoid_model.checkpoint, tmp_path / "model", "tandem")
    assert tandem.load(tmp_path / "model").logit_bias == -1.5
