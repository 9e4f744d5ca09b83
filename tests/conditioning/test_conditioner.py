"""Prompts to what each image generator takes: layers, pad ids, pooled forms, weights, chunks, and what is refused."""

import dataclasses

import numpy as np
import pytest
from support import conditioning_toys as toys

from tandem import conditioning
from tandem import engine as engines
from tandem.conditioning import CONSUMERS, Conditioner
from tandem.conditioning.chunks import LONGEST_WHOLE_WORD
from tandem.errors import ConditioningError
from tandem.weights.safetensors_file import read_safetensors

START, END = 49406, 49407
FOX = "a red fox"
LONG = " ".join(["apple"] * 70 + ["basketball", "court", "at", "night", "in", "october", "rain"])


@pytest.fixture(scope="module")
def made():
    """One conditioner a consumer, built when it is first asked for."""
    known = {}

    def get(name):
        if name not in known:
            known[name] = Conditioner(toys.consumer(name), **toys.towers(name))
        return known[name]

    return get


def hidden(name, ids, layer, norm=None):
    """The states of a toy tower, from the engine itself."""
    return toys.engine(name).hidden_states(np.asarray(ids), [layer], norm=norm)[0]


def ids_of(words, pad):
    row = [START, *words, END]
    return np.array([row + [pad] * (77 - len(row))], np.int32)


WORDS = toys.tower("clip").tokenizer.encode(FOX)[0]


@pytest.mark.slow
def test_stable_diffusion_1_and_2_read_the_end_after_the_norm(made):
    for name, tower, pad in (("sd1", "clip_l", END), ("sd2", "clip_h", 0)):
        found = made(name).encode(FOX)
        ids = ids_of(WORDS, pad)
        np.testing.assert_array_equal(found.towers[tower].token_ids, ids)
        np.testing.assert_allclose(found.states, hidden(tower, ids, -1), atol=1e-5)
        np.testing.assert_allclose(found.negative_states, hidden(tower, ids_of([], pad), -1), atol=1e-5)
        assert found.pooled.shape == (1, 0)
        assert found.states.dtype == np.float32


@pytest.mark.slow
def test_a_deeper_tower_of_stable_diffusion_2_loses_its_last_block():
    """The whole ViT-H/14 has 24 blocks, pipelines keep 23: the states are the same."""
    whole = toys.tower("clip_h")
    use = dataclasses.replace(toys.consumer("sd2").towers[0], layers=2)
    found = Conditioner(dataclasses.replace(toys.consumer("sd2"), towers=(use,)), clip_h=whole).encode(FOX)
    ids = ids_of(WORDS, 0)
    np.testing.assert_allclose(found.states, hidden("clip_h", ids, 2, norm=True), atol=1e-5)
    pooled = hidden("clip_h", ids, 2, norm=True)[:, len(WORDS) + 1]
    np.testing.assert_allclose(found.towers["clip_h"].pooled, pooled, atol=1e-5)


@pytest.mark.slow
def test_clip_skip_leaves_out_blocks_but_not_the_norm(made):
    ids = ids_of(WORDS, END)
    found = made("sd1").encode(FOX, "blurry", clip_skip=2)
    np.testing.assert_allclose(found.states, hidden("clip_l", ids, -3, norm=True), atol=1e-5)
    blurry = made("sd1").encode("blurry")
    np.testing.assert_allclose(found.negative_states, blurry.states, atol=1e-5)  # as diffusers
    both = made("sd1").encode(FOX, "blurry", clip_skip=2, negative_clip_skip=2)
    np.testing.assert_allclose(both.negative_states, made("sd1").encode("blurry", clip_skip=2).states, atol=1e-5)


@pytest.mark.slow
def test_clip_skip_counts_from_where_a_consumer_reads(made):
    ids = ids_of(WORDS, END)
    wide = made("sdxl").encode(FOX, clip_skip=1)
    np.testing.assert_allclose(wide.states[..., :32], hidden("clip_l", ids, -3), atol=1e-4)
    np.testing.assert_allclose(wide.states[..., 32:], hidden("clip_g", ids_of(WORDS, 0), -3), atol=1e-4)
    np.testing.assert_allclose(wide.pooled, made("sdxl").encode(FOX).pooled, atol=1e-5)


