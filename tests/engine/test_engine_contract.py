"""One contract, every engine: the golden outputs of the original, and what must hold for any model."""

import dataclasses
import functools

import numpy as np
import pytest
from support.engine_toys import TOYS, golden, random_ids, random_pixels, random_tensors, toys

from tandem import engine as engines
from tandem.errors import EngineError

ENGINES = ("openvino", "torch")
# "numpy": the openvino engine before it has compiled anything, when it computes in numpy
CONTENDERS = ("openvino", "torch", "numpy")
REDUCED = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "openvino" and "bfloat16" not in engines.available_precisions(), reason="this CPU has no bfloat16"
        ),
    )
    for name in ENGINES
]


def build(name, config, tensors, **options):
    if name == "torch":
        return engines.build(config, tensors, engine=name, **options)
    import tandem.engine.openvino as module

    class Engine(module.OpenVinoEngine):
        def _still_in_numpy(self, tower, amount, allowance):
            return super()._still_in_numpy(tower, amount, 10**9 if name == "numpy" else 0)

    return Engine(config, tensors, **options)


@functools.cache
def built(name, which):
    """The engine of a toy: compiling is what these tests spend their time on, so all share it."""
    return build(name, TOYS[which], random_tensors(TOYS[which]))


@pytest.fixture(scope="module", params=CONTENDERS)
def name(request):
    return request.param


@pytest.fixture(scope="module", params=toys())
def which_toy(request):
    return request.param


@pytest.fixture(scope="module")
def toy(which_toy):
    return TOYS[which_toy]


@pytest.fixture(scope="module")
def engine(name, which_toy):
    return built(name, which_toy)


# Several toys share a text tower: what holds for texts alone is asked once for each.
TEXT_TOYS = list({toy.text: which for which, toy in reversed(TOYS.items())}.values())


@pytest.fixture(scope="module", params=[name for name in toys() if name.values[0] in TEXT_TOYS])
def which_text_toy(request):
    return request.param


@pytest.fixture(scope="module")
def text_toy(which_text_toy):
    return TOYS[which_text_toy]


@pytest.fixture(scope="module")
def text_engine(name, which_text_toy):
    return built(name, which_text_toy)


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


# --- the original's numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["vit-tiny", "resnet-tiny"])
def test_golden(shared, name, which):
    config, tensors, expected = golden(shared, which)
    engine = build(name, config, tensors, precision="float32")
    pixels = np.ascontiguousarray(expected["pixels"].transpose(0, 2, 3, 1))
    images, texts = engine.encode_images(pixels), engine.encode_texts(expected["token_ids"])
    np.testing.assert_allclose(images, unit(expected["image_features"]), atol=1e-4)
    np.testing.assert_allclose(texts, unit(expected["text_features"]), atol=1e-4)
    whole = engine.encode_images(pixels, normalize=False), engine.encode_texts(expected["token_ids"], normalize=False)
    np.testing.assert_allclose(whole[0], expected["image_features"], atol=1e-4)
    np.testing.assert_allclose(whole[1], expected["text_features"], atol=1e-4)
    logits = np.exp(tensors["logit_scale"]) * images @ texts.T
    np.testing.assert_allclose(logits, expected["logits_per_image"], atol=1e-4)


@pytest.mark.parametrize("which", ["vit-tiny", "resnet-tiny"])
@pytest.mark.parametrize("name", REDUCED)
def test_golden_bfloat16_is_close(shared, name, which):
    config, tensors, expected = golden(shared, which)
    engine = build(name, config, tensors, precision="bfloat16")
    assert engine.precision == "bfloat16"
    pixels = np.ascontiguousarray(expected["pixels"].transpose(0, 2, 3, 1))
    for vectors, features in (
        (engine.encode_images(pixels), expected["image_features"]),
        (engine.encode_texts(expected["token_ids"]), expected["text_features"]),
    ):
        cosines = (vectors * unit(features)).sum(axis=1)
        assert cosines.min() > 0.999
        assert abs(vectors - unit(features)).max() > 1e-5  # it did compute in another precision


# --- each other --------------------------------------------------------------------------------------------------


