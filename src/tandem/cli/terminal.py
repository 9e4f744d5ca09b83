"""Output for people: results on standard output; notes, progress and questions on standard error. Knows no model.

Every command imports it, even for --help, so slow imports are inside functions.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from tandem.errors import TandemError

if TYPE_CHECKING:
    from rich.console import Console

    from tandem.errors import ImageError

ACCENT, QUIET = "green", "bright_black"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def console() -> "Console":
    """Standard output. Text is shown as it is: `[old]` in a name is no markup, and numbers are not coloured.

    In a file or a pipe, nothing is wrapped or cut.
    """
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich itself would exit with 1, which means that inputs were skipped

    watched = sys.stdout.isatty()
    return Piped(markup=False, emoji=False, highlight=False, soft_wrap=not watched, width=None if watched else 200)


def print_paths(paths: Sequence[str], *, null: bool) -> None:
    """Print paths byte for byte, for other programs; in a terminal, control characters are escaped."""
    if sys.stdout.isatty() and not null:
        print_lines("\n".join(map(line, paths)))
        return
    sys.stdout.flush()
    end = b"\0" if null else b"\n"
    binary = getattr(sys.stdout, "buffer", None)
    for path in paths:
        if binary is None:
            sys.stdout.write(path + end.decode())
        else:
            binary.write(os.fsencode(path) + end)


def print_json(document: Any, *, indent: int | None = 2, flush: bool = False) -> None:
    """Print one document. NaN is not JSON, so it raises."""
    from tandem.files import json_text
    from tandem.plain_line import plain_json

    print(plain_json(json_text(document, indent=indent)), flush=flush)


def print_lines(text: str = "", *, end: str = "\n", stderr: bool = False, flush: bool = False) -> None:
    """Print lines, or values separated by tabs. All that commands print goes through this file."""
    if not text.isprintable():
        from tandem.plain_line import plain_lines

        text = plain_lines(text)
    print(text, end=end, file=sys.stderr if stderr else sys.stdout, flush=flush)


# --- lines beside the result ---------------------------------------------------------------------------------------


class _Loudness:
    """How much is written to standard error, as set by -q and -v."""

    quiet = False
    verbose = False


def set_loudness(*, quiet: bool, verbose: bool) -> None:
    """Set it for this process."""
    _Loudness.quiet, _Loudness.verbose = quiet, verbose


def is_quiet() -> bool:
    """Whether notes are unwanted."""
    return _Loudness.quiet


class _Waiting:
    """The line at the end of standard error that says what is waited for, if there is one."""

    line = ""


_ERASE = "\r\x1b[K"


def show_waiting(text: str) -> None:
    """Show in a terminal what is waited for, in place of what was; nothing for an empty text."""
    _Waiting.line = line(text)
    print(_ERASE + _Waiting.line, end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def above_waiting() -> Iterator[None]:
    """For lines on standard error: the line that says what is waited for makes room, and comes back below them."""
    if not _Waiting.line:
        yield
        return
    print(_ERASE, end="", file=sys.stderr)
    yield
    print(_Waiting.line, end="", file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Print an error in one line, even with -q."""
    _note(line(" ".join(text.split())))


def complain_in_handler(text: str) -> None:
    """`complain` for a handler of signals: `print` fails where the signal came in the middle of another one."""
    with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
        erased = _ERASE if _Waiting.line else ""
        os.write(sys.stderr.fileno(), f"{erased}{wrapped(line(text), sys.stderr, 'tandem: ', '  ')}\n".encode())


def echo(text: str) -> None:
    """Print a note to standard error, unless -q was given."""
    if not _Loudness.quiet:
        _note(line(text))


def _note(text: str) -> None:
    with above_waiting():
        print(wrapped(text, sys.stderr, "tandem: ", "  "), file=sys.stderr)


def wrapped(text: str, stream: TextIO, first: str, others: str) -> str:
    """Wrap `first` and `text` to the width of the terminal; further lines begin with `others`.

    Not wrapped if `stream` is not a terminal.
    """
    if not stream.isatty():
        return first + text
    import textwrap

    lines = textwrap.wrap(
        text,
        columns(stream),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines or [first])


def shortened(path: str, stream: TextIO) -> str:
    """A path cut at its beginning to fit into one line of a note in a terminal, `after` included."""
    room = columns(stream) - 4
    return cells(path, room, keep_end=True).strip() if stream.isatty() and len(path) > room else path


def columns(stream: TextIO) -> int:
    """The width of the terminal of `stream`, which may not be that of standard output."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # no terminal behind it
        return 80


def detail(text: str) -> None:
    """Print a note that only -v shows."""
    if _Loudness.verbose:
        echo(text)


def echo_skipped(errors: "Sequence[ImageError]", total: int) -> None:
    """Name every input that was skipped, even with -q: nothing is lost silently."""
    if total == 1 and errors:
        complain(str(errors[0]))
    elif errors:
        complain(f"skipped {len(errors):,} of {total:,}:")
        for error in errors:
            list_item(str(error))


def list_item(text: str) -> None:
    """Print a line of a list below a note."""
    with above_waiting():
        print(wrapped(line(" ".join(text.split())), sys.stderr, "  ", "    "), file=sys.stderr)


def print_result(text: str) -> None:
    """Print the result of a command, in a sentence."""
    print(wrapped(line(text), sys.stdout, "", "  "))


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation. Raises `TandemError` if it is denied, or if nobody can answer and `--yes` was not given."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise TandemError(f"{question} Add --yes to agree")
    print(wrapped(f"{line(question)} [y/N]", sys.stderr, "tandem: ", "  "), end=" ", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise TandemError("nothing was changed")


def program() -> str:
    """The command to show in examples: `tandem` if that runs this program, else its path."""
    import shutil
    from pathlib import Path

    own = Path(sys.executable).parent / "tandem"
    found = shutil.which("tandem")
    if found is not None and Path(found).resolve() == own.resolve():
        return "tandem"
    if not own.exists():
        return "tandem" if found is not None else f"{sys.executable} -m tandem"
    return min(str(own), os.path.relpath(own), key=len)


# --- text in cells -------------------------------------------------------------------------------------------------


def bar(fraction: float, width: int, encoding: str | None = None) -> str:
    """A bar in `width` cells, drawn in eighths of a character where standard output can."""
    fraction = min(max(fraction, 0.0), 1.0)
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "ascii"
    if encoding.lower().replace("-", "") == "utf8":
        eighths = round(fraction * width * 8)
        drawn = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    else:
        drawn = "#" * round(fraction * width)
    return drawn.ljust(width)


def line(text: str) -> str:
    """`text` on one line, with nothing in it that commands the terminal: see `plain_line`."""
    if text.isprintable():
        return text
    from tandem.plain_line import plain_line

    return plain_line(text)


def count_of(number: int, one: str = "photo", many: str | None = None) -> str:
    """`1 photo`, `1,200 photos`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


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
