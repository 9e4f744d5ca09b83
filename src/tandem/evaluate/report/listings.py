"""What a result says of its classes: mistakes, the worst classes, names that are favoured.

Made from the tables that `result.py` names, and empty where a task has no such table.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tandem.evaluate.report import charts
from tandem.evaluate.report.formats import name_text, percent
from tandem.evaluate.report.html import Html, drawing, folded, paragraph, section, table

MATRIX = 30  # classes that a drawn confusion matrix has at most
ROWS = 12  # of tables of the worst


def confusion(tables: Mapping[str, Any]) -> Html:
    """The matrix where it can be read, and the mistakes that were made most often."""
    cells, names = tables.get("confusion"), tables.get("classes")
    if not cells or not names:
        return Html("")
    of_class: dict[int, int] = defaultdict(int)
    for true, _, count in cells:
        of_class[true] += count
    wrong = sorted(((count, true, answer) for true, answer, count in cells if true != answer), reverse=True)[:ROWS]
    rows = [
        (names[true], names[answer], f"{count:,}", percent(count / of_class[true])) for count, true, answer in wrong
    ]
    drawn: str = ""
    if 2 <= len(names) <= MATRIX:
        shares = [[0.0] * len(names) for _ in names]
        for true, answer, count in cells:
            shares[true][answer] = count / of_class[true]
        drawn = drawing(
            charts.matrix(shares, names, rows="labelled", columns="answered"),
            "Each row is a class of the data; the stronger a cell's colour, the larger its share of that row.",
        )
    listed = table(
        ("labelled", "answered", "images", "of the class"), rows, numbers=(2, 3), caption="The most frequent mistakes"
    )
    return section("What is taken for what", drawn, listed, level=3)


def classes(tables: Mapping[str, Any]) -> Html:
    """The classes with the lowest accuracy, and all of them behind a fold."""
    rows = [row for row in tables.get("per_class") or [] if row["n"]]
    if not rows:
        return Html("")
    rows = sorted(rows, key=lambda row: (row["accuracy"], row["class"]))
    cells = [
        (
            row["class"],
            percent(row["accuracy"]),
            _between(row),
            f"{row['n']:,}",
            row.get("confused_with") or "",
        )
        for row in rows
    ]
    headings = ("class", "accuracy", "95% interval", "n", "most often taken for")
    rest = folded(f"All {len(rows):,} classes", table(headings, cells, numbers=(1, 2, 3))) if len(rows) > ROWS else ""
    worst = table(headings, cells[:ROWS], numbers=(1, 2, 3))
    return section("Worst classes" if len(rows) > ROWS else "Classes", worst, rest, level=3)


def favoured_names(tables: Mapping[str, Any]) -> Html:
    """The names that are answered more often than they are true, and less often."""
    rows = tables.get("class_prior")
    if not rows:
        return Html("")
    rows = sorted(rows, key=lambda row: row["true_share"] - row["share"])
    half = ROWS // 2
    shown = rows if len(rows) <= ROWS else rows[:half] + rows[-half:]
    cells = [
        (row["class"], percent(row["share"]), percent(row["true_share"]), _share(row.get("share_after_correction")))
        for row in shown
    ]
    return section(
        "Which names are favoured",
        *([paragraph(_distance(tables["class_prior_distance"]))] if "class_prior_distance" in tables else []),
        paragraph("The names that are answered too often, and those that are answered too rarely.", quiet=True),
        table(("class", "of the answers", "of the images", "of the answers, corrected"), cells, numbers=(1, 2, 3)),
        level=3,
    )


def _share(share: float | None) -> str:
    return "–" if share is None else percent(share)


def _distance(distance: Mapping[str, float]) -> str:
    after = distance.get("after_correction")
    text = (
        f"{percent(distance['plain'])} of the answers would have to be others for each name to be answered as often "
        "as it occurs"
    )
    return f"{text}; after correcting for it, {percent(after)}." if after is not None else f"{text}."


def average_precisions(tables: Mapping[str, Any]) -> Html:
    """Labels that do not compete: the average precision of each, the lowest first."""
    rows = tables.get("average_precision")
    if not rows:
        return Html("")
    cells = [
        (row["class"], percent(row["value"]), _between(row), percent(row["chance"]), f"{row['n']:,}")
        for row in sorted(rows, key=lambda row: (row["value"], row["class"]))
    ]
    headings = ("label", "average precision", "95% interval", "chance", "images with it")
    lowest = table(headings, cells[:ROWS], numbers=(1, 2, 3, 4))
    rest = folded(f"All {len(cells):,} labels", table(headings, cells, numbers=(1, 2, 3, 4)))
    return section("Labels that are found worst", lowest, rest if len(cells) > ROWS else "", level=3)


def draws(tables: Mapping[str, Any]) -> Html:
    """How far the draws of labelled images lie apart, for each method and number of shots."""
    rows = [row for row in tables.get("few_shot") or [] if len(row.get("of_draws", ())) > 1]
    if not rows:
        return Html("")
    cells = [
        (
            name_text(row["method"]),
            f"{row['shots']:,}",
            f"{row['draws']:,}",
            *(percent(share) for share in (min(row["of_draws"]), row["value"], max(row["of_draws"]))),
        )
        for row in rows
    ]
    headings = ("method", "shots", "draws", "lowest", "mean", "highest")
    return folded("The draws of labelled images", table(headings, cells, numbers=(1, 2, 3, 4, 5)))


def _between(row: Mapping[str, Any]) -> str:
    if row.get("low") is None:
        return ""
    return f"{percent(row['low']).removesuffix('%')} to {percent(row['high'])}"
