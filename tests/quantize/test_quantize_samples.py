"""What a model is quantised with: whose images and texts, in which part, and as a tower's graph takes them."""

import hashlib
import itertools

import numpy as np
import pytest
from PIL import Image
from support import toy

from tandem.datasets.dataset import Dataset
from tandem.engine import build, graph
from tandem.errors import DataError
from tandem.model import Model
from tandem.quantize import samples
from tandem.quantize.samples import Part, gather, image_batches, text_batches

IMAGES = 40


def model_of(vision="vit"):
    checkpoint = toy.checkpoint(vision)
    return Model(checkpoint, build(checkpoint.config, checkpoint.tensors))


@pytest.fixture(scope="module")
def model():
    return model_of()


def flat(number):
    """An image whose every pixel says its number."""
    return Image.new("RGB", (8, 8), (number, 255 - number, 7))


def numbers(part):
    assert (part.pixels == part.pixels[:, :1, :1]).all()
    return part.pixels[:, 0, 0, 0].tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty images in two classes by turns, six of them a second time, and one file that is no image."""
    path = tmp_path_factory.mktemp("quantize") / "pictures"
    for number in (*range(IMAGES), *range(0, 12, 2)):
        place = path / "odd" if number % 2 else path / "even"
        place.mkdir(parents=True, exist_ok=True)
        name = f"{number:02}.png"
        flat(number).save(place / (f"copy {name}" if (place / name).exists() else name))
    (path / "even" / "00 broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    return path


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Fifty texts, some of them twice, between spaces and empty lines."""
    path = tmp_path_factory.mktemp("lines") / "texts.txt"
    rows = [f"cat {number}" for number in range(50)]
    path.write_text("\n".join([*rows, "", "  ", *(f"  {row} " for row in rows[:20])]), encoding="utf-8")
    return path, rows


@pytest.fixture(scope="module")
def found(model, folder, lines):
    return gather(model, folder, lines[0])


def parts_of(found):
    return found.calibration, found.dev, found.held_out


def all_texts(found):
    return [text for part in parts_of(found) for text in part.texts]


def test_an_image_that_is_there_twice_is_in_one_part_once(found):
    each = [numbers(part) for part in parts_of(found)]
    assert sorted(itertools.chain(*each)) == list(range(IMAGES))
    assert [len(some) for some in each] == [8, 16, 16]


def test_a_text_that_is_there_twice_is_in_one_part_once(found, lines):
    each = [part.texts for part in parts_of(found)]
    assert sorted(itertools.chain(*each)) == sorted(lines[1])
    assert [len(some) for some in each] == [10, 20, 20]
    assert found.described.endswith("50 texts of texts.txt")


def test_labels_follow_their_images_and_the_broken_one_is_named(found):
    assert found.classes == ("even", "odd")
    assert found.labelled
    for part in parts_of(found):
        assert part.labels.tolist() == [number % 2 for number in numbers(part)]
    assert [len(found.skipped), "00 broken.png" in str(found.skipped[0])] == [1, True]
    assert found.described.startswith("40 images of pictures")


def test_the_seed_alone_says_what_is_in_which_part(model, folder, lines, found):
    again, other = (gather(model, folder, lines[0], seed=seed) for seed in (0, 1))
    assert numbers(again.dev) == numbers(found.dev)
    assert again.dev.texts == found.dev.texts
    assert numbers(other.dev) != numbers(found.dev)
    assert other.dev.texts != found.dev.texts


def test_parts_are_bounded(monkeypatch, model, folder, lines):
    monkeypatch.setattr(samples, "_MOST", (9, 12, 14))
    found = gather(model, folder, lines[0])
    assert [len(part.texts) for part in parts_of(found)] == [9, 12, 14]
    assert sum(len(part.pixels) for part in parts_of(found)) <= 35