@pytest.mark.slow
def test_stable_diffusion_xl(made):
    found = made("sdxl").encode([FOX, "x"])
    left, right = ids_of(WORDS, END), ids_of(WORDS, 0)
    np.testing.assert_array_equal(found.towers["clip_l"].token_ids[:1], left)
    np.testing.assert_array_equal(found.towers["clip_g"].token_ids[:1], right)
    np.testing.assert_allclose(found.states[:1, :, :32], hidden("clip_l", left, -2), atol=1e-4)
    np.testing.assert_allclose(found.states[:1, :, 32:], hidden("clip_g", right, -2), atol=1e-4)
    pooled = hidden("clip_g", right, -1)[:, len(WORDS) + 1]
    np.testing.assert_allclose(found.towers["clip_g"].pooled[:1], pooled, atol=1e-5)
    np.testing.assert_allclose(found.pooled[:1], pooled @ toys.tower("clip_g").tensors["text_projection"], atol=1e-5)
    assert found.towers["clip_l"].attention_mask[0].tolist() == [1] * (len(WORDS) + 2) + [0] * (75 - len(WORDS))
    assert not found.negative_states.any()
    assert not found.negative_pooled.any()
    empty = made("sdxl").encode([FOX, "x"], "")
    assert abs(empty.negative_states).max() > 0.1
    assert abs(empty.negative_pooled).max() > 0.01
    some = made("sdxl").encode([FOX, "x"], [None, "blurry"])
    assert not some.negative_states[0].any()
    assert some.negative_states[1].any()


def test_stable_diffusion_3(made):
    found = made("sd3").encode(FOX)
    assert found.states.shape == (1, 77 + 256, 96)
    assert not found.states[:, 77:].any()  # T5, left out
    assert not found.states[:, :77, 80:].any()  # filled up to T5's width
    np.testing.assert_allclose(found.states[:, :77, :80], made("sdxl").encode(FOX).states, atol=1e-5)
    both = [found.towers[name].projected for name in ("clip_l", "clip_g")]
    np.testing.assert_array_equal(found.pooled, np.concatenate(both, axis=1))
    assert not found.missing
    t5 = np.random.default_rng(0).standard_normal((1, 9, 96)).astype(np.float32)
    given = made("sd3").encode(FOX, t5_states=t5)
    np.testing.assert_array_equal(given.states[:, 77:], t5)
    with pytest.raises(ConditioningError, match=r"t5_states: expected float32 \[1 t 96\], got \[2, 9, 96\]"):
        made("sd3").encode(FOX, t5_states=np.repeat(t5, 2, axis=0))
    with pytest.raises(ConditioningError, match="sd1 takes no T5 states"):
        made("sd1").encode(FOX, t5_states=t5)


def test_flux_takes_the_pooled_vector_before_the_projection(made):
    found = made("flux").encode(LONG)
    first = hidden("clip_l", found.towers["clip_l"].token_ids, -1)
    np.testing.assert_allclose(found.pooled, first[:, 76], atol=1e-5)
    assert found.states.shape == (1, 0, 96)
    assert "T5 states [n t 96]" in found.missing
    assert found.cut == (("october", "rain"),)
    t5 = np.ones((1, 512, 96), np.float32)
    assert not made("flux").encode("x", t5_states=t5).missing


@pytest.mark.slow
def test_any_clip_by_the_model_that_ships():
    from tandem.model import SHIPPED, load

    found = Conditioner("states", clip=SHIPPED).encode(FOX, clip_skip=1)
    model = load()
    context, width = model.config.text.context_length, model.config.text.width
    assert found.states.shape == (1, context, width)
    np.testing.assert_allclose(found.states, model.text_states(FOX, layer=-2, norm=True), atol=1e-5)
    projected = found.towers["clip"].projected
    np.testing.assert_allclose(projected / np.linalg.norm(projected), model.embed_texts(FOX), atol=1e-5)


def test_weights_interpolate_from_the_empty_prompt(made):
    plain, empty = made("sd1").encode(FOX).states, made("sd1").encode("").states
    found = made("sd1").encode("a (red:1.5) fox").states
    place = 2
    expected = plain.copy()
    expected[:, place] = empty[:, place] + 1.5 * (plain[:, place] - empty[:, place])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert abs(found - plain).max() > 0.05
    made("sd1").release()
    np.testing.assert_array_equal(made("sd1").encode("a (red:1) fox").states, plain)
    pooled = made("sdxl").encode("a (red:1.5) fox").pooled
    np.testing.assert_allclose(pooled, made("sdxl").encode(FOX).pooled, atol=1e-6)
    with_brackets = made("sd1").encode("a (red:1.5) fox", syntax="plain").towers["clip_l"].token_ids
    assert (with_brackets != END).sum() > len(WORDS) + 5


