"""Answers in the terminal: few photos with bars for each label, many with one line each; piped, a line per label."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tandem.cli import terminal
from tandem.cli.tables import Cell, Column, row_printer, tab_separated
from tandem.scores.scoring import digits, percent

if TYPE_CHECKING:
    from rich.text import Text

    from tandem.answer import Answer
    from tandem.scores.scoring import ScoringKind

Best = Sequence[tuple[str, float]]  # labels with probabilities, likeliest first

IN_FULL = 8  # up to this many photos are shown with bars for each label
BAR_WIDTH = 32
NARROW_BAR = 12
LABEL_CELLS = 36
NAME_CELLS = 44
LEAST_CELLS = 8  # of a name or a label, however narrow the terminal
PIPED = (Column("photo"), Column("label"), Column("probability"))
BY_LINE = (
    Column("photo", least=LEAST_CELLS, keep_end=True),
    Column("label", least=LEAST_CELLS),
    Column("", for_people=True, drop=1),
    Column("probability", right=True),
    Column("next", least=LEAST_CELLS, drop=2),
)


def printer(photos: Sequence[str], labels: Sequence[str], top: int) -> "Callable[[Answer], None]":
    """A function that shows answers as they come; `photos` and `labels` determine the widths of columns."""
    if not sys.stdout.isatty():

        def in_rows(answer: "Answer") -> None:
            for source, best in zip(answer.sources, answer.top(top), strict=True):
                for label, probability in best:
                    terminal.print_lines(tab_separated(PIPED, (source, label, digits(probability))))

        return in_rows
    out = terminal.console()
    if len(photos) <= IN_FULL:

        def in_full(answer: "Answer") -> None:
            for source, best in zip(answer.sources, answer.top(top), strict=True):
                out.print(photo_in_full(source, best, labels, width=out.width, scoring=answer.scoring))

        return in_full
    line = line_printer(photos, labels)

    def by_line(answer: "Answer") -> None:
        for source, best in zip(answer.sources, answer.top(min(2, top)), strict=True):
            line(source, best, answer.scoring)

    return by_line


def line_printer(photos: Sequence[str], labels: Sequence[str]) -> "Callable[[str, Best, ScoringKind], None]":
    """A function that shows a photo's likeliest label with its bar, and the second one."""
    from tandem.answer import highlighted

    label_cells = widest(labels, LABEL_CELLS)
    natural = (widest(photos, NAME_CELLS), label_cells, NARROW_BAR, 6, label_cells + 7)
    row = row_printer(BY_LINE, natural)

    def show(name: str, best: Best, scoring: "ScoringKind") -> None:
        style = terminal.ACCENT if highlighted(scoring, best[:1]) else terminal.QUIET
        (label, probability), *others = best
        after = f"{others[0][0]} {percent(others[0][1])}" if others else ""
        drawn = Cell(terminal.bar(probability, NARROW_BAR), style=style)
        likeliest = Cell(label, style=style)
        row((name, likeliest, drawn, Cell(percent(probability), style="bold"), Cell(after, style=terminal.QUIET)))

    return show


def photo_in_full(
    name: str,
    best: Best,
    labels: Sequence[str],
    *,
    width: int,
    bar_width: int = BAR_WIDTH,
    scoring: "ScoringKind" = "softmax",
) -> "Text":
    """The name, and below it a bar for each label, in `width` cells."""
    from rich.text import Text

    from tandem.answer import highlighted

    bright = highlighted(scoring, best)
    beside = 2 + 2 + len(" 100.0%")
    label_cells = widest(labels, max(LEAST_CELLS, min(LABEL_CELLS, (width - beside) * 2 // 3)))
    bar_width = max(1, min(bar_width, width - beside - label_cells))
    shown = Text(f"{terminal.cells(name, max(width, LEAST_CELLS), keep_end=True).rstrip()}\n", style="bold")
    for index, (label, probability) in enumerate(best):
        first = index < bright
        line = Text("  ", style="not bold")
        line.append(terminal.cells(label, label_cells), style=terminal.ACCENT if first else "")
        line.append("  ")
        line.append(terminal.bar(probability, bar_width), style=terminal.ACCENT if first else terminal.QUIET)
        line.append(f" {percent(probability):>6}\n", style="bold" if first else "")
        shown.append_text(line)
    return shown


def widest(texts: Sequence[str], most: int) -> int:
    """The cells that the widest text takes, `most` at the most."""
    from rich.cells import cell_len

    return min(most, max((cell_len(terminal.line(text)) for text in texts), default=0))
