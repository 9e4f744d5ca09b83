"""CSV for other programs. Every table that a command writes as CSV goes through here.

Spreadsheets compute a cell that begins like a formula, whoever wrote it: a file name, a prompt or a label of a stranger
could send what stands in other cells to a server. Such a text gets an apostrophe in front, which spreadsheets take for
"this is text". Numbers begin with a sign, too, and stay as they are.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_BEGINS_A_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # the wide ones are read likewise where East Asian text is written
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def as_text(value: str) -> str:
    """A text that a spreadsheet does not compute: with an apostrophe in front where it begins like a formula."""
    return f"'{value}" if value.startswith(_BEGINS_A_FORMULA) and not _NUMBER.fullmatch(value) else value


class CsvWriter:
    """Writes rows of plain values to a file that was opened with `newline=""`."""

    def __init__(self, file: TextIO) -> None:
        self._rows = csv.writer(file, lineterminator="\n")

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """One line for each."""
        self._rows.writerows([as_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
