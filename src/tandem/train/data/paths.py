"""The `path` of a source -> files or folders: globs and braces expanded. Looks at names, never into a file."""

import glob
import re
from pathlib import Path

from tandem.errors import DataError
from tandem.files import user_path
from tandem.samples import shard_kind
from tandem.train.recipe import Source

_BRACES = re.compile(r"\{([^{}]*)\}")
_COUNT = re.compile(r"(\d+)\.\.(\d+)")
_TABLES = {".csv": ",", ".tsv": "\t"}
_MAX_FILES = 1_000_000  # a typo in a brace must not fill the memory


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


def expand_braces(pattern: str) -> list[str]:
    """A pattern with its braces expanded: `{00..12}` counts and keeps zeros, `{a,b}` lists. Raises `DataError`."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    found = [path for word in _alternatives(match.group(1), pattern) for path in expand_braces(before + word + after)]
    if len(found) > _MAX_FILES:
        raise DataError(f"{pattern}: over {_MAX_FILES:,} files; look at its braces")
    return found


def _alternatives(inside: str, pattern: str) -> list[str]:
    count = _COUNT.fullmatch(inside)
    if count is None:
        if "," not in inside:
            raise DataError(f"{pattern}: expected {{0000..0099}} or {{a,b}}, got {{{inside}}}")
        return inside.split(",")
    first, last = count.groups()
    if int(last) < int(first) or int(last) - int(first) >= _MAX_FILES:
        raise DataError(f"{pattern}: {{{inside}}} does not count up, or too far")
    width = len(first) if first.startswith("0") or len(first) == len(last) else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]
