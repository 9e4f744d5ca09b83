"""Metrics on cases small enough to count by hand, and against scikit-learn and torchmetrics on random ones."""

from itertools import combinations

import numpy as np
import pytest

from tandem.errors import DataError, named
from tandem.evaluate.metrics import (
    answers,
    average_precision,
    average_precisions,
    chance_recall,
    clip_score,
    confusion,
    label_ranks,
    match_ranks,
    mean_per_class,
    per_class,
    recall_at_k,
    top_k_accuracy,
)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.standard_normal(shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# --- classification --------------------------------------------------------------------------------------------------


def test_top_k_counts_rows_whose_label_is_among_the_best() -> None:
    scores = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])
    labels = np.array([0, 1, 2])
    assert top_k_accuracy(scores, labels) == 1 / 3
    assert top_k_accuracy(scores, labels, k=2) == 2 / 3
    assert label_ranks(scores, labels).tolist() == [1, 2, 3]


def test_ties_count_against_the_model() -> None:
    assert label_ranks(np.array([[1.0, 1, 0]]), np.array([0])).tolist() == [2]  # the other one may be as good
    assert top_k_accuracy(np.array([[1.0, 1, 0]]), np.array([0]), 2) == 1.0
    assert top_k_accuracy(np.zeros((50, 10)), np.arange(50) % 10, 9) == 0.0  # constant scores know nothing
    assert top_k_accuracy(np.zeros((50, 10)), np.arange(50) % 10, 10) == 1.0
    assert top_k_accuracy(np.full((2, 3), np.nan), np.array([0, 1])) == 0.0


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_that_of_scikit_learn(k: int) -> None:
    from sklearn.metrics import top_k_accuracy_score

    rng = np.random.default_rng(k)
    scores, labels = rng.standard_normal((200, 7)), rng.integers(0, 7, 200)
    assert top_k_accuracy(scores, labels, k) == top_k_accuracy_score(labels, scores, k=k, labels=np.arange(7))


def test_right_answers_are_exactly_the_top_1() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 4, (300, 5)).astype(float), rng.integers(0, 5, 300)  # many ties
    assert np.mean(answers(scores, labels) == labels) == top_k_accuracy(scores, labels) > 0


def test_mean_per_class_leaves_out_classes_without_images() -> None:
    right, labels = np.array([1.0, 1, 1, 0]), np.array([0, 0, 0, 2])
    assert mean_per_class(right, labels, 4) == 0.5  # of two classes, not of four; three quarters of the images
    count, share = per_class(right, labels, 4)
    assert count.tolist() == [3, 0, 1, 0]
    assert np.isnan(share).tolist() == [False, True, False, True]


