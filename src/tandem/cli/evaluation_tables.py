"""Figures of an evaluation as tables of the terminal."""

import sys
from collections.abc import Sequence

from tandem.cli import terminal
from tandem.cli.tables import Column, print_table
from tandem.evaluate.figures import Figure
from tandem.evaluate.report.formats import figure_row, task_text
from tandem.evaluate.report.markdown import prompts_line
from tandem.evaluate.result import TaskResult

FIGURES = (
    Column("figure", least=16),
    Column("value", right=True),
    Column("95% interval", right=True),
    Column("chance", right=True),
    Column("n", right=True, drop=1),
)
SUMMARY = (Column("data set", least=8), Column("task", drop=2), FIGURES[0]._replace(least=10), *FIGURES[1:])


def print_results(results: Sequence[TaskResult]) -> None:
    """All figures of a run; in a pipe one line each with plain numbers."""
    if not sys.stdout.isatty():
        for said in dict.fromkeys(filter(None, map(prompts_line, results))):
            terminal.echo(said)
        for result in results:
            for name, figure in result.figures.items():
                terminal.print_lines(
                    "\t".join((terminal.line(result.dataset.name), result.task, name, *_numbers(figure)))
                )
        return
    for result in results:
        terminal.print_lines(terminal.line(f"{result.dataset.name}: {task_text(result.task)}, {described(result)}"))
        if said := prompts_line(result):
            terminal.print_lines(terminal.line(said))
        print_table(FIGURES, [figure_row(name, figure) for name, figure in result.figures.items()])
        terminal.print_lines()
    if len(results) > 1:
        heads = ((result, *next(iter(result.figures.items()))) for result in results)
        print_table(
            SUMMARY,
            [(result.dataset.name, task_text(result.task), *figure_row(name, each)) for result, name, each in heads],
        )


def described(result: TaskResult) -> str:
    """`570 photos, 6 classes`."""
    data = result.dataset
    classes = f", {terminal.count_of(data.classes, 'class', 'classes')}" if data.classes else ""
    return f"{terminal.count_of(data.images)}{classes}"


def _numbers(figure: Figure) -> list[str]:
    """Value, both ends of the interval, chance (empty where it means nothing), n."""
    chance = "" if figure.chance is None else f"{figure.chance:.6g}"
    return [*(f"{value:.6g}" for value in (figure.value, figure.low, figure.high)), chance, str(figure.n)]