def test_engines_agree(which_toy, toy):
    ours, torchs, in_numpy = (built(name, which_toy) for name in CONTENDERS)
    pixels, ids = random_pixels(toy), random_ids(toy)
    np.testing.assert_allclose(in_numpy.encode_images(pixels), torchs.encode_images(pixels), atol=2e-5)
    np.testing.assert_allclose(in_numpy.encode_texts(ids), torchs.encode_texts(ids), atol=2e-5)
    np.testing.assert_allclose(ours.encode_images(pixels), torchs.encode_images(pixels), atol=2e-5)
    np.testing.assert_allclose(ours.encode_texts(ids), torchs.encode_texts(ids), atol=2e-5)
    if which_toy not in TEXT_TOYS:
        return
    for layer in range(-toy.text.layers - 1, toy.text.layers + 1):
        np.testing.assert_allclose(ours.text_states(ids, layer), torchs.text_states(ids, layer), atol=1e-4, rtol=1e-4)


@pytest.mark.slow_if("openvino")
def test_weights_in_half_precision(name, which_toy, toy, engine):
    """Stored in float16, as the published archives are, they compute as their float32 values do."""
    stored = {key: array.astype(np.float16) for key, array in random_tensors(toy).items()}
    assert all((stored[key] == array).all() for key, array in random_tensors(toy).items() if key != "logit_scale")
    half, single = build(name, toy, stored), engine
    np.testing.assert_allclose(
        half.encode_images(random_pixels(toy)), single.encode_images(random_pixels(toy)), atol=1e-6
    )
    if which_toy in TEXT_TOYS:
        np.testing.assert_allclose(half.encode_texts(random_ids(toy)), single.encode_texts(random_ids(toy)), atol=1e-6)


def test_weights_in_bfloat16(name):
    import ml_dtypes

    toy = TOYS["vit"]
    stored = {key: array.astype(ml_dtypes.bfloat16) for key, array in random_tensors(toy).items()}
    half, single = build(name, toy, stored), build(name, toy, {k: v.astype(np.float32) for k, v in stored.items()})
    np.testing.assert_allclose(half.encode_texts(random_ids(toy)), single.encode_texts(random_ids(toy)), atol=1e-6)


@pytest.mark.parametrize("name", REDUCED)
def test_bfloat16_is_close(name, which_toy, toy):
    single, half = built(name, which_toy), build(name, toy, random_tensors(toy), precision="bfloat16")
    pairs = [(single.encode_images(random_pixels(toy)), half.encode_images(random_pixels(toy)))]
    if which_toy in TEXT_TOYS:
        pairs.append((single.encode_texts(random_ids(toy)), half.encode_texts(random_ids(toy))))
    for a, b in pairs:
        assert (a * b).sum(axis=1).min() > 0.99
        np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1, atol=1e-3)


# --- what holds for every engine and model -----------------------------------------------------------------------


def test_vectors_are_float32_of_unit_length(engine, toy):
    for vectors in (engine.encode_images(random_pixels(toy)), engine.encode_texts(random_ids(toy))):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == toy.embed_dim
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert abs(np.diff(vectors, axis=0)).max() > 1e-3  # different inputs, different vectors


def test_float_pixels_equal_byte_pixels(engine, toy):
    pixels = random_pixels(toy)
    np.testing.assert_allclose(engine.encode_images(pixels.astype(np.float32)), engine.encode_images(pixels), atol=1e-6)


def test_an_image_does_not_change_with_its_batch(engine, toy):
    pixels = random_pixels(toy, n=40)  # more than one step of the engine
    together = engine.encode_images(pixels)
    for batch in (1, 3, 7):
        np.testing.assert_allclose(engine.encode_images(pixels[4 : 4 + batch]), together[4 : 4 + batch], atol=1e-5)
    np.testing.assert_allclose(engine.encode_images(pixels[::-1]), together[::-1], atol=1e-5)


