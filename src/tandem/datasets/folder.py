"""A folder of classes: `FOLDER/class/1.jpg`, or `FOLDER/split/class/1.jpg`, at any depth below the class."""

import os
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
    for option, value in (("where", request.where), ("label", request.label), ("caption", request.caption)):
        if value is not None:
            raise DataError(f"{request.source}: a folder has no columns for {option}: its folders are the labels")
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
    _check_apart(folder, classes)
    links = 0
    inside = len(str(folder / "_")) - 1  # characters of a path before its part below the folder
    for name in classes:
        before = len(keys)
        found_here, links_here = _images(folder / name)
        links += links_here
        for path in found_here:
            keys.append(display_name(path[inside:]).replace(os.sep, "/"))
            paths.append(path)
        if len(keys) == before:
            linked = " (links to folders are not followed)" if links_here else ""
            raise DataError(
                f"{folder / name}: it has no images{linked}; every folder of {folder} has to hold those of a class"
            )
        labels += [(display_name(name),)] * (len(keys) - before)
    loose = sum(_is_image(entry) for entry in os.scandir(folder))
    if not keys:
        beside = f", but {loose:,} {'image' if loose == 1 else 'images'} without one" if loose else ""
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
        notes=(
            *((f"images beside the folders of classes were left out: {loose:,}",) if loose else ()),
            *((f"links to folders inside the folders of classes were not followed: {links:,}",) if links else ()),
        ),
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


def _check_apart(folder: Path, classes: list[str]) -> None:
    """Raise `DataError` where the folder of a class is a link to, or around, another: its images would have two."""
    real = {name: os.path.realpath(folder / name) for name in classes}
    names = {path: name for name, path in real.items()}
    root = Path(os.path.realpath(folder))
    for name, path in real.items():
        around = next((names[str(each)] for each in Path(path).parents if str(each) in names), names[path])
        if around != name or path in map(str, (root, *root.parents)):
            other = folder / around if around != name else folder
            raise DataError(f"{folder / name}: its images are those of {other}, too; remove the link")


def _images(folder: Path) -> tuple[list[str], int]:
    """The images below a folder, sorted by path, and how many links to folders there are.

    Such links are not followed: below the same folder they would bring images twice, and elsewhere images of another
    class, without an end where folders are linked to each other.
    """
    stack = [str(folder)]
    found: list[str] = []
    links = 0
    while stack:
        path = stack.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and entry.is_dir():
                        if entry.is_symlink():
                            links += 1
                        else:
                            stack.append(entry.path)
                    elif _is_image(entry):
                        found.append(entry.path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    return sorted(found), links


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
