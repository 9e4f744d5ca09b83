"""Images and texts to vectors, and models from folders: on toy models, through the real engine."""

import dataclasses
import gc
import io
import itertools
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy

from tandem import engine
from tandem.errors import EngineError, ImageError, TandemError, TextError
from tandem.image import load_image, preprocess
from tandem.model import Model, load

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
