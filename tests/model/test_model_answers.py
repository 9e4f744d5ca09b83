"""Labels to class vectors, and images to answers: on toy models, through the real engine."""

import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from support import toy

import tandem
from tandem import prompts, weights
from tandem.class_vectors import CACHED_LABEL_SETS
from tandem.errors import TandemError, TextError
from tandem.model import Model, load
from tandem.tokenizer import Tokenizer


def test_an_ensemble_is_normalised_averaged_normalised(model: Model) -> None:
    templates = ["a photo of a {}.", "{} there"]
    each = np.stack([model.embed_texts([t.format("cat"), t.format("dog")]) for t in templates])
    mean = each.mean(axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(model.class_vectors(["cat", "dog"], templates), expected, atol=1e-6)
    alone = model.class_vectors(["cat", "dog"])
    np.testing.assert_allclose(
        alone, model.embed_texts([prompts.DEFAULT_TEMPLATE.format(x) for x in ("cat", "dog")]), atol=1e-6
    )


def test_labels_in_a_language(model: Model, photos: list[Path]) -> None:
    labels = {"dog": {"de": "Hund"}, "cat": {"de": "Katze"}}
    german = model.class_vectors(labels, language="de")
    assert (german == model.class_vectors(["Hund", "Katze"], "ein Foto von {}.")).all()
    assert (german == model.class_vectors(["Hund", "Katze"], language="de")).all()
    assert (model.class_vectors(labels) == model.class_vectors(["dog", "cat"])).all()
    answer = model.classify(photos, labels, language="de")
    assert answer.labels == ("dog", "cat")
    np.testing.assert_array_equal(answer.logits, model.classify(photos, ["Hund", "Katze"], language="de").logits)
    with pytest.raises(TextError, match="'dog' has no text in the language 'fr'"):
        model.classify(photos, labels, language="fr")


def test_a_model_of_english_warns_once_of_other_languages(model: Model) -> None:
    assert not model.is_english_only
    for name, english in (("ViT-B/32", True), ("google/siglip2-base-patch16-256", False), ("org/unknown", False)):
        named = dataclasses.replace(model.checkpoint, config=dataclasses.replace(model.config, name=name))
        assert Model(named, model.engine).is_english_only == english
    clips = dataclasses.replace(model.checkpoint, tokenizer=Tokenizer.clip())
    assert Model(clips, model.engine).is_english_only
    shipped = load()
    assert shipped.is_english_only
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.class_vectors(["Hund", "Katze"], language="de")
        shipped.class_vectors(["dog", "cat"], language="en")
        shipped.class_vectors(["dog", "cat"])
        assert not caught
        for label in ("Hund", "Maus"):
            shipped.class_vectors([label, "Katze"], language="de")
    assert [str(each.message) for each in caught] == [
        "tandem-mini was trained on English texts: it guesses what labels in 'de' mean; give English ones, or load a "
        "model of many languages; see: tandem models --for languages"
    ]


def test_labels_in_letters_that_english_does_not_write_are_warned_of() -> None:
    shipped = load()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shipped.class_vectors(["café", "β-carotene", "1990s", "7"])
    with pytest.warns(
        UserWarning, match=r"labels such as '猫', in other letters, mean.*tandem models --for languages$"
    ):
        shipped.class_vectors(["dog", "猫"])
    with pytest.warns(UserWarning, match=r"labels such as 'un perro en la nieve', no English, mean"):
        load().class_vectors(["a cat", "un perro en la nieve"])


def test_class_vectors_are_computed_once_and_few_are_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model.class_vectors(["one", "two"])
    calls = []
    embed = model.embed_texts
    monkeypatch.setattr(model, "embed_texts", lambda texts, **more: (calls.append(texts), embed(texts, **more))[1])
    assert model.class_vectors(["one", "two"]) is first
    assert not calls
    model.class_vectors(["two", "one"])
    model.class_vectors(["one", "two"], "a {}")
    assert len(calls) == 2
    for i in range(CACHED_LABEL_SETS):
        model.class_vectors([f"label {i}", "other"])
    assert len(model._class_vectors) == CACHED_LABEL_SETS
    assert model.class_vectors(["one", "two"]) is not first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 0


def test_logits_are_cosines_times_the_scale(model: Model, photos: list[Path]) -> None:
    images, texts = model.embed_images(photos), model.embed_texts(["a cat", "a dog", "a car"])
    cosine = model.similarity(images, texts)
    assert cosine.shape == (5, 3)
    np.testing.assert_allclose(cosine, images @ texts.T, atol=1e-6)
    np.testing.assert_allclose(model.logits(images, texts), np.exp(3.0) * cosine, rtol=1e-5)
    np.testing.assert_allclose(model.probabilities(images, texts).sum(axis=1), 1, atol=1e-6)
    assert model.similarity(images[0], texts[0]).shape == (1, 1)
    with pytest.raises(TandemError, match=r"\(5, 7\)"):
        model.similarity(images[:, :7], texts)


def test_classify(model: Model, photos: list[Path]) -> None:
    labels = ["cat", "dog", "car"]
    answer = model.classify([str(photo) for photo in photos], labels)
    logits = model.logits(model.embed_images(photos), model.class_vectors(labels))
    np.testing.assert_allclose(answer.logits, logits, atol=1e-5)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(answer.probabilities, exponents / exponents.sum(axis=1, keepdims=True), atol=1e-6)
    assert answer.probabilities.dtype == np.float32
    assert answer.best == [labels[i] for i in logits.argmax(axis=1)]
    assert answer.sources == tuple(str(photo) for photo in photos)
    assert answer.top(2)[0][0][0] == answer.best[0]
    assert "5 images, 3 labels" in repr(answer)


def test_classify_skips_bad_images(model: Model, photos: list[Path]) -> None:
    mixed = [photos[0], "gone.jpg", photos[1]]
    with pytest.warns(UserWarning, match=r"gone\.jpg"):
        answer = model.classify(mixed, ["cat", "dog"])
    assert answer.sources == (str(photos[0]), str(photos[1]))
    assert answer.probabilities.shape == (2, 2)
    assert [(failure.index, failure.source) for failure in answer.failures] == [(1, "gone.jpg")]
    np.testing.assert_allclose(answer.logits, model.classify(photos[:2], ["cat", "dog"]).logits, atol=1e-5)


def test_answer_as_json(model: Model, photos: list[Path]) -> None:
    with pytest.warns(UserWarning, match="skipped"):
        answer = model.classify([photos[0], "gone.jpg"], ["cat", "dog"])
    document = json.loads(answer.to_json())
    assert document == answer.as_dict()
    assert set(document) == {"model", "labels", "scoring", "results", "failures"}
    assert document["model"] == {"name": "toy", "fingerprint": weights.fingerprint(model.checkpoint)}
    assert document["labels"] == ["cat", "dog"]
    (result,) = document["results"]
    assert set(result) == {"image", "best", "probabilities", "logits"}
    assert result["image"] == str(photos[0])
    assert result["probabilities"].keys() == {"cat", "dog"}
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    (failure,) = document["failures"]
    assert failure == {"image": "gone.jpg", "error": "no such file or folder", "kind": "not_found"}


def test_streamed_answers_join_to_the_whole(model: Model, photos: list[Path]) -> None:
    parts = list(model.iter_classify(photos, ["cat", "dog"], batch_size=2))
    assert [len(part) for part in parts] == [2, 2, 1]
    whole = tandem.Answer.join(parts)
    np.testing.assert_allclose(whole.logits, model.classify(photos, ["cat", "dog"]).logits, atol=1e-5)
    assert whole.sources == tuple(map(str, photos))
    assert len(model.classify([], ["cat", "dog"])) == 0


@pytest.mark.parametrize(
    ("labels", "said"),
    [("cat,dog", "list"), ([], "no labels"), (["cat", " "], "' '"), (["cat", "Cat"], "twice"), ([3], "3")],
)
def test_bad_labels(model: Model, labels: list[str], said: str) -> None:
    with pytest.raises(TextError, match=said):
        model.classify([toy.random_image()], labels)
