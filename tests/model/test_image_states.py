"""Image states of a model: named parts, streams, and what is refused."""

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from support import toy

from tandem import weights
from tandem.engine import build
from tandem.errors import EngineError, ImageError, TandemError
from tandem.image_states import ImageStates
from tandem.model import Model

PATCHES = toy.SIZE // 8  # along a side


def made(vision: str = "vit") -> Model:
    checkpoint = toy.checkpoint(vision)
    return Model(checkpoint, build(checkpoint.config, checkpoint.tensors))


@pytest.fixture(scope="module")
def model() -> Model:
    return made()


def test_parts_have_names(model: Model) -> None:
    images = [toy.random_image(i) for i in range(3)]
    states = model.image_states(images)
    assert (states.grid, states.layer) == ((PATCHES, PATCHES), -2)
    assert states.states.shape == (3, 1 + PATCHES**2, 24)
    assert states.states.dtype == np.float32
    assert states.class_token is not None
    np.testing.assert_array_equal(states.class_token, states.states[:, 0])
    np.testing.assert_array_equal(states.patches[:, 1, 2], states.states[:, 1 + PATCHES + 2])
    np.testing.assert_array_equal(states.patch_tokens, states.states[:, 1:])
    alone = states.without_class_token()
    assert alone.class_token is None
    np.testing.assert_array_equal(alone.patches, states.patches)
    assert repr(states) == "<ImageStates [3 17 24]: layer -2, 4 x 4 patches and a class token>"


def test_the_projected_class_token_is_the_vector(model: Model) -> None:
    images = [toy.random_image(i) for i in range(2)]
    token = model.image_states(images, layer=-1, projection=True).class_token
    assert token is not None
    np.testing.assert_allclose(
        token / np.linalg.norm(token, axis=1, keepdims=True), model.embed_images(images), atol=1e-5
    )


def test_a_patch_lies_where_it_is_in_the_photo(model: Model) -> None:
    """Before any block a patch's state depends on its own pixels alone."""
    pixels = np.full((toy.SIZE, toy.SIZE, 3), 120, np.uint8)
    changed = pixels.copy()
    changed[8:16, 24:32] = 250  # row 1, column 3
    before, after = model.image_states([pixels, changed], layer=0).patches
    assert [tuple(place) for place in np.argwhere(abs(after - before).max(axis=-1) > 1e-3)] == [(1, 3)]


def test_a_resnet_gives_positions_and_no_class_token() -> None:
    model = made("resnet")
    states = model.image_states(toy.random_image(), layer=2)
    assert states.class_token is None
    assert states.grid == (8, 8)  # a stem of stride 2, then one stage that halves
    assert states.patches.shape == (1, 8, 8, 16)
    last = model.config.vision.state_layers
    for layer in (-1, -2, -last):  # counted from the end, the grid is that of the same stage
        assert (
            model.image_states(toy.random_image(), layer=layer).grid
            == model.image_states(toy.random_image(), layer=last + 1 + layer).grid
        )
    with pytest.raises(EngineError, match=r"norm: this image tower \(resnet\) has no last norm"):
        model.image_states(toy.random_image(), norm=True)


def test_a_stream_yields_states_and_errors(model: Model) -> None:
    sources = [toy.random_image(0), b"no image", toy.random_image(1)]
    found = list(model.iter_image_states(iter(sources), layer=1, batch_size=2))
    assert [index for index, _ in found] == [0, 1, 2]
    assert isinstance(found[1][1], ImageError)
    expected = model.image_states([sources[0], sources[2]], layer=1)
    for i, (_, one) in enumerate((found[0], found[2])):
        assert isinstance(one, ImageStates)
        assert one.states.shape == (17, 24)
        assert one.patches.shape == (4, 4, 24)
        np.testing.assert_allclose(one.states, expected.states[i], atol=1e-6)
        assert one.states.base is None  # it does not keep its batch
    with pytest.raises(ImageError):
        model.image_states(sources)


def test_nothing_in_nothing_out(model: Model) -> None:
    states = model.image_states([], layer=0)
    assert states.states.shape == (0, 17, 24)
    assert states.patches.shape == (0, 4, 4, 24)


def test_refusals_come_before_the_first_image(model: Model) -> None:
    def untouched() -> Iterator[Image.Image]:
        pytest.fail("an image was asked for")
        yield

    with pytest.raises(EngineError, match=r"layer: expected -3..2, got 4"):
        model.iter_image_states(untouched(), layer=4)
    with pytest.raises(TandemError, match=r"a grid of 2 x 2 and a class token, got \[1 4 8\]"):
        ImageStates(np.zeros((1, 4, 8), np.float32), (2, 2), -1, has_class_token=True)


def test_memory_does_not_grow_with_the_stream(model: Model) -> None:
    image = toy.random_image()
    tracemalloc.start()
    try:
        peaks = []
        for count in (40, 400):
            tracemalloc.reset_peak()
            for number, _ in enumerate(model.iter_image_states((image for _ in range(count)), batch_size=8)):
                if number % 40 == 0:  # in a test run garbage is collected rarely (tests/conftest.py)
                    gc.collect()
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000  # the states of 360 images more are 600 KB


def test_no_cycle_holds_pixels_or_states(model: Model) -> None:
    """What is not needed any more goes at once: it does not wait for the collector, which rarely comes."""
    gc.collect()
    debug = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in model.iter_image_states((toy.random_image() for _ in range(24)), batch_size=8):
            pass
        gc.collect()
        held = [each for dead in gc.garbage for each in (dead, *gc.get_referents(dead))]
        assert not [type(each) for each in held if isinstance(each, np.ndarray | Image.Image)]
    finally:
        gc.set_debug(debug)
        gc.garbage.clear()


def test_states_that_are_not_finite_are_refused() -> None:
    checkpoint = toy.checkpoint()
    tensors = {**checkpoint.tensors, "visual.ln_pre.bias": np.full(24, np.nan, np.float32)}
    broken = weights.Checkpoint(checkpoint.config, tensors, checkpoint.tokenizer, "toy")
    model = Model(broken, build(broken.config, broken.tensors))
    with pytest.raises(EngineError, match="not finite"):
        model.image_states(toy.random_image())
