"""`tandem label`: the best photos of every label, or the best labels of every photo, for a whole collection."""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tandem.cli import DONE, screen
from tandem.cli.asking import open_for_asking, say_why_empty
from tandem.cli.classify import read_labels, read_templates
from tandem.cli.row_files import RowFile, check_target
from tandem.search.labelling import Best, Labelled, best_labels, best_pictures
from tandem.search.stores.protocol import Store

PATHS_AT_ONCE = 1000
LABEL_CELLS = 24
COLUMNS = {"label": str, "rank": int, "id": str, "path": str, "probability": float, "score": float}
Show = Callable[[Labelled], None]


def run(arguments: argparse.Namespace) -> int:
    labels, templates = read_labels(arguments), read_templates(arguments)
    target = Path(arguments.out).expanduser() if arguments.out else None
    if target:
        check_target(target)
    with open_for_asking(arguments) as photos:
        vectors = photos.model.class_vectors(labels, templates)
        asked = {"k": arguments.top, "where": arguments.where, "logit_scale": photos.model.logit_scale}
        document: dict[str, Any] = {
            "collection": arguments.collection,
            "model": {"name": photos.model.name, "fingerprint": photos.model.fingerprint},
            "by": arguments.by,
        }
        if arguments.by == "label":
            document["labels"] = by_label(photos.store, labels, best_pictures(photos.store, vectors, **asked), target)
            none = not any(found["pictures"] for found in document["labels"])
        else:
            parts = best_labels(photos.store, vectors, columns=("path",), **asked)
            total = photos.store.count(arguments.where)
            document |= by_picture(parts, labels, total, target, json=arguments.json)
            none = total == 0
        if arguments.json:
            screen.print_json(document | ({"file": str(target)} if target else {}))
        elif arguments.by == "label":
            show_labels(document["labels"])
        elif target:
            show_counts(document["best"])
        sys.stdout.flush()
        if none:
            say_why_empty(photos, arguments.where)
    if target:
        screen.say(f"wrote {target}")
    return DONE


# --- the photos of every label -----------------------------------------------------------------------------------


def by_label(store: Store, labels: Sequence[str], best: list[list[Best]], target: Path | None) -> list[dict[str, Any]]:
    """For each label its photos, as --json prints them; written to `target` too."""
    paths = paths_of(store, list(dict.fromkeys(picture.id for row in best for picture in row)))
    found = [
        {
            "label": label,
            "pictures": [
                {
                    "id": picture.id,
                    "path": paths.get(picture.id, ""),
                    "probability": round(picture.probability, 6),
                    "score": round(picture.score, 6),
                }
                for picture in row
            ],
        }
        for label, row in zip(labels, best, strict=True)
    ]
    if target:
        with RowFile(target, COLUMNS) as file:
            for each in found:
                file.add(
                    (each["label"], rank, *picture.values()) for rank, picture in enumerate(pictures_of(each), start=1)
                )
    return found


def pictures_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Of one label, the best first."""
    pictures: list[dict[str, Any]] = found["pictures"]
    return pictures


def paths_of(store: Store, ids: Sequence[str]) -> dict[str, str]:
    """Where the pictures are; those that are gone by now are missing."""
    paths: dict[str, str] = {}
    for start in range(0, len(ids), PATHS_AT_ONCE):
        records = store.get(ids[start : start + PATHS_AT_ONCE], columns=["path"], vectors=False)
        paths |= {id: str(path or "") for id, path in zip(records.ids, records.columns["path"], strict=True)}
    return paths


def show_labels(found: Sequence[dict[str, Any]]) -> None:
    """A line for each photo, its label once."""
    encoding = sys.stdout.encoding or "ascii"
    out = screen.console()
    headings = ("label", "probability", "", "cosine", "photo")
    rows = [
        (
            cut(each["label"], LABEL_CELLS) if rank == 0 or not sys.stdout.isatty() else "",
            f"{picture['probability']:.1%}",
            screen.bar(picture["probability"], 10, best=rank == 0, encoding=encoding),
            f"{picture['score']:.3f}",
        )
        for each in found
        for rank, picture in enumerate(pictures_of(each))
    ]
    if not rows:
        return
    free = screen.cells_left(out, headings[:-1], rows)
    table = screen.table(*headings, right=("probability", "cosine"))
    paths = [picture["path"] for each in found for picture in pictures_of(each)]
    for row, path in zip(rows, paths, strict=True):
        table.add_row(*row, cut(path, free, keep_end=True))
    out.print(table)


def cut(text: str, width: int, *, keep_end: bool = False) -> str:
    """For people, at most so many cells; for programs, all of it."""
    return screen.cells(text, width, keep_end=keep_end).rstrip() if sys.stdout.isatty() else screen.line(text)


# --- the labels of every photo -----------------------------------------------------------------------------------


def by_picture(
    parts: Iterator[Labelled], labels: Sequence[str], total: int, target: Path | None, *, json: bool
) -> dict[str, Any]:
    """Every photo with its labels: written to `target`, else kept for --json, else printed as it comes.

    Gives what --json prints; with a target, how many photos each label is the best of.
    """
    best: Counter[str] = Counter()
    kept: list[dict[str, Any]] = []
    show = None if target or json else printer(labels)
    with ExitStack() as stack:
        file = stack.enter_context(RowFile(target, COLUMNS)) if target else None
        # Lines that people watch arriving are progress enough.
        advance = stack.enter_context(
            screen.progress("labelling", total, wanted=show is None or not sys.stdout.isatty())
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
        return {"pictures": sum(best.values()), "best": {label: best[label] for label in labels}}
    return {"pictures": kept}


def rows_of(part: Labelled, labels: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    """For each picture its rows, in the order of `COLUMNS`."""
    for document in documents_of(part, labels):
        yield [
            (found["label"], rank, document["id"], document["path"], found["probability"], found["score"])
            for rank, found in enumerate(document["labels"], start=1)
        ]


def documents_of(part: Labelled, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """For each picture what --json prints of it."""
    paths = part.columns["path"]
    columns = (part.labels.tolist(), part.probabilities.tolist(), part.scores.tolist())
    for id, path, *row in zip(part.ids, paths, *columns, strict=True):
        yield {
            "id": id,
            "path": str(path or ""),
            "labels": [
                {"label": labels[label], "probability": round(probability, 6), "score": round(score, 6)}
                for label, probability, score in zip(*row, strict=True)
            ],
        }


def printer(labels: Sequence[str]) -> Show:
    """The function that prints a line for each photo."""
    from rich.cells import cell_len

    from tandem.cli.classify_view import NAME_CELLS, photo_on_a_line

    out = screen.console()
    width = min(LABEL_CELLS, max(cell_len(label) for label in labels))

    def show(part: Labelled) -> None:
        for document in documents_of(part, labels):
            best = [(found["label"], found["probability"]) for found in document["labels"]]
            name_cells = NAME_CELLS if sys.stdout.isatty() else max(NAME_CELLS, cell_len(screen.line(document["path"])))
            photo_on_a_line(out, document["path"], best, width, name_cells)

    return show


def show_counts(best: dict[str, int]) -> None:
    """How many photos each label is the best of, the most first."""
    table = screen.table("label", "photos", "", right=("photos",))
    most = max([*best.values(), 1])
    encoding = sys.stdout.encoding or "ascii"
    for label, count in sorted(best.items(), key=lambda item: -item[1])[:30]:
        table.add_row(cut(label, LABEL_CELLS), f"{count:,}", screen.bar(count / most, 16, best=True, encoding=encoding))
    screen.console().print(table)