def test_a_weighted_prompt_goes_from_the_empty_one_of_its_own_layer(made):
    """The negative prompt is read a layer later than the prompt, whose clip skip does not reach it."""
    found = made("sd1").encode(FOX, "(blurry:1.5)", clip_skip=1).negative_states
    plain, empty = made("sd1").encode(["blurry", ""]).states
    expected = plain.copy()
    expected[1] = empty[1] + 1.5 * (plain[1] - empty[1])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_long_prompts_become_chunks(made):
    found = made("sdxl").encode([LONG, FOX], "blurry")
    assert found.chunks == 2
    assert found.states.shape == (2, 154, 80)
    assert found.negative_states.shape == (2, 154, 80)
    assert found.cut == found.negative_cut == ((), ())
    rows = found.towers["clip_l"].token_ids.reshape(2, 2, 77)
    assert (rows[:, :, 0] == START).all()
    assert (rows[1, 1, 1:] == END).all()  # a chunk of no words
    words = rows[0, 0][1:76].tolist() + rows[0, 1][1:].tolist()
    assert [i for i in words if i != END] == toys.tower("clip").tokenizer.encode(LONG)[0]
    np.testing.assert_allclose(found.states[1, 77:, :32], hidden("clip_l", ids_of([], END), -2)[0], atol=1e-4)
    # pooled: the first chunk's
    first = made("sdxl").encode(LONG, long="truncate")
    np.testing.assert_allclose(found.pooled[:1], first.pooled, atol=1e-5)


def test_what_is_cut_is_told_in_words(made):
    found = made("sd1").encode([LONG, FOX], LONG, long="truncate")
    assert found.chunks == 1
    assert found.cut[0] == ("october", "rain")
    assert found.cut[1] == ()
    assert found.negative_cut == (found.cut[0],) * 2
    assert [word.text for word in found.words[0] if word.chunk is None] == ["october", "rain"]
    with pytest.raises(ConditioningError, match="the prompt has 79 tokens, start and end included"):
        made("sd1").encode(LONG, long="error")
    whole = made("sd1").encode("apple " * 75, long="error")
    assert whole.chunks == 1


def test_words_are_kept_whole_and_break_begins_a_chunk(made):
    """A word of several tokens moves to the next chunk, as long as it is no monster."""
    word = "antidisestablishment"
    count = len(toys.tower("clip").tokenizer.encode(word)[0])
    assert 2 < count <= 8
    rows = made("sd1").encode("apple " * 74 + word).towers["clip_l"].token_ids.reshape(2, 77)
    assert rows[0, 75] == END
    assert (rows[1] != END).sum() == count + 1
    longest = "pneumonoultramicroscopics"
    assert len(toys.tower("clip").tokenizer.encode(longest)[0]) == LONGEST_WHOLE_WORD
    rows = made("sd1").encode("apple " * 70 + longest).towers["clip_l"].token_ids.reshape(2, 77)
    assert (rows[1] != END).sum() == LONGEST_WHOLE_WORD + 1
    rows = made("sd1").encode("apple BREAK fox").towers["clip_l"].token_ids.reshape(2, 77)
    assert (rows[:, 2] == END).all()
    assert [word.chunk for word in made("sd1").encode("apple BREAK fox").words[0]] == [0, 1]
    monster = made("sd1").encode("x" * 3000)
    assert monster.chunks > 1
    assert not monster.cut[0]


def test_a_book_is_no_prompt(made):
    with pytest.raises(ConditioningError, match="134 chunks of 75 tokens; expected at most 100"):
        made("sd1").encode("apple " * 10_000)


@pytest.mark.slow
def test_bfloat16_is_near(made):
    if "bfloat16" not in engines.available_precisions():
        pytest.skip("this CPU has no bfloat16")
    half = Conditioner(toys.consumer("sdxl"), precision="bfloat16", **toys.towers("sdxl")).encode(FOX)
    whole = made("sdxl").encode(FOX)
    for found, expected in ((half.states, whole.states), (half.pooled, whole.pooled)):
        assert found.dtype == np.float32
        assert 1e-4 < abs(found - expected).max() / abs(expected).max() < 0.05


