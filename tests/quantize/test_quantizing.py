"""From a model to a quantised folder: what agreement means, what the search excludes, and where collections take it."""

import dataclasses
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from support import toy
from support.engine_toys import TOYS, random_ids, random_pixels, random_tensors

from tandem import weights
from tandem.config import Quantization
from tandem.engine import build as build_engine
from tandem.errors import StoreError
from tandem.model import Model, load
from tandem.quantize import building, searching
from tandem.quantize.agreement import Agreement, Answers, accuracy, agreement, overlap
from tandem.quantize.building import Plan
from tandem.quantize.calibration import smooths
from tandem.quantize.card import verdict
from tandem.quantize.quantizing import quantize
from tandem.quantize.samples import Part, Samples, _split
from tandem.quantize.searching import Search, answers
from tandem.search.identity import check_model, notes_for


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def one_layer():
    """The smallest toy: a layer in each tower."""
    config = toy.config()
    config = dataclasses.replace(
        config, vision=dataclasses.replace(config.vision, layers=1), text=dataclasses.replace(config.text, layers=1)
    )
    return weights.Checkpoint(config, toy.tensors(config), toy.tokenizer(), "toy")


def model_of(checkpoint):
    return Model(checkpoint, build_engine(checkpoint.config, checkpoint.tensors, engine="openvino"))


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    return Answers(*(unit(rng.standard_normal((n, 16))) for n in (60, 20, 12)))


def test_a_model_agrees_with_itself_and_a_stranger_by_chance(source):
    same = agreement(source, source)
    assert (same.top1, same.neighbours, same.mixed_neighbours) == (1, 1, 1)
    assert same.is_good
    rng = np.random.default_rng(1)
    other = agreement(source, Answers(*(unit(rng.standard_normal(a.shape)) for a in vars(source).values())))
    assert other.top1 < 0.4
    assert 0.05 < other.neighbours < 0.35  # ten of 59 by chance
    assert not other.is_good


def test_agreement_is_counted_as_by_hand(source):
    images = source.images.copy()
    images[:6] = -images[:6]  # six of 60 answer the opposite
    found = agreement(source, Answers(images, source.texts, source.classes))
    best = np.argmax(images @ source.classes.T, 1) == np.argmax(source.images @ source.classes.T, 1)
    assert found.top1 == best.mean()
    assert best[6:].all()
    assert found.least_cosine == pytest.approx(-1)
    assert found.mean_cosine == pytest.approx((74 - 6) / 80)
    labels = np.argmax(source.images @ source.classes.T, 1)
    assert accuracy(source, labels) == 1
    assert overlap(np.array([[1, 2], [3, 4]]), np.array([[2, 5], [4, 3]])) == 0.75


def test_what_is_chosen_by_needs_room_above_the_promise():
    at_the_bound = Agreement(0.99, 0.95, 0.95, 1, 1)
    assert at_the_bound.is_good
    assert not at_the_bound.holds_with_room(256)
    assert Agreement(0.9965, 0.97, 0.95, 1, 1).holds_with_room(256)
    assert Agreement(1, 1, 1, 1, 1).holds_with_room(30)


def test_parts_share_no_picture_and_no_photo():
    groups = np.concatenate([np.arange(40), np.repeat(10**6 + np.arange(6), 5)])
    parts = _split(groups, np.random.default_rng(0))
    for i, part in enumerate(parts):
        assert (groups[part] >= 10**6).any()
        for other in parts[:i]:
            assert not set(groups[part]) & set(groups[other])


@pytest.mark.parametrize(
    ("count", "parts"),
    [(2128, [128, 1000, 1000]), (5000, [128, 1000, 1000]), (1000, [128, 436, 436]), (50, [10, 20, 20])],
)
def test_no_image_is_thrown_away_that_has_a_place(count, parts):
    assert [len(part) for part in _split(np.arange(count), np.random.default_rng(0))] == parts


class Costly(Search):
    """A search whose blocks cost what a table says: those excluded cost nothing."""

    def __init__(self, costs):
        self.costs, self.looked = costs, []
        self.pixels = np.zeros(256)
        self.said = []
        self.tried, self.say, self.names = [], self.said.append, list(costs)

    def measure(self, plan, what):
        left = sum(cost for block, cost in self.costs.items() if block not in plan.excluded)
        self.looked.append(what)
        return Agreement(1 - left, 1, 1, 1, 1)

    def _try(self, what, plan):
        return sum(cost for block, cost in self.costs.items() if block not in plan.excluded)

    def all_blocks(self):
        return tuple(self.costs)


