"""`tandem guide`: what it writes and says, how it stops, goes on and refuses."""

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import toy
from support.commands import Run, one_line

from tandem.guidance import guiding

QUICK = ("--steps", "4", "--crops", "2", "--size", "32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return "--model", str(toy.folder(tmp_path_factory.mktemp("models") / "toy")), "--engine", "torch"


def test_it_writes_the_picture_and_says_what_it_is_worth(
    tandem: Run, model: tuple[str, ...], photos: list[str], tmp_path: Path
) -> None:
    out, among = tmp_path / "a.png", tmp_path / "among.txt"
    among.write_text("a cat\n\na dog\n")
    frames = tmp_path / "frames"
    found = tandem(
        "guide", "a do", "--out", out, "--toward", "ca:0.5", "--away", "text, cat:2", "--like", photos[0],
        "--start", photos[1], "--among", among, "--progress", frames, "--json", *QUICK, *model,
    )  # fmt: skip
    assert found.code == 0, found.err
    assert Image.open(out).size == (32, 27)  # the photo's shape
    assert found.json["complete"]
    assert (found.json["step"], found.json["after"]["among"], found.json["before"]["step"]) == (4, 3, 0)
    assert [each.name for each in sorted(frames.iterdir())] == [f"{i:06}.png" for i in range(1, 5)]
    assert not (tmp_path / "a.png.guidance").exists()


def test_an_svg_and_one_file_that_is_renewed(tandem: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    out, watched = tmp_path / "a.svg", tmp_path / "now.png"
    found = tandem("guide", "a dog", "--shapes", "5", "--out", out, "--progress", watched, *QUICK, *model)
    assert found.code == 0, found.err
    assert out.read_text().count("opacity=") == 5
    assert "rank" in found.out
    assert Image.open(watched).size == (32, 32)


def test_ctrl_c_keeps_the_picture_and_resume_goes_on_to_the_same(
    tandem: Run, model: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part, state = tmp_path / "whole.png", tmp_path / "part.png", tmp_path / "part.png.guidance"
    assert tandem("guide", "a dog", "--out", whole, *QUICK, *model).code == 0
    judged = guiding._is_judged

    def press(step: int, steps: int) -> bool:
        if step == 2:
            handler = signal.getsignal(signal.SIGINT)  # not a real one: it would end the process of other tests too
            assert callable(handler)
            handler(signal.SIGINT, None)
        return judged(step, steps)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(guiding, "_is_judged", press)
        stopped = tandem("guide", "a dog", "--out", part, *QUICK, *model)
    assert stopped.code == 130
    assert "stopped after 2 of 4 steps" in stopped.err
    assert f"--resume {state}" in stopped.err
    assert part.exists()
    assert signal.getsignal(signal.SIGINT) == before

    rest = tandem("guide", "--resume", state, "--out", part, *model)
    assert rest.code == 0, rest.err
    np.testing.assert_array_equal(np.asarray(Image.open(part)), np.asarray(Image.open(whole)))
    assert not state.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "a.png"), "no goal"),
        (("", "--out", "a.png"), "empty"),
        (("x",), "no target"),
        (("x", "--out", "."), "a folder"),
        (("x", "--out", "a.gif"), "ends in"),
        (("x", "--out", "a.svg"), "--shapes"),
        (("x", "--out", "none/a.png"), "no folder"),
        (("x", "--out", "a.png", "--start", "none.jpg"), "none.jpg"),
        (("x", "--out", "a.png", "--strength", "0.5"), "--start"),
        (("x", "--out", "a.png", "--strength", "2", "--start", "photo.png"), "strength"),
        (("x", "--out", "a.png", "--size", "big"), "expected pixels"),
        (("x", "--out", "a.png", "--seconds", "-1"), "above 0"),
        (("x", "--out", "a.png", "--among", "none.txt"), "none.txt"),
        (("x", "--out", "a.png", "--toward", "y:0"), "above 0"),
        (("x", "--out", "a.png", "--resume", "b"), "cannot go together"),
        (("--out", "a.png", "--resume", "none.guidance"), "not there"),
        (("--out", "a.png", "--resume", "photo.png"), "not the state"),
        (("x", "--out", "a.png", "--progress", "a.txt"), "ends in"),
    ],
)
def test_what_cannot_be_is_one_line(
    tandem: Run,
    model: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    toy.random_image().save("photo.png")
    assert said in one_line(tandem("guide", *arguments, *model))
    assert not Path("a.png").exists()


def test_without_torch_one_line_names_the_extra(tandem: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guiding, "find_spec", lambda _: None)
    assert "tandem-clip[guide]" in one_line(tandem("guide", "x", "--out", tmp_path / "a.png"))
