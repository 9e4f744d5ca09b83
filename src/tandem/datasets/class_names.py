"""Labels as they are written -> classes with names that a person reads, and the place of each image's class.

Knows texts and numbers; no image.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tandem.datasets.data_files import number_in, path_text, read_text, shown
from tandem.datasets.rows import ClassNames, Label, Rows
from tandem.errors import DataError, did_you_mean, in_words
from tandem.files import user_path

FILES = ("classes.txt", "classnames.txt", "class_names.txt", "classes.json", "classnames.json")
_WNID = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"(\d{1,18})[ \t]+(\S.*)")
_SHOWN = 5
_LONGEST = 100  # characters of a label in a message
_LARGEST = 16 << 20  # bytes of a file of class names


def number_labels(
    rows: Rows, kept: Sequence[int], given: ClassNames | None
) -> tuple[tuple[str, ...], list[tuple[int, ...]], tuple[str, ...]]:
    """The classes, the places in them of each kept row's labels, and notes. Raises `DataError` that names a row.

    `given` are the names that the caller gave; without them those that came with the source count.
    """
    names = rows.class_names if given is None else given
    assert rows.labels is not None
    labels = [rows.labels[row] or () for row in kept]
    notes: tuple[str, ...] = ()
    if isinstance(names, Mapping):
        classes, number = list(names.values()), {written: place for place, written in enumerate(names)}
    elif names is not None:
        classes, number, notes = _of_list(rows, list(names), labels)
    else:
        classes, number = _of_labels(rows, labels)
    sets = []
    for row, several in zip(kept, labels, strict=True):
        if len(several) != 1 and not rows.multi_label:
            raise DataError(f"{rows.name}, {rows.place(row)}: expected one label, found {len(several)}")
        sets.append(tuple(sorted({_number(label, number, classes, names, rows, row) for label in several})))
    _check(classes, number, rows.name)
    return tuple(classes), sets, notes


def _number(
    label: Label,
    number: Mapping[str, int],
    classes: Sequence[str],
    names: ClassNames | None,
    rows: Rows,
    row: int,
) -> int:
    if isinstance(label, str) and label in number:
        return number[label]
    if str(label) in number and isinstance(names, Mapping):  # JSON has no numbers for keys
        return number[str(label)]
    if isinstance(label, str) and (place := number.get(readable(label))) is not None:
        return place
    if not isinstance(names, Mapping):
        place = label if isinstance(label, int) else number_in(label)
        if place is not None and 0 <= place < len(classes):
            return place
        if isinstance(label, int) or label.isdecimal():
            count = len(classes)
            raise DataError(
                f"{rows.name}, {rows.place(row)}: the label {str(label)[:_LONGEST]} is not among {count} classes, "
                f"0 to {count - 1}"
            )
    raise DataError(
        f"{rows.name}, {rows.place(row)}: the label {shown(label)} is not among the {len(classes)} classes"
        f"{did_you_mean(str(label)[:_LONGEST], number)}"
    )


def _of_list(
    rows: Rows, classes: list[str], labels: Sequence[tuple[Label, ...]]
) -> tuple[list[str], dict[str, int], tuple[str, ...]]:
    """A bare list of names: labels are names in it, or numbers, or it is in the order of the source's own labels."""
    number = {readable(name): place for place, name in enumerate(classes)} | {n: i for i, n in enumerate(classes)}
    order = rows.class_order
    if (
        order
        and len(order) == len(classes)
        and not any(label in number or readable(label) in number for label in order)
    ):
        note = f"class names were taken in the order of the folders: {order[0]} is {classes[0]!r}"
        return classes, {label: place for place, label in enumerate(order)}, (note,)
    return classes, number, ()


def _of_labels(rows: Rows, labels: Sequence[tuple[Label, ...]]) -> tuple[list[str], dict[str, int]]:
    """No names: labels are their own names, sorted. Raises `DataError` for numbers, which say nothing to a model."""
    written = sorted({str(label) for several in labels for label in several} | set(rows.class_order or ()))
    if not rows.class_order and written and all(label.isdecimal() for label in written):
        some = ", ".join(label[:_LONGEST] for label in written[:_SHOWN])
        raise DataError(f"{rows.name}: its labels are numbers ({some}): name the classes with classes, from 0 on")
    return _named(written), {label: place for place, label in enumerate(written)}


def _named(labels: Sequence[str]) -> list[str]:
    """The labels without the numbers (`001.`, `n02085620-`) that all of them begin with, and readable."""
    for prefix in (r"n\d{8}[-_. ]+(?=\D)", r"\d+[-_. ]+(?=\D)"):
        if labels and all(re.match(prefix, label) for label in labels):
            labels = [re.sub(f"^{prefix}", "", label) for label in labels]
    return [readable(label) for label in labels]


def readable(label: str) -> str:
    """`golden retriever` for `golden_retriever`."""
    return " ".join(label.replace("_", " ").split())


