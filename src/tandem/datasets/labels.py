"""Columns of labels and captions in files of rows: which they are, and what their values say."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tandem.datasets.data_files import in_line, shown
from tandem.datasets.rows import Label
from tandem.errors import DataError, did_you_mean
from tandem.samples import CAPTION_KEYS, as_captions

LABEL_COLUMNS = (
    *("label", "labels", "wnid", "class", "classes", "class_name", "category", "categories", "cls", "target"),
    "fine_label",  # CIFAR-100 has coarse ones, too
)


def chosen_label(asked: str | None, columns: Iterable[str], file: Path) -> str | None:
    """The column of labels: the one that is asked for, or the first usual one; None without any."""
    names = list(columns)
    if asked is None:
        return next((name for name in LABEL_COLUMNS if name in names), None)
    _check(asked, names, file, "label")
    return asked


def caption_columns(asked: str | None, columns: Iterable[str], file: Path) -> list[str]:
    """The column of captions that is asked for, or all usual ones: rows may have theirs in any of them."""
    names = list(columns)
    if asked is None:
        return [name for name in CAPTION_KEYS if name in names]
    _check(asked, names, file, "caption")
    return [asked]


def _check(asked: str, names: list[str], file: Path, what: str) -> None:
    if asked not in names:
        raise DataError(
            f"{file}: expected the column {in_line(asked)} for {what}, found {in_line(', '.join(names))}"
            f"{did_you_mean(asked[:100], names)}"
        )


def captions_of(values: Mapping[str, Any], columns: Iterable[str]) -> tuple[str, ...]:
    """The captions of a row: those in the first of the columns that has any."""
    for column in columns:
        texts = tuple(text for text in as_captions(values[column]) if text.strip())
        if texts:
            return texts
    return ()


def as_labels(value: Any, place: str) -> tuple[Label, ...] | None:
    """A value of a column of labels: None for none, several for a list. Raises `DataError` that names the place."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list | tuple):
        if nested := next((each for each in value if isinstance(each, list | tuple)), None):
            raise DataError(f"{place}: expected labels in a list, found the list {shown(nested)} inside it")
        labels = [as_labels(each, place) for each in value]
        return tuple(label for each in labels for label in each or ())
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{place}: expected a label as text or a number, found {shown(value)}")
    if isinstance(value, float):
        if not value.is_integer():
            raise DataError(f"{place}: expected a label as text or a whole number, found {value}")
        return (int(value),)
    return (value.strip(),) if isinstance(value, str) else (value,)
