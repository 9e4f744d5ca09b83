"""What people see: results on standard output, progress and complaints on standard error. Knows no model."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tandem.answer import Failure
    from tandem.search.indexing.progress import Progress

ACCENT, QUIET = "green", "bright_black"
BETWEEN = 2  # cells, from one column to the next
LEAST_CELLS = 16  # of a column that is cut, however narrow the terminal
_SURROGATE = re.compile("[\ud800-\udfff]")
_COMMAND = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_EIGHTHS = " ▏▎▍▌▋▊▉"


def console() -> "Console":
    """Standard output. Text is shown as it is: `[old]` in a name is no markup, and numbers are not coloured.

    In a file or a pipe, nothing is wrapped or cut.
    """
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich itself would exit with 1, which says that inputs were set aside

    watched = sys.stdout.isatty()
    return Piped(markup=False, emoji=False, highlight=False, soft_wrap=not watched, width=None if watched else 200)


def table(*headings: str, right: Sequence[str] = ()) -> "Table":
    """A table without frames, that fits terminals of 80 letters; the columns in `right` are numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, BETWEEN, 0, 0), header_style=QUIET)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
    return made


def cells_left(out: "Console", headings: Sequence[str], rows: "Iterable[Sequence[str | Text]]") -> int:
    """How wide a last column may be beside these columns of a `table`; never too narrow to tell names apart."""
    from rich.cells import cell_len

    columns = zip(headings, *(map(str, row) for row in rows), strict=True)
    return max(LEAST_CELLS, out.width - sum(max(map(cell_len, column)) + BETWEEN for column in columns))


def print_json(document: Any) -> None:
    """One document. NaN is no JSON: it would be a bug of ours, and raises.

    Names of files that are not UTF-8 come as lone surrogates, which no JSON reader takes: spelled out, as `b\\xff.png`.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    print(_SURROGATE.sub(lambda found: _spelled(found[0]), text))


def _spelled(surrogate: str) -> str:
    number = ord(surrogate)
    return f"\\\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\\\u{number:04x}"


def say(line: str) -> None:
    """A line beside the result."""
    print(f"tandem: {line}", file=sys.stderr)


def say_set_aside(failures: "Sequence[Failure]", total: int) -> None:
    """Name every input that was set aside: nothing is lost silently."""
    if total == 1 and failures:
        say(str(failures[0].error))
    elif failures:
        say(f"set aside {len(failures):,} of {total:,}:")
        for failure in failures:
            print(f"  {' '.join(str(failure.error).split())}", file=sys.stderr)


@contextmanager
def progress(what: str, total: int | None, *, wanted: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if it is wanted and people look at it. Gives the function that moves it on."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda count: shown.advance(task, count)


@contextmanager
def indexing_progress() -> "Iterator[Callable[[Progress], None] | None]":
    """A bar with rate and time left, if people look at it. Gives what indexing reports to."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Shown

    columns = (TextColumn("indexing"), BarColumn(), TextColumn("{task.fields[state]}"))
    with Shown(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("indexing", total=None, state="")

        def show(progress: "Progress") -> None:
            shown.update(task, completed=progress.done, total=progress.total, state=_state(progress))

        yield show


@contextmanager
def resumable() -> Iterator[None]:
    """Says, to those who interrupt it, that nothing done is lost."""
    try:
        yield
    except KeyboardInterrupt:
        say("what is done is kept: the same command goes on")
        raise


def _state(progress: "Progress") -> str:
    parts = [f"{progress.done:,} of {progress.total or progress.found:,}{'' if progress.total else '+'}"]
    if progress.rate:
        parts.append(f"{progress.rate:,.0f}/s" if progress.rate >= 10 else f"{progress.rate:.1f}/s")
    if progress.seconds_left is not None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left")
    if progress.set_aside:
        parts.append(f"{progress.set_aside:,} set aside")
    return ", ".join(parts)


def bar(fraction: float, width: int, *, best: bool, encoding: str = "utf-8") -> "Text":
    """A bar of `width` letters, drawn in eighths of a letter where the terminal can."""
    from rich.text import Text

    fraction = min(max(fraction, 0.0), 1.0)
    if encoding.lower().replace("-", "") == "utf8":
        eighths = round(fraction * width * 8)
        drawn = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    else:
        drawn = "#" * round(fraction * width)
    return Text(drawn.ljust(width), style=ACCENT if best else QUIET)


def line(text: str) -> str:
    """`text` on one line: letters that would break it, or command the terminal, are spelled out, as `\\n`."""
    return _COMMAND.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def count_of(number: int, what: str = "photo") -> str:
    """`1 photo`, `1,200 photos`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def cells(text: str, width: int, *, keep_end: bool = False) -> str:
    """`text` on one line, in exactly `width` terminal cells: cut with an ellipsis, or filled up with spaces."""
    from rich.cells import cell_len, set_cell_size

    text = line(text)
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    if keep_end:
        while cell_len(text) > width - 1:
            text = text[1:]
        return set_cell_size(f"…{text}", width)
    return set_cell_size(text, width - 1) + "…"
