"""What `tandem learn` prints: what the head is worth beside zero-shot, class by class, and what to do next."""

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tandem import prompts
from tandem.cli import terminal
from tandem.cli.tables import Cell, Column, Value, print_table
from tandem.evaluate.report.formats import chance_text, interval_text, value_text
from tandem.evaluate.report.markdown import prompts_text
from tandem.heads.fitting import METHODS

if TYPE_CHECKING:
    from tandem.evaluate.learning import Learned

BAR_WIDTH = 24
CLASSES_SHOWN = 20
CONFUSIONS_SHOWN = 5
FIGURES = (
    Column(),
    Column("right", right=True),
    Column("95% from", right=True),
    Column("to", right=True),
    Column("", for_people=True, drop=1),
)
CLASSES = (
    Column("class", least=8),
    Column("photos", right=True),
    Column("zero-shot", right=True),
    Column("learned", right=True),
)


def show(learned: "Learned", target: Path, source: str) -> None:
    """The whole report; when piped, tables of values separated by tabs. `source` is what the model was loaded from."""
    head, figures = learned.head, learned.figures
    images = int(head.card["images"])
    if sys.stdout.isatty():
        method = METHODS[head.method].title
        how = f"{terminal.count_of(images)} of {len(head.classes)} classes, learned by {method} ({head.card['model']})"
        terminal.print_result(how)
        if figures:
            measured = figures["accuracy"]
            how = f"measured on {measured.n:,} photos left out in turn ({learned.scheme})"
            terminal.print_result(f"{how}; chance is {chance_text(measured)}")
        terminal.print_lines()
    print_table(FIGURES, _figures(learned))
    if sys.stdout.isatty() and figures:
        terminal.print_lines()
    shown = sorted(learned.classes, key=lambda each: (not math.isnan(each.accuracy), each.accuracy))
    print_table(
        CLASSES,
        [
            (each.name, str(each.images), _share(each.zero_shot), _share(each.accuracy))
            for each in (shown[:CLASSES_SHOWN] if sys.stdout.isatty() else learned.classes)
        ],
    )
    sys.stdout.flush()
    if sys.stdout.isatty() and len(shown) > CLASSES_SHOWN:
        terminal.print_lines(f"... and {len(shown) - CLASSES_SHOWN} more, which do better")
    if sys.stdout.isatty():
        terminal.print_lines()
    for text in (*_confused(learned), verdict(learned)):
        terminal.echo(text)
    templates = head.card["templates"] or prompts.default_templates(head.card["language"])
    terminal.echo(f"zero-shot {prompts_text([templates] if isinstance(templates, str) else templates)}")
    for text in learned.notes:
        terminal.echo(f"note: {text}")
    terminal.echo(f"wrote {target} ({max(1, round(target.stat().st_size / 1000)):,} KB)")
    terminal.echo(f"next: tandem classify PHOTO --head {shlex.quote(str(target))}{_model(source)}")


def verdict(learned: "Learned") -> str:
    """In a sentence what may be claimed."""
    if learned.verdict == "not measured":
        return "not measured: the head is written, but what it is worth nobody knows; two photos of a class would tell"
    gain = learned.figures["gain"]
    said = f"{value_text(gain.value, gain.unit)} ({interval_text(gain)})"
    if learned.verdict == "gain":
        return f"better than the names of the classes alone: {said}"
    if learned.verdict == "loss":
        return f"worse than the names of the classes alone: {said}; the head is written, but --labels does better here"
    return (
        f"no gain shown: {said} is within the noise of so few photos; the head is written all the same, and more "
        "photos would tell"
    )


def _figures(learned: "Learned") -> list[list[Value]]:
    rows: list[list[Value]] = []
    for name, shown in (("learned", "accuracy"), ("zero-shot", "zero_shot"), ("gain", "gain")):
        figure = learned.figures.get(shown)
        if figure is None:
            continue
        drawn = "" if figure.unit == "difference" else terminal.bar(figure.value, BAR_WIDTH)
        style = terminal.ACCENT if name == "learned" else terminal.QUIET
        rows.append(
            [
                name,
                Cell(value_text(figure.value, figure.unit), plain=f"{figure.value:.6f}", style="bold"),
                Cell(value_text(figure.low, figure.unit), plain=f"{figure.low:.6f}", style=terminal.QUIET),
                Cell(value_text(figure.high, figure.unit), plain=f"{figure.high:.6f}", style=terminal.QUIET),
                Cell(drawn, style=style),
            ]
        )
    return rows


def _confused(learned: "Learned") -> list[str]:
    """The classes that stay confused, the most photos first."""
    most = learned.confusions[:CONFUSIONS_SHOWN]
    if not most:
        return []
    pairs = [f"{each.label} for {each.answer} ({each.images} of {each.of})" for each in most]
    more = len(learned.confusions) - len(most)
    return [f"still taken: {', '.join(pairs)}" + (f", and {terminal.count_of(more, 'more pair')}" if more else "")]


def _share(value: float) -> Cell:
    return Cell("-", plain="") if math.isnan(value) else Cell(f"{value:.0%}", plain=f"{value:.6f}")


def _model(source: str) -> str:
    """` --model M` as it loads, which a model's name may not; nothing for the one that ships."""
    from tandem.model import SHIPPED

    return "" if source in (str(SHIPPED), SHIPPED.name) else f" --model {shlex.quote(source)}"
