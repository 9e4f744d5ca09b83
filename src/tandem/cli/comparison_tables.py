"""A comparison of runs as tables of the terminal."""

from tandem.cli import terminal
from tandem.cli.tables import Column, print_table
from tandem.evaluate.comparison import Comparison
from tandem.evaluate.report.side_by_side import HOW, differing, heading, rows

# The interval and p make the verdict; the difference itself can be read off the values.
COMPARED = (
    Column("figure", least=6),
    Column("run", least=4, keep_end=True),
    Column("value", right=True, drop=1),
    Column("against the first", right=True, drop=3),
    Column("difference, 95%", right=True),
    Column("p", right=True, drop=2),
    Column("verdict"),
)


def print_comparison(comparison: Comparison) -> None:
    """A table for each task on each data set, and how it was tested."""
    for task in comparison.tasks:
        terminal.print_lines(terminal.line(heading(task)))
        print_table(COMPARED, list(rows(comparison, task)))
        for line in differing(task):
            terminal.print_lines(terminal.line(line))
        terminal.print_lines()
    for note in comparison.notes:
        terminal.print_lines(terminal.line(note))
    terminal.echo(HOW)
