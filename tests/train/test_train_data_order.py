"""Orders without lists, shares of sources, and images as functions of the numbers sample_indices for them."""

import numpy as np
import pytest
from PIL import Image

from tandem.train.data.augment import UNIFORMS, augment, min_decode_size
from tandem.train.data.order import Mixture, replacements, sample_indices, shuffled
from tandem.train.data.texts import TextPositions, choose_captions
from tandem.train.parallel.process import split_ranges
from tandem.train.recipe import Source


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 63, 64, 65, 1000, 4096, 4097, 30_011])
def test_an_order_is_a_permutation(count: int) -> None:
    for epoch in range(3):
        assert np.array_equal(np.sort(shuffled(np.arange(count), count, 1, 0, epoch)), np.arange(count))


def test_orders_differ_by_seed_source_and_epoch_and_look_random() -> None:
    count = 10_000
    orders = [shuffled(np.arange(count), count, *key) for key in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1))]
    for i, one in enumerate(orders):
        assert abs(np.corrcoef(np.arange(count), one)[0, 1]) < 0.05  # five standard deviations
        assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.05
        for other in orders[i + 1 :]:
            assert (one == other).mean() < 0.002
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


@pytest.mark.slow
def test_small_orders_are_all_possible() -> None:
    seen = {tuple(shuffled(np.arange(4), 4, seed).tolist()) for seed in range(300)}
    assert len(seen) == 24


def test_an_order_of_hundreds_of_millions_takes_no_memory() -> None:
    positions = np.arange(399_999_000, 400_000_000)
    indices = shuffled(positions, 400_000_000, 1, 0, 0)
    assert len(np.unique(indices)) == 1000
    assert 0 <= indices.min() < 4_000_000
    assert 396_000_000 < indices.max() < 400_000_000


def test_an_epoch_ends_where_the_next_begins() -> None:
    numbers = sample_indices(np.arange(30), 10, seed=1, source=0)
    assert [sorted(numbers[i : i + 10].tolist()) for i in (0, 10, 20)] == [list(range(10))] * 3
    assert numbers[:10].tolist() != numbers[10:20].tolist()
    assert np.array_equal(sample_indices(np.arange(7, 23), 10, 1, 0), numbers[7:23])


def test_every_sample_may_take_the_place_of_a_broken_one() -> None:
    tried = list(replacements(3, 17, 40, seed=1, source=0))
    assert tried[0] == 3
    assert set(tried) == set(range(40))
    assert tried == list(replacements(3, 17, 40, seed=1, source=0))
    assert tried != list(replacements(3, 18, 40, seed=1, source=0))


def test_counts_fill_every_step_and_positions_go_on() -> None:
    mixture = Mixture(seed=1, counts=(5, 3))
    steps = [mixture.plan(step) for step in range(4)]
    for source, count in enumerate((5, 3)):
        positions = [slots.positions[slots.sources == source] for slots in steps]
        assert np.array_equal(np.sort(np.concatenate(positions)), np.arange(4 * count))
        assert all(len(each) == count for each in positions)
    assert any(not np.array_equal(np.sort(slots.sources), slots.sources) for slots in steps)  # a mixture throughout


def test_weights_hold_over_a_cycle_and_nearly_in_every_step() -> None:
    mixture = Mixture(seed=1, weights=(0.7, 0.29, 0.01), size=10)
    steps = [mixture.plan(step) for step in range(200)]
    counts = np.array([np.bincount(slots.sources, minlength=3) for slots in steps])
    assert (counts.sum(1) == 10).all()
    assert np.abs(counts[:64].sum(0) - 640 * np.array([0.7, 0.29, 0.01])).max() < 1
    assert np.array_equal(counts[:64], counts[64:128])
    assert np.abs(counts - [7, 2.9, 0.1]).max() < 2
    for source in range(3):
        positions = np.concatenate([slots.positions[slots.sources == source] for slots in steps])
        assert np.array_equal(np.sort(positions), np.arange(len(positions)))


def test_shares_of_processes_meet() -> None:
    for count, processes in ((10, 3), (7, 7), (8, 1)):
        ranges = split_ranges(count, processes)
        assert [len(part) for part in np.array_split(np.arange(count), processes)] == [r.stop - r.start for r in ranges]
        assert [r.start for r in ranges[1:]] == [r.stop for r in ranges[:-1]]


def test_shared_texts_lie_evenly_among_captions() -> None:
    counts = np.array([1, 0, 2, 0, 0, 1])
    layout = TextPositions.of(counts, 4)
    captions = [int(layout.captions[slot]) + k for slot in range(6) for k in range(counts[slot])]
    assert sorted([*captions, *layout.shared.tolist()]) == list(range(8))
    halves = layout.shared < layout.captions[3]
    assert halves.sum() == 2
    assert TextPositions.of(counts, 0).total == 4


TEXTS = ("a dog", "a black dog on grass", "dogs", "a dog there")


@pytest.mark.parametrize(
    ("rule", "count", "expected"),
    [
        ("first", 1, ["a dog"]),
        ("first", 9, list(TEXTS)),
        ("longest", 1, ["a black dog on grass"]),
        ("shortest", 2, ["dogs", "a dog"]),
        ("all", 1, list(TEXTS)),
    ],
)
def test_captions_are_taken_by_rule(rule: str, count: int, expected: list[str]) -> None:
    source = Source("x", captions=rule, captions_per_image=count)  # type: ignore[arg-type]
    assert choose_captions(source, TEXTS, 0.7) == expected


