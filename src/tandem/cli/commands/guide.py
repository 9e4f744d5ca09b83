"""`tandem guide`: a picture that is changed until the model finds in it what a text says. Ctrl-C keeps it."""

import argparse
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from tandem.cli import stop_signals, targets, terminal
from tandem.cli.arguments import Parser, add_json, describe, non_negative, positive
from tandem.cli.exit_codes import DONE, INTERRUPTED, TRY_AGAIN
from tandem.cli.guidance_view import ProgressLines, report
from tandem.cli.inputs import read_lines
from tandem.cli.options.model import add_model, load_model
from tandem.errors import TandemError
from tandem.files import user_path
from tandem.guidance.settings import CROPS, SIZE, STATE_SUFFIX, STEPS, STRENGTH, WRITABLE

if TYPE_CHECKING:
    from tandem.guidance.guiding import GuidanceStep, Guided
    from tandem.guidance.state_file import State

SAVE_EVERY_S = 20.0  # seconds between two saved states of a run, which a crash would lose
OF_THE_RUN = (
    "text",
    "toward",
    "away",
    "like",
    "start",
    "size",
    "steps",
    "seed",
    "shapes",
    "crops",
    "strength",
    "among",
)


def add_arguments(parser: Parser) -> None:
    describe(
        parser,
        "Make a picture that a text describes, or change a photo toward it: the picture is optimised by the gradient "
        "of the model's image encoder, so it shows what the model reads into the text, and a small model reads little. "
        "This is no diffusion model. Ctrl-C keeps the picture so far, and a state from which --resume goes on. "
        "Needs torch.",
        'tandem guide "a red circle on white" --out circle.png',
        'tandem guide "a snowy street" --start photo.jpg --strength 0.3 --out snow.png',
        'tandem guide "a lighthouse" --shapes 32 --out lighthouse.svg --progress frames',
        'tandem guide "a forest" --toward "autumn:0.5" --away "text, watermark" --seconds 60 --out forest.png',
        "tandem guide --resume forest.png.guidance",
    )
    parser.add_argument(
        "text", nargs="*", metavar="TEXT", help="what the picture should show; words without quotes are one text"
    )
    parser.add_argument(
        "--out",
        metavar="F",
        help="the picture to write: .png, .jpg, .webp, or .svg (with --resume: the one that was begun)",
    )
    parser.add_argument(
        "--resume",
        metavar="F",
        help="continue a run that was stopped, given its state or its picture; the result is the same",
    )
    goals = parser.add_argument_group("goals")
    goals.add_argument(
        "--toward", action="append", metavar="T[:W]", help="another text to go toward, with its weight (1)"
    )
    goals.add_argument(
        "--away", action="append", metavar="T[:W],...", help="texts that the picture should not answer to"
    )
    goals.add_argument("--like", action="append", metavar="PHOTO", help="a photo to go toward")
    goals.add_argument("--start", metavar="PHOTO", help="change this photo instead of starting from grey")
    goals.add_argument(
        "--strength", type=float, metavar="X", help=f"how far --start may change, above 0 to 1 ({STRENGTH})"
    )
    goals.add_argument(
        "--among", metavar="FILE", help="rank the text among these, one a line (default: 49 common sentences)"
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--shapes", type=positive, metavar="N", help="draw with so many vector shapes, which an SVG can keep"
    )
    how.add_argument(
        "--size", type=_size, metavar="N|WxH", help=f"pixels of the longer side, or width and height ({SIZE})"
    )
    how.add_argument("--steps", type=positive, metavar="N", help=f"steps of the optimiser ({STEPS})")
    how.add_argument(
        "--seconds", type=float, metavar="S", help="time limit: fewer steps if it is short, but at least one"
    )
    how.add_argument("--crops", type=positive, metavar="N", help=f"random views a step ({CROPS})")
    how.add_argument("--seed", type=non_negative, metavar="N", help="another seed gives another picture (0)")
    how.add_argument(
        "--progress", metavar="DIR|F", help="pictures on the way: numbered in a folder, or one file that is renewed"
    )
    how.add_argument("--overwrite", action="store_true", help="replace a picture that this command did not make")
    add_json(parser)
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    from tandem.guidance.guiding import Interrupted, check_installed, check_target
    from tandem.guidance.state_file import read_state, write_state

    resumed = None
    arguments.text = _one_text(arguments.text)
    if arguments.resume is None:
        _check_goals(arguments)
        if arguments.out is None:
            raise TandemError(
                'no target: say where to write the picture: tandem guide "a red circle" --out picture.png'
            )
    else:
        _check_nothing_else(arguments)
        arguments.resume = _state_of(arguments.resume)
        resumed = read_state(arguments.resume)
        arguments.out = arguments.out or _picture_of(arguments.resume)
    shapes = arguments.shapes if resumed is None else resumed.settings.shapes
    target = check_target(arguments.out, shapes=shapes is not None)
    state_file = target.with_name(target.name + STATE_SUFFIX)
    _check_kept(arguments, target)
    keep_picture = _progress_writer(arguments.progress)
    if arguments.seconds is not None and not arguments.seconds > 0:
        raise TandemError(f"--seconds: expected a number above 0, got {arguments.seconds:g}")
    check_installed()
    asked = None if resumed else _asked(arguments)
    model = load_model(arguments)

    saved_at = time.monotonic()
    with _signals() as caught:

        def on_step(at: "GuidanceStep") -> None:
            nonlocal saved_at
            lines.step(at)
            if at.just_judged:
                keep_picture(at)
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                write_state(at.state(), state_file)
                saved_at = time.monotonic()

        with ProgressLines(arguments.seconds) as lines:
            try:
                guided = _guided(
                    model, asked, resumed, seconds=arguments.seconds, callback=on_step, on_start=lines.start
                )
            except Interrupted as stopped:
                guided = stopped.guided
            except KeyboardInterrupt:
                lines.close()
                terminal.echo(_nothing_kept(arguments.resume))
                if caught and caught[0] != signal.SIGINT:
                    return TRY_AGAIN
                raise
        guided.save(target)
        if guided.is_complete:
            state_file.unlink(missing_ok=True)
        else:
            guided.save_state(state_file)
    report(guided, target, state_file, arguments)
    if not caught or guided.is_complete:
        return DONE
    return INTERRUPTED if caught[0] == signal.SIGINT else TRY_AGAIN


