"""The `path` of a source -> files, folders or remote files: globs and braces expanded. Never looks into a file."""

import glob
from pathlib import Path
from typing import TypeAlias

from tandem.errors import DataError, RemoteFileError
from tandem.files import user_path
from tandem.samples import expand_braces, shard_kind
from tandem.train.data.remote import RemoteFile, is_remote, shown
from tandem.train.data.shard_reader import ShardReader
from tandem.train.recipe import Source

DataFile: TypeAlias = Path | RemoteFile
_TABLES = {".csv": ",", ".tsv": "\t"}


def label_of(source: Source, root: Path | str) -> str:
    """What to call a source in messages: its path as written, or instead of a bare `.` the folder it stands for."""
    written = [source.path] if isinstance(source.path, str) else source.path
    if isinstance(root, str):
        return ", ".join(shown(located(path, root) or path) for path in written)
    named = (shown(path) if is_remote(path) else path for path in written)
    return ", ".join(str((root / path).absolute()) if Path(path) == Path() else path for path in named)


def source_files(source: Source, root: Path | str, reader: ShardReader | None = None) -> list[DataFile]:
    """The files of a source, in the order of the recipe, those of a glob by name. `root`: a folder, or a URL.

    Raises `DataError` or `RemoteFileError` in one line.
    """
    reader = reader or ShardReader()
    patterns = [source.path] if isinstance(source.path, str) else list(source.path)
    found: list[DataFile] = []
    for written in patterns:
        expanded = expand_braces(str(written))
        found += reader.find([url for pattern in expanded if (url := located(pattern, root)) is not None])
        for pattern in (pattern for pattern in expanded if located(pattern, root) is None):
            path = Path(root) / user_path(pattern)
            if path.exists():
                found.append(path)
            elif glob.has_magic(pattern):
                found += sorted(Path(match) for match in glob.glob(str(path), recursive=True))
            else:
                named = "" if path == root else f"{written}: "
                raise DataError(f"{named}no such file or folder {path.absolute()}; set data_root=FOLDER")
    if not found:
        raise DataError(f"{label_of(source, root)}: no such file below {Path(root).absolute()}; set data_root=FOLDER")
    return list(dict.fromkeys(found))


def located(pattern: str, root: Path | str) -> str | None:
    """The URL that a path below the root is; None for a path on this machine."""
    if is_remote(pattern):
        return pattern
    if isinstance(root, str) and not user_path(pattern).is_absolute():
        return f"{root.rstrip('/')}/{pattern}"
    return None


def file_kind(path: DataFile) -> str:
    """`folder`, `parquet`, `table` or `tar`. Raises `DataError` for any other suffix."""
    if isinstance(path, RemoteFile):
        if path.name.lower().endswith(".tar"):
            return "tar"
        raise RemoteFileError(f"{path}: expected a .tar that is not compressed: other files are read from disks only")
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
