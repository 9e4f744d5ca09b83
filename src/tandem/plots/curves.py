"""The curves of training runs, one panel a subject, several runs over one another.

Knows names, steps and numbers; the caller passes them in. Lengths are inches.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tandem.errors import DataError
from tandem.plots.page import FOOT, INK, MARGIN, QUIET, TRACK, Page, Target, short

PANEL_WIDTH, PANEL_HEIGHT, GAP = 4.6, 2.5, 0.75
HEADING = 0.45
COLORS = ("#0f7b6c", "#c2571a", "#2f6fb0", "#b03a5b", "#7f8f24", "#7d54b3", "#c08a1e", "#2590a8")
# Subjects with columns of their own; what is measured gets a panel each, what is left over is a part of the loss.
SUBJECTS = {
    "gradient_norm": "norm of the gradient",
    "learning_rate": "learning rate",
    "scale": "factor of the logits",
    "pairs_per_s": "pairs a second",
    "wait": "share of the time waiting for data",
    "memory_gb": "memory, GB",
}
_SILENT = {"step", "image_size"}
_SMOOTHED = 25  # points of a running mean, where a curve has several times as many


class Run(NamedTuple):
    """A run: its name, and for each column its points (step, value)."""

    name: str
    series: Mapping[str, Sequence[tuple[int, float]]]


def draw_curves(runs: Sequence[Run], path: Target, *, measures: Sequence[str] = ()) -> Target:
    """One panel for the loss, one for each measure, one for each figure of the work. Writes `path`.

    Columns whose names end with one of `measures` are measures.

    Raises `DataError` where no run has a point.
    """
    names = list(dict.fromkeys(name for run in runs for name, points in run.series.items() if points))
    names = [name for name in names if name not in _SILENT]
    measured = [name for name in names if name.endswith(tuple(measures))]
    parts = [name for name in names if name not in (*SUBJECTS, *measured)]
    if not names:
        raise DataError(f"{', '.join(run.name for run in runs)}: nothing to draw: the curve has no line yet")
    panels: list[tuple[str, list[str]]] = [("loss", parts)] if parts else []
    panels += [(measure.replace("_", " "), [measure]) for measure in measured]
    panels += [(title, [name]) for name, title in SUBJECTS.items() if name in names]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    width = columns * PANEL_WIDTH + (columns - 1) * GAP + 2 * MARGIN + 0.4
    page = Page(width, HEADING + rows * (PANEL_HEIGHT + GAP) + FOOT + MARGIN)
    page.text(MARGIN, MARGIN, short(", ".join(run.name for run in runs), 100), size=14, weight="bold")
    for i, (title, drawn) in enumerate(panels):
        left = MARGIN + 0.4 + (i % columns) * (PANEL_WIDTH + GAP)
        top = HEADING + MARGIN + (i // columns) * (PANEL_HEIGHT + GAP) + 0.15
        _panel(page.axes(left, top, PANEL_WIDTH, PANEL_HEIGHT), title, drawn, runs)
    page.foot("by step; thin: as it was written, thick: a running mean", "tandem train --plot")
    return page.finish(path)


def _panel(axes: Any, title: str, names: Sequence[str], runs: Sequence[Run]) -> None:
    """Runs differ by colour; where there is one run, the parts of the loss do."""
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    number = 0
    for run in runs:
        for name in names:
            points = run.series.get(name, ())
            if not points:
                continue
            color = COLORS[number % len(COLORS)]
            number += 1
            label = name if len(runs) == 1 else run.name if len(names) == 1 else f"{run.name}: {name}"
            steps, values = zip(*points, strict=True)
            rough = len(points) >= 4 * _SMOOTHED
            axes.plot(
                steps, values, color=color, linewidth=0.6, alpha=0.35 if rough else 1, label="" if rough else label,
                marker="o" if len(points) < 30 else None, markersize=2.5,
            )  # fmt: skip
            if rough:
                axes.plot(steps, _running_mean(values), color=color, linewidth=1.6, label=label)
    if title in ("norm of the gradient",):
        axes.set_yscale("log")
    if number > 1:
        axes.legend(fontsize=7, frameon=False)
    axes.tick_params(which="both", labelsize=7, colors=QUIET)
    axes.grid(color=TRACK)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_edgecolor(TRACK)


def _running_mean(values: Sequence[float]) -> list[float]:
    """The mean of the last `_SMOOTHED` values, or of as many as there are."""
    return [sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i + 1 - _SMOOTHED) : i + 1])]
