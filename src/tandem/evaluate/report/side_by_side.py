"""A comparison of runs as Markdown, and as plain values for JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tandem.evaluate.comparison import ComparedFigure, ComparedTask, Comparison, Difference
from tandem.evaluate.report.formats import interval_text, name_text, task_text, value_text
from tandem.evaluate.report.markdown import escape, setting, table

HEADINGS = ("", "run", "value", "against the first", "95% interval", "p", "verdict")


def comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    """Plain values; figures as `Figure.as_dict` gives them."""
    return {
        "runs": [
            {"run": run, "model": model, "fingerprint": fingerprint}
            for run, model, fingerprint in zip(comparison.runs, comparison.models, comparison.fingerprints, strict=True)
        ],
        "tasks": [
            {
                "task": task.task,
                "dataset": task.dataset,
                "images": task.images,
                "settings_that_differ": {name: list(values) for name, values in task.settings.items()},
                "figures": [_figure_as_dict(figure) for figure in task.figures],
            }
            for task in comparison.tasks
        ],
        "notes": list(comparison.notes),
    }


def _figure_as_dict(figure: ComparedFigure) -> dict[str, Any]:
    others = [
        asdict(other)
        | {
            "value": other.value.as_dict(),
            "difference": None if other.difference is None else other.difference.as_dict(),
        }
        for other in figure.others
    ]
    return {"name": figure.name, "first": figure.first.as_dict(), "others": others}


def comparison_markdown(comparison: Comparison) -> str:
    """A table for each task on each data set."""
    lines = [f"# {escape(' against '.join(reversed(comparison.runs)))}", ""]
    lines += [
        f"- {escape(run)}: {escape(model)}, fingerprint {fingerprint[:12]}"
        for run, model, fingerprint in zip(comparison.runs, comparison.models, comparison.fingerprints, strict=True)
    ]
    for task in comparison.tasks:
        lines += ["", f"## {escape(heading(task))}", ""]
        lines += table(HEADINGS, rows(comparison, task), numbers=(2, 3, 4, 5))
        lines += ["", *(f"- {escape(line)}" for line in differing(task))] if task.settings else []
    lines += ["", *(f"- {escape(note)}" for note in comparison.notes)] if comparison.notes else []
    return "\n".join([*lines, "", HOW]) + "\n"


HOW = (
    "Intervals: paired bootstrap over images. p: McNemar's exact test where an answer is right or wrong, else a "
    "sign-flip test; with several runs, corrected by Holm's method. A difference is shown where p is below 0.05 and "
    "the interval excludes 0. Figures that are no mean over images are not tested."
)


def heading(task: ComparedTask) -> str:
    """`pets: zero-shot, 3,669 images`."""
    return f"{task.dataset}: {task_text(task.task)}, {task.images:,} images"


def differing(task: ComparedTask) -> list[str]:
    """A line for each setting that is not the same in all runs."""
    return [
        f"{name_text(name)} differs: {' against '.join(map(setting, values))}" for name, values in task.settings.items()
    ]


def rows(comparison: Comparison, task: ComparedTask) -> Iterator[tuple[str, ...]]:
    """A row for each figure of each run, the first run's before the others'."""
    for figure in task.figures:
        first = figure.first
        yield (name_text(figure.name), comparison.runs[0], value_text(first.value, first.unit), "", "", "", "")
        for run, other in zip(comparison.runs[1:], figure.others, strict=True):
            yield ("", run, value_text(other.value.value, other.value.unit), *_tested(other))


def _tested(other: Difference) -> tuple[str, str, str, str]:
    if other.difference is None or other.p_corrected is None:
        return "", "", "", other.verdict
    p = f"{other.p_corrected:.3f}" if other.p_corrected >= 0.001 else "<0.001"
    unit = other.difference.unit
    change = other.difference.value
    text = value_text(change, unit) if unit == "difference" else f"{change:+.3g}"
    return text, interval_text(other.difference), p, other.verdict
