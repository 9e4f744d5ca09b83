"""GDA against its equations and scikit-learn's discriminant analysis; leaving one out against doing so."""

import numpy as np
import pytest
from sklearn.covariance import empirical_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tandem.errors import DataError
from tandem.heads import gda
from tandem.heads.shots import Shots, check_shots


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def shots(counts: tuple[int, ...] = (5, 4, 3, 2), d: int = 6, texts: float = 1.0) -> Shots:
    draw = np.random.default_rng(3)
    centres = draw.standard_normal((len(counts), d))
    labels = np.repeat(np.arange(len(counts)), counts)
    vectors = unit(centres[labels] + draw.standard_normal((len(labels), d)))
    return check_shots(
        vectors,
        labels,
        tuple("abcdefgh"[: len(counts)]),
        unit(centres + texts * draw.standard_normal(centres.shape)),
        10.0,
    )


def paper(given: Shots) -> tuple[np.ndarray, np.ndarray]:
    """W and b as the paper writes them."""
    vectors, n, d = given.vectors.astype(np.float64), len(given.labels), given.vectors.shape[1]
    means = np.stack([vectors[given.labels == each].mean(axis=0) for each in range(len(given.classes))])
    covariance = np.cov((vectors - means[given.labels]).T)  # divided by n - 1
    precision = d * np.linalg.pinv((n - 1) * covariance + np.trace(covariance) * np.eye(d))
    bias = np.log(1 / len(means)) - 0.5 * np.einsum("cd,de,ce->c", means, precision, means)
    return means @ precision, bias


@pytest.mark.parametrize("d", [6, 40])  # fewer and more dimensions than images
def test_weights_and_biases_are_the_papers(d: int) -> None:
    weights, bias = gda.gaussian_head(shots(d=d))
    expected, expected_bias = paper(shots(d=d))
    assert np.allclose(weights, expected, rtol=1e-4, atol=1e-3)
    assert np.allclose(bias, expected_bias, rtol=1e-4)


def test_it_decides_as_discriminant_analysis_with_the_same_covariance_does() -> None:
    given = shots((30, 30, 30), d=6)
    weights, bias = gda.gaussian_head(given)
    reference = LinearDiscriminantAnalysis(
        solver="lsqr", priors=[1 / 3] * 3, covariance_estimator=_Given(paper_covariance(given))
    ).fit(given.vectors, given.labels)
    points = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
    ours = points @ weights.T + bias
    theirs = reference.decision_function(points)
    assert np.array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))
    assert np.allclose(ours - ours[:, :1], theirs - theirs[:, :1], rtol=1e-3, atol=1e-2)


class _Given:
    """scikit-learn's covariance estimator, with the matrix given."""

    def __init__(self, covariance: np.ndarray) -> None:
        self.covariance_ = covariance

    def fit(self, vectors: np.ndarray) -> "_Given":
        return self


def paper_covariance(given: Shots) -> np.ndarray:
    residuals = given.vectors.astype(np.float64) - given.means[given.labels]
    scatter = len(residuals) * empirical_covariance(residuals, assume_centered=True)
    d = given.vectors.shape[1]
    return np.asarray((scatter + np.trace(scatter) / (len(residuals) - 1) * np.eye(d)) / d)


@pytest.mark.parametrize("d", [6, 40])
def test_leaving_one_out_is_exact(d: int) -> None:
    given = shots(d=d)
    quick = gda.leave_one_out_gaussian(given)
    for image in range(len(given.labels)):
        others = given.take(np.delete(np.arange(len(given.labels)), image))
        weights, bias = paper(others)
        assert np.allclose(quick[image], given.vectors[image] @ weights.T + bias, rtol=1e-4, atol=1e-2)


def test_alpha_is_the_one_with_the_most_right_answers_when_left_out() -> None:
    given = shots((6, 6, 6), texts=3.0)  # texts that know little, so that alpha matters
    gaussian = gda.leave_one_out_gaussian(given)
    right = [
        ((given.zero_shot_logits + alpha * gaussian).argmax(axis=1) == given.labels).mean() for alpha in gda.ALPHAS
    ]
    fit = gda.fit_gda(given)
    assert fit.facts["alpha"] == pytest.approx(gda.ALPHAS[int(np.argmax(right))])
    assert fit.facts["alpha"] > 0
    assert max(right) > right[0]


