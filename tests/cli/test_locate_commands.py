"""`tandem locate` and `tandem which`."""

from pathlib import Path

import pytest
from PIL import Image
from support.commands import Run, one_line

from tandem.cli.commands.locate import separated
from tandem.errors import TandemError
from tandem.model import load


@pytest.mark.slow
def test_locate(tandem: Run, model_folder: str, photos: list[str], tmp_path: Path) -> None:
    gone, plot = str(tmp_path / "gone.jpg"), tmp_path / "found.png"
    command = ("locate", *photos[:2], gone, "dog", "a red car", "--model", model_folder)
    outcome = tandem(*command, "--plot", plot, "--json")
    assert outcome.code == 1
    model = load(model_folder)
    expected = [model.locate(photo, ["dog", "a red car"]).as_dict() for photo in photos[:2]]
    assert outcome.json["results"] == expected
    assert [failure["image"] for failure in outcome.json["failures"]] == [gone]
    for i in (1, 2):
        with Image.open(tmp_path / f"found-{i}.png") as drawn:
            assert min(drawn.size) > 200
    rows = tandem(*command).rows
    assert [row[:2] for row in rows] == [[photo, text] for photo in photos[:2] for text in ("dog", "a red car")]
    for row, location in zip(rows, (each for result in expected for each in result["locations"]), strict=True):
        assert row[2] == ("there" if location["present"] else "not there")


def test_photos_come_before_texts(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    photo.touch()
    assert separated([str(photo), "dog"], []) == ([str(photo)], ["dog"])
    assert separated(["a.jpg", "b.jpg", "dog", "cat"], []) == (["a.jpg", "b.jpg"], ["dog", "cat"])
    assert separated(["http://x/a", "dog"], []) == (["http://x/a"], ["dog"])
    assert separated(["a.jpg", "b.jpg"], ["dog"]) == (["a.jpg", "b.jpg"], ["dog"])
    with pytest.raises(TandemError, match=r"b\.jpg is a photo among the texts"):
        separated(["a.jpg", "dog", "b.jpg"], [])
    with pytest.raises(TandemError, match="expected a photo and words to find in it"):
        separated(["a.jpg"], [])


@pytest.mark.slow
def test_which(tandem: Run, model_folder: str, photos: list[str]) -> None:
    outcome = tandem("which", *photos, "please pick up the dog", "--model", model_folder, "--json")
    assert outcome.code == 0
    assert outcome.json["thing"] == "dog"
    assert outcome.json["left_out"] == ["please", "pick up"]
    expected = load(model_folder).which(photos, "please pick up the dog").as_dict()
    assert outcome.json["candidates"] == expected["candidates"]
    shown = tandem("which", photos[0], "the dog", "--model", model_folder, "--top", 1)
    assert len(shown.rows) == 1
    assert "looking for: dog" in shown.err


def test_usage_in_one_line(tandem: Run, photos: list[str], tmp_path: Path) -> None:
    assert "expected a photo and words to find in it" in one_line(tandem("locate", photos[0]))
    assert "expected a photo and an instruction" in one_line(tandem("which", photos[0]))
    assert "expected words for a thing" in one_line(tandem("which", photos[0], "?"))
    long = one_line(tandem("which", photos[0], "(" * 5000))
    assert "expected words for a thing" in long
    assert len(long) < 200
    assert "at least 1" in one_line(tandem("which", photos[0], "the dog", "--top", 0))
    assert "at least 1" in one_line(tandem("which", photos[0], "the dog", "--top", "x"))
    assert "suffix" in one_line(tandem("locate", photos[0], "dog", "--plot", tmp_path / "plot.txt"))
