"""Heads in place of labels: answers of a model, rows of a collection, the two commands."""

from pathlib import Path

import numpy as np
import pytest
from support import toy

import tandem
from tandem.answer import highlighted
from tandem.errors import HeadError, TandemError
from tandem.heads.head import Head
from tandem.heads.head_file import write_head
from tandem.model import Model
from tandem.scores.scoring import Scoring, softmax


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return tandem.load(toy.folder(tmp_path_factory.mktemp("models") / "toy"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return toy.write_images(tmp_path_factory.mktemp("images"), 3)


def head_of(model: Model, **changes: str) -> Head:
    random = np.random.default_rng(1)
    weights = random.normal(size=(3, model.config.embed_dim)).astype(np.float32) * 5
    values = {"fingerprint": model.fingerprint, "method": "clap", **changes}
    return Head(("cat", "dog", "cow"), weights, np.array([0, 2, -1], np.float32), card={"model": model.name}, **values)


def test_a_head_answers_with_its_classes(model: Model, images: list[Path], tmp_path: Path) -> None:
    head = head_of(model)
    expected = head.logits(model.embed_images(images))
    answer = model.classify(images, head=write_head(head, tmp_path / "x.tandem-head"))
    assert answer.labels == head.classes
    assert answer.scoring == "head"
    np.testing.assert_allclose(answer.logits, expected, atol=1e-5)
    np.testing.assert_allclose(answer.probabilities, softmax(expected), atol=1e-5)
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, atol=1e-5)
    parts = list(model.iter_classify(images, head=head, batch_size=2))
    assert [len(part) for part in parts] == [2, 1]
    assert "by itself" not in repr(answer)
    assert highlighted(answer.scoring, answer.top(3)[0]) == 1
    assert answer.as_dict()["scoring"] == "head"


def test_of_no_images_the_classes_remain(model: Model) -> None:
    assert model.classify([], head=head_of(model)).probabilities.shape == (0, 3)


def test_a_head_of_another_model_is_refused(model: Model, images: list[Path]) -> None:
    with pytest.raises(HeadError, match=r"toy.*fingerprint c{12}"):
        model.classify(images, head=head_of(model, fingerprint="c" * 64))


def test_labels_or_a_head(model: Model, images: list[Path]) -> None:
    with pytest.raises(TandemError, match="neither"):
        model.classify(images)
    with pytest.raises(TandemError, match="both"):
        model.classify(images, ["cat"], head=head_of(model))
    with pytest.raises(TandemError, match="are for labels"):
        model.classify(images, head=head_of(model), independent=True)


def test_scoring_with_a_bias_for_each_class() -> None:
    """Ranking and probabilities of the best agree with softmax over whole logits."""
    random = np.random.default_rng(0)
    products = random.normal(size=(7, 4)).astype(np.float32)
    scoring = Scoring("head", 1.0, np.array([0, 3, -2, 0.5], np.float32))
    whole = softmax(products + scoring.bias)
    np.testing.assert_allclose(scoring.from_evidence(scoring.evidence(products.T)).T, whole, rtol=1e-5)
    best = np.argsort(-scoring.logits(products), axis=1)[:, :2]
    found = scoring.best_probabilities(products, best, np.take_along_axis(products, best, 1))
    np.testing.assert_allclose(found, np.take_along_axis(whole, best, 1), rtol=1e-5)