def test_random_captions_are_all_drawn_and_none_twice() -> None:
    one, two = (Source("x", captions_per_image=count) for count in (1, 2))
    draws = np.random.default_rng(0).random(200)
    assert {choose_captions(one, TEXTS, u)[0] for u in draws} == set(TEXTS)
    assert all(len(set(choose_captions(two, TEXTS, u))) == 2 for u in draws)
    assert {text for u in draws for text in choose_captions(two, TEXTS, u)} == set(TEXTS)


# --- images ------------------------------------------------------------------------------------------------------

RAMP = Image.merge(
    "RGB",
    [
        Image.fromarray(np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))),  # red tells how far across: 60 wide
        Image.fromarray(np.tile(np.arange(0, 240, 6, dtype=np.uint8)[:, None], (1, 60))),  # green how far down: 40 high
        Image.new("L", (60, 40), 90),
    ],
)


def middle(**u: float) -> list[float]:
    """Numbers in the middle, but for some."""
    numbers = [0.5] * UNIFORMS
    for name, value in u.items():
        numbers[int(name[1:])] = value
    return numbers


def test_a_crop_is_where_and_as_large_as_its_numbers_say() -> None:
    source = Source("x", crop=(0.25, 1.0))
    whole = augment(RAMP, source, 16, middle(_0=1.0, _4=0.9))
    assert whole.shape == (16, 16, 3)
    assert whole.dtype == np.uint8
    assert np.array_equal(whole[8, [0, -1], 0] // 40, [0, 5])  # from edge to edge
    corner = augment(RAMP, source, 16, middle(_0=0.0, _2=0.0, _3=0.0, _4=0.9)).astype(int)  # 24 x 24 of 60 x 40
    assert corner[:, :, 0].max() < 24 * 4
    assert corner[:, :, 1].max() < 24 * 6
    far = augment(RAMP, source, 16, middle(_0=0.0, _2=0.999, _3=0.999, _4=0.9)).astype(int)
    assert far[:, :, 0].min() >= 36 * 4
    assert far[:, :, 1].min() >= 16 * 6
    assert np.array_equal(augment(RAMP, source, 16, middle(_0=1.0, _4=0.1)), whole[:, ::-1])  # mirrored


def test_the_papers_crop_is_a_square_of_the_whole_height_and_never_mirrored() -> None:
    source = Source("x", augment="paper")
    left, right = (augment(RAMP, source, 16, middle(_2=u, _4=0.1)).astype(int) for u in (0.0, 0.999))
    for pixels in (left, right):
        assert pixels[0, :, 1].max() < 20
        assert pixels[-1, :, 1].min() > 210
        assert pixels[8, -1, 0] - pixels[8, 0, 0] == pytest.approx(150, abs=10)  # 40 of 60 columns
    assert left[8, 0, 0] < 10
    assert right[8, -1, 0] > 225
    centre = augment(RAMP, Source("x", augment="none"), 16, middle(_2=0.1, _3=0.9))
    assert np.array_equal(centre, augment(RAMP, source, 16, middle()))


def test_the_strong_set_changes_colours_and_the_middle_changes_none() -> None:
    strong, plain = Source("x", augment="strong"), Source("x")
    unchanged = augment(RAMP, plain, 16, middle()).astype(int)
    assert np.abs(augment(RAMP, strong, 16, middle()).astype(int) - unchanged).max() <= 1
    grey = augment(RAMP, strong, 16, middle(_9=0.1)).astype(int)
    assert np.ptp(grey, axis=2).max() <= 1
    darker = augment(RAMP, strong, 16, middle(_5=0.0)).astype(int)
    assert darker.mean() == pytest.approx(0.6 * unchanged.mean(), abs=2)
    flatter = augment(RAMP, strong, 16, middle(_6=0.0)).astype(int)
    assert flatter.std() < 0.9 * unchanged.std()
    paler = augment(RAMP, strong, 16, middle(_7=0.0)).astype(int)
    assert np.ptp(paler, axis=2).mean() < 0.7 * np.ptp(unchanged, axis=2).mean()
    turned = augment(RAMP, strong, 16, middle(_8=1.0)).astype(int)
    assert np.abs(turned - unchanged).max() > 20
    assert np.abs(turned.mean(2) - unchanged.mean(2)).max() < 40


@pytest.mark.parametrize("kind", ["crop", "paper", "strong", "none"])
def test_a_jpeg_may_shrink_but_not_below_what_is_cut_out(kind: str) -> None:
    """Whatever the numbers, the cut has at least twice as many pixels a side as the output, or the image's own."""
    source = Source("x", augment=kind, crop=(0.1, 1.0))  # type: ignore[arg-type]
    for u in np.random.default_rng(0).random((200, UNIFORMS)).tolist():
        shortest = min_decode_size(source, 32, u)
        image = Image.new("RGB", (shortest, 2 * shortest))
        boxes = []
        image.resize = lambda *a, boxes=boxes, **k: boxes.append(k["box"]) or Image.new("RGB", (32, 32))  # type: ignore[method-assign]
        augment(image, source, 32, u)
        left, top, right, bottom = boxes[0]
        assert min(right - left, bottom - top) >= 63