@pytest.mark.slow
def test_torch_gives_the_same(made):
    pytest.importorskip("torch")
    found = Conditioner(toys.consumer("sdxl"), engine="torch", **toys.towers("sdxl")).encode("a (red:1.5) fox", "x")
    expected = made("sdxl").encode("a (red:1.5) fox", "x")
    np.testing.assert_allclose(found.states, expected.states, atol=2e-4)
    np.testing.assert_allclose(found.negative_pooled, expected.negative_pooled, atol=1e-4)
    bare = toys.tower("clip_l", projection=False)
    found, expected = (
        Conditioner(toys.consumer("sd1"), engine=engine, clip_l=bare).encode(FOX) for engine in ("torch", "openvino")
    )
    np.testing.assert_allclose(found.states, expected.states, atol=1e-4)
    assert found.towers["clip_l"].projected.shape == (1, 0)


def test_several_prompts_are_those_one_by_one(made):
    prompts = [FOX, "a (blue:1.2) car", ""]
    together = made("sdxl").encode(prompts, ["blurry", "", "x"])
    for i, prompt in enumerate(prompts):
        alone = made("sdxl").encode(prompt, ["blurry", "", "x"][i])
        np.testing.assert_allclose(together.states[i], alone.states[0], atol=1e-4)
        np.testing.assert_allclose(together.negative_pooled[i], alone.negative_pooled[0], atol=1e-5)


REFUSED = [
    (
        lambda: Conditioner("sd4"),
        "consumer: expected one of sd1, sd2, sdxl, sd3, flux, states, got 'sd4'; did you mean",
    ),
    (lambda: Conditioner("sdxl", clip_l=toys.tower("clip_l")), r"each of its towers by name \(clip_l=..., clip_g=..."),
    (lambda: Conditioner("sd1", clip_g=toys.tower("clip_g")), "got clip_g"),
    (
        lambda: Conditioner("sd1", clip_l=toys.tower("clip_l")),
        r"clip_l \(toy clip_l\): expected a text tower of width 768 with 12 blocks, got width 32 with 3",
    ),
    (
        lambda: Conditioner(
            toys.consumer("sdxl"), **toys.towers("sdxl") | {"clip_g": toys.tower("clip_g", projection=False)}
        ),
        "expected a text_projection",
    ),
    (
        lambda: Conditioner(toys.consumer("sd1"), clip_l=toys.tower("clip_l", context_length=64)),
        "expected a context of 77 tokens, got 64",
    ),
]


@pytest.mark.parametrize(("call", "says"), REFUSED)
def test_what_does_not_fit_is_refused(call, says):
    with pytest.raises(ConditioningError, match=says):
        call()


def test_prompts_that_do_not_fit_are_refused(made):
    one = made("sd1")
    for call, says in (
        (lambda: one.encode([]), "expected at least one"),
        (lambda: one.encode([3]), "expected text, got int"),
        (lambda: one.encode([FOX, FOX], ["x"]), "expected one, or 2 as prompts, got 1"),
        (lambda: one.encode(FOX, clip_skip=3), "clip_skip: expected 0 to 2, got 3: clip_l has 3 blocks"),
        (lambda: one.encode(FOX, clip_skip=-1), "clip_skip: expected 0 to 2"),
        (lambda: one.encode(FOX, syntax="comfy"), "syntax: expected 'weights' or 'plain'"),
        (lambda: one.encode(FOX, long="cut"), "long: expected chunk, truncate, error"),
    ):
        with pytest.raises(ConditioningError, match=says):
            call()


def test_the_table_says_what_published_pipelines_take():
    assert {name: [use.width for use in each.towers] for name, each in CONSUMERS.items()} == {
        "sd1": [768], "sd2": [1024], "sdxl": [768, 1280], "sd3": [768, 1280], "flux": [768], "states": [0],
    }  # fmt: skip
    assert set(conditioning.__all__) == set(dir(conditioning)) & set(conditioning.__all__) | set(conditioning._HOMES)


def test_a_result_is_saved_whole(made, tmp_path):
    found = made("sdxl").encode(FOX)
    target = found.save(tmp_path / "fox.safetensors")
    arrays, about = read_safetensors(target)
    np.testing.assert_array_equal(arrays["states"], found.states)
    np.testing.assert_array_equal(arrays["clip_g.projected"], found.towers["clip_g"].projected)
    assert about["consumer"] == "sdxl"
    for path, says in (
        (tmp_path / "fox.npz", "ending in .safetensors"),
        (tmp_path / "no" / "x.safetensors", "no folder"),
    ):
        with pytest.raises(ConditioningError, match=says):
            found.save(path)