def test_a_text_does_not_depend_on_its_batch(text_engine, text_toy):
    ids = random_ids(text_toy)
    together = text_engine.encode_texts(ids)
    for row, vector in zip(ids, together, strict=True):
        length = int((row == text_toy.text.end_id).argmax()) + 1
        np.testing.assert_allclose(text_engine.encode_texts(row[None, :length])[0], vector, atol=1e-5)
        pad_id = (
            text_toy.text.pad_id if text_toy.text.fixed_length else text_toy.text.end_id
        )  # as transformers pads CLIP's
        padded = np.full((1, text_toy.text.context_length), pad_id, np.int32)
        padded[0, :length] = row[:length]
        np.testing.assert_allclose(text_engine.encode_texts(padded)[0], vector, atol=1e-5)


def test_many_texts_come_back_in_order(text_engine, text_toy):
    rng = np.random.default_rng(3)
    ids = random_ids(text_toy, tuple(rng.integers(2, text_toy.text.context_length + 1, 300)))
    together = text_engine.encode_texts(ids)
    for i in (0, 1, 150, 298, 299):
        np.testing.assert_allclose(text_engine.encode_texts(ids[i : i + 1])[0], together[i], atol=1e-5)


def test_the_order_of_tokens_matters(text_engine, text_toy):
    ids = random_ids(text_toy, (8,))
    swapped = ids.copy()
    swapped[0, 2], swapped[0, 3] = ids[0, 3], ids[0, 2]
    assert abs(text_engine.encode_texts(ids) - text_engine.encode_texts(swapped)).max() > 1e-3


def test_what_follows_the_end_token_does_not_matter(text_engine, text_toy):
    ids = random_ids(text_toy, (6, 12))
    changed = ids.copy()
    changed[0, 6:] = 17
    if text_toy.text.fixed_length:  # there it does
        assert abs(text_engine.encode_texts(ids) - text_engine.encode_texts(changed))[0].max() > 1e-3
        return
    np.testing.assert_allclose(text_engine.encode_texts(ids), text_engine.encode_texts(changed), atol=1e-6)


def test_the_first_end_token_counts(name):
    """Not the largest id: added tokens may have larger ones."""
    toy = dataclasses.replace(TOYS["vit"], text=dataclasses.replace(TOYS["vit"].text, end_id=50, start_id=49))
    engine = build(name, toy, random_tensors(toy))
    ids = np.array([[49, 7, 99, 50, 98, 50]], np.int32)
    np.testing.assert_allclose(engine.encode_texts(ids), engine.encode_texts(ids[:, :4]), atol=1e-6)


def test_states_hold_the_vector(text_engine, text_toy):
    """The projected state at the end token, or the last position, after the last norm, is the text's vector."""
    ids = random_ids(text_toy)
    states = text_engine.text_states(ids)
    assert states.shape == (*ids.shape, text_toy.text.width)
    assert states.dtype == np.float32
    pooled, tensors = (
        states[np.arange(len(ids)), (ids == text_toy.text.end_id).argmax(axis=1)],
        random_tensors(text_toy),
    )
    if text_toy.text.pooling == "last":
        missing = text_toy.text.context_length - ids.shape[1]
        pooled = text_engine.text_states(np.pad(ids, ((0, 0), (0, missing)), constant_values=text_toy.text.pad_id))[
            :, -1
        ]
    projected = pooled @ tensors["text_projection"] + tensors.get("text_projection_bias", 0)
    np.testing.assert_allclose(unit(projected), text_engine.encode_texts(ids), atol=1e-5)


def test_states_count_from_the_embedding(text_engine, text_toy):
    ids, tensors = random_ids(text_toy), random_tensors(text_toy)
    embedded = tensors["token_embedding.weight"][ids] + tensors["positional_embedding"][: ids.shape[1]]
    np.testing.assert_allclose(text_engine.text_states(ids, 0), embedded, atol=1e-6)
    layers = text_toy.text.layers
    np.testing.assert_allclose(text_engine.text_states(ids, -2), text_engine.text_states(ids, layers - 1), atol=1e-6)
    assert abs(text_engine.text_states(ids, layers) - text_engine.text_states(ids, -1)).max() > 1e-2
    full = np.full((2, text_toy.text.context_length), text_toy.text.end_id, np.int32)
    assert text_engine.text_states(full).shape == (*full.shape, text_toy.text.width)


