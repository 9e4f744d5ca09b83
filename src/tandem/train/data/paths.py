"""The `path` of a source -> files or folders: globs and braces expanded. Looks at names, never into a file."""

import glob
from pathlib import Path

from tandem.errors import DataError
from tandem.files import user_path
from tandem.samples import expand_braces, shard_kind
from tandem.train.recipe import Source

_TABLES = {".csv": ",", ".tsv": "\t"}


def label_of(source: Source, root: Path) -> str:
    """What to call a source in messages: its path as written, or instead of a bare `.` the folder it stands for."""
    written = [source.path] if isinstance(source.path, str) else source.path
    return ", ".join(str((root / path).absolute()) if Path(path) == Path() else path for path in written)


def source_files(source: Source, root: Path) -> list[Path]:
    """The files of a source, in the order of the recipe, those of a glob by name. Raises `DataError` in one line."""
    patterns = [source.path] if isinstance(source.path, str) else list(source.path)
    found: list[Path] = []
    for written in patterns:
        for pattern in expand_braces(str(written)):
            path = root / user_path(pattern)
            if path.exists():
                found.append(path)
            elif glob.has_magic(pattern):
                found += sorted(Path(match) for match in glob.glob(str(path), recursive=True))
            else:
                named = "" if path == root else f"{written}: "
                raise DataError(f"{named}no such file or folder {path.absolute()}; set data_root=FOLDER")
    if not found:
        raise DataError(f"{label_of(source, root)}: no such file below {root.absolute()}; set data_root=FOLDER")
    return list(dict.fromkeys(found))


def file_kind(path: Path) -> str:
    """`folder`, `parquet`, `table` or `tar`. Raises `DataError` for any other suffix."""
    if path.is_dir():
        return "folder"
    if (kind := shard_kind(path)) is not None:
        return kind
    if path.suffix.lower() in _TABLES:
        return "table"
    raise DataError(f"{path}: expected a tar, .parquet, .csv, .tsv or a folder of folders with images")


def separator_of(path: Path) -> str:
    """The column separator of a table."""
    return _TABLES[path.suffix.lower()]
