"""The figures of a run in a model card, between two markers, and beside it as `evaluation.json`.

The card is a model's README. Its figures are never typed: a test, or whoever releases a model, writes them again and
sees whether anything changed.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tandem.errors import DataError
from tandem.evaluate.figures import Figure
from tandem.evaluate.report.formats import chance_text, interval_text, name_text, value_text
from tandem.evaluate.report.markdown import escape, table
from tandem.evaluate.run_report import RESULT, RunReport, check_format, plain
from tandem.files import json_text, user_path, write_text

BEGIN, END = "<!-- tandem evaluate: figures -->", "<!-- tandem evaluate: end -->"
EVALUATION = "evaluation.json"
# What a card shows of a task: the beginnings of figures' names, in the order of the task.
SHOWN = (
    "top1", "top5", "mean_per_class", "accuracy", "mean_average_precision", "text_to_image_recall",
    "image_to_text_recall", "calibration_error",
)  # fmt: skip
LEFT_OUT = ("top1_ensemble", "calibration_error_after")  # said by another figure


def write_card(report: RunReport, card: str | Path) -> Path:
    """Write a run's figures into a Markdown file, and `evaluation.json` beside it.

    What is between the markers is replaced; a file without them gets a heading and the figures at its end. Raises
    `DataError` where the folder holds another model than the one that was measured.
    """
    path = user_path(card)
    _check_model(report, path.parent)
    document = card_document(report)
    text = path.read_text(encoding="utf-8") if path.exists() else f"# {report.model.name}\n"
    write_text(path.parent / EVALUATION, json_text(document) + "\n")
    write_text(path, refreshed(text, document))
    return path


def card_document(report: RunReport) -> dict[str, Any]:
    """A run without tables and outcomes, and without the paths of the machine that measured it."""
    document: dict[str, Any] = plain(report.as_dict())
    document["model"].pop("source")
    for result in document["results"]:
        for name in ("tables", "outcomes"):
            result.pop(name)
        result["dataset"].pop("source")
    return document


def read_card_document(path: str | Path) -> dict[str, Any]:
    """The `evaluation.json` beside a card. Raises `DataError`."""
    file = Path(path)
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: expected what tandem evaluate card wrote ({error})") from None
    check_format(document, file)
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
    """The table of figures and what it was measured with, as Markdown."""
    rows, notes = [], []
    for result in document["results"]:
        data = result["dataset"]
        for name, figure in _shown(result["figures"]):
            rows.append(
                (
                    f"{data['name']}: {name_text(name)}",
                    value_text(figure.value, figure.unit),
                    interval_text(figure),
                    chance_text(figure),
                    f"{figure.n:,}",
                )
            )
        notes += result["notes"]
    lines = table(("what", "figure", "95% interval", "chance", "n"), rows, numbers=(1, 2, 3, 4))
    lines += ["", *(f"- {escape(note)}" for note in dict.fromkeys(notes))] if notes else []
    model, environment = document["model"], document["environment"]
    lines += [
        "",
        f"Measured with `tandem evaluate` on the weights with the fingerprint `{model['fingerprint'][:12]}` "
        f"({escape(model['engine'])}, Tandem {environment['tandem']}, {document['made'][:10]}); intervals are "
        f"bootstrapped over images. All figures, settings and hashes of the data: [{EVALUATION}]({EVALUATION}).",
    ]
    return "\n".join(lines) + "\n"


def _shown(figures: dict[str, Any]) -> Sequence[tuple[str, Figure]]:
    return [
        (name, Figure.from_dict(figure))
        for name, figure in figures.items()
        if name.startswith(SHOWN) and not name.startswith(LEFT_OUT)
    ]


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
