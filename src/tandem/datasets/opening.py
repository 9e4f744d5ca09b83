"""`open_dataset`: a source, its layout recognised, as a `Dataset`. A new layout is a module and a line in `LAYOUTS`."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from tandem.datasets.building import build
from tandem.datasets.class_names import class_names_of
from tandem.datasets.data_files import path_text, shown
from tandem.datasets.dataset import Dataset
from tandem.datasets.rows import ClassNames, Request
from tandem.errors import DataError, did_you_mean
from tandem.files import user_path
from tandem.prompts import check_templates


class Layout(NamedTuple):
    """A layout, the module that reads it (`recognises`, `splits`, `read`), and what it looks like."""

    name: str
    module: str
    example: str


# In the order in which they are tried: a folder of classes is whatever folder is nothing else.
LAYOUTS = (
    Layout("collection", "tandem.datasets.collection", "a collection's folder or address"),
    Layout(
        "webdataset", "tandem.datasets.webdataset", "FILE.tar, a folder of them, or CLIP_benchmark's FOLDER/test/0.tar"
    ),
    Layout("parquet", "tandem.datasets.parquet", "FILE.parquet, or a folder of them"),
    Layout("karpathy", "tandem.datasets.karpathy", "dataset_coco.json beside its images"),
    Layout("coco", "tandem.datasets.coco", "annotations/captions_val2017.json beside val2017/"),
    Layout("table", "tandem.datasets.table", "FILE.csv, .tsv or .jsonl with paths"),
    Layout("folder", "tandem.datasets.folder", "FOLDER/class/1.jpg"),
)


def open_dataset(
    source: str | Path,
    *,
    layout: str | None = None,
    split: str | None = None,
    label: str | None = None,
    caption: str | None = None,
    classes: ClassNames | str | Path | None = None,
    templates: str | Sequence[str] | None = None,
    where: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Open a data set. Images stay where they are, and are read when they are asked for.

    Args:
        source: a folder of classes, Parquet files, tars, a captions file of COCO, a table, or a collection.
        layout: one of `LAYOUTS` by name; None recognises it.
        split: the split to open (`train`, `val`, `test`); needed where there are several.
        label: the column or key of labels; None for the usual ones.
        caption: the column or key of captions; None for the usual ones.
        classes: names of the classes by number, or by label; or a file with them. None for those that came with it.
        templates: prompts to use with it; None for those that came with it.
        where: a filter over the columns, as for collections: `source like '%(intel)%'`.
        limit: draw this many images, with `seed`.

    Raises: `DataError` that names the row for what is missing or contradictory, `FilterError` for an invalid `where`.
    """
    for name, text in (("split", split), ("label", label), ("caption", caption), ("where", where)):
        if text is not None and not isinstance(text, str):
            raise DataError(f"{name}: expected text, got {shown(text)}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise DataError(f"limit: expected at least 1, got {shown(limit)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise DataError(f"seed: expected a whole number of at least 0, got {shown(seed)}")
    if templates is not None and not isinstance(templates, str | Iterable):
        raise DataError(f"templates: expected a text or several, got {shown(templates)}")
    request = Request(path_text(source, "source"), split, label, caption, where)
    chosen = _layout(request.source, layout)
    with _named(request.source):
        rows = import_module(chosen.module).read(request)
    return build(
        rows,
        request,
        chosen.name,
        classes=class_names_of(classes),
        templates=None if templates is None else check_templates(templates),
        limit=limit,
        seed=seed,
    )


def dataset_splits(source: str | Path, *, layout: str | None = None) -> tuple[str, ...]:
    """The names of a source's splits, as `open_dataset` takes them; () where it has none. Opens no image."""
    text = path_text(source, "source")
    module = import_module(_layout(text, layout).module)
    with _named(text):
        splits: tuple[str, ...] = module.splits(text)
    return splits


@contextlib.contextmanager
def _named(source: str) -> Iterator[None]:
    """Errors of the disk name the source: a name that is too long, a folder that may not be read."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}") from None


def _layout(source: str, name: str | None) -> Layout:
    if name is not None:
        if not isinstance(name, str):
            raise DataError(f"layout: expected text, got {shown(name)}")
        found = next((each for each in LAYOUTS if each.name == name), None)
        if found is None:
            names = [each.name for each in LAYOUTS]
            raise DataError(
                f"layout: expected one of {', '.join(names)}, got {shown(name)}{did_you_mean(name[:99], names)}"
            )
        return found
    for each in LAYOUTS:
        module: Any = import_module(each.module)
        with _named(source):
            if module.recognises(source):
                return each
    if not user_path(source, strict=False).exists():
        raise DataError(f"{source}: there is no such file or folder")
    layouts = "; ".join(f"{each.name}: {each.example}" for each in LAYOUTS)
    raise DataError(f"{source}: not recognised as a data set; expected one of these layouts: {layouts}")
