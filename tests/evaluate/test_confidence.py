"""Calibration errors by hand, and temperatures against a search over the log-loss of scikit-learn."""

import numpy as np
import pytest

from tandem.errors import DataError
from tandem.evaluate import confidence
from tandem.evaluate.intervals import bootstrap


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def calibration_error(stated: np.ndarray, right: np.ndarray, bins: int = confidence.BINS) -> float:
    return float(confidence.calibration_errors(stated, right, bins)(np.ones((1, len(stated))))[0, 0])


@pytest.fixture(scope="module")
def labelled() -> tuple[np.ndarray, np.ndarray]:
    """Logits [400 5] three times too sure, and labels drawn as they should be."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((400, 5)) * 1.5
    labels = np.array([rng.choice(5, p=row) for row in softmax(logits)])
    return (3 * logits).astype(np.float32), labels


def test_the_error_is_the_mean_gap_of_bins() -> None:
    stated, right = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55]), np.array([1, 1, 1, 0, 1, 1])
    bins = confidence.reliability(stated, right, bins=10)
    assert [(each.low, each.high, each.n) for each in bins] == [(0.5, 0.6, 2), (0.9, 1.0, 4)]
    assert [(each.confidence, each.accuracy) for each in bins] == [(0.55, 1.0), (pytest.approx(0.95), 0.75)]
    expected = 4 / 6 * 0.2 + 2 / 6 * 0.45
    assert calibration_error(stated, right, bins=10) == pytest.approx(expected)


def test_bins_end_where_they_say() -> None:
    (one,) = confidence.reliability(np.array([0.2]), np.array([True]), bins=5)
    assert (one.low, one.high) == (0.0, 0.2)  # at most 0.2
    (top,) = confidence.reliability(np.array([1.0]), np.array([True]), bins=5)
    assert top.high == 1.0
    assert calibration_error(np.array([1.0]), np.array([True])) == 0.0


def test_the_error_is_that_of_torchmetrics() -> None:
    import torch
    from torchmetrics.classification import MulticlassCalibrationError

    rng = np.random.default_rng(0)
    chances, labels = softmax(rng.standard_normal((300, 6)) * 2), rng.integers(0, 6, 300)
    theirs = MulticlassCalibrationError(6, n_bins=15)(torch.tensor(chances), torch.tensor(labels))
    ours = calibration_error(chances.max(1), chances.argmax(1) == labels, 15)
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_the_value_lies_in_its_interval(labelled: tuple[np.ndarray, np.ndarray]) -> None:
    """Resampling alone makes absolute errors larger."""
    logits, labels = labelled
    chances = softmax(logits / 3)  # well calibrated
    statistic = confidence.calibration_errors(chances.max(1), chances.argmax(1) == labels)
    (found,) = bootstrap(statistic, len(labels), centred=True, resamples=200)
    assert found.low < found.value < found.high


def test_a_temperature_has_the_least_log_loss(labelled: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.metrics import log_loss

    logits, labels = labelled
    fitted = confidence.fit_temperature(logits, labels)
    assert fitted == pytest.approx(3, rel=0.2)
    losses = {t: log_loss(labels, softmax(logits.astype(float) / t), labels=np.arange(5)) for t in
              (fitted, 0.97 * fitted, 1.03 * fitted, 1.0)}  # fmt: skip
    assert min(losses, key=lambda t: losses[t]) == fitted
    ours = -confidence.log_probabilities(logits, labels, np.full(len(labels), fitted)).mean()
    assert ours == pytest.approx(losses[fitted], abs=1e-5)


def test_each_half_gets_the_temperature_of_the_other(labelled: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = labelled
    each, both = confidence.cross_fitted_temperatures(logits, labels, seed=3)
    assert set(each) == set(both)
    half = each == both[0]
    assert half.sum() == 200
    assert confidence.fit_temperature(logits[~half], labels[~half]) == both[0]  # not on itself
    again, _ = confidence.cross_fitted_temperatures(logits, labels, seed=3)
    assert (each == again).all()
    other, _ = confidence.cross_fitted_temperatures(logits, labels, seed=4)
    assert 100 < ((other == other[0]) == (each == each[0])).sum() < 300  # other halves
    other, both = confidence.cross_fitted_temperatures(logits, labels, seed=4)
    assert ((other == both[0]) != half).any()  # another draw


def test_temperatures_without_an_optimum_are_held() -> None:
    logits = np.array([[5.0, 0, 0], [0, 5, 0]], dtype=np.float32)
    assert confidence.fit_temperature(logits, np.array([0, 1])) < 0.5  # all right: the surer the better
    assert confidence.fit_temperature(logits, np.array([1, 2])) > 500  # worse than guessing
    assert np.isfinite(confidence.fit_temperature(np.zeros((2, 3), dtype=np.float32), np.array([0, 1])))
    with pytest.raises(DataError, match="at least two images"):
        confidence.cross_fitted_temperatures(logits[:1], np.array([0]))


def test_a_smoothed_temperature_is_that_of_the_smoothed_labels() -> None:
    """The slope of the log-loss against labels with a share given to all classes is 0 there."""
    draw = np.random.default_rng(0)
    labels = np.arange(30) % 3
    logits = (draw.normal(size=(30, 3)) + 9 * np.eye(3)[labels]).astype(np.float32)  # all right
    assert (logits.argmax(axis=1) == labels).all()
    share = 1 / 32
    t = confidence.fit_temperature(logits, labels, share)
    target = (1 - share) * np.eye(3)[labels] + share / 3

    def loss(temperature: float) -> float:
        scaled = logits.astype(float) / temperature
        return float(-(target * (scaled - np.log(np.exp(scaled).sum(1, keepdims=True)))).sum())

    assert loss(t) < min(loss(t * 1.05), loss(t / 1.05))
    assert confidence.fit_temperature(logits, labels) < t / 3  # without it, the next answer would be certain
