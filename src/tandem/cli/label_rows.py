"""The rows of `tandem label`, for --json, files and the terminal."""

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tandem.cli import progress, terminal
from tandem.cli.classify_view import NAME_CELLS, line_printer
from tandem.cli.row_files import RowFile
from tandem.cli.tables import Cell, Column, print_table, tab_separated
from tandem.scores.scoring import ScoringKind, digits, percent
from tandem.search.labelling import LabelBlock, LabelledImage, with_paths
from tandem.search.stores.protocol import Store
from tandem.videos.naming import shown

BAR_WIDTH = 10
COUNTS_SHOWN = 30  # labels
FILE_COLUMNS = {"label": str, "rank": int, "id": str, "path": str, "probability": float, "score": float}
BY_LABEL = (
    Column("label", least=8),
    Column("probability", right=True),
    Column("", for_people=True, drop=2),
    Column("cosine", right=True, drop=1),
    Column("photo", least=12, keep_end=True),
)
BY_IMAGE = (Column("photo"), Column("label"), Column("probability"))
COUNTS = (Column("label", least=8), Column("photos", right=True), Column("", for_people=True, drop=1))

Show = Callable[[LabelBlock], None]


# --- the photos of every label -------------------------------------------------------------------------------------


def by_label(
    store: Store, labels: Sequence[str], best: list[list[LabelledImage]], target: Path | None
) -> list[dict[str, Any]]:
    """For each label its photos, as --json prints them; written to `target` too."""
    found = [
        {
            "label": label,
            "images": [
                {
                    "id": image.id,
                    "path": image.path,
                    "probability": float(digits(image.probability)),
                    "score": round(image.score, 6),
                }
                for image in row
            ],
        }
        for label, row in zip(labels, with_paths(store, best), strict=True)
    ]
    if target:
        with RowFile(target, FILE_COLUMNS) as file:
            for each in found:
                file.add((each["label"], rank, *image.values()) for rank, image in enumerate(images_of(each), start=1))
    return found


def images_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The photos of one label, best first."""
    images: list[dict[str, Any]] = found["images"]
    return images


def show_labels(found: Sequence[dict[str, Any]], scoring: ScoringKind = "softmax") -> None:
    """A line for each photo; for people, its label once."""
    columns = [column._replace(heading="logit") if column.heading == "cosine" else column for column in BY_LABEL]
    rows = []
    for each in found:
        for rank, image in enumerate(images_of(each)):
            probability, style = image["probability"], terminal.ACCENT if rank == 0 else terminal.QUIET
            rows.append((
                Cell(each["label"] if rank == 0 else "", plain=each["label"]),
                Cell(percent(probability), plain=digits(probability)),
                Cell(terminal.bar(probability, BAR_WIDTH), style=style),
                Cell(f"{image['score']:.3f}", plain=f"{image['score']:.6f}"),
                Cell(shown(image["path"]), plain=image["path"]),
            ))  # fmt: skip
    print_table(columns if scoring == "head" else BY_LABEL, rows)


# --- the labels of every photo -------------------------------------------------------------------------------------


def by_image(
    parts: Iterator[LabelBlock],
    labels: Sequence[str],
    total: int,
    target: Path | None,
    scoring: ScoringKind,
    *,
    json: bool,
) -> dict[str, Any]:
    """Every photo with its labels: written to `target`, else collected for --json, else printed as it comes.

    Returns what --json prints; with a target, the number of photos that each label is the best of.
    """
    best: Counter[str] = Counter()
    kept: list[dict[str, Any]] = []
    show = None if target or json else printer(labels, scoring)
    with ExitStack() as stack:
        file = stack.enter_context(RowFile(target, FILE_COLUMNS)) if target else None
        # Printed lines show the progress themselves.
        advance = stack.enter_context(
            progress.counting("labelling", total, wanted=show is None or not progress.beside_rows())
        )
        for part in parts:
            best.update(labels[row[0]] for row in part.labels.tolist())
            if file:
                file.add(itertools.chain.from_iterable(rows_of(part, labels)))
            elif json:
                kept += documents_of(part, labels)
            elif show:
                show(part)
            advance(len(part))
    if target:
        return {"images": sum(best.values()), "best": {label: best[label] for label in labels}}
    return {"images": kept}


def rows_of(part: LabelBlock, labels: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    """For each image its rows, in the order of `FILE_COLUMNS`."""
    for document in documents_of(part, labels):
        yield [
            (found["label"], rank, document["id"], document["path"], found["probability"], found["score"])
            for rank, found in enumerate(document["labels"], start=1)
        ]


def documents_of(part: LabelBlock, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """For each image what --json prints of it."""
    paths = part.columns["path"]
    columns = (part.labels.tolist(), part.probabilities.tolist(), part.scores.tolist())
    for id, path, *row in zip(part.ids, paths, *columns, strict=True):
        yield {
            "id": id,
            "path": str(path or ""),
            "labels": [
                {"label": labels[label], "probability": float(digits(probability)), "score": round(score, 6)}
                for label, probability, score in zip(*row, strict=True)
            ],
        }


def printer(labels: Sequence[str], scoring: ScoringKind) -> Show:
    """The function that prints every photo: a line for people, for programs a line for each of its labels."""
    if not sys.stdout.isatty():

        def in_rows(part: LabelBlock) -> None:
            for document in documents_of(part, labels):
                for found in document["labels"]:
                    terminal.print_lines(
                        tab_separated(BY_IMAGE, (document["path"], found["label"], digits(found["probability"])))
                    )

        return in_rows
    line = line_printer(["x" * NAME_CELLS], labels)  # of all photos only the next block's are known

    def by_line(part: LabelBlock) -> None:
        for document in documents_of(part, labels):
            best = [(found["label"], found["probability"]) for found in document["labels"]]
            line(shown(document["path"]), best, scoring)

    return by_line


def show_counts(best: dict[str, int]) -> None:
    """How many photos each label is the best of, the most first."""
    most = max([*best.values(), 1])
    ordered = sorted(best.items(), key=lambda item: -item[1])
    print_table(
        COUNTS,
        [
            (label, Cell(f"{count:,}", plain=str(count)), Cell(terminal.bar(count / most, 16), style=terminal.ACCENT))
            for label, count in (ordered[:COUNTS_SHOWN] if sys.stdout.isatty() else ordered)
        ],
    )
