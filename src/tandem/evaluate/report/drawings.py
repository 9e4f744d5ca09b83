"""Charts of a result: drawn from the tables that `result.py` names, and nothing where a task has no such table."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tandem.evaluate.report import charts
from tandem.evaluate.report.formats import name_text
from tandem.evaluate.report.html import drawing


def few_shot_curve(tables: Mapping[str, Any]) -> str:
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


def sweep_curve(tables: Mapping[str, Any]) -> str:
    """Accuracy by the inverse strength of regularisation."""
    rows = tables.get("sweep")
    if not rows:
        return ""
    points = [charts.Point(row["c"], row["accuracy"]) for row in sorted(rows, key=lambda row: row["c"])]
    drawn = charts.curves([charts.Curve("", points)], x_label="C", y_label="accuracy", logarithmic=True)
    return drawing(drawn, "Accuracy on the images held out for choosing, by the inverse strength of regularisation.")


def calibration_curve(tables: Mapping[str, Any]) -> str:
    """How often answers are right, by the probability that was stated."""
    rows = tables.get("calibration")
    if not rows:
        return ""
    after = tables.get("calibration_after_temperature") or []
    lines = [("as stated", rows), ("after a temperature", after)] if after else [("", rows)]
    drawn = charts.curves(
        [
            charts.Curve(name, [charts.Point(row["confidence"], row["accuracy"]) for row in each])
            for name, each in lines
        ],
        x_label="probability stated",
        y_label="share that was right",
        diagonal=True,
        unit_square=True,
    )
    said = "How often answers are right, by the probability stated; honest answers lie on the dashes."
    if fitted := tables.get("temperature"):
        said += (
            f" Temperatures of {' and '.join(f'{each:.2f}' for each in fitted['of_halves'])}, each fitted on the other "
            f"half of the images, take the log loss from {fitted['log_loss_before']:.3f} to "
            f"{fitted['log_loss_after']:.3f}."
        )
    return drawing(drawn, said)


def recall_curve(tables: Mapping[str, Any]) -> str:
    """Recall by the number of hits that are looked at, in both directions, with chance."""
    rows = tables.get("recall_curve")
    if not rows:
        return ""
    lines: dict[str, list[charts.Point]] = defaultdict(list)
    for row in rows:
        lines[name_text(row["direction"])].append(charts.Point(row["k"], row["value"]))
    for row in rows:
        lines[f"{name_text(row['direction'])}, chance"].append(charts.Point(row["k"], row["chance"]))
    drawn = charts.curves(
        [charts.Curve(name, points) for name, points in lines.items()],
        x_label="hits that are looked at",
        y_label="recall",
        logarithmic=True,
    )
    return drawing(drawn, "How often what was searched for is among the first hits.")


def wise_ft_curve(tables: Mapping[str, Any]) -> str:
    """Accuracy between the model before fine-tuning (0) and after it (1), here and on other data."""
    rows = tables.get("wise_ft")
    if not rows:
        return ""
    lines: dict[str, list[charts.Point]] = defaultdict(list)
    for row in rows:
        for name, each in {"the test images": row["test"], **row["elsewhere"]}.items():
            point = charts.Point(row["alpha"], each["value"], each["low"], each["high"])
            lines[name_text(name)].append(point)
    drawn = charts.curves(
        [charts.Curve(name, points) for name, points in lines.items()], x_label="alpha", y_label="accuracy"
    )
    return drawing(drawn, "Between the model before fine-tuning (alpha 0) and after it (1); bars are 95% intervals.")
