"""Agreement, counted a second time with loops: whose neighbours, in whose gallery, and the lesser of what."""

import numpy as np
import pytest

from tandem.quantize.agreement import NEIGHBOURS, Agreement, Answers, agreement


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


SHAPES = {"images": (30, 8), "texts": (20, 8), "classes": (6, 8)}


def moved(source, seed, **by):
    """The vectors of a source, those of some kinds moved by so much."""
    rng = np.random.default_rng(seed)
    return Answers(
        *(
            unit(each + by.get(name, 0) * rng.standard_normal(each.shape)) if name in by else each
            for name, each in vars(source).items()
        )
    )


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(3)
    return Answers(*(unit(rng.standard_normal(shape)) for shape in SHAPES.values()))


def nearest(query, gallery, without=None):
    scores = [(-float(query @ row), place) for place, row in enumerate(gallery) if place != without]
    return {place for _, place in sorted(scores)[:NEIGHBOURS]}


def shared(theirs, mine):
    return np.mean([len(a & b) / NEIGHBOURS for a, b in zip(theirs, mine, strict=True)])


def by_hand(source, other):
    """Top-1, neighbours, mixed neighbours of images, and of texts, and the cosines of images and texts."""
    best = [[max(range(6), key=lambda k: row @ each.classes[k]) for row in each.images] for each in (source, other)]
    theirs = [nearest(row, source.images, i) for i, row in enumerate(source.images)]
    mine = [nearest(row, other.images, i) for i, row in enumerate(other.images)]
    mixed = [nearest(row, source.images, i) for i, row in enumerate(other.images)]
    by_text = [[nearest(row, source.images) for row in each.texts] for each in (source, other)]
    return (
        np.mean([a == b for a, b in zip(*best, strict=True)]),
        shared(theirs, mine),
        shared(theirs, mixed),
        shared(*by_text),
        [float(a @ b) for a, b in zip(source.images, other.images, strict=True)],
        [float(a @ b) for a, b in zip(source.texts, other.texts, strict=True)],
    )


@pytest.mark.parametrize(
    "by",
    [
        {"images": 0.05, "texts": 0.6, "classes": 0.3},  # texts move most
        {"images": 0.5, "texts": 0.02, "classes": 0.1},  # images do
    ],
)
def test_every_figure_is_that_of_loops(source, by):
    other = moved(source, 1, **by)
    top1, neighbours, images, texts, cosines_of_images, cosines_of_texts = by_hand(source, other)
    found = agreement(source, other)
    assert abs(images - texts) > 0.1  # so that it matters which of the two it is
    assert images != pytest.approx(neighbours)
    assert found.top1 == pytest.approx(top1)
    assert found.neighbours == pytest.approx(neighbours)
    assert found.mixed_neighbours == pytest.approx(min(images, texts))
    everything = cosines_of_images + cosines_of_texts
    assert found.mean_cosine == pytest.approx(np.mean(everything), abs=1e-6)
    assert found.least_cosine == pytest.approx(min(everything), abs=1e-6)


def test_the_worst_text_counts_among_the_cosines(source):
    texts = source.texts.copy()
    texts[7] = -texts[7]
    assert agreement(source, Answers(source.images, texts, source.classes)).least_cosine == pytest.approx(-1)


def test_texts_look_for_the_sources_images(source):
    """All images turned alike are neighbours as before; a text that was not turned finds others among the source's."""
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((8, 8)))[0].astype(np.float32)
    turned = agreement(source, Answers(source.images @ turn, source.texts @ turn, source.classes @ turn))
    assert (turned.top1, turned.neighbours) == (1, pytest.approx(1))
    assert turned.mixed_neighbours < 0.6
    images_alone = agreement(source, Answers(source.images @ turn, source.texts, source.classes))
    assert images_alone.mixed_neighbours < 0.6  # its texts are the source's, but its images are not


def test_an_image_is_not_its_own_neighbour(source):
    """Each of three images has the two others, in whatever model."""
    few = Answers(source.images[:3], source.texts, source.classes)
    stranger = Answers(source.images[3:6], source.texts, source.classes)
    assert agreement(few, stranger).neighbours == 1


@pytest.mark.parametrize(
    ("top1", "neighbours", "images", "holds"),
    [
        (1, 0.955, 256, True),  # 0.95 + a standard error of 2,560 places, 0.0043
        (1, 0.954, 256, False),
        (1, 0.999, 4, True),  # 0.95 + 0.034
        (0.9963, 1, 256, True),  # 0.99 + a standard error of 256 images, 0.0062
        (0.9961, 1, 256, False),
        (0.99001, 0.95001, 10**9, True),
        (0.9899, 1, 10**9, False),
        (1, 0.9499, 10**9, False),
        (0.9999, 1, 1, False),  # of one image, nothing but all of them
    ],
)
def test_the_room_is_a_standard_error_of_what_was_counted(top1, neighbours, images, holds):
    assert Agreement(top1, neighbours, 1, 1, 1).holds_with_room(images) is holds
