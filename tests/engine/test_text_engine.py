"""Text towers that stand alone: both engines beside the whole model's, and embeddings that are added."""

import dataclasses

import numpy as np
import pytest
from support.engine_toys import TOYS, random_ids, random_tensors

from tandem import engine as engines
from tandem.config import Bert
from tandem.errors import EngineError
from tandem.towers import tower_part

pytestmark = pytest.mark.slow_if("openvino")  # that it agrees with torch, test_engine_contract.py shows every day


ENGINES = ("openvino", "torch")


def alone(name, config, tensors):
    names = tower_part(config.text, "shapes").shapes(config.text, config.embed_dim)
    return engines.build_text(config.text, config.embed_dim, {each: tensors[each] for each in names}, engine=name)


@pytest.fixture(scope="module", params=ENGINES)
def name(request):
    return request.param


@pytest.fixture(scope="module", params=["vit", "siglip", "bert"])
def toy(request):
    if request.param == "bert":
        return dataclasses.replace(TOYS["vit"], text=Bert(20, 100, 32, 2, 4, 48, positions=26, start_id=98, end_id=99))
    return TOYS[request.param]


@pytest.fixture(scope="module")
def pair(name, toy):
    tensors = random_tensors(toy)
    return alone(name, toy, tensors), engines.build(toy, tensors, engine=name)


def test_several_layers_at_once_are_those_of_the_whole_model(pair, toy):
    one, whole = pair
    ids = random_ids(toy, (9, 3, 12, 2, 7) * 7)  # more than one batch
    layers = (0, 1, -2, -1)
    states = one.hidden_states(ids, layers)
    assert states.shape == (4, *ids.shape, toy.text.width)
    assert states.dtype == np.float32
    for layer, each in zip(layers, states, strict=True):
        np.testing.assert_allclose(each, whole.text_states(ids, layer), atol=1e-5, err_msg=f"layer {layer}")
    assert one.hidden_states(ids[:0], layers).shape == (4, 0, ids.shape[1], toy.text.width)


def test_the_norm_can_be_asked_for_and_left_out(pair, toy):
    one, whole = pair
    ids = random_ids(toy, (9, 3, 12))
    end = toy.text.layers
    np.testing.assert_allclose(one.hidden_states(ids, [end], norm=True)[0], whole.text_states(ids, -1), atol=1e-5)
    np.testing.assert_allclose(whole.text_states(ids, -1, norm=False), whole.text_states(ids, end), atol=1e-6)


def test_an_id_past_the_vocabulary_is_an_added_embedding(pair, toy):
    """A copy of a row of the table, under a new id, gives the states of the row's own id."""
    one, _ = pair
    ids = random_ids(toy, (9, 3, 12))
    word = int(ids[1, 1])
    table = random_tensors(toy)[tower_part(toy.text, "shapes").EMBEDDING]
    added = np.stack([table[0], table[word]]).astype(np.float32)
    renamed = ids.copy()
    renamed[1, 1] = toy.text.vocabulary_size + 1
    expected = one.hidden_states(ids, [0, -1])
    np.testing.assert_allclose(one.hidden_states(renamed, [0, -1], added=added), expected, atol=1e-6)
    np.testing.assert_allclose(one.hidden_states(ids, [0, -1], added=added), expected, atol=1e-6)
    other = one.hidden_states(renamed, [0, -1], added=added[::-1])
    assert abs(other - expected).max() > 1e-2


def test_what_is_refused(pair, toy):
    one, _ = pair
    ids = random_ids(toy, (9, 3))
    size, width = toy.text.vocabulary_size, toy.text.width
    with pytest.raises(EngineError, match=rf"ids in 0..{size - 1}, got"):
        one.hidden_states(np.full_like(ids, size), [-1])
    with pytest.raises(EngineError, match=rf"ids in 0..{size}, got"):
        one.hidden_states(np.full_like(ids, size + 1), [-1], added=np.zeros((1, width), np.float32))
    with pytest.raises(EngineError, match=rf"added: expected float32 \[m {width}\], got float32 \[1 {width + 1}\]"):
        one.hidden_states(ids, [-1], added=np.zeros((1, width + 1), np.float32))
    with pytest.raises(EngineError, match="added: expected finite"):
        one.hidden_states(ids, [-1], added=np.full((1, width), np.nan, np.float32))
    with pytest.raises(EngineError, match="layers: expected at least one"):
        one.hidden_states(ids, [])


def test_engines_are_chosen_as_for_whole_models():
    toy = TOYS["vit"]
    with pytest.raises(EngineError, match="served by the torch engine"):
        engines.build_text(toy.text, toy.embed_dim, {}, engine="openvino", device="cuda")
    assert alone("auto", toy, random_tensors(toy)).name == "openvino"
