"""Parts of files as training sets: rows of one origin, and samples that are left out to choose by."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.training_toys import CAPTIONED, NAMED, NAMES, all_images, recipe, write_parquet, write_tar

from tandem.errors import ConfigError, DataError
from tandem.tokenizer import Tokenizer
from tandem.train.data.augment import UNIFORMS, augment
from tandem.train.data.decoding import decodable
from tandem.train.data.loader import Loader, texts_of
from tandem.train.data.samples import Samples
from tandem.train.recipe import Recipe, Source, from_dict, to_dict
from tandem.train.run.validation import read_validation

HELD = {**NAMED, "hold_out": 0.25}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """40 images by two makers: the odd ones are drawn, the even ones photos."""
    images = all_images()
    table = {"image": images, "names": [f"{name}, {name} thing" for name in NAMES]}
    table["origin"] = ["a drawing of 2020" if i % 2 else "a photo of 2020" for i in range(len(images))]
    pq.write_table(pa.table(table), tmp_path / "names.parquet", row_group_size=7)
    write_tar(tmp_path / "captions.tar")
    return tmp_path


def samples(root: Path, held_out: bool = False, **changes: Any) -> Samples:
    return Samples(Source(**{**NAMED, **changes}), root, root / "cache", held_out=held_out)


def keys(found: Samples) -> list[str]:
    return [found.key(number) for number in range(len(found))]


def test_held_out_samples_and_the_others_are_all_without_overlap(root: Path) -> None:
    whole, kept = keys(samples(root)), keys(samples(root, hold_out=0.25))
    left = keys(samples(root, held_out=True, hold_out=0.25))
    assert sorted(kept + left) == sorted(whole)
    assert len(whole) == 40
    assert 4 <= len(left) <= 16
    assert keys(samples(root, held_out=True, hold_out=0.25)) == left
    assert set(left) < set(keys(samples(root, held_out=True, hold_out=0.5)))  # a larger share has more, not others


def test_what_is_held_out_depends_on_the_keys_alone(root: Path) -> None:
    """A file that grows keeps what it held out."""
    before = keys(samples(root, held_out=True, hold_out=0.25))
    images = all_images()
    table = {"image": [*images, *images], "names": [*NAMES, *NAMES]}
    pq.write_table(pa.table(table), root / "names.parquet")
    assert keys(samples(root, held_out=True, hold_out=0.25))[: len(before)] == before


def test_a_sample_keeps_its_image_its_names_and_its_label(root: Path) -> None:
    whole, kept = samples(root), samples(root, hold_out=0.25)
    at = {key: number for number, key in enumerate(keys(whole))}
    assert kept.names == whole.names
    for number, key in enumerate(keys(kept)):
        assert kept.image(number) == whole.image(at[key])
        assert kept.texts(number) == whole.texts(at[key])
        assert kept.label(number) == whole.label(at[key])


def test_training_draws_no_sample_that_is_held_out(root: Path) -> None:
    made = recipe(root, HELD, {**CAPTIONED, "hold_out": 0.25})
    left = {*keys(samples(root, held_out=True, hold_out=0.25))}
    left |= {*keys(Samples(Source("captions.tar", "captions", hold_out=0.25), root, root / "cache", held_out=True))}
    loader = Loader(made, Tokenizer.clip())
    drawn = {key for step in range(30) for key in loader.batch(step).keys}
    assert not drawn & left
    assert len(drawn) == 80 - len(left)
    held_numbers = {int(key.removeprefix("captions.tar/")) for key in left if key.startswith("captions.tar/")}
    captions = [text for text in texts_of(made) if " image " in text]
    assert sorted({int(text.split()[2]) for text in captions}) == sorted({*range(40)} - held_numbers)


def test_what_can_be_decoded_is_kept_for_each_share_by_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources that draw from one file do not check its images again and again."""
    images = all_images()
    images[:4] = [b"no image"] * 4
    write_parquet(root / "names.parquet", images)
    sets = [samples(root), samples(root, hold_out=0.25), samples(root, hold_out=0.5)]
    found = [decodable(each) for each in sets]
    for each, can in zip(sets, found, strict=True):
        assert can.tolist() == [int(key.split("#")[1]) >= 4 for key in keys(each)]
    assert not all(can.all() for can in found[1:])
    monkeypatch.setattr(Samples, "image", lambda *_: pytest.fail("an image was checked again"))
    for each, can in zip(sets, found, strict=True):
        assert np.array_equal(decodable(each), can)


