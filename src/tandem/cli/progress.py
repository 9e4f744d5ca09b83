"""Progress on standard error, removed when the work is done. Knows counts only."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tandem.cli import terminal

if TYPE_CHECKING:
    from tandem.search.indexing.progress import IndexingProgress

BAR_CELLS = 40  # where there is room
BESIDE_BAR, BESIDE_STATE = 36, 42  # cells of what stands beside it


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show what is being waited for, until the block ends."""
    if terminal.is_quiet() or not sys.stderr.isatty():
        yield
        return
    terminal.show_waiting(f"{what} ...")
    try:
        yield
    finally:
        terminal.show_waiting("")


@contextmanager
def counting(what: str, total: int | None, *, wanted: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, in a terminal and unless -q was given. Gives the function that advances it.

    Without a `total`, it only shows activity.
    """
    if not wanted or terminal.is_quiet() or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

    out = Console(stderr=True)
    drawn = BarColumn(min(BAR_CELLS, max(4, out.width - BESIDE_BAR)))
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), drawn]
    if total is not None:
        columns += [MofNCompleteColumn(), TimeRemainingColumn(compact=True)]
    # By default rich sends what is printed meanwhile to its own console: results would leave standard output.
    with Progress(*columns, console=out, transient=True, redirect_stdout=False) as shown:
        task = shown.add_task(what, total=total)
        yield lambda count: shown.advance(task, count)


@contextmanager
def indexing(what: str = "indexing") -> "Iterator[Callable[[IndexingProgress], None] | None]":
    """A bar with rate and remaining time, in a terminal. Gives the callback for indexing, which may serve a repair."""
    if terminal.is_quiet() or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Shown

    out = Console(stderr=True)
    room = out.width - len(what) - 2 - BESIDE_STATE
    columns: list[ProgressColumn] = [TextColumn("{task.fields[state]}")]
    if room >= 4:  # else numbers are worth more than a bar
        columns = [TextColumn(what), BarColumn(min(BAR_CELLS, room)), *columns]
    with Shown(*columns, console=out, transient=True, redirect_stdout=False) as shown:
        task = shown.add_task(what, total=None, state="")

        def show(progress: "IndexingProgress") -> None:
            shown.update(task, completed=progress.done, total=progress.total, state=state_of(progress, out.width))

        yield show


def beside_rows() -> bool:
    """Whether printed rows may appear in the terminal of the bar, directly or through the reader of a pipe."""
    if sys.stdout.isatty():
        return True
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):  # no file behind it
        return False


@contextmanager
def resumable() -> Iterator[None]:
    """On Ctrl-C, say that finished work is kept."""
    try:
        yield
    except KeyboardInterrupt:
        terminal.echo("finished work is kept: the same command resumes")
        raise


def state_of(progress: "IndexingProgress", width: int) -> str:
    """The state of a run, as text of at most `width` cells."""
    done = f"{progress.done:,} of {progress.total or progress.found:,}{'' if progress.total else '+'}"
    rate = left = skipped = ""
    if progress.rate:
        rate = f"{progress.rate:,.0f}/s" if progress.rate >= 10 else f"{progress.rate:.1f}/s"
    if progress.seconds_left is not None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"
    if progress.skipped:
        skipped = f"{progress.skipped:,} skipped"
    choices = ((done, rate, left, skipped), (done, left, skipped), (done, left), (done,))
    said = [", ".join(filter(None, choice)) for choice in choices]
    return next((text for text in said if len(text) <= width), done)