def test_mean_per_class_is_the_balanced_accuracy_of_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix

    rng = np.random.default_rng(0)
    labels = rng.choice(6, 200, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    answered = np.where(rng.random(200) < 0.6, labels, rng.integers(0, 6, 200))
    assert mean_per_class(answered == labels, labels, 6) == pytest.approx(balanced_accuracy_score(labels, answered))
    whole = np.zeros((6, 6), dtype=int)
    for true, given, count in confusion(labels, answered, 6):
        whole[true, given] = count
    assert (whole == confusion_matrix(labels, answered)).all()


# --- several labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [3, 10_000])  # nearly all tied, nearly none
def test_average_precision_is_that_of_scikit_learn(levels: int) -> None:
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(levels)
    scores, positives = rng.integers(0, levels, (120, 4)).astype(float), rng.random((120, 4)) < 0.2
    expected = [average_precision_score(positives[:, i], scores[:, i]) for i in range(4)]
    assert average_precisions(scores, positives) == pytest.approx(expected, abs=1e-12)


def test_average_precision_of_constant_scores_is_the_share_of_positives() -> None:
    positives = np.arange(40) < 6
    assert average_precision(np.zeros(40), positives) == pytest.approx(0.15)
    assert average_precision(np.zeros(1), np.array([True])) == 1.0


def test_a_class_without_positives_is_no_zero() -> None:
    with pytest.raises(DataError, match="at least one positive"):
        average_precision(np.zeros(4), np.zeros(4, dtype=bool))
    found = average_precisions(np.eye(3), np.array([[True, False, True]] * 3))
    assert np.isnan(found).tolist() == [False, True, False]


# --- retrieval -------------------------------------------------------------------------------------------------------


def test_any_matching_caption_is_a_hit() -> None:
    scores = np.array([[0.9, 0.1, 0.5, 0.2], [0.9, 0.8, 0.1, 0.2]])
    matches = np.array([[False, False, True, True], [False, False, True, True]])
    assert recall_at_k(scores, matches, 1) == 0.0
    assert recall_at_k(scores, matches, 2) == 0.5
    assert recall_at_k(scores, matches, 3) == 1.0
    assert recall_at_k(np.zeros((2, 4)), matches, 1) == 0.0  # all tied: not a hit
    assert match_ranks(np.zeros((2, 4)), matches).tolist() == [3, 3]  # behind both that do not match


def test_a_query_without_a_match_is_an_error() -> None:
    with pytest.raises(DataError, match="query 1 has no match"):
        match_ranks(np.zeros((2, 2)), np.array([[True, False], [False, False]]))


@pytest.mark.slow
def test_recall_is_that_of_torchmetrics() -> None:
    """Its hit rate: the share of queries with any match among the best k."""
    import torch
    from torchmetrics.retrieval import RetrievalHitRate

    rng = np.random.default_rng(0)
    scores = rng.standard_normal((30, 40))
    matches = rng.random((30, 40)) < 0.05
    matches[:, 0] |= ~matches.any(1)
    for k in (1, 5, 10):
        theirs = RetrievalHitRate(top_k=k)(
            torch.tensor(scores).flatten(),
            torch.tensor(matches).flatten(),
            indexes=torch.arange(30).repeat_interleave(40),
        )
        assert recall_at_k(scores, matches, k) == pytest.approx(float(theirs), abs=1e-6)


def test_chance_of_recall_counts_all_draws() -> None:
    for gallery, own, k in ((6, 1, 2), (6, 3, 2), (6, 5, 2), (4, 4, 1), (5, 2, 5)):
        draws = list(combinations(range(gallery), k))
        assert chance_recall(gallery, own, k) == pytest.approx(sum(min(d) < own for d in draws) / len(draws))


def test_clip_score_is_that_of_torchmetrics_times_a_fortieth() -> None:
    """Its own function on the same features, by a model that returns them."""
    import torch
    from torchmetrics.functional.multimodal import clip_score as theirs

    rng = np.random.default_rng(0)
    images, texts = unit(rng, 8, 16), unit(rng, 8, 16)

    class Given:
        config = None

        def to(self, device: torch.device) -> "Given":
            return self

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(images[pixels])

        def get_text_features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(texts[ids])

    def processor(text: list[str] | None = None, images: object = None, **_: object) -> dict[str, torch.Tensor]:
        places = torch.arange(8 if text is None else len(text))
        return {"pixel_values": places, "input_ids": places, "attention_mask": places}

    score = theirs(list(torch.zeros(8, 3, 2, 2)), ["a"] * 8, lambda: (Given(), processor))
    cosines = (images * texts).sum(1)
    assert float(score) == pytest.approx(max(0, 100 * cosines.mean()), abs=1e-4)  # it holds the mean, not each
    one = clip_score(images, texts)
    assert one * 40 == pytest.approx(100 * np.maximum(cosines, 0), abs=1e-4)
    assert (clip_score(images, -images) == 0).all()
    assert clip_score(3 * images, images) == pytest.approx(np.full(8, 2.5), abs=1e-5)
    with pytest.raises(DataError, match="one text for each image"):
        clip_score(images, texts[:3])


def test_names_for_a_line() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named([str(i) for i in range(7)]) == "0, 1, 2, 3, 4 and 2 more"