def test_the_temperature_changes_no_answer_and_alpha_zero_is_zero_shot() -> None:
    given = shots()
    chosen = gda.fit_gda(given)
    plain = gda.fit_gda(given, alpha=chosen.facts["alpha"])
    points = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    assert np.allclose(chosen.logits(points) * chosen.facts["temperature"], plain.logits(points), rtol=1e-3, atol=1e-3)
    assert np.allclose(gda.fit_gda(given, alpha=0.0).logits(points), 10 * points @ given.class_vectors.T, atol=1e-5)


def test_a_left_out_image_has_no_say_in_its_own_alpha() -> None:
    given = shots((6, 6, 6), texts=3.0)
    logits = gda.leave_one_out(given)
    gaussian = gda.leave_one_out_gaussian(given)
    right = np.array(
        [((given.zero_shot_logits + alpha * gaussian).argmax(axis=1) == given.labels) for alpha in gda.ALPHAS]
    )
    by_all, moved = right.sum(axis=1).argmax(), 0
    for image in range(18):
        chosen = np.delete(right, image, axis=1).sum(axis=1).argmax()
        expected = given.zero_shot_logits[image] + gda.ALPHAS[chosen] * gaussian[image]
        assert np.allclose(logits[image] / logits[image][0] * expected[0], expected, rtol=1e-4)
        moved += chosen != by_all
    assert moved  # for some images it is another alpha than all of them choose


def test_a_head_is_that_of_the_equations_with_its_bias() -> None:
    given = shots()
    weights, bias = paper(given)
    fit = gda.fit_gda(given, alpha=0.5)
    assert np.ptp(bias) > 0.1  # one that is the same for all classes would change nothing
    assert np.allclose(fit.bias, 0.5 * bias, rtol=1e-4)
    assert np.allclose(fit.weights, 10 * given.class_vectors + 0.5 * weights, rtol=1e-3, atol=1e-2)


def test_the_temperature_is_that_which_makes_left_out_labels_most_probable() -> None:
    given = shots((6, 6, 6))
    fit = gda.fit_gda(given)
    logits = given.zero_shot_logits + np.float32(fit.facts["alpha"]) * gda.leave_one_out_gaussian(given)
    losses = [-log_shares(logits * factor)[range(18), given.labels].mean() for factor in gda.INVERSE_TEMPERATURES]
    best = gda.INVERSE_TEMPERATURES[int(np.argmin(losses))]
    assert fit.facts["temperature"] == pytest.approx(1 / best)
    assert best < 1
    _, bias = paper(given)
    assert np.allclose(fit.bias, best * fit.facts["alpha"] * bias, rtol=1e-4)


def log_shares(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def test_equal_logits_are_not_right() -> None:
    given = shots((3, 3))
    right = gda._right(given, np.zeros((6, 2), np.float32))
    assert right.sum() > 0
    tied = check_shots(given.vectors, given.labels, given.classes, given.class_vectors[[0, 0]], 10.0)
    assert gda._right(tied, np.zeros((6, 2), np.float32)).sum() == 0


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="two images of a class"):
        gda.fit_gda(shots((1, 1, 1)), alpha=1.0)
    with pytest.raises(DataError, match="at least 2 images of every class; fewer of 'c'"):
        gda.fit_gda(shots((2, 2, 1)))
    same = shots((1, 1, 1))
    doubled = check_shots(
        np.repeat(same.vectors, 2, axis=0), np.repeat(same.labels, 2), same.classes, same.class_vectors, 10.0
    )
    with pytest.raises(DataError, match="differ within a class"):
        gda.fit_gda(doubled)
    with pytest.raises(DataError, match="a third"):
        gda.fit_gda(shots((2,)))


def test_duplicates_and_one_class_stay_finite() -> None:
    given = shots((2, 2))
    vectors = given.vectors.copy()
    vectors[1] = vectors[0]  # the first class has one image twice
    doubled = check_shots(vectors, given.labels, given.classes, given.class_vectors, 10.0)
    assert np.isfinite(gda.leave_one_out(doubled)).all()
    assert np.isfinite(gda.fit_gda(shots((3,))).weights).all()
