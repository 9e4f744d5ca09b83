"""The splits of a data set, by the names of folders and files. Looks into none."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from tandem.datasets.data_files import in_line
from tandem.errors import DataError

_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_KIND = {name: kind for kind, names in _NAMES.items() for name in names}
_BEGINS = re.compile(rf"({'|'.join(sorted(_KIND, key=len, reverse=True))})(\d{{4}})?(?=[-_.]|$)", re.IGNORECASE)

_Found = TypeVar("_Found")


def kind_of(name: str) -> str:
    """`val` for `dev` and `validation`; the name itself where it is no usual one."""
    return _KIND.get(name.lower(), name)


def is_split(folder: str) -> bool:
    """Whether a folder is named as a split: `train`, `Val`, `test2017`."""
    found = _BEGINS.match(folder)
    return found is not None and found.end() == len(folder)


def split_of_file(name: str) -> str | None:
    """The split that a file's name begins with: `train` of `train-00000-of-00004.parquet`; None without one."""
    found = _BEGINS.match(name)
    return found.group(0) if found else None


def by_split(names: Iterable[str]) -> dict[str, list[str]] | None:
    """Files by the split that their names begin with; None where one of them begins with none."""
    found: dict[str, list[str]] = {}
    for name in names:
        split = split_of_file(name.rpartition("/")[2])
        if split is None:
            return None
        found.setdefault(split, []).append(name)
    return found


def choose(found: Mapping[str, _Found], split: str | None, source: str) -> tuple[str, _Found]:
    """The split that is asked for by any of its names, or the only one. Raises `DataError` where that is none."""
    if not found:
        raise DataError(f"{source}: it has no images")
    if split is None:
        if len(found) == 1:
            return next(iter(found.items()))
        raise DataError(f"{source}: it has the splits {in_line(', '.join(found))}: choose one with split")
    matching = [name for name in found if name == split] or [name for name in found if _is(name, split)]
    if not matching:
        raise DataError(f"{source}: expected the split {in_line(split)}, found {in_line(', '.join(found))}")
    if len(matching) > 1:
        raise DataError(f"{source}: {split} may be {' or '.join(matching)}: choose one with split")
    return matching[0], found[matching[0]]


def refuse(split: str | None, source: str) -> None:
    """Raise `DataError` where a split is asked of a source that has none."""
    if split is not None:
        raise DataError(f"{source}: it has no splits, so no {in_line(split)}; leave split out")


def _is(name: str, split: str) -> bool:
    return kind_of(re.sub(r"\d{4}$", "", name)) == kind_of(split)
