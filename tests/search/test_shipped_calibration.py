"""What the calibration that ships claims, measured again."""

from pathlib import Path

import pytest

import tandem
from tandem.errors import TandemError
from tandem.scores.calibration_files import load_calibration
from tandem.scores.relevance import MIN_AREA
from tandem.search.calibration.calibrate import evaluate
from tandem.search.calibration.caption_set import choose, embed, read_captioned

pytestmark = pytest.mark.slow


def test_what_mini_says_of_captions_it_has_not_seen_is_true(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published figures are those of the shipped fit: measured again from the files."""
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    mini = tandem.load()
    shipped = load_calibration(mini)
    assert shipped is not None
    samples = choose(read_captioned([shared / "data/flickr8k/test-00000.tar"]))
    measured = evaluate(shipped, embed(mini, samples)[0], sizes=())
    for name, claimed in shipped.figures["queries"].items():
        again, figures = measured["queries"][name]["collections"]["1000"], claimed["collections"]["1000"]
        for key in ("auc_present_emptied", "auc_present_removed", "ece_best", "best_is_own", "no_match_said_removed"):
            assert again[key] == pytest.approx(figures[key], abs=0.01), (name, key)
        assert shipped.areas[name] == {  # type: ignore[index]
            int(size): part["auc_present_emptied"] for size, part in claimed["collections"].items()
        }
    for key in ("auc", "ece", "true_above_half", "false_above_half"):
        assert measured["labels"][key] == pytest.approx(shipped.figures["labels"][key], abs=0.01), key
    assert measured["labels"]["auc"] == pytest.approx(shipped.areas["labels"][1], abs=0.01)
    captions = measured["queries"]["captions"]["collections"]["1000"]
    assert captions["ece_prior"] < 0.04  # in the mixture that the fit assumes
    assert captions["ece_best"] < 0.03 < captions["ece_of_half"]  # stating a half of all is far from true
    assert measured["queries"]["captions"]["pairs_auc"] > 0.83  # of pairs that match nearly as well as whole
    phrases = measured["queries"]["phrases"]["collections"]["1000"]
    assert phrases["ece_prior"] < 0.08
    assert phrases["auc_best_matches"] > 0.7  # more is said of the searches that go well


def test_mini_says_only_what_it_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images in every edition; of all else where the area that was measured allows it."""
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    mini = tandem.load()
    shipped = load_calibration(mini)
    assert shipped is not None
    assert shipped.cannot_tell(["images"], 1000) is None
    for kind, sizes in shipped.areas.items():
        for size, area in sizes.items():
            reason = shipped.cannot_tell([kind], size)
            assert (reason is None) == (area >= MIN_AREA), (kind, size)
            assert reason is None or f"area under the ROC curve {area:.3f}, below 0.7" in reason
    (area,) = shipped.areas["labels"].values()
    if area >= MIN_AREA:
        assert mini.classify([], ["dog"], independent=True).scoring == "calibrated"
    else:
        with pytest.raises(TandemError, match=rf"cannot judge a label by itself.*{area:.3f}, below 0\.7"):
            mini.classify([], ["dog"], independent=True)
