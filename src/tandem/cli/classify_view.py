"""Answers in the terminal: a few photos with bars for each label, many with a line each."""

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tandem.answer import Answer
from tandem.cli.screen import ACCENT, QUIET, bar, cells, console

Best = Sequence[tuple[str, float]]  # labels with probabilities, likeliest first

IN_FULL = 8  # up to so many photos are shown with bars for each label
BAR_WIDTH = 32
NARROW_BAR = 12
LABEL_CELLS = 36
NAME_CELLS = 44


def printer(photos: Sequence[str], labels: Sequence[str], top: int) -> Callable[[Answer], None]:
    """The function that shows answers as they come; `photos` and `labels` say how wide its columns must be."""
    out = console()
    label_cells = min(LABEL_CELLS, max(cell_len(label) for label in labels))
    name_cells = min(NAME_CELLS, max(cell_len(photo) for photo in photos))

    def show(answer: Answer) -> None:
        for source, best in zip(answer.sources, answer.top(top), strict=True):
            if len(photos) <= IN_FULL:
                out.print(photo_in_full(source, best, label_cells, encoding=out.encoding))
            else:
                photo_on_a_line(out, source, best, label_cells, name_cells)

    return show


def photo_in_full(name: str, best: Best, label_cells: int, *, encoding: str, bar_width: int = BAR_WIDTH) -> Text:
    """The name, and below it a bar for each label."""
    shown = Text(f"{name}\n", style="bold")
    for place, (label, probability) in enumerate(best):
        first = place == 0
        line = Text("  ", style="not bold")
        line.append(cells(label, label_cells), style=ACCENT if first else "")
        line.append("  ")
        line.append_text(bar(probability, bar_width, best=first, encoding=encoding))
        line.append(f" {probability:6.1%}\n", style="bold" if first else "")
        shown.append_text(line)
    return shown


def photo_on_a_line(out: Console, name: str, best: Best, label_cells: int, name_cells: int) -> None:
    """The name, the likeliest label with its bar, and the one after it."""
    label, probability = best[0]
    line = Text(cells(name, name_cells, keep_end=True))
    line.append("  ")
    line.append(cells(label, label_cells), style=ACCENT)
    line.append("  ")
    line.append_text(bar(probability, NARROW_BAR, best=True, encoding=out.encoding))
    line.append(f" {probability:6.1%}", style="bold")
    if len(best) > 1:
        line.append(f"   {best[1][0]} {best[1][1]:.1%}", style=QUIET)
    out.print(line)