@pytest.mark.parametrize(
    ("costs", "excluded"),
    [
        ({"a": 0.001, "b": 0.001, "c": 0.001}, set()),
        ({"a": 0.001, "b": 0.2, "c": 0.001}, {"b"}),
        ({"a": 0.03, "b": 0.2, "c": 0.002, "d": 0.04, "e": 0.0, "f": 0.001}, {"a", "b", "d"}),
        ({"a": 0.5, "b": 0.5}, {"a", "b"}),
    ],
)
def test_as_few_blocks_are_excluded_as_the_promise_takes(costs, excluded):
    assert Costly(costs).exclude(Plan()).excluded == excluded


@pytest.mark.parametrize("first", [0, 1, 3, 6, 12])
def test_the_search_says_in_words_how_much_is_left(first):
    """Whichever blocks have to be excluded, no more trials come than were announced."""
    search = Costly({f"block {number}": 0.01 if number <= first else 0.0 for number in range(13)})
    search.exclude(Plan())
    assert search.said[0] == "measuring with every block quantized"
    assert search.said[1:14] == [f"measuring what each block alone costs, {number} of 13" for number in range(1, 14)]
    trials = [line.partition(" blocks in float32, trial ") for line in search.said[14:]]
    assert [each[2] for each in trials] == [f"{number} of at most 7" for number in range(1, len(trials) + 1)]
    assert trials[0][0] == "measuring with 1 of 13"
    assert len(trials) <= 7


def measured(top1, images, *, own):
    """What the verdict looks at."""
    found = Agreement(top1, 1, 1, 1, 1)
    return SimpleNamespace(agreement=found, own_images=own, quantization=SimpleNamespace(images=images))


@pytest.mark.parametrize(
    ("top1", "images", "own", "said"),
    [
        (109 / 111, 111, False, "than promised: top-1 98.2% (promised: 99%). That was measured on sample pictures"),
        (109 / 111, 111, True, "within chance for 111 images (a standard error is 0.9%): more of them would tell"),
        (0.982, 1000, True, "It agrees less with its source than promised: top-1 98.2% (promised: 99%)."),
        (0.995, 1000, True, "It agrees with its source as promised (top-1 99%, ten nearest neighbours 95%)."),
    ],
)
def test_a_verdict_says_what_may_have_decided_it(top1, images, own, said):
    found = verdict(measured(top1, images, own=own))
    assert said in found
    assert ("within chance" in found) == (own and images == 111)


@pytest.mark.parametrize(
    ("name", "image"), [("vit", True), ("vit-stem", True), ("resnet-basic", False), ("fastvit", False)]
)
def test_towers_of_linear_layers_are_smoothed(name, image):
    tensors = random_tensors(TOYS[name])
    assert (smooths(tensors, "image"), smooths(tensors, "text")) == (image, True)


@pytest.mark.slow
def test_nncf_finds_ranges_for_the_sites_of_both_towers():
    pytest.importorskip("nncf")
    from tandem.engine.openvino import OpenVinoEngine
    from tandem.quantize.calibration import calibrate

    config = TOYS["vit"]
    tensors = random_tensors(config)
    pixels, ids = random_pixels(config, 8), random_ids(config, (9,) * 6)
    ends = np.full(6, 8, np.int32)
    found = {
        "image": calibrate(config, tensors, "image", [[pixels]], alpha=0.5),
        "text": calibrate(config, tensors, "text", [[ids, ends]]),
    }
    names = {f"visual.transformer.resblocks.0.{part}" for part in ("attn.in_proj_q", "mlp.c_fc", "mlp.c_proj")}
    assert names | {"visual.conv1", "visual.proj"} <= set(found["image"])
    assert found["image"]["visual.transformer.resblocks.0.mlp.c_fc"].smooth.shape == (32,)
    assert all(layer.smooth is None for layer in found["text"].values())
    rounded = [name for name in tensors if tensors[name].ndim == 2 and "resblocks" in name]
    made = building.build(config, tensors, building.Plan(found), rounded)
    # Its weight is not rounded, so it has not taken the outliers that would be missing from the input
    assert found["image"]["visual.proj"].smooth is not None
    assert "visual.proj" not in made.layers
    assert "visual.conv1" in made.layers
    engine = OpenVinoEngine(config, made)
    reference = OpenVinoEngine(config, tensors)
    # 8 bits in calibrated ranges: far nearer than the wide ranges of the other tests
    assert (engine.encode_images(pixels) * reference.encode_images(pixels)).sum(1).min() > 0.995
    assert (engine.encode_texts(ids) * reference.encode_texts(ids)).sum(1).min() > 0.995


