"""Tables and progress: they fit any terminal, the least important column goes first, and pipes get all of it."""

import io
import sys

import pytest
from rich.cells import cell_len

from tandem.cli.progress import state_of
from tandem.cli.tables import Cell, Column, fit, print_table
from tandem.search.indexing.progress import IndexingProgress

NUMBER, DRAWING = Column("n", right=True), Column("", for_people=True, drop=2)
EXTRA, PATH = Column("extra", drop=1), Column("path", least=8, keep_end=True)
COLUMNS = (NUMBER, DRAWING, EXTRA, PATH)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(columns: int, rows: list[tuple[Cell | str, ...]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    out = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", out)
    print_table(COLUMNS, rows)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (60, [3, 10, 7, 20]),  # all as wide as they are
        (40, [3, 10, 7, 14]),  # the path is cut
        (33, [3, None, 7, 19]),  # the drawing goes first
        (22, [3, None, 7, 8]),
        (16, [3, None, None, 11]),  # then what is said to go next
        (8, [3, None, None, 3]),  # and the rest is cut further than is good
    ],
)
def test_where_there_is_little_room(width: int, expected: list[int | None]) -> None:
    assert fit(COLUMNS, [3, 10, 7, 20], width) == expected


def test_several_columns_share_what_is_left() -> None:
    columns = (Column("a", least=4), Column("b", least=4), Column("c", least=4))
    assert fit(columns, [5, 40, 40], 40) == [5, 15, 16]
    assert fit(columns, [40, 40, 40], 16) == [4, 4, 4]


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_no_line_is_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        (str(n), Cell("█" * 10), "值" * 6, f"/長い/フォルダ/{'名前' * n}/photo-{n}.jpg\x1b[31m\n") for n in range(1, 12)
    ]
    lines = shown(columns, rows, monkeypatch)
    assert len(lines) == 12
    assert max(map(cell_len, lines)) <= columns
    assert all(line.endswith(r"m\n") for line in lines[1:])  # the end of a path is what tells it apart
    assert lines[0].split()[0] == "n"
    assert [line.split()[0] for line in lines[1:]] == [str(n) for n in range(1, 12)]


def test_numbers_stand_right(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(80, [("5", "", "", "x"), ("1,000", "", "", "y")], monkeypatch)
    assert [line[:5] for line in lines] == ["    n", "    5", "1,000"]


def test_piped_values_have_tabs_between_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "/folder" * 60 + "/a\tb\nc.jpg"
    print_table(COLUMNS, [(Cell("12%", plain="0.1234"), Cell("███"), "猫", long)])
    assert capsys.readouterr().out == "0.1234\t猫\t" + "/folder" * 60 + r"/a\tb\nc.jpg" + "\n"


def test_a_table_without_rows_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (80, "12,345 of 100,000, 99.9/s, 1:02:03 left, 7 skipped"),
        (40, "12,345 of 100,000, 1:02:03 left"),
        (45, "12,345 of 100,000, 1:02:03 left, 7 skipped"),
        (20, "12,345 of 100,000"),
    ],
)
def test_progress_text_fits(width: int, expected: str) -> None:
    progress = IndexingProgress(12_345, 100_000, 100_000, 7, 60.0, 9.99, 3723.0)
    assert state_of(progress, width) == expected.replace("99.9/s", "10.0/s")
