"""What `tandem guide` shows: how far a run is, and what it ended with."""

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.cli import terminal

if TYPE_CHECKING:
    from tandem.guidance.guiding import GuidanceStep, Guided
    from tandem.guidance.state_file import State

FIRST_LINE_S, LINE_EVERY_S = 5.0, 30.0  # seconds after which a run that nobody watches says how far it is


class ProgressLines:
    """The progress of a run on standard error: one line, rewritten, in a terminal; elsewhere a line now and then.

    Nothing with -q.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.is_live = sys.stderr.isatty()
        self.due_at = 0.0

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, state: "State") -> None:
        """What is begun, before torch is imported: that and the first step may take long."""
        settings = state.settings
        steps = f"{settings.steps:,} steps" if not state.step else f"from step {state.step:,} to {settings.steps:,}"
        limit = "" if self.seconds is None else f" in at most {self.seconds:g} s"
        self._say(f"guiding {state.goals.toward[0].name!r}: {steps}{limit}, {settings.crops} views each ...")
        self.due_at = time.monotonic() + FIRST_LINE_S

    def step(self, at: "GuidanceStep") -> None:
        if self.is_live or (time.monotonic() >= self.due_at and at.step < at.steps):
            self.due_at = time.monotonic() + LINE_EVERY_S
            left = _left(at.seconds_left) if at.seconds_left or at.step == at.steps else "the time is up"
            self._say(f"step {at.step:,} of {at.steps:,}, {_judged(at.judged)}, {left}")

    def close(self) -> None:
        if self.is_live and not terminal.is_quiet():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _say(self, text: str) -> None:
        if terminal.is_quiet():
            return
        if self.is_live:
            print(
                f"\r{terminal.line(text)[: terminal.columns(sys.stderr) - 1]}\x1b[K",
                end="",
                file=sys.stderr,
                flush=True,
            )
        else:
            terminal.echo(text)


def _steps(count: int) -> str:
    return terminal.count_of(count, "step", "steps")


def _left(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} left"


def _judged(judged: Any) -> str:
    ranked = "" if judged.rank is None else f", rank {judged.rank} of {judged.among}"
    return f"similarity {judged.similarity:.3f}{ranked}"


def report(guided: "Guided", target: Path, state_file: Path, arguments: argparse.Namespace) -> None:
    """Print how the run ended, as JSON where that is asked for; and how to go on, where it was stopped."""
    steps, total = guided.after.step, guided.settings.steps
    if arguments.json:
        terminal.print_json(
            {
                "file": str(target),
                "complete": guided.is_complete,
                "state": None if guided.is_complete else str(state_file),
                "step": steps,
                "steps": total,
                "seed": guided.settings.seed,
                "seconds": round(guided.seconds, 2),
                "before": vars(guided.before),
                "after": vars(guided.after),
                "history": [vars(each) for each in guided.history],
            }
        )
        return
    terminal.print_result(
        f"{target}: {_judged(guided.after)} (before: {_judged(guided.before)}), {_steps(steps)} in "
        f"{guided.seconds:.0f} s"
    )
    if guided.after.rank not in (None, 1):
        terminal.echo(f"the model finds {guided.after.best!r} first; another --seed or more --steps may help")
    if not guided.is_complete:
        if arguments.seconds is not None and guided.seconds > arguments.seconds + 0.5:
            terminal.echo(
                f"it took {guided.seconds:.0f} s, not {arguments.seconds:g}: starting up and the first "
                "step are done in any case"
            )
        model = f" --model {shlex.quote(arguments.model)}" if arguments.model else ""
        terminal.echo(
            f"stopped after {steps:,} of {_steps(total)}; to go on: {terminal.program()} guide --resume "
            f"{shlex.quote(str(target))}{model}"
        )