@pytest.mark.slow
def test_a_search_ends_with_what_was_measured_on_what_was_kept_out(monkeypatch, tmp_path):
    """All of it on a toy: NNCF's ranges, settings for each tower, blocks that are excluded, a folder that is loaded."""
    pytest.importorskip("nncf")
    monkeypatch.setattr(building, "_LEAST", 128)
    monkeypatch.setattr(searching, "ALPHAS", (None, 0.5))
    source = model_of(one_layer())
    shape = source.config.preprocessing.pixel_shape
    rng = np.random.default_rng(0)
    words = [f"{'cat ' * (1 + number % 2)}{number}" for number in range(12)]
    parts = [
        Part(rng.integers(0, 256, (12, *shape), dtype=np.uint8), tuple(words[start::3]), rng.integers(0, 3, 12))
        for start in range(3)
    ]
    samples = Samples(*parts, ("cat", "dog", "do"), True, "random images")
    said = []
    made = quantize(source, samples, say=said.append)
    about = made.quantization
    assert (about.method, about.source, about.images, about.texts) == ("int8", "toy", 12, 4)
    assert about.source_fingerprint == source.fingerprint
    assert set(made.settings) == {"image", "text"}
    assert made.checkpoint.tensors.layers
    assert len(said) == len(set(said))
    # The plan keeps the promise on what is chosen by, or has every block excluded
    last = next(tried for tried in reversed(made.tried) if "alone" not in tried.what)
    assert last.agreement.holds_with_room(12) or len(about.float32_blocks) == made.blocks
    assert made.bytes[1] < made.bytes[0]
    # What is said of it holds for the folder, counted again on what was kept out
    loaded = load(weights.write(made.checkpoint, tmp_path / "small"))
    assert loaded.engine.precision == "int8"
    assert loaded.config.quantization == about
    texts = tuple(f"a photo of a {label}." for label in samples.classes)
    theirs, mine = (answers(model, parts[2], texts) for model in (source, loaded))
    found = agreement(theirs, mine)
    for name in ("top1", "neighbours", "mixed_neighbours", "mean_cosine", "least_cosine"):
        assert getattr(found, name) == pytest.approx(getattr(about, name), abs=1e-6), name
    assert made.accuracy == (accuracy(theirs, parts[2].labels), accuracy(mine, parts[2].labels))


class Named:
    """What a collection asks of a model."""

    def __init__(self, fingerprint, about=None):
        self.name, self.fingerprint, self.orient = f"model {fingerprint}", fingerprint, True
        self.config = type("C", (), {"quantization": about, "embed_dim": 4})
        self.checkpoint = type("K", (), {"source": f"a/{fingerprint}"})


def about(**changes):
    values = {"top1": 0.995, "neighbours": 0.97, "mixed_neighbours": 0.97, "mean_cosine": 1.0, "least_cosine": 1.0}
    return Quantization("int8", "model s", "s", 100, 100, **{**values, **changes})


def test_collections_take_a_quantised_model_beside_its_source_where_it_agrees():
    notes = notes_for(Named("s"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_model("c", notes, Named("s"), 4)
    with pytest.warns(UserWarning, match=r"model q \(a/q\) stands in for model s: top-1 99.5%, ten nearest neig"):
        check_model("c", notes, Named("q", about()), 4)
    with pytest.raises(StoreError, match=r"model q \(a/q\) agrees with it too little to be mixed"):
        check_model("c", notes, Named("q", about(mixed_neighbours=0.9)), 4)
    with pytest.raises(StoreError, match="holds vectors of model s"):
        check_model("c", notes, Named("q", None), 4)


def test_a_model_of_other_dimensions_is_refused_whatever_it_says_of_itself():
    with pytest.raises(
        StoreError, match=r"holds vectors of 256 dimensions by model s, and those of model q \(a/q\) have 4"
    ):
        check_model("c", notes_for(Named("s")), Named("q", about()), 256)


def test_the_source_goes_beside_its_quantised_model_where_that_agrees():
    with pytest.warns(UserWarning, match=r"model s stands in for model q \(a/q\), made from it"):
        check_model("c", notes_for(Named("q", about())), Named("s"), 4)
    with pytest.raises(StoreError, match="holds vectors of model q"):
        check_model("c", notes_for(Named("q", about(top1=0.9))), Named("s"), 4)


def test_two_quantised_models_of_one_name_are_told_apart_by_their_folders():
    first, second = Named("q", about()), Named("r", about())
    first.name = second.name = "model s int8"
    said = r"holds vectors of model s int8 \(a/q, q\), not of model s int8 \(a/r, r\): .*--model a/r"
    with pytest.raises(StoreError, match=said):
        check_model("c", notes_for(first), second, 4)
