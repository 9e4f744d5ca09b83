"""The figures of a run in a model card, between two markers, and beside it as `evaluation.json`.

The card is a model's README. Its figures are never typed: a test, or whoever releases a model, writes them again and
sees whether anything changed.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tandem.errors import DataError
from tandem.evaluate.figures import Figure
from tandem.evaluate.report.formats import chance_text, interval_text, name_text, task_text, value_text
from tandem.evaluate.report.markdown import escape, setting, table
from tandem.evaluate.run_report import RunReport, plain
from tandem.evaluate.stored_run import RESULT
from tandem.files import json_text, user_path, write_text

BEGIN, END = "<!-- tandem evaluate: figures -->", "<!-- tandem evaluate: end -->"
EVALUATION = "evaluation.json"
# What a card shows of a task, in the order of the task; all else is in `evaluation.json`.
SHOWN = re.compile(
    r"top1|top5|top1_ensemble|top1_prior_corrected|mean_average_precision|calibration_error|(text_to_image|image_to_text)_recall@\d+"
    r"|accuracy|zero_shot.*|.*top1|.*_\d+_shots?"
)
LEFT_OUT = ("top1_one_prompt",)  # top1 itself, where no templates were asked for


def write_card(report: RunReport, card: str | Path) -> Path:
    """Write a run's figures into a Markdown file, and `evaluation.json` beside it.

    What is between the markers is replaced; a file without them gets a heading and the figures at its end. Raises
    `DataError` where the folder holds another model than the one that was measured.
    """
    path = user_path(card)
    _check_model(report, path.parent)
    document = card_document(report)
    text = _text(path) if path.exists() else f"# {report.model.name}\n"
    write_text(path.parent / EVALUATION, json_text(document, indent=None) + "\n")
    write_text(path, refreshed(text, document))
    return path


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: expected a Markdown file for the figures")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected a Markdown file for the figures; this is no UTF-8 text") from None


def card_document(report: RunReport) -> dict[str, Any]:
    """A run without tables and outcomes, long lists, and the paths of the machine that measured it."""
    document: dict[str, Any] = plain(report.as_dict())
    document["model"].pop("source")
    for result in document["results"]:
        for name in ("tables", "outcomes"):
            result.pop(name)
        result["dataset"].pop("source")
        long = {name for name, value in result["settings"].items() if isinstance(value, list) and len(value) > 4}
        result["settings"] |= {name: setting(result["settings"][name]) for name in long}
    return document


def refreshed(text: str, document: dict[str, Any]) -> str:
    """A card with the figures of `card_document` between its markers. Raises `DataError` for a lone marker."""
    block = f"{BEGIN}\n\n{card_figures(document)}\n{END}"
    if (BEGIN in text) != (END in text):
        raise DataError(f"the card has only one of the two markers {BEGIN} and {END}")
    if BEGIN not in text:
        return f"{text.rstrip()}\n\n## Figures\n\n{block}\n"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block, text, count=1, flags=re.DOTALL)


def card_figures(document: dict[str, Any]) -> str:
    """A table of figures for each task, and what they were measured with, as Markdown."""
    results = document["results"]
    lines: list[str] = []
    for task in dict.fromkeys(result["task"] for result in results):
        lines += [*_task_table(task, [result for result in results if result["task"] == task]), ""]
    lines += ["In brackets: the 95% interval, and what guessing would give.", ""]
    notes = dict.fromkeys(note for result in results for note in result["notes"])
    lines += [*(f"- {escape(note)}" for note in notes), ""] if notes else []
    model, environment = document["model"], document["environment"]
    lines.append(
        f"Measured with `tandem evaluate` on the weights with the fingerprint `{model['fingerprint'][:12]}` "
        f"({escape(model['engine'])}, Tandem {environment['tandem']}, {document['made'][:10]}). All figures, settings "
        f"and hashes of the data: [{EVALUATION}]({EVALUATION})."
    )
    return "\n".join(lines) + "\n"


def _task_table(task: str, results: Sequence[dict[str, Any]]) -> list[str]:
    """Data sets below one another, figures beside one another; the other way round where there are more figures."""
    named = [f"{result['dataset']['name']} ({result['dataset']['images']:,} images)" for result in results]
    figures = [
        {name: Figure.from_dict(each) for name, each in result["figures"].items() if _is_shown(name)}
        for result in results
    ]
    names = list(dict.fromkeys(name for each in figures for name in each))
    cells = [[_cell(each[name]) if name in each else "" for name in names] for each in figures]
    if len(names) > len(results):
        rows = [[name_text(name), *column] for name, column in zip(names, zip(*cells, strict=True), strict=True)]
        return table([task_text(task), *map(escape, named)], rows, numbers=range(1, len(named) + 1))
    rows = [[name, *row] for name, row in zip(named, cells, strict=True)]
    return table([task_text(task), *map(name_text, names)], rows, numbers=range(1, len(names) + 1))


def _is_shown(name: str) -> bool:
    return SHOWN.fullmatch(name) is not None and name not in LEFT_OUT


def _cell(figure: Figure) -> str:
    """`57.9% (54.0 to 61.9%; 16.7%)`."""
    chance = f"; {chance_text(figure)}" if figure.chance else ""
    return f"{value_text(figure.value, figure.unit)} ({interval_text(figure)}{chance})"


def _check_model(report: RunReport, folder: Path) -> None:
    """Refuse to put figures beside a model that they were not measured on."""
    if not (folder / "config.json").is_file():
        return
    from tandem import weights

    fingerprint = weights.fingerprint(weights.read(folder))
    if fingerprint != report.model.fingerprint:
        raise DataError(
            f"{folder}: holds another model (fingerprint {fingerprint[:12]}) than the one that {RESULT} is about "
            f"({report.model.fingerprint[:12]}): measure this one"
        )