def _one_text(words: list[str]) -> str | None:
    """The text, whose words may be arguments of their own, which is said."""
    if not words:
        return None
    if len(words) > 1:
        terminal.echo(f'guiding toward one text: "{" ".join(words)}"')
    return " ".join(words)


def _guided(model: Any, asked: dict[str, Any] | None, resumed: "State | None", **how: Any) -> "Guided":
    from tandem.guidance.guiding import guide, resume

    if resumed is not None:
        return resume(model, resumed, **how)
    assert asked is not None
    return guide(model, **asked, **how)


def _check_kept(arguments: argparse.Namespace, target: Path) -> None:
    """No photo is lost to a picture: neither one that is read, nor another's."""
    from tandem.guidance.marks import is_marked

    written = [target]
    if arguments.progress is not None:
        path = user_path(arguments.progress)
        written += sorted(path.glob("[0-9]" * 6 + ".png")) if path.is_dir() else [path]
    for each in written:
        targets.check_no_input(each, [*(arguments.like or ()), arguments.start, arguments.among])
        targets.check_replaceable(each, is_marked, overwrite=arguments.overwrite)


def _nothing_kept(resumed: str | None) -> str:
    if resumed is None:
        return "stopped before the first step was done: there is no picture yet, and nothing was written"
    return f"stopped before the run went on: {resumed} is as it was"


def _state_of(given: str) -> str:
    """The state file: the one that was named, or that beside the picture that was."""
    path = user_path(given, strict=False)
    beside = path.with_name(path.name + STATE_SUFFIX)
    if path.name.endswith(STATE_SUFFIX) or not path.is_file():
        return given
    if beside.is_file():
        return str(beside)
    if path.suffix.lower() in (*WRITABLE, ".svg"):
        raise TandemError(
            f"{path}: a picture, and there is no {beside.name} beside it, which a stopped run leaves; one that "
            "took all its steps is complete"
        )
    return given


def _picture_of(state: str) -> str:
    """The picture that a state was written beside."""
    if not state.endswith(STATE_SUFFIX):
        raise TandemError(f"{state}: the name does not say which picture it is of: say --out picture.png")
    return state.removesuffix(STATE_SUFFIX)


def _check_goals(arguments: argparse.Namespace) -> None:
    if arguments.text is None and not arguments.toward and not arguments.like:
        raise TandemError('no goal: say what the picture should show: tandem guide "a red circle" --out picture.png')
    if arguments.text is not None and not arguments.text.strip():
        raise TandemError("the text is empty: say what the picture should show")
    if arguments.strength is not None and arguments.start is None:
        raise TandemError("--strength goes with --start: it says how far that photo may change")


def _check_nothing_else(arguments: argparse.Namespace) -> None:
    """A run that goes on knows what it was asked for."""
    for name in OF_THE_RUN:
        if getattr(arguments, name) is not None:
            written = "a text" if name == "text" else f"--{name}"
            raise TandemError(f"--resume and {written} cannot go together: the run goes on with what it began with")


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `guide`, of those that were given."""
    from tandem.guidance.goals import read_goal

    wanted = [each for each in (arguments.text and (arguments.text, 1.0),) if each]
    for written in arguments.toward or ():
        goal = read_goal(written)
        wanted.append((goal.name, goal.weight))
    away = [read_goal(part) for each in arguments.away or () for part in each.split(",") if part.strip()]
    given = {
        "like": arguments.like,
        "among": None if arguments.among is None else read_lines(arguments.among),
        **{
            name: getattr(arguments, name) for name in ("start", "size", "steps", "seed", "shapes", "crops", "strength")
        },
    }
    named = {name: value for name, value in given.items() if value is not None}
    return {"toward": wanted, "away": [(goal.name, goal.weight) for goal in away], **named}


def _size(text: str) -> int | tuple[int, int]:
    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 2 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected pixels, such as 256 or 320x200, got {text!r}")
    numbers = [int(part) for part in parts]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _progress_writer(name: str | None) -> "Callable[[GuidanceStep], None]":
    """What writes pictures on the way: numbered ones in a folder, or one file, renewed at once."""
    if name is None:
        return lambda _: None
    from tandem.guidance.guiding import check_target, write_image

    path = user_path(name)
    if path.suffix and not path.is_dir():
        target = check_target(path, shapes=False)
        return lambda at: write_image(at.image(), target)
    path.mkdir(parents=True, exist_ok=True)
    return lambda at: write_image(at.image(), path / f"{at.step:06}.png")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that the signals that end a run are noted in; the first one interrupts, so that the picture is kept.

    Later ones wait until it is written.
    """
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)
        if len(caught) == 1:
            raise KeyboardInterrupt

    with stop_signals.handled([signal.SIGINT, signal.SIGTERM], note):
        yield caught
