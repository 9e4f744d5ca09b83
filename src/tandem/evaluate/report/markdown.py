"""A run, or a comparison of runs, as Markdown: tables of figures that read well in a terminal, too."""

import json
import re
from collections.abc import Iterable, Sequence

from tandem.evaluate.records import Environment, ModelRecord
from tandem.evaluate.report.formats import (
    FIGURE_HEADINGS,
    figure_row,
    name_text,
    task_text,
)
from tandem.evaluate.result import TaskResult
from tandem.files import display_name

# What would end a cell, begin markup, or make a link of a name; line ends would end the row.
_MARKUP = re.compile(r"([\\`*_\[\]<>|#&~!])")


def markdown_report(model: ModelRecord, environment: Environment, made: str, results: Sequence[TaskResult]) -> str:
    """All figures of a run, with what they were measured with."""
    lines = [f"# {escape(model.name)}, evaluated", "", describe(model, environment, made)]
    for result in results:
        lines += ["", f"## {title(result)}", "", data_line(result), ""]
        if said := prompts_line(result):
            lines += [escape(said), ""]
        lines += table(FIGURE_HEADINGS, figure_rows(result), numbers=(1, 2, 3, 4))
        lines += ["", *(f"- {escape(note)}" for note in result.notes)] if result.notes else []
        lines += ["", f"Settings: {settings_text(result)}"]
    return "\n".join(lines) + "\n"


def describe(model: ModelRecord, environment: Environment, made: str) -> str:
    """What measured, in a line."""
    libraries = ", ".join(f"{name} {version}" for name, version in environment.libraries.items())
    return escape(
        f"Fingerprint {model.fingerprint[:12]}, {model.engine}; Tandem {environment.tandem}, "
        f"Python {environment.python}, {libraries}; {environment.machine}; {made}."
    )


def title(result: TaskResult) -> str:
    """`pets: zero-shot`."""
    return escape(f"{result.dataset.name}: {task_text(result.task)}")


def data_line(result: TaskResult) -> str:
    """The data set in a line."""
    data = result.dataset
    parts = [f"{data.images:,} images", f"{data.classes:,} classes" if data.classes else ""]
    parts += [f"split {data.split}" if data.split else "", f"hash {data.hash[:12]}"]
    return escape(", ".join(filter(None, parts)))


def prompts_line(result: TaskResult) -> str:
    """`prompts: a photo of a {}.`: what the classes' names are filled into; empty for a task without."""
    templates = result.settings.get("templates")
    return prompts_text(templates) if templates else ""


def prompts_text(templates: Sequence[str]) -> str:
    """Templates in a line; of many the first three, and how many there are."""
    return f"prompts: {setting(templates)}"


def figure_rows(result: TaskResult) -> list[tuple[str, ...]]:
    """A row for each figure."""
    return [figure_row(name, each) for name, each in result.figures.items()]


def settings_text(result: TaskResult) -> str:
    """Settings as `name value; ...`."""
    return escape("; ".join(f"{name_text(name)} {setting(value)}" for name, value in result.settings.items()))


def setting(value: object) -> str:
    """A setting's value in a few words: long lists are cut, and counted."""
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"{', '.join(map(setting, value[:3]))}, ... ({len(value)} in all)"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value))
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> list[str]:
    """The lines of a table; columns at `numbers` are aligned to the right."""
    marks = ("---:" if at in numbers else "---" for at in range(len(headings)))
    lines = [_row(headings), f"|{'|'.join(marks)}|"]
    return lines + [_row(map(escape, row)) for row in rows]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text on one line, without markup: `*` and its kin are spelled with a backslash."""
    shown = display_name(" ".join(text.split()))
    return _MARKUP.sub(r"\\\1", shown)
