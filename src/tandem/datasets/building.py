"""The rows that a layout found -> a `Dataset`: which rows are kept, their classes, the draw, the digests."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tandem.datasets.class_names import number_labels
from tandem.datasets.data_files import in_line
from tandem.datasets.dataset import Dataset
from tandem.datasets.rows import ClassNames, Request, Rows
from tandem.errors import DataError


def build(
    rows: Rows,
    request: Request,
    layout: str,
    *,
    classes: ClassNames | None = None,
    templates: tuple[str, ...] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """The data set. Raises `DataError` that names the row where something is missing."""
    if not len(rows.keys):
        raise DataError(f"{request.source}: it has no images")
    _check_keys(rows)
    kept, labelled, captioned, notes = _kept(rows, request)
    names: tuple[str, ...] = ()
    label_sets: list[tuple[int, ...]] = []
    if labelled:
        names, label_sets, more = number_labels(rows, kept, classes)
        notes += more
    elif classes is not None:
        raise DataError(f"{request.source}: it has no labels, so there is nothing to name with classes")
    stored = rows.stored
    captions = [rows.captions[row] for row in kept] if captioned and rows.captions is not None else []
    dataset = Dataset(
        name=rows.name,
        source=request.source,
        layout=layout,
        split=rows.split,
        keys=tuple(rows.keys[row] for row in kept),
        digests=(),
        open_images=lambda places: rows.images.open([kept[place] for place in places]),
        classes=names,
        label_sets=tuple(label_sets),
        captions=tuple(captions),
        templates=rows.templates if templates is None else templates,
        multi_label=rows.multi_label and labelled,
        stored=None if stored is None else replace(stored, vectors=stored.vectors[kept]),
    )
    drawn: Sequence[int]
    if limit is not None and limit < len(kept):
        drawn = _drawn(len(kept), limit, seed)
        notes += (f"{limit:,} of {len(kept):,} images were drawn with seed {seed}",)
        dataset = dataset.take(drawn)
    else:
        drawn = range(len(kept))
    return dataset.with_digests(rows.images.digests([kept[place] for place in drawn]), (*rows.notes, *notes))


def _drawn(count: int, limit: int, seed: int) -> list[int]:
    return sorted(np.random.default_rng(seed).choice(count, limit, replace=False).tolist())


def _kept(rows: Rows, request: Request) -> tuple[Sequence[int], bool, bool, tuple[str, ...]]:
    """The rows that are kept, whether labels and captions count, and notes on what was left out.

    A row with a label in a file where others have captions instead is left out, and the other way round; a row with
    neither is an error.
    """
    everything = range(len(rows.keys))
    has_label = [labels is not None for labels in rows.labels] if rows.labels is not None else []
    has_caption = [bool(captions) for captions in rows.captions] if rows.captions is not None else []
    by_label = any(has_label) and (request.label is not None or request.caption is None)
    if not by_label and not any(has_caption):
        raise DataError(
            f"{request.source}: it has neither labels nor captions; name their columns or keys with label or caption"
        )
    wanted, other = (has_label, has_caption) if by_label else (has_caption, has_label)
    what, instead = ("label", "a caption") if by_label else ("caption", "a label")
    missing = [row for row in everything if not wanted[row]]
    for row in missing:
        if not other or not other[row]:
            raise DataError(f"{rows.name}, {rows.place(row)}: it has no {what}")
    kept = [row for row in everything if wanted[row]] if missing else everything
    notes: tuple[str, ...] = ()
    if missing:
        notes = (f"{len(missing):,} of {len(everything):,} images have {instead} but no {what}, and were left out",)
    labelled = by_label or (bool(has_label) and all(has_label[row] for row in kept))
    captioned = not by_label or (bool(has_caption) and all(has_caption[row] for row in kept))
    return kept, labelled, captioned, notes


def _check_keys(rows: Rows) -> None:
    if len(set(rows.keys)) < len(rows.keys):
        seen: set[str] = set()
        for row, key in enumerate(rows.keys):
            if key in seen:
                raise DataError(
                    f"{rows.name}, {rows.place(row)}: {in_line(key)} is there twice; each image may be there once"
                )
            seen.add(key)
