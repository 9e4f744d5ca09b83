"""What counts as a match: images and texts that captions agree of, and how captions are read."""

from pathlib import Path

import numpy as np
import pytest
from support.caption_tars import captioned_tar

from tandem.errors import DataError
from tandem.samples import Sample
from tandem.search.calibration import caption_set
from tandem.search.calibration.agreement import alike, coverage, labels, phrases, true_of, unsaid
from tandem.search.calibration.caption_set import choose, read_captioned

pytestmark = pytest.mark.slow


# --- what counts as a match ------------------------------------------------------------------------------------------

CAPTIONS = (
    ("a dog runs in the grass", "a brown dog running through green grass"),
    ("a dog is running on grass", "the dog runs"),
    ("a man rides a red bicycle", "a cyclist on a bicycle"),
    ("two children on a swing", "children swinging in a park"),
    ("a boat on a lake", "people rowing a boat"),
)
TEXTS = tuple(text for texts in CAPTIONS for text in texts)
OWNER = np.repeat(np.arange(5), 2)


def test_a_text_matches_its_own_image_and_those_with_similar_captions() -> None:
    matches = true_of(coverage(TEXTS, OWNER, 5), OWNER)
    assert matches[0].tolist() == [True, True, False, False, False]  # a dog runs in the grass, twice
    assert matches[1].tolist() == [True, False, False, False, False]  # nobody wrote of the second that it is green
    assert matches[np.arange(10), OWNER].all()


def test_a_word_that_all_images_have_says_nothing() -> None:
    texts = ["a cat", "a tree", "a"]
    shares = coverage(texts, np.array([0, 1, 2]), 3)
    assert shares[0].tolist() == [1, 0, 0]
    assert shares[2].tolist() == [0, 0, 0]


def test_images_are_alike_when_the_same_was_written_of_both() -> None:
    found = alike(coverage(TEXTS, OWNER, 5), OWNER)
    assert found[1].tolist() == [True, True, False, False, False]
    assert np.diag(found).all()


def test_what_nobody_else_wrote_of_the_same_image_weighs_little() -> None:
    """All who see a dog write of it, few who see one write that it is near: its own rarity is not all that counts."""
    captions = [("a dog near it", "a dog", "a dog", "a dog"), ("a tree near it", "a tree", "a tree", "a tree")]
    captions += [("a cat", "a cat", "a cat", "a cat")] * 4
    texts = [text for each in captions for text in each]
    shares = coverage(texts, np.repeat(np.arange(6), 4), 6)
    assert shares[0, 0] == pytest.approx(1)
    assert shares[0, 1] < 0.4  # near, but no dog
    nowhere_near = coverage([*texts, "a dog"], np.append(np.repeat(np.arange(6), 4), 2), 6)
    assert nowhere_near[0, 2] > 0.6  # a dog, not said to be near


def test_phrases_are_runs_of_words_that_begin_and_end_with_content_words_and_are_drawn_by_frequency() -> None:
    shown = [f"{name}{place}" for place in range(40) for name in ("ball", "tree")]
    things = ["dog"] * 20 + shown
    captions = [(f"a {thing} is on the grass", f"the {thing} is in a field", f"a {thing}") for thing in things]
    texts = tuple(text for each in captions for text in each)
    owner = np.repeat(np.arange(100), 3)
    found, owners = phrases(texts, owner, 100, np.random.default_rng(0))
    assert len(found) == 300  # one a caption
    for phrase, own in zip(found, owners, strict=True):
        assert any(phrase in text for text in captions[own])
        words = phrase.split()
        assert words[-1] not in ("a", "is", "on", "the", "in")
        assert words[0] not in ("is", "on", "in")
    of_dogs = [phrase for phrase in found if "dog" in phrase]
    assert len(of_dogs) == 60
    assert {"dog", "a dog", "the dog"} <= set(of_dogs)


def test_labels_are_short_runs_of_words_that_many_say() -> None:
    things = ["dog", "boat", "tree", "fire truck", "swing", "lake"]
    shown = [thing for thing in things for _ in range(6)] + ["cat"] * 4  # too few
    texts = tuple(text for thing in shown for text in (f"a {thing} near a green fence", f"the {thing}"))
    found, owner = labels(texts, np.repeat(np.arange(40), 2), 40)
    assert {*things, "fire", "truck"} <= set(found)
    assert "cat" not in found
    assert all(label in shown[own] for label, own in zip(found, owner, strict=True))
    again, _ = labels((*texts, "a dog"), np.append(np.repeat(np.arange(40), 2), 39), 40)
    assert again[0] == "dog"  # the most frequent first


def test_what_no_caption_says() -> None:
    assert unsaid(TEXTS, ["dogs", "spaceship", "rowing boat", "x-ray"]) == ["spaceship", "x-ray"]


def test_captions_are_found_by_themselves_and_by_name(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    tar = captioned_tar(tmp_path / "a.tar", 3)
    samples = list(read_captioned([tar]))
    assert [sample.texts for sample in samples][2] == ("cat 2 do2", "a cat do 2")
    table = pyarrow.table({"image": [samples[0].image], "sentence": ["a cat"], "words": ["a dog"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [sample.texts for sample in read_captioned([tmp_path / "a.parquet"])] == [("a cat",)]
    assert [sample.texts for sample in read_captioned([tmp_path / "a.parquet"], "words")] == [("a dog",)]
    with pytest.raises(DataError, match=r"a\.parquet: expected a column image and one of captions \(nothing\)"):
        list(read_captioned([tmp_path / "a.parquet"], "nothing"))


def test_a_long_set_is_drawn_from_evenly_and_those_without_captions_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caption_set, "MAX_IMAGES", 100)
    drawn = choose(Sample(str(place), b"", ("a cat",) if place % 2 else ()) for place in range(10_000))
    places = np.array([int(sample.key) for sample in drawn])
    assert len(places) == len(set(places)) == 100
    assert (places % 2 == 1).all()
    assert abs(places.mean() - 5000) < 1500
