"""A folder of classes: `FOLDER/class/1.jpg`, or `FOLDER/split/class/1.jpg`, at any depth below the class."""

import os
from collections.abc import Iterator
from pathlib import Path

from tandem.datasets import split_names
from tandem.datasets.class_names import FILES, read_class_names
from tandem.datasets.images import ImageFiles, full_path
from tandem.datasets.rows import ClassNames, Request, Rows
from tandem.errors import DataError
from tandem.files import display_name, user_path
from tandem.image import IMAGE_SUFFIXES


def recognises(source: str) -> bool:
    """Whether it is a folder: what is in it is seen when it is read."""
    return user_path(source, strict=False).is_dir()


def splits(source: str) -> tuple[str, ...]:
    """The names of its splits; () where its folders are classes."""
    return tuple(_splits(user_path(source)))


def read(request: Request) -> Rows:
    """The images and the names of their folders. Raises `DataError` for folders without images, and without classes."""
    root = user_path(request.source)
    if request.where is not None:
        raise DataError(f"{request.source}: a folder has no columns for where")
    found = _splits(root)
    split, folder = split_names.choose(found, request.split, request.source) if found else (None, root)
    base = full_path(root)
    if split is None and split_names.is_split(base.name):
        split = base.name  # a split's folder was given itself
    if request.split is not None and (
        split is None or split_names.kind_of(split) != split_names.kind_of(request.split)
    ):
        split_names.refuse(request.split, request.source)
    keys: list[str] = []
    paths: list[str] = []
    labels: list[tuple[str]] = []
    classes = _folders(folder)
    inside = len(str(folder / "_")) - 1  # characters of a path before its part below the folder
    for name in classes:
        before = len(keys)
        for path in _images(folder / name):
            keys.append(display_name(path[inside:]).replace(os.sep, "/"))
            paths.append(path)
        if len(keys) == before:
            raise DataError(f"{folder / name}: it has no images; every folder of {folder} has to hold those of a class")
        labels += [(display_name(name),)] * (len(keys) - before)
    loose = sum(_is_image(entry) for entry in os.scandir(folder))
    if not keys:
        beside = f", but {loose:,} images without one" if loose else ""
        raise DataError(f"{folder}: expected the layout FOLDER/class/1.jpg, found no folder with images{beside}")
    is_own = split is not None and not found
    return Rows(
        name=(base.parent if is_own else base).name,
        keys=keys,
        images=ImageFiles(paths),
        labels=labels,
        split=split,
        class_names=_class_names(folder, root, root.parent if is_own else root),
        class_order=[display_name(name) for name in classes],
        notes=(f"images beside the folders of classes were left out: {loose:,}",) if loose else (),
    )


def _splits(root: Path) -> dict[str, Path]:
    folders = _folders(root)
    named = [name for name in folders if split_names.is_split(name)]
    return {name: root / name for name in named} if named and len(named) in (len(folders), 2, 3) else {}


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from None


def _images(folder: Path) -> Iterator[str]:
    """The images below a folder, sorted by path. Links are followed, but not into a folder that they are in."""
    stack = [(str(folder), frozenset[tuple[int, int]]())]
    found = []
    while stack:
        path, above = stack.pop()
        try:
            status = os.stat(path)
            inside = above | {(status.st_dev, status.st_ino)}
            if len(inside) == len(above):
                continue
            with os.scandir(path) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and entry.is_dir():
                        stack.append((entry.path, inside))
                    elif _is_image(entry):
                        found.append(entry.path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    yield from sorted(found)


def _is_image(entry: "os.DirEntry[str]") -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    return not entry.name.startswith(".") and suffix in IMAGE_SUFFIXES and entry.is_file()


def _class_names(*folders: Path) -> ClassNames | None:
    """The names in a classes file in the first of the folders that has one."""
    for folder in dict.fromkeys(folders):
        for name in FILES:
            if (folder / name).is_file():
                return read_class_names(folder / name)
    return None
