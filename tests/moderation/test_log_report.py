"""Reports of logs: the last decision of an image counts, and labels are found by content."""

import hashlib
from typing import Any

import pytest
from support.moderation_toys import labelled_set

from tandem.datasets.dataset import Dataset
from tandem.errors import DataError
from tandem.moderation.decisions import BANDS, is_flagged
from tandem.moderation.log_report import report

CONTENTS = [b"zero", b"one", b"two", b"three"]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(number: int, band: str, score: float, **known: str) -> dict[str, Any]:
    category = {"band": band, "score": score, "probability": score / 10}
    named = known or {"sha256": sha(CONTENTS[number])}
    return {"n": number, "image": f"{number}.png", "policy": {"name": "p"}, "categories": {"red": category}, **named}


def labelled(digests: list[bytes], shown: list[int]) -> Dataset:
    return labelled_set(digests, ("blue", "red"), [(each,) for each in shown])


def test_the_last_decision_of_an_image_counts() -> None:
    (found,) = report([entry(0, "block", 9), entry(1, "allow", 1), entry(0, "review", 5)])
    assert found.bands == {"allow": 1, "not fitted": 0, "cannot tell": 0, "review": 1, "block": 0}
    assert found.mean_probability == pytest.approx(0.3)
    assert found.figures is None
    assert "figures" not in found.as_dict()


@pytest.mark.parametrize("logged", ["files", "collection"])
@pytest.mark.parametrize("known", ["files", "collection"])
def test_labels_are_found_by_content_and_hard_negatives_come_first(logged: str, known: str) -> None:
    ids = [sha(content)[:32] for content in CONTENTS]
    digests = [hashlib.sha256(content).digest() for content in CONTENTS]
    if known == "collection":
        digests = [hashlib.sha256(each.encode()).digest() for each in ids]
    by = [{"id": each} if logged == "collection" else {} for each in ids]
    bands = [("block", 9.0), ("block", 8.0), ("review", 5.0), ("allow", 1.0)]
    entries = [entry(i, *said, **each) for i, (said, each) in enumerate(zip(bands, by, strict=True))]
    (found,) = report(entries, labelled(digests, [1, 0, 0, 1]))
    assert found.labelled == 4
    assert [each.image for each in found.hard_negatives] == ["1.png", "2.png"]
    assert [each.image for each in found.missed] == ["3.png"]
    assert found.figures is not None
    assert found.figures["block_precision"].value == 0.5
    assert found.figures["review_recall"].value == 0.5


def test_what_was_not_judged_has_no_figures() -> None:
    """Without a fit nothing was flagged, so that nothing was found either."""
    digests = [hashlib.sha256(content).digest() for content in CONTENTS]
    unfitted = [entry(i, "not fitted", i) for i in range(4)]
    for each in unfitted:
        each["categories"]["red"]["probability"] = None
    (found,) = report(unfitted, labelled(digests, [1, 0, 0, 1]))
    assert (found.labelled, found.figures) == (4, {})
    assert len(found.hard_negatives) == 2  # the order means something
    mixed = [entry(0, "block", 9), entry(1, "allow", 1), entry(3, "cannot tell", 5), unfitted[2]]
    (found,) = report(mixed, labelled(digests, [1, 0, 0, 1]))
    assert found.figures is not None
    assert (found.figures["review_recall"].value, found.figures["review_recall"].n) == (0.5, 2)


def test_photos_of_the_fit_are_counted_and_judge_nothing() -> None:
    digests = [hashlib.sha256(content).digest() for content in CONTENTS]
    entries = [entry(0, "block", 9), entry(1, "block", 8), entry(2, "allow", 2), entry(3, "allow", 1)]
    for each, fitted_on in zip(entries, (True, False, False, False), strict=True):
        each["fitted_on"] = fitted_on
    (found,) = report(entries, labelled(digests, [1, 0, 0, 1]))
    assert (found.labelled, found.fitted_on, found.unknown) == (4, 1, 0)
    assert found.figures is not None
    assert found.figures["block_precision"].value == 0.0  # that of the fit would have been right
    del entries[1]["fitted_on"]
    (found,) = report(entries, labelled(digests, [1, 0, 0, 1]))
    assert found.unknown == 1


def test_a_band_is_flagged_by_one_rule() -> None:
    assert [band for band in BANDS if is_flagged(band)] == ["review", "block"]


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(DataError, match="none of its images with a class of the log's categories is in the log"):
        report([entry(0, "block", 9)], labelled([b"x" * 32], [1]))
    with pytest.raises(DataError, match="line 3: expected a decision"):
        report([{"n": 3, "band": "block"}])