def _check(classes: Sequence[str], number: Mapping[str, int], name: str) -> None:
    labels: dict[int, str] = {}
    for label, place in number.items():
        labels.setdefault(place, label)
    first: dict[str, int] = {}
    for place, each in enumerate(classes):
        if not each.strip():
            raise DataError(f"{name}: class {place} ({shown(labels.get(place, ''))}) has no name")
        other = first.setdefault(" ".join(each.lower().split()), place)
        if other != place:
            which = f"{labels.get(other, classes[other])[:_LONGEST]}, {labels.get(place, each)[:_LONGEST]}"
            raise DataError(
                f"{name}: two classes are called {shown(each)}: numbers {other} and {place} ({which}); give them "
                "different names with classes, or leave one out"
            )


# --- files ---------------------------------------------------------------------------------------------------------


def class_names_of(classes: ClassNames | str | Path | None) -> ClassNames | None:
    """Class names as a caller gives them: a list, a mapping from labels, or the path of a file with either."""
    if classes is None:
        return None
    if isinstance(classes, str | Path):
        return read_class_names(user_path(path_text(classes, "classes")))
    if not isinstance(classes, Iterable) or isinstance(classes, bytes):
        raise DataError(f"classes: expected names, labels with their names, or a file, got {shown(classes)}")
    pairs = list(classes.items()) if isinstance(classes, Mapping) else [("", name) for name in classes]
    if not pairs:
        raise DataError("classes: expected at least one name, got none")
    for label, name in pairs:
        if not isinstance(name, str):
            raise DataError(f"classes: expected a name, got {shown(name)}")
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise DataError(f"classes: expected a label as text or a number, got {shown(label)}")
    if isinstance(classes, Mapping):
        return {str(label): name for label, name in pairs}
    return [name for _, name in pairs]


def read_class_names(path: Path) -> ClassNames:
    """Class names from a file: JSON (a list, or label -> name), or text.

    Text has a name on each line: alone, after its number, after a tab, or after a WordNet id; in a `.csv` of two
    columns, after the label.
    Of several names with commas between them, the first counts, unless another class has the same.
    """
    try:
        content = read_text(path, most=_LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as class names: {error}") from None
    if path.suffix.lower() == ".json":
        return _of_json(content, path)
    if path.suffix.lower() == ".csv" and (rows := list(csv.reader(content.splitlines()))) and _in_pairs(rows):
        return _mapping([(row[0].strip(), row[1].strip()) for row in rows if row], path)
    lines = [line.strip("\r") for line in content.split("\n") if line.strip()]
    if not lines:
        raise DataError(f"{path}: expected a class name on each line, found none")
    for separator in ("\t", " "):
        pairs = [(label.strip(), name.strip()) for label, _, name in (line.partition(separator) for line in lines)]
        if all(label and name for label, name in pairs) and (separator == "\t" or _are_wnids(pairs)):
            return _mapping(pairs, path)
    numbered = [_NUMBERED.fullmatch(line.strip()) for line in lines]
    if all(numbered):
        numbers = [int(found[1]) for found in numbered if found]
        if numbers == list(range(numbers[0], numbers[0] + len(lines))) and numbers[0] in (0, 1):
            return _named([found[2] for found in numbered if found])
    return [line.strip() for line in lines]


def _are_wnids(pairs: Sequence[tuple[str, str]]) -> bool:
    return all(_WNID.fullmatch(label) for label, _ in pairs)


def _of_json(content: str, path: Path) -> ClassNames:
    try:
        plain: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {in_words(error)}") from None
    if isinstance(plain, list) and all(isinstance(name, str) for name in plain):
        return [str(name) for name in plain]
    if isinstance(plain, dict):
        pairs = []
        for label, value in plain.items():
            texts = [value] if isinstance(value, str) else value
            if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
                raise DataError(f"{path}: expected a name for {shown(label)}, found {shown(value)}")
            if len(texts) == 2 and _WNID.fullmatch(texts[0]):  # Keras writes {"0": ["n01440764", "tench"]}
                pairs.append((texts[0], readable(texts[1])))
            else:
                pairs.append((label, texts[0]))
        numbers = [number_in(label) for label, _ in pairs]
        if pairs and None not in numbers:
            ordered = sorted((number or 0, name) for number, (_, name) in zip(numbers, pairs, strict=True))
            if [number for number, _ in ordered] == list(range(len(ordered))):
                return [name for _, name in ordered]
        return _mapping(pairs, path)
    raise DataError(f"{path}: expected a list of names, or labels with their names")


def _in_pairs(rows: Sequence[Sequence[str]]) -> bool:
    return all(not row or (len(row) == 2 and all(value.strip() for value in row)) for row in rows)


def _mapping(pairs: Sequence[tuple[str, str]], path: Path) -> dict[str, str]:
    labels = [label for label, _ in pairs]
    if not labels:
        raise DataError(f"{path}: expected class names, found none")
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise DataError(f"{path}: {shown(label)} has two names")
        seen.add(label)
    return dict(zip(labels, first_synonyms([name for _, name in pairs]), strict=True))


def first_synonyms(names: Sequence[str]) -> list[str]:
    """`bathtub` for `bathtub, bathing tub, tub`; the whole where two classes would have the same name."""
    first = [name.partition(",")[0].strip() for name in names]
    counts: dict[str, int] = {}
    for name in first:
        counts[name.lower()] = counts.get(name.lower(), 0) + 1
    return [short if counts[short.lower()] == 1 else name for short, name in zip(first, names, strict=True)]
