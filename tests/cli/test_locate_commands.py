"""`tandem locate` and `tandem which`."""

from pathlib import Path

import pytest
from PIL import Image
from support.commands import Outcome, Run, one_line

from tandem.cli.commands.locate import separated
from tandem.cli.commands.which import separated as instructed
from tandem.errors import TandemError
from tandem.localization.boxes import Box
from tandem.localization.choosing import Candidate, Choice
from tandem.localization.instructions import read_instruction
from tandem.model import Model, load


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


def test_forgotten_quotes_make_one_text_where_an_article_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for words, texts, said in (
        ("a red ball", ["a red ball"], 'looking for one thing: "a red ball"; quotes keep several apart'),
        ("cup of tea", ["cup of tea"], "looking for one thing"),
        ("dog cat", ["dog", "cat"], "looking for 2 things: dog, cat; words in quotes are one"),
        ("dog", ["dog"], ""),
    ):
        arguments = ["a.jpg", *words.split()]
        assert separated(arguments, []) == (["a.jpg"], texts)
        shown = capsys.readouterr().err
        assert said in shown
        assert bool(shown) == bool(said)
    for quoted in (["a.jpg", "a red ball"], ["a.jpg", "a dog", "a cat"]):  # as it should be: nothing is said
        assert separated(quoted, []) == (quoted[:1], quoted[1:])
        assert capsys.readouterr().err == ""


def test_an_instruction_needs_no_quotes_and_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people").mkdir()
    assert instructed(["a.jpg", "b.png", "pick", "up", "the", "ball"]) == (["a.jpg", "b.png"], "pick up the ball")
    assert instructed(["people", "the one with a hat"]) == (["people"], "the one with a hat")
    assert instructed(["*", "the dog"]) == (["*"], "the dog")
    with pytest.raises(TandemError, match=r"a\.jpg is a photo after the instruction; photos come first"):
        instructed(["pick up the ball", "a.jpg"])
    with pytest.raises(TandemError, match="pick up the ball is no photo: expected photos, and then the instruction"):
        instructed(["pick up the ball", "from the table"])


def candidate(score: float, *, present: bool, box: Box | None = None) -> Candidate:
    heat = None if box is None else box.heat
    return Candidate("a.png", (12, 34), box, present, score, heat, 0.75 if present else None)


def test_which_prints_the_candidates_and_how_many_more_there_are(
    tandem: Run, model_folder: str, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = (candidate(2.5, present=True, box=Box(1, 2, 30, 40, 0.9)), candidate(1.25, present=True))
    absent = (candidate(-1.0, present=False), candidate(-2.0, present=False))

    def shown(kind: str, *found: Candidate) -> Outcome:
        monkeypatch.setattr(
            Model,
            "which",
            lambda model, images, text: Choice(read_instruction(text), kind, found, (), (None,)),  # type: ignore[arg-type]
        )
        return tandem("which", *photos[:2], "pick", "up", "the", "dog", "--model", model_folder, "--top", 3)

    outcome = shown("images", *there, *absent)
    assert outcome.rows == [
        ["1", "a.png", "there", "0.750000", "2.5000", "0.9000", "12", "34", "1,2,30,40"],
        ["2", "a.png", "there", "0.750000", "1.2500", "", "12", "34", ""],
        ["3", "a.png", "not there", "", "-1.0000", "", "", "", ""],
    ]
    assert "looking for: dog (left out: pick up)" in outcome.err
    assert "1 more of the images: --top 4 shows all" in outcome.err
    assert "ahead of the runner-up by 1.25 in score" in outcome.err
    outcome = shown("images", *absent)
    assert "not there: nothing fits these words better than it fits others" in outcome.err
    assert "--top" not in outcome.err  # all are shown


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
    assert 'no photo: expected a photo and words to find in it: tandem locate PHOTO "a cat"' in one_line(
        tandem("locate", "a cat")
    )
    assert 'tandem which PHOTO "the cat"' in one_line(tandem("which", "the cat"))
    assert "no instruction: expected a photo" in one_line(tandem("which", *photos))
    assert "no text: expected a photo" in one_line(tandem("locate", *photos))
    assert "expected words for a thing" in one_line(tandem("which", photos[0], "?"))
    long = one_line(tandem("which", photos[0], "(" * 5000))
    assert "expected words for a thing" in long
    assert len(long) < 200
    assert "at least 1" in one_line(tandem("which", photos[0], "the dog", "--top", 0))
    assert "at least 1" in one_line(tandem("which", photos[0], "the dog", "--top", "x"))
    assert "suffix" in one_line(tandem("locate", photos[0], "dog", "--plot", tmp_path / "plot.txt"))