def test_nothing_in_nothing_out(engine, toy):
    shape = toy.preprocessing.pixel_shape
    assert engine.encode_images(np.zeros((0, *shape), np.uint8)).shape == (0, toy.embed_dim)
    assert engine.encode_texts(np.zeros((0, 5), np.int32)).shape == (0, toy.embed_dim)
    assert engine.text_states(np.zeros((0, 5), np.int32)).shape == (0, 5, toy.text.width)


def test_strided_and_read_only_arrays(engine, toy):
    pixels, ids = random_pixels(toy), random_ids(toy)
    every_other, read_only = pixels[::2], ids.copy()
    read_only.flags.writeable = False
    np.testing.assert_allclose(engine.encode_images(every_other), engine.encode_images(pixels)[::2], atol=1e-5)
    np.testing.assert_allclose(engine.encode_texts(read_only), engine.encode_texts(ids), atol=1e-6)
    np.testing.assert_allclose(engine.encode_texts(ids.astype(np.int64)), engine.encode_texts(ids), atol=1e-6)
    frozen = pixels.copy()
    frozen.flags.writeable = False
    np.testing.assert_allclose(engine.encode_images(frozen), engine.encode_images(pixels), atol=1e-6)


def test_results_are_the_callers_own(engine, toy):
    first = engine.encode_images(random_pixels(toy, n=2, seed=5))
    kept = first.copy()
    engine.encode_images(random_pixels(toy, n=2, seed=6))
    np.testing.assert_array_equal(first, kept)


def test_released_memory_comes_back_when_needed(engine, toy):
    before = engine.encode_texts(random_ids(toy))
    engine.release()
    np.testing.assert_allclose(engine.encode_texts(random_ids(toy)), before, atol=1e-6)


def test_threads_may_share_an_engine(engine, toy):
    from concurrent.futures import ThreadPoolExecutor

    batches = [random_pixels(toy, n=2, seed=seed) for seed in range(12)]
    expected = [engine.encode_images(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for vectors, wanted in zip(pool.map(engine.encode_images, batches), expected, strict=True):
            np.testing.assert_allclose(vectors, wanted, atol=1e-5)


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "came"),
    [
        (np.zeros((1, 30, 32, 3), np.uint8), r"uint8 \[1 30 32 3\]"),
        (np.zeros((1, 3, 32, 32), np.uint8), r"uint8 \[1 3 32 32\]"),
        (np.zeros((32, 32, 3), np.uint8), r"uint8 \[32 32 3\]"),
        (np.zeros((1, 32, 32, 3), np.float64), r"float64 \[1 32 32 3\]"),
        ([1, 2], "list"),
    ],
)
def test_wrong_pixels_are_named(name, pixels, came):
    engine = built(name, "vit")
    with pytest.raises(EngineError, match=rf"expected uint8 or float32 \[n 32 32 3\] in 0..255, got {came}$"):
        engine.encode_images(pixels)


@pytest.mark.parametrize("verb", ["encode_texts", "text_states"])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((1, 25), np.int32), r"t in 1..24, got int32 \[1 25\]$"),
        (np.zeros((1, 0), np.int32), r"got int32 \[1 0\]$"),
        (np.zeros(5, np.int32), r"got int32 \[5\]$"),
        (np.zeros((1, 5), np.float32), r"got float32 \[1 5\]$"),
        (np.array([[98, 100, 99]]), r"expected ids in 0..99, got 98..100; "),
        (np.array([[98, -1, 99]]), r"expected ids in 0..99, got -1..99; "),
        ([[1, 2]], "got list$"),
    ],
)
def test_wrong_ids_are_named(name, verb, ids, message):
    engine = built(name, "vit")
    with pytest.raises(EngineError, match=message):
        getattr(engine, verb)(ids)


def test_a_text_without_an_end_token_is_named(name):
    engine = built(name, "vit")
    with pytest.raises(EngineError, match=r"expected the end token 99 in every row, but row 1 has none"):
        engine.encode_texts(np.array([[98, 5, 99], [98, 5, 5]], np.int32))


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_that_is_not_there(name, layer):
    engine = built(name, "vit")
    with pytest.raises(EngineError, match=rf"layer: expected -4..3, got {layer}"):
        engine.text_states(random_ids(TOYS["vit"]), layer)
