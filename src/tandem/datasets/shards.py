"""Which tars or Parquet files a source names: one, a folder of them, a glob (`*`), or a range (`{0000..0009}`)."""

import glob
import os
from pathlib import Path
from typing import Literal

from tandem.datasets import split_names
from tandem.datasets.images import full_path
from tandem.datasets.rows import Request
from tandem.errors import DataError
from tandem.files import user_path
from tandem.samples import expand_braces, shard_kind

Kind = Literal["tar", "parquet"]


def shard_splits(source: str, kind: Kind) -> tuple[dict[str, list[str]], list[str]] | None:
    """The files by split ({} where names tell none), and all of them; None where the source is something else."""
    files = _files(source, kind)
    if not files:
        return None
    return split_names.by_split(files) or {}, files


def choose_files(request: Request, kind: Kind) -> tuple[str | None, list[Path]]:
    """The files of the split that is asked for, and its name. Raises `DataError`."""
    found, files = shard_splits(request.source, kind) or ({}, [])
    if not files:
        raise DataError(f"{request.source}: expected {kind} files, found none")
    if found:
        split, chosen = split_names.choose(found, request.split, request.source)
        return split, [Path(path) for path in chosen]
    split_names.refuse(request.split, request.source)
    return None, [Path(path) for path in files]


def name_of(source: str, files: list[Path], split: str | None) -> str:
    """A short name: the folder's where there are several files or a split, else the file's."""
    path = user_path(source, strict=False)
    if path.is_dir():
        return full_path(path).name
    return full_path(files[0]).parent.name if len(files) > 1 or split else files[0].name.partition(".")[0]


def _files(source: str, kind: Kind) -> list[str]:
    path = user_path(source, strict=False)
    if path.is_file():
        return [str(path)] if shard_kind(path) == kind else []
    if path.is_dir():
        found = [path / name for name in os.listdir(path)]
        if not any(shard_kind(each) == kind for each in found) and (path / "data").is_dir():
            found = [path / "data" / name for name in os.listdir(path / "data")]  # as hubs keep them
    else:
        found = [Path(each) for pattern in expand_braces(str(path)) for each in glob.glob(pattern)]
    return sorted(
        str(each) for each in found if shard_kind(each) == kind and not each.name.startswith(".") and each.is_file()
    )
