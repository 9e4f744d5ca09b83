"""Images and texts to vectors and answers: on toy models, through the real engine."""

import dataclasses
import gc
import io
import itertools
import json
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy

import tandem
from tandem import engine, prompts, weights
from tandem.class_vectors import CACHED_LABEL_SETS
from tandem.errors import EngineError, ImageError, TandemError, TextError
from tandem.image import load_image, preprocess
from tandem.model import Model, load
from tandem.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def model() -> Model:
    checkpoint = toy.checkpoint()
    return Model(checkpoint, engine.build(checkpoint.config, checkpoint.tensors))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return toy.write_images(tmp_path / "photos", 5)


# --- images ------------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_the_engine(model: Model, photos: list[Path]) -> None:
    pixels = np.stack([preprocess(load_image(photo), model.config.preprocessing) for photo in photos])
    vectors = model.embed_images(photos)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, toy.DIMENSIONS)
    np.testing.assert_allclose(vectors, model.engine.encode_images(pixels), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_an_image_has_one_vector_whatever_it_comes_in(model: Model, photos: list[Path]) -> None:
    image = Image.open(photos[0])
    content = photos[0].read_bytes()
    ways = [photos[0], str(photos[0]), content, io.BytesIO(content), image, np.asarray(image)]
    alone = model.embed_images(photos[0])
    assert alone.shape == (1, toy.DIMENSIONS)
    for vector in model.embed_images(ways):
        np.testing.assert_allclose(vector, alone[0], atol=1e-6)
    for way in [str(photos[0]), content, io.BytesIO(content), image, np.asarray(image)]:
        np.testing.assert_allclose(model.embed_images(way), alone, atol=1e-6)


def test_a_vector_does_not_depend_on_its_batch(model: Model, photos: list[Path]) -> None:
    together = model.embed_images(photos)
    apart = model.embed_images(iter(photos), batch_size=2)
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_no_images_give_no_rows(model: Model) -> None:
    assert model.embed_images([]).shape == (0, toy.DIMENSIONS)
    assert model.embed_texts([]).shape == (0, toy.DIMENSIONS)


def test_a_bad_image_is_named(model: Model, photos: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "note.jpg"
    bad.write_text("no image at all")
    with pytest.raises(ImageError, match=r"note\.jpg"):
        model.embed_images([photos[0], bad])
    with pytest.warns(UserWarning, match=r"note\.jpg"):
        vectors = model.embed_images([photos[0], bad, photos[1]], on_error="nan")
    assert np.isnan(vectors[1]).all()
    np.testing.assert_allclose(vectors[[0, 2]], model.embed_images(photos[:2]), atol=1e-6)
    with pytest.raises(TandemError, match="on_error"):
        model.embed_images(photos, on_error="ignore")  # type: ignore[arg-type]


def test_errors_come_in_order_and_hold_no_trace(model: Model, photos: list[Path], tmp_path: Path) -> None:
    mixed = [photos[0], tmp_path / "gone.png", photos[1], b"\xff\xd8\xff broken", photos[2]]
    items = list(model.iter_embed_images(mixed, batch_size=2))
    assert [index for index, _ in items] == [0, 1, 2, 3, 4]
    errors = [item for _, item in items if isinstance(item, ImageError)]
    assert [error.source for error in errors] == [str(tmp_path / "gone.png"), "<bytes>"]
    assert all(error.__traceback__ is None and error.__context__ is None for error in errors)


class _Token:
    """Lives as long as the image it is fixed to."""


@pytest.mark.slow
def test_memory_stays_flat(model: Model) -> None:
    """Of 3,000 images from a generator, only those in flight are alive at any moment."""
    alive: weakref.WeakSet[_Token] = weakref.WeakSet()
    most = 0

    def many() -> Iterator[Image.Image]:
        nonlocal most
        for i in range(3000):
            image = Image.new("RGB", (8, 8), (i % 256, i // 256, 0))
            image.token = token = _Token()  # type: ignore[attr-defined]
            alive.add(token)
            most = max(most, len(alive))
            yield image

    seen = 0
    for index, vector in model.iter_embed_images(many(), batch_size=16):
        assert index == seen
        assert isinstance(vector, np.ndarray)
        seen += 1
    assert seen == 3000
    gc.collect()
    assert most <= 150  # 32 ahead, a batch in the engine, and threads that have not let go yet


def test_classify_keeps_no_images_of_an_iterator(model: Model) -> None:
    def many() -> Iterator[Image.Image]:
        for i in range(200):
            yield toy.random_image(i)

    answer = model.classify(many(), ["cat", "dog"], batch_size=16)
    assert len(answer) == 200
    assert set(answer.images) == {None}
    with pytest.raises(TandemError, match="iterator"):
        answer.plot("never.png")


@pytest.mark.slow
def test_images_of_a_list_can_be_drawn(model: Model, photos: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    held = [photos[0].read_bytes(), toy.random_image(1), np.asarray(toy.random_image(2)), str(photos[3])]
    for images in (held, held[1], iter(photos), np.stack([np.asarray(toy.random_image(i)) for i in range(2)])):
        assert model.classify(images, ["cat", "dog"]).plot(tmp_path / "answer.png").stat().st_size > 1000
    with photos[0].open("rb") as file, pytest.raises(TandemError, match="open file"):
        model.classify([file], ["cat", "dog"]).plot(tmp_path / "never.png")


def test_the_first_vector_does_not_wait_for_the_last_source(model: Model) -> None:
    drawn = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal drawn
        for i in itertools.count():
            drawn += 1
            yield toy.random_image(i % 7)

    stream = model.iter_embed_images(endless(), batch_size=4)
    next(stream)
    assert drawn < 100
    stream.close()  # type: ignore[attr-defined]


# --- texts -----------------------------------------------------------------------------------------------------------


def test_texts_of_any_length_come_back_in_order(model: Model) -> None:
    texts = ["a cat", "a", "a cat and a dog", "dog", "", "a cat"]
    vectors = model.embed_texts(texts)
    assert vectors.dtype == np.float32
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(model.embed_texts(text)[0], vector, atol=1e-6)
    np.testing.assert_allclose(model.embed_texts(iter(texts)), vectors, atol=1e-6)
    assert not np.allclose(vectors[0], vectors[3], atol=1e-3)


def test_too_long_a_text_is_refused_or_truncated(model: Model) -> None:
    text = "cat " * 100
    with pytest.raises(TextError, match="truncate"):
        model.embed_texts(text)
    cut = model.embed_texts(text, truncate=True)
    np.testing.assert_allclose(cut, model.embed_texts("cat " * (toy.CONTEXT - 2)), atol=1e-6)


def test_text_states_cover_the_whole_context(model: Model) -> None:
    states = model.text_states(["a cat", "a dog here"], layer=-2)
    assert states.shape == (2, toy.CONTEXT, toy.TEXT_WIDTH)
    ids = model.tokenizer(["a cat", "a dog here"], toy.CONTEXT, pad_to=toy.CONTEXT)
    np.testing.assert_allclose(states, model.engine.text_states(ids, -2), atol=1e-6)
    last = model.text_states("a cat")
    end = list(ids[0]).index(model.tokenizer.end_id)
    vector = last[0, end] @ model.tensors["text_projection"]
    np.testing.assert_allclose(vector / np.linalg.norm(vector), model.embed_texts("a cat")[0], atol=1e-5)


@pytest.mark.parametrize("layer", ["last", None, 1.5, True])
def test_a_layer_of_states_is_a_whole_number(model: Model, photos: list[Path], layer: Any) -> None:
    with pytest.raises(EngineError, match=r"^layer: expected a whole number in -\d+\.\.\d+, got "):
        model.text_states("a cat", layer=layer)
    with pytest.raises(EngineError, match=r"^layer: expected a whole number in -\d+\.\.\d+, got "):
        model.image_states(photos, layer=layer)


# --- answers -------------------------------------------------------------------------------------------------------


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


# --- load ----------------------------------------------------------------------------------------------------------


def test_load_from_a_folder(tmp_path: Path, model: Model, photos: list[Path]) -> None:
    loaded = load(toy.folder(tmp_path / "model"))
    assert (loaded.name, loaded.config, loaded.fingerprint) == (model.name, model.config, model.fingerprint)
    np.testing.assert_allclose(loaded.embed_images(photos), model.embed_images(photos), atol=1e-6)
    assert "toy" in repr(loaded)


def test_notes_are_warned_about(tmp_path: Path) -> None:
    noted = toy.folder(tmp_path / "noted", notes={"activation": "gelu was assumed"})
    with pytest.warns(UserWarning, match="gelu was assumed"):
        load(noted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(toy.folder(tmp_path / "plain"))


def test_exif_orientation_is_applied_by_default(tmp_path: Path) -> None:
    image = toy.random_image(3)
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: to be shown, turn by 90 degrees clockwise
    image.save(turned, exif=exif)
    checkpoint = toy.checkpoint()
    built = engine.build(checkpoint.config, checkpoint.tensors)
    upright, as_stored = Model(checkpoint, built), Model(checkpoint, built, orient=False)
    np.testing.assert_allclose(as_stored.embed_images(turned), as_stored.embed_images(image), atol=1e-6)
    shown = image.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_allclose(upright.embed_images(turned), upright.embed_images(shown), atol=1e-6)
    assert not np.allclose(upright.embed_images(turned), as_stored.embed_images(turned), atol=1e-3)


def test_a_batch_of_none_is_refused_not_lost(model: Model) -> None:
    for size in (0, -1):
        with pytest.raises(TandemError, match="batch_size: expected at least 1"):
            model.embed_images([toy.random_image(1)], batch_size=size)


def test_what_is_no_image_or_text_is_refused_by_type(model: Model) -> None:
    with pytest.raises(TandemError, match="images: expected an image or several, got int"):
        model.embed_images(5)  # type: ignore[arg-type]
    with pytest.raises(TextError, match="texts: expected a text or several, got int"):
        model.embed_texts(5)  # type: ignore[arg-type]


def test_vectors_that_are_not_finite_are_no_answer() -> None:
    checkpoint = toy.checkpoint()
    tensors = {name: np.array(array) for name, array in checkpoint.tensors.items()}
    tensors["visual.proj"][0, 0] = np.nan
    broken = dataclasses.replace(checkpoint, tensors=tensors)
    model = Model(broken, engine.build(broken.config, tensors))
    with pytest.raises(EngineError, match="not finite"):
        model.classify([toy.random_image(1)], ["cat", "dog"])
