"""`tandem guide`: what it writes and says, how it stops, goes on and refuses."""

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import toy
from support.commands import Run, one_line

from tandem.cli import guidance_view
from tandem.cli.commands import guide as command
from tandem.guidance import guiding
from tandem.guidance.marks import is_marked
from tandem.guidance.run import Run as GuidedRun

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


def test_words_without_quotes_are_one_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert command._one_text(["a", "dog"]) == "a dog"
    assert 'guiding toward one text: "a dog"' in capsys.readouterr().err
    assert (command._one_text(["a dog"]), command._one_text([])) == ("a dog", None)
    assert not capsys.readouterr().err


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
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        _signal_at(patch, 3, signal.SIGINT)
        stopped = tandem("guide", "a dog", "--out", part, *QUICK, *model)
    assert stopped.code == 130
    assert "stopped after 2 of 4 steps" in stopped.err
    assert f"guide --resume {part} --model {model[1]}\n" in stopped.err  # as the guide has it
    assert part.exists()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

    rest = tandem("guide", "--resume", part, *model)  # the picture's name is enough
    assert rest.code == 0, rest.err
    np.testing.assert_array_equal(np.asarray(Image.open(part)), np.asarray(Image.open(whole)))
    assert not state.exists()


def _signal_at(patch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Send a signal within a step, twice."""
    advance = GuidedRun.advance

    def signalled(run: GuidedRun, done: float | None = None) -> float:
        loss = advance(run, done)
        if run.step == step:
            handler = signal.getsignal(number)  # not a real one: it would end the process of other tests too
            assert callable(handler)
            try:
                handler(number, None)
            finally:
                handler(number, None)  # an impatient one
        return loss

    patch.setattr(GuidedRun, "advance", signalled)


def test_sigterm_keeps_the_picture_too(
    tandem: Run, model: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.png"
    _signal_at(monkeypatch, 2, signal.SIGTERM)
    stopped = tandem("guide", "a dog", "--out", out, *QUICK, *model)
    assert stopped.code == 75
    assert "stopped after 1 of 4 steps" in stopped.err
    assert Image.open(out).size == (32, 32)
    assert (tmp_path / "a.png.guidance").exists()


def test_a_stop_before_the_first_step_says_that_nothing_is_kept(
    tandem: Run, model: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _signal_at(monkeypatch, 1, signal.SIGINT)
    stopped = tandem("guide", "a dog", "--out", tmp_path / "a.png", *QUICK, *model)
    assert stopped.code == 130
    assert "no picture yet, and nothing was written" in stopped.err
    assert not list(tmp_path.iterdir())


def test_a_run_into_a_file_says_what_it_does_and_how_far_it_is(
    tandem: Run, model: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guidance_view, "FIRST_LINE_S", 0.0)
    found = tandem("guide", "a dog", "--out", tmp_path / "a.png", *QUICK, *model)
    first, second, *_ = found.err.splitlines()
    assert "guiding 'a dog': 4 steps, 2 views each" in first
    assert "step 1 of 4, similarity" in second
    assert "left" in second
    assert "step 2" not in found.err  # the next one is half a minute later
    assert not tandem("-q", "guide", "a dog", "--out", tmp_path / "b.png", *QUICK, *model).err


def test_a_time_that_is_up_leaves_the_picture_and_the_state(
    tandem: Run, model: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "a.png"
    found = tandem("guide", "a dog", "--seconds", "0.000001", "--out", out, *QUICK, *model)
    assert found.code == 0
    assert ", 1 step in" in found.out
    assert "stopped after 1 of 4 steps" in found.err
    assert "left" not in found.err
    assert out.exists()
    assert (tmp_path / "a.png.guidance").exists()


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
        (("--out", "a.png", "--resume", "photo.png"), "there is no photo.png.guidance beside it"),
        (("--resume", "photo.png"), "there is no photo.png.guidance beside it"),
        (("--resume", "notes.txt"), "not the state"),
        (("x",), "no target: say where to write the picture"),
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
    Path("notes.txt").write_text("x")
    assert said in one_line(tandem("guide", *arguments, *model))
    assert not Path("a.png").exists()


def test_no_photo_is_lost_to_a_picture(
    tandem: Run, model: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy.random_image().save("photo.png")
    kept = Path("photo.png").read_bytes()
    for arguments, said in (
        (("--out", "photo.png"), "--overwrite"),
        (("--out", "a.png", "--progress", "photo.png"), "--overwrite"),
        (("--out", "photo.png", "--start", "photo.png", "--overwrite"), "an input"),
    ):
        assert said in one_line(tandem("guide", "x", *arguments, *QUICK, *model))
        assert Path("photo.png").read_bytes() == kept
    for name in ("a.png", "a.jpg", "a.webp"):
        guiding.write_image(toy.random_image(), Path(name))
        assert is_marked(Path(name))
    assert not is_marked(Path("photo.png"))


def test_without_torch_one_line_names_the_extra(tandem: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guiding, "find_spec", lambda _: None)
    assert "tandem-clip[guide]" in one_line(tandem("guide", "x", "--out", tmp_path / "a.png"))
