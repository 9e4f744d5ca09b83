"""The rows of the table: what is shown, what the first edition had, what the second aims at. Knows no model.

A figure is one number or two (both directions of retrieval), with what guessing gives; `Found` is that of a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["percent", "points", "area", "photos", "images/s", "s", "MB"]


@dataclass(frozen=True)
class Row:
    """One line of the table. `first` is what was published of the first edition, on test where there is one."""

    key: str
    what: str
    unit: Unit
    first: str
    aim: str  # of the second edition, trained on CPUs


@dataclass(frozen=True)
class Found:
    """A model's figures in one row: shares as 0..1, other units as they are shown."""

    values: tuple[float, ...]
    chance: tuple[float, ...] = ()


ROWS = (
    Row("seen", "Tiny-ImageNet val top-1, one template (seen classes)", "percent", "42.2%", "46%"),
    Row("ensemble", "the ensemble against one template, points", "points", "-1.8", "0 or better"),
    Row(
        "recall@10", "Flickr8k {split} recall@10, text to image / image to text", "percent", "32.1 / 34.2%", "36 / 38%"
    ),
    Row("recall@1", "Flickr8k {split} recall@1, text to image / image to text", "percent", "7.5 / 8.5%", "9.5 / 10.5%"),
    Row(
        "kept",
        "kept twentieth of `broad`, labels of its source (first edition: sources unseen)",
        "percent",
        "16%",
        "45%",
    ),
    Row("hub", "ten balanced everyday words, 32 pixels: share of the most answered", "percent", "55%", "25%"),
    Row("photos", "demo photos right, labels of the demo", "photos", "4 of 6", "6 of 6"),
    Row("presence", "words present or absent among 100 pictures, area", "area", "0.56", "0.65"),
    Row("speed", "images/s, float32, 2 cores", "images/s", "", "150 at least"),
    Row("cold", "`tandem classify` of one photo, whole process", "s", "", "0.6 s at most"),
    Row("size", "weights in float16", "MB", "11.4 MB", "24 MB at most"),
)


def shown(unit: Unit, found: Found | None) -> str:
    """Figures as the table has them; nothing where a model was not measured."""
    return "" if found is None else _shown(unit, found.values)


def chance_of(unit: Unit, found: Found | None) -> str:
    return "" if found is None or not found.chance else _shown(unit, found.chance)


def _shown(unit: Unit, values: Sequence[float]) -> str:
    match unit:
        case "percent":
            return " / ".join(f"{100 * value:.1f}" for value in values) + "%"
        case "points":
            return f"{100 * values[0]:+.2f}"
        case "area":
            return f"{values[0]:.3f}"
        case "photos":
            return f"{values[0]:g} of {values[1]:g}"
        case "images/s":
            return f"{values[0]:.0f}"
        case "s":
            return f"{values[0]:.2f} s"
        case "MB":
            return f"{values[0]:.1f} MB"


def main_table(columns: Mapping[str, Mapping[str, Found]], split: str) -> list[str]:
    """Markdown of the rows that were measured, a column for each model; readable in a terminal, too."""
    rows = [["what", *columns, "first edition", "aim", "chance"]]
    for row in ROWS:
        found = [figures.get(row.key) for figures in columns.values()]
        if any(found):
            what = row.what.format(split=split)
            first = f"{row.first} (test)" if split != "test" and "{split}" in row.what else row.first
            chances = list(dict.fromkeys(filter(None, (chance_of(row.unit, each) for each in found))))
            rows.append([what, *(shown(row.unit, each) for each in found), first, row.aim, " or ".join(chances)])
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown, the first row its head, in columns of one width."""
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
