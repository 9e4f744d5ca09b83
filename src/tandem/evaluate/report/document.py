"""A run as one HTML file: for each result its figures, charts, classes and images.

Draws the tables that `result.py` names, where a task has them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tandem.datasets.dataset import Dataset
from tandem.evaluate.records import Environment, ModelRecord
from tandem.evaluate.report import charts
from tandem.evaluate.report.formats import name_text, percent, value_text
from tandem.evaluate.report.html import (
    Html,
    drawing,
    figures_table,
    folded,
    listing,
    page,
    paragraph,
    section,
    side_by_side,
    table,
)
from tandem.evaluate.report.markdown import setting
from tandem.evaluate.report.pictures import pictures
from tandem.evaluate.result import TaskResult

MATRIX = 30  # classes that a drawn confusion matrix has at most
ROWS = 12  # of tables of the worst


def html_report(
    model: ModelRecord,
    environment: Environment,
    made: str,
    results: Sequence[TaskResult],
    datasets: Sequence[Dataset] = (),
) -> Html:
    """The whole page; images are shown for results whose data set is among `datasets`."""
    by_hash = {dataset.hash: dataset for dataset in datasets}
    return page(
        f"{model.name}, evaluated",
        _summary(results) if len(results) > 1 else "",
        *(_result(result, by_hash.get(result.dataset.hash)) for result in results),
        section("How it was measured", _measured(model, environment, made)),
        lead="Every figure stands with its 95% interval, with what guessing would give, and with the number of images "
        "or queries it was counted on.",
    )


def _summary(results: Sequence[TaskResult]) -> Html:
    """A line for each result: the first of its figures."""
    rows = []
    for result in results:
        name, figure = next(iter(result.figures.items()))
        chance = "–" if figure.chance is None else value_text(figure.chance, figure.unit)
        value = value_text(figure.value, figure.unit)
        rows.append((result.dataset.name, name_text(result.task), name_text(name), value, chance, f"{figure.n:,}"))
    return table(("data set", "task", "figure", "value", "chance", "n"), rows, numbers=(3, 4, 5))


def _result(result: TaskResult, dataset: Dataset | None) -> Html:
    data = result.dataset
    described = [f"{data.images:,} images", f"{data.classes:,} classes" if data.classes else ""]
    described += [f"split {data.split}" if data.split else ""]
    tables = result.tables
    settings = [(name_text(name), setting(value)) for name, value in result.settings.items()]
    settings += [("source", data.source), ("hash of the data", data.hash)]
    return section(
        f"{data.name}: {name_text(result.task)}",
        paragraph(", ".join(filter(None, described)), quiet=True),
        listing(result.notes),
        figures_table(result.figures),
        side_by_side(_curve(tables), _sweep(tables), _calibration(tables)),
        _confusion(tables),
        _classes(tables),
        _prior(tables),
        pictures(result, dataset) if dataset is not None else "",
        folded("Settings", table(("setting", "value"), settings)),
    )


def _curve(tables: Mapping[str, Any]) -> str:
    """Accuracy by shots, a line for each method; methods without shots are lines across."""
    rows = tables.get("few_shot")
    if not rows:
        return ""
    lines: dict[str, list[charts.Point]] = defaultdict(list)
    level = None
    for row in rows:
        if row["shots"]:
            lines[row["method"]].append(charts.Point(row["shots"], row["value"], row.get("low"), row.get("high")))
        else:
            level = (name_text(row["method"]), row["value"])
    if not lines:
        return ""
    drawn = charts.curves(
        [charts.Curve(name_text(name), points) for name, points in lines.items()],
        x_label="labelled images a class",
        y_label="accuracy",
        logarithmic=True,
        level=level,
    )
    return drawing(drawn, "Accuracy by the number of labelled images a class; bars are 95% intervals.")


def _sweep(tables: Mapping[str, Any]) -> str:
    rows = tables.get("sweep")
    if not rows:
        return ""
    points = [charts.Point(row["c"], row["accuracy"]) for row in sorted(rows, key=lambda row: row["c"])]
    drawn = charts.curves([charts.Curve("", points)], x_label="C", y_label="accuracy", logarithmic=True)
    return drawing(drawn, "Accuracy on the images held out for choosing, by the inverse strength of regularisation.")


def _calibration(tables: Mapping[str, Any]) -> str:
    rows = tables.get("calibration")
    if not rows:
        return ""
    points = [charts.Point(row["confidence"], row["accuracy"]) for row in rows]
    drawn = charts.curves(
        [charts.Curve("", points)],
        x_label="probability stated",
        y_label="share that was right",
        diagonal=True,
        unit_square=True,
    )
    return drawing(drawn, "How often answers are right, by the probability stated; honest answers lie on the dashes.")


def _confusion(tables: Mapping[str, Any]) -> Html:
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
            "Each row is a class of the data; the darker a cell, the larger its share of that class's images.",
        )
    listed = table(
        ("labelled", "answered", "images", "of the class"), rows, numbers=(2, 3), caption="The most frequent mistakes"
    )
    return section("What is taken for what", drawn, listed, level=3)


def _classes(tables: Mapping[str, Any]) -> Html:
    """The classes with the lowest accuracy, and all of them behind a fold."""
    rows = [row for row in tables.get("per_class") or [] if row["n"]]
    if not rows:
        return Html("")
    rows = sorted(rows, key=lambda row: (row["accuracy"], row["class"]))
    cells = [
        (
            row["class"],
            percent(row["accuracy"]),
            f"{percent(row['low']).removesuffix('%')} to {percent(row['high'])}" if row.get("low") is not None else "",
            f"{row['n']:,}",
            row.get("confused_with") or "",
        )
        for row in rows
    ]
    headings = ("class", "accuracy", "95% interval", "n", "most often taken for")
    rest = folded(f"All {len(rows):,} classes", table(headings, cells, numbers=(1, 2, 3))) if len(rows) > ROWS else ""
    worst = table(headings, cells[:ROWS], numbers=(1, 2, 3))
    return section("Worst classes" if len(rows) > ROWS else "Classes", worst, rest, level=3)


def _prior(tables: Mapping[str, Any]) -> Html:
    """The names that are answered more often than they are true, and less often."""
    rows = tables.get("class_prior")
    if not rows:
        return Html("")
    rows = sorted(rows, key=lambda row: row["true_share"] - row["share"])
    half = ROWS // 2
    shown = rows if len(rows) <= ROWS else rows[:half] + rows[-half:]
    cells = [(row["class"], percent(row["share"]), percent(row["true_share"])) for row in shown]
    return section(
        "Which names are favoured",
        paragraph("The names that are answered too often, and those that are answered too rarely.", quiet=True),
        table(("class", "of the answers", "of the images"), cells, numbers=(1, 2)),
        level=3,
    )


def _measured(model: ModelRecord, environment: Environment, made: str) -> Html:
    rows = [
        ("model", model.name),
        ("fingerprint", model.fingerprint),
        ("source", model.source),
        ("engine", model.engine),
        ("Tandem", environment.tandem),
        ("Python", environment.python),
        *environment.libraries.items(),
        ("machine", environment.machine),
        ("measured", made),
    ]
    return table(("what", "value"), rows)