def test_two_processes_know_which_held_out_samples_the_other_lacks(root: Path) -> None:
    made = recipe(root, {**HELD, "per_batch": 8})
    whole = Loader(made, Tokenizer.clip()).batch(3)
    parts = [Loader(made, Tokenizer.clip(), rank=rank, processes=2).batch(3) for rank in range(2)]
    assert np.array_equal(np.concatenate([part.pixels for part in parts]), whole.pixels)
    assert [key for part in parts for key in part.keys] == whole.keys


def test_rows_of_one_origin(root: Path) -> None:
    found = samples(root, where={"origin": "drawing"})
    assert keys(found) == [f"names.parquet#{i}" for i in range(1, 40, 2)]
    assert len(samples(root, where={"origin": "drawing", "names": "red"})) == 5
    assert len(samples(root)) == 40  # another selection is another index
    with pytest.raises(DataError, match="where: expected one of the columns image, names, origin, got 'maker'"):
        samples(root, where={"maker": "x"})
    with pytest.raises(DataError, match="no sample with an image and texts; no row has what where asks for"):
        samples(root, where={"origin": "sculpture"})
    with pytest.raises(DataError, match=r"hold_out: 0\.999 of 40 samples leaves none here"):
        samples(root, hold_out=0.999)


def _validated(root: Path, **chosen: Any) -> Recipe:
    part = {"name": "part", "path": "names.parquet", "kind": "zero_shot", **chosen}
    head = {"objective": {"kind": "classification"}, "init": {"model": "tandem-mini"}, "model": {}}
    return recipe(root, HELD, validation={"sets": [part]}, **(head if part["kind"] == "classification" else {}))


def test_validation_sees_what_training_leaves_out(root: Path) -> None:
    left = samples(root, held_out=True, hold_out=0.25)
    (found,) = read_validation(_validated(root, hold_out=0.25))
    assert len(found.pixels) == len(left)
    assert found.texts == ["red", "green", "blue", "white"]
    assert [found.texts[i] for i in found.owner] == [left.texts(number)[0] for number in range(len(left))]
    (found,) = read_validation(_validated(root, hold_out=0.25, where={"origin": "drawing"}, limit=2))
    assert len(found.pixels) == 2
    (found,) = read_validation(_validated(root, where={"origin": "drawing"}))
    assert len(found.pixels) == 20


def test_a_head_is_measured_on_what_training_leaves_out(root: Path) -> None:
    left = samples(root, held_out=True, hold_out=0.25)
    made = _validated(root, kind="classification", hold_out=0.25)
    classes = samples(root).names
    (found,) = read_validation(made, classes)
    assert [classes[label] for label in found.owner] == [left.texts(number) for number in range(len(left))]
    (whole,) = read_validation(_validated(root, kind="classification"), classes)
    assert len(found.pixels) < len(whole.pixels) == 40
    (drawn,) = read_validation(_validated(root, kind="classification", where={"origin": "drawing"}), classes)
    assert np.array_equal(drawn.pixels, whole.pixels[1::2])


def test_validation_of_held_out_captions(root: Path) -> None:
    part = {"name": "part", "path": "captions.tar", "kind": "retrieval", "hold_out": 0.25}
    (found,) = read_validation(recipe(root, HELD, validation={"sets": [part]}))
    left = Samples(Source("captions.tar", "captions", hold_out=0.25), root, root / "cache", held_out=True)
    assert len(found.pixels) == len(left)
    assert found.texts == [text for number in range(len(left)) for text in left.texts(number)]
    assert found.owner.tolist() == [number for number in range(len(left)) for _ in range(2)]


def test_classes_compete_within_their_source(root: Path) -> None:
    write_parquet(root / "others.parquet")
    others = {**NAMED, "path": "others.parquet", "per_batch": 5, "templates": ["another {}"]}
    batch = Loader(recipe(root, NAMED, others, objective={"classes": 1.0}), Tokenizer.clip()).batch(0)
    assert batch.classes is not None
    assert batch.classes.sources is not None
    assert batch.classes.sources.tolist() == [0] * 4 + [1] * 4
    assert batch.classes.total == 15
    assert sorted(batch.classes.rows.tolist()) == list(range(15))
    for row, label in zip(batch.classes.rows, batch.classes.labels, strict=True):
        of_others = "others" in batch.keys[row]
        assert batch.classes.sources[label] == of_others
        assert batch.classes.texts[label].startswith("another") == of_others