def data_set(captions=(), broken=()):
    images = [b"no image" if number in broken else flat(number) for number in range(32)]
    return Dataset(
        "drawn", "drawn", "table", None, tuple(map(str, range(32))),
        tuple(hashlib.sha256(bytes([number])).digest() for number in range(32)),
        lambda places: [images[place] for place in places], captions=captions,
    )  # fmt: skip


def test_captions_are_the_texts_and_everyday_words_the_classes(monkeypatch, model):
    captions = tuple((f"the cat {number}", "a cat") for number in range(32))
    monkeypatch.setattr(samples, "open_images", lambda *given, **named: data_set(captions))
    found = gather(model, "drawn")
    assert sorted(all_texts(found)) == sorted({each for row in captions for each in row})
    assert "33 texts of its captions" in found.described
    assert not found.labelled
    assert all(part.labels is None for part in parts_of(found))
    assert len(set(found.classes)) == 100


def test_too_few_captions_leave_sentences_of_everyday_words(monkeypatch, model):
    monkeypatch.setattr(samples, "open_images", lambda *given, **named: data_set((("a cat",),) * 32))
    found = gather(model, "drawn")
    texts = all_texts(found)
    assert len(set(texts)) == len(texts) > 300
    assert found.described.endswith("sentences of everyday words")


def test_images_that_cannot_be_read_do_not_count(monkeypatch, model):
    monkeypatch.setattr(samples, "open_images", lambda *given, **named: data_set(broken=(0, 5, 6)))
    with pytest.raises(DataError, match="at least 30 different images that can be read, got 29"):
        gather(model, "drawn")


@pytest.mark.slow
def test_what_comes_with_tandem_is_of_each_kind_in_each_part(model):
    found = gather(model)
    assert all(len(part.pixels) >= 30 and len(part.texts) >= 100 for part in parts_of(found))
    every = [hashlib.sha256(row.tobytes()).digest() for part in parts_of(found) for row in part.pixels]
    assert len(set(every)) == len(every)
    assert "sample pictures (drawings, and crops of photos)" in found.described


def test_image_batches_are_the_pixels_in_their_order():
    pixels = np.random.default_rng(0).integers(0, 256, (19, 4, 4, 3), dtype=np.uint8)
    batches = image_batches(Part(pixels, ()))
    assert [len(inputs) for inputs in batches] == [1, 1, 1]
    assert [len(inputs[0]) for inputs in batches] == [8, 8, 3]
    np.testing.assert_array_equal(np.concatenate([inputs[0] for inputs in batches]), pixels)


TEXTS = (*(" ".join(["cat"] * count) for count in (1, 3, 1, 2, 3, *[5] * 11)), "cat " * 100)


@pytest.mark.parametrize(
    ("vision", "whole", "ends"), [("vit", False, True), ("clipa", True, False), ("bert", False, False)]
)
def test_texts_of_equal_length_are_together_and_end_where_their_vectors_are_read(vision, whole, ends):
    model = model_of(vision)
    text = model.config.text
    assert (text.fixed_length, text.pooling == "end") == (whole, ends)
    batches = text_batches(model, Part(np.empty(0), TEXTS))
    assert all(len(inputs) == len(graph.text_graph(model.config, model.tensors).inputs) for inputs in batches[:1])
    rows = []
    for inputs in batches:
        ids = inputs[0]
        assert 1 <= len(ids) <= 8
        if whole:
            assert ids.shape[1] == text.context_length
        else:
            assert (ids[:, -1] == text.end_id).all()  # neither cut off nor padded
            assert (ids[:, :-1] != text.end_id).all()
        if ends:
            assert inputs[1].tolist() == [ids.shape[1] - 1] * len(ids)
        rows += [tuple(row[: list(row).index(text.end_id) + 1]) for row in ids.tolist()]
    expected = [model.tokenizer([each], text.context_length, True)[0].tolist() for each in TEXTS]
    assert sorted(rows) == sorted(tuple(row[: row.index(text.end_id) + 1]) for row in expected)
    assert len(batches) == (3 if whole else 6)
