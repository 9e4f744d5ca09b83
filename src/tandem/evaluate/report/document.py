"""A run as one HTML file: for each result its figures, charts, classes and images.

Draws the tables that `result.py` names, where a task has them.
"""

from collections.abc import Sequence

from tandem.datasets.dataset import Dataset
from tandem.evaluate.records import Environment, ModelRecord
from tandem.evaluate.report.drawings import (
    calibration_curve,
    few_shot_curve,
    recall_curve,
    sweep_curve,
    wise_ft_curve,
)
from tandem.evaluate.report.formats import chance_text, name_text, task_text, value_text
from tandem.evaluate.report.html import (
    Html,
    figures_table,
    folded,
    listing,
    page,
    paragraph,
    section,
    side_by_side,
    table,
)
from tandem.evaluate.report.images import images
from tandem.evaluate.report.listings import average_precisions, classes, confusion, draws, favoured_names
from tandem.evaluate.report.markdown import prompts_line, setting
from tandem.evaluate.result import TaskResult

MANY = 16  # figures, of which a curve is easier to read


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
        value, chance = value_text(figure.value, figure.unit), chance_text(figure)
        rows.append((result.dataset.name, task_text(result.task), name_text(name), value, chance, f"{figure.n:,}"))
    return table(("data set", "task", "figure", "value", "chance", "n"), rows, numbers=(3, 4, 5))


def _result(result: TaskResult, dataset: Dataset | None) -> Html:
    data = result.dataset
    described = [f"{data.images:,} images", f"{data.classes:,} classes" if data.classes else ""]
    described += [f"split {data.split}" if data.split else ""]
    tables = result.tables
    settings = [(name_text(name), setting(value)) for name, value in result.settings.items()]
    settings += [("source", data.source), ("hash of the data", data.hash)]
    drawn = side_by_side(
        few_shot_curve(tables),
        sweep_curve(tables),
        calibration_curve(tables),
        recall_curve(tables),
        wise_ft_curve(tables),
    )
    # Where there are many figures, curves say more at first sight.
    parts = (figures_table(result.figures), drawn)
    return section(
        f"{data.name}: {task_text(result.task)}",
        paragraph(", ".join(filter(None, described)), quiet=True),
        paragraph(said, quiet=True) if (said := prompts_line(result)) else "",
        listing(result.notes),
        *(reversed(parts) if len(result.figures) > MANY else parts),
        confusion(tables),
        classes(tables),
        favoured_names(tables),
        average_precisions(tables),
        draws(tables),
        images(result, dataset) if dataset is not None else "",
        folded("Settings", table(("setting", "value"), settings)),
    )


def _measured(model: ModelRecord, environment: Environment, made: str) -> Html:
    return table(("what", "value"), [*model.rows, *environment.rows, ("measured", made)])