def test_few_classes_at_a_step_hold_those_of_its_images(root: Path) -> None:
    names = [f"thing {i}" for i in range(40)]
    pq.write_table(pa.table({"image": all_images(), "names": names}), root / "many.parquet")
    many = {**NAMED, "path": "many.parquet", "per_batch": 4, "classes_per_step": 10}
    loader = Loader(recipe(root, many, objective={"classes": 1.0}), Tokenizer.clip())
    seen = set()
    for step in range(12):
        classes = loader.batch(step).classes
        assert classes is not None
        assert len(classes.texts) == len(set(classes.texts)) == 10
        numbers = [int(key.split("#")[1]) for key in loader.batch(step).keys]
        assert [classes.texts[label] for label in classes.labels] == [f"a photo of a thing {i}." for i in numbers]
        seen |= set(classes.texts) - {classes.texts[label] for label in classes.labels}
    assert len(seen) > 20  # those beside the images' own change from step to step; 6 of them would not
    parts = [Loader(loader.recipe, Tokenizer.clip(), rank=r, processes=2).batch(5).classes for r in range(2)]
    assert parts[0] is not None
    assert parts[1] is not None
    assert parts[0].texts == parts[1].texts


def test_no_image_loses_its_class_where_a_step_has_more_of_them_than_compete(root: Path) -> None:
    names = [f"thing {i}" for i in range(40)]
    pq.write_table(pa.table({"image": all_images(), "names": names}), root / "many.parquet")
    many = {**NAMED, "path": "many.parquet", "per_batch": 6, "classes_per_step": 2}
    batch = Loader(recipe(root, many, objective={"classes": 1.0}), Tokenizer.clip()).batch(0)
    assert batch.classes is not None
    shown = [f"a photo of a thing {key.split('#')[1]}." for key in batch.keys]
    assert [batch.classes.texts[label] for label in batch.classes.labels] == shown
    assert sorted(batch.classes.texts) == sorted(set(shown))  # and none beside


def test_a_source_may_keep_its_names_out_of_the_classes(root: Path) -> None:
    write_parquet(root / "others.parquet")
    others = {**NAMED, "path": "others.parquet", "per_batch": 5, "classes": False}
    batch = Loader(recipe(root, NAMED, others, objective={"classes": 1.0}), Tokenizer.clip()).batch(0)
    assert batch.classes is not None
    assert batch.classes.total == len(batch.classes.rows) == 10


def test_a_broader_word_may_hold_for_every_name(root: Path) -> None:
    batch = Loader(recipe(root, {**NAMED, "broader": {"colour": ["*"]}}), Tokenizer.clip()).batch(0)
    assert batch.matches is not None
    at = batch.texts.index("a photo of a colour.")
    assert batch.matches.images_per_text[at] == 10


def test_some_images_lose_resolution_and_the_others_no_bit() -> None:
    fine = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    plain, blurred = Source("x", crop=(1.0, 1.0)), Source("x", crop=(1.0, 1.0), low_resolution=0.5)
    u = np.full(UNIFORMS, 0.7)
    u[10], u[11] = 0.6, 0.1
    assert np.array_equal(augment(fine, blurred, 32, u), augment(fine, plain, 32, u))
    u[10] = 0.4
    low, high = augment(fine, blurred, 32, u), augment(fine, plain, 32, u)
    assert low.shape == high.shape
    assert abs(low.mean() - high.mean()) < 2
    assert low.std() < 0.6 * high.std()
    u[11] = 0.99  # hardly reduced
    assert low.std() < augment(fine, blurred, 32, u).std() <= high.std()


def test_the_recipe_says_it_and_refuses_what_cannot_be(root: Path) -> None:
    made = recipe(root, {**HELD, "where": {"origin": "photo"}, "low_resolution": 0.1, "classes_per_step": 8})
    assert from_dict(to_dict(made)) == made
    with pytest.raises(ConfigError, match=r"data\[0\].hold_out: expected"):
        recipe(root, {**NAMED, "hold_out": 1.0})
    with pytest.raises(ConfigError, match=r"data\[0\].low_resolution: expected"):
        recipe(root, {**NAMED, "low_resolution": 1.5})
