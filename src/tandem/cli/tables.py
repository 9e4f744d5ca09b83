"""Tables that fit into the terminal; when piped, values separated by tabs. Knows no model.

In a narrow terminal, first the least important columns are left out, then columns that may be cut are cut.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from tandem.cli import terminal

GAP = 2  # cells between columns


class Column(NamedTuple):
    """A column, and how it is shortened where there is little room."""

    heading: str = ""
    right: bool = False  # numbers
    least: int | None = None  # cells to which it may be cut; None: never cut
    keep_end: bool = False  # cut at its beginning, as paths are
    drop: int = 0  # left out in narrow terminals, the largest number first; 0: never
    for_people: bool = False  # a drawing: programs are not given it


class Cell(NamedTuple):
    """The value for people, and the value for programs if it differs."""

    shown: str
    plain: str | None = None
    style: str = ""


Value: TypeAlias = str | Cell


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[Value]]) -> None:
    """Print a whole table, with headings in a terminal; nothing without rows."""
    table = [list(row) for row in rows]
    if not table:
        return
    natural = [max(map(_width, values)) for values in zip(*table, strict=True)]
    show = row_printer(columns, natural)
    if sys.stdout.isatty() and any(column.heading for column in columns):
        show([Cell(column.heading, style=terminal.QUIET) for column in columns])
    for row in table:
        show(row)


def row_printer(columns: Sequence[Column], natural: Sequence[int]) -> Callable[[Sequence[Value]], None]:
    """A function that prints rows one by one. `natural` are the widths of the widest values."""
    if not sys.stdout.isatty():
        return lambda row: terminal.print_lines(tab_separated(columns, row))
    from rich.text import Text

    out = terminal.console()
    wanted = [
        max(width, _width(column.heading)) if not column.for_people else width
        for column, width in zip(columns, natural, strict=True)
    ]
    widths = fit(columns, wanted, out.width)

    def show(row: Sequence[Value]) -> None:
        text = Text()
        for at, (value, width) in enumerate(zip(row, widths, strict=True)):
            if width is None:
                continue
            cell = value if isinstance(value, Cell) else Cell(value)
            if text:
                text.append(" " * GAP)
            shown = terminal.cells(cell.shown, width, keep_end=columns[at].keep_end)
            if columns[at].right:
                shown = " " * (len(shown) - len(shown.rstrip())) + shown.rstrip()
            text.append(shown, style=cell.style)
        text.rstrip()
        text.truncate(out.width, overflow="ellipsis")  # what is cut is marked
        out.print(text, no_wrap=True, crop=True)

    return show


def tab_separated(columns: Sequence[Column], row: Sequence[Value]) -> str:
    """A row for programs: each value whole, on one line."""
    values = [
        value if isinstance(value, str) else value.shown if value.plain is None else value.plain
        for column, value in zip(columns, row, strict=True)
        if not column.for_people
    ]
    return "\t".join(map(terminal.line, values))


def fit(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int | None]:
    """The width of each column in a table of `width` cells; None for columns that are left out."""
    kept = list(range(len(columns)))

    def least(at: int) -> int:
        cut = columns[at].least
        return natural[at] if cut is None else min(cut, natural[at])

    def room(widths: Iterable[int]) -> int:
        return width - sum(widths) - GAP * (len(kept) - 1)

    while room(map(least, kept)) < 0 and any(columns[at].drop for at in kept):
        kept.remove(max(kept, key=lambda at: columns[at].drop))
    elastic = [at for at in kept if columns[at].least is not None]
    widths = {at: least(at) for at in kept}
    if room(widths.values()) < 0:  # too narrow even for that: what is left
        widths |= dict.fromkeys(elastic, 0)
    free = max(0, room(widths.values()))
    elastic.sort(key=lambda at: natural[at] - widths[at])
    for left, at in zip(range(len(elastic), 0, -1), elastic, strict=True):
        more = min(natural[at] - widths[at], free // left)
        widths[at] = max(1, widths[at] + more)
        free -= more
    return [widths.get(at) for at in range(len(columns))]


def _width(value: Value) -> int:
    text = value if isinstance(value, str) else value.shown
    if text.isascii() and text.isprintable():
        return len(text)
    from rich.cells import cell_len

    return cell_len(terminal.line(text))
