"""A run in one file, to be trained on another machine: its recipe, its data, its vocabulary and a teacher's vectors.

There, nothing is needed that was needed to make it: no teacher, no other paths. Data are copied as they are, and of
links what they lead to: there, it would not be found.
"""

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tandem import files
from tandem.errors import ConfigError, DataError
from tandem.files import user_path
from tandem.train.data.loader import data_root
from tandem.train.data.paths import file_kind, located, source_files
from tandem.train.parallel.process import single_process
from tandem.train.recipe import Recipe, to_toml
from tandem.train.run.assembly import assemble
from tandem.train.run.dry_run import REUSED, reusing
from tandem.train.run.validation import validation_sources

RECIPE, DATA, FOLDER = "recipe.toml", "data", "run"


def pack(recipe: Recipe, target: Path) -> list[str]:
    """Write a tar with all of a run but its machine; returns what it has, in lines for people.

    In the folder where it is unpacked `tandem train recipe.toml` starts the run.
    Raises `ConfigError` or `DataError` for what cannot be packed: data at URLs, outside `data_root` or in tables (their
    images are elsewhere), whole paths, what is no file (a pipe, a link that leads to nothing), a file that exists, and
    first weights or a CLIP teacher from a folder of this machine.
    """
    parent = _parent(target)
    data = _data_files(recipe)
    if recipe.init.waits:
        raise ConfigError(f"init.recipe: {recipe.init.recipe} is another run; runs are packed one by one")
    contents = {inside: list(_regular_files(path)) for inside, path in data.items()}
    for key, value in {"init.model": recipe.init.model, "init.image": recipe.init.image, "init.text": recipe.init.text,
                       "distillation.model": recipe.distillation.model}.items():  # fmt: skip
        if value and user_path(value).exists():
            raise ConfigError(f"{key}: {value} is on this machine and cannot be packed; name it as a hub does")
    with tempfile.TemporaryDirectory(prefix="tandem-pack-", dir=parent) as name:
        folder = Path(name)
        reusing(recipe, folder)
        assemble(replace(recipe, folder=str(folder), device="cpu"), single_process(), folder)
        made = [path for path in (folder / name for name in REUSED) if path.is_file()]
        there = to_toml(replace(recipe, folder=FOLDER, data_root=DATA, cache_folder="")).encode()
        with files.atomic_write(target) as temporary, tarfile.open(temporary, "w", dereference=True) as tar:
            info = tarfile.TarInfo(RECIPE)
            info.size = len(there)
            tar.addfile(info, io.BytesIO(there))
            for path in made:
                tar.add(path, f"{FOLDER}/{path.name}")
            for inside, path in data.items():
                for each in contents[inside]:
                    tar.add(each, f"{DATA}/{(inside / each.relative_to(path)).as_posix()}", recursive=False)
    size = target.stat().st_size / 1e6
    return [
        f"packed {len(data)} files or folders of data, {', '.join([RECIPE, *(path.name for path in made)])}: "
        f"{size:.1f} MB in {target}",
        f"there: tar xf {target.name} && tandem train {RECIPE}",
    ]


def _data_files(recipe: Recipe) -> dict[Path, Path]:
    """By their place below the root: what the run trains on and validates on."""
    found: dict[Path, Path] = {}
    root = data_root(recipe)
    written: list[str] = []
    for source in recipe.data:
        patterns: Sequence[str] = [source.path] if isinstance(source.path, str) else source.path
        for pattern in patterns:
            written.append(pattern)
            if located(pattern, root) is not None:
                raise ConfigError(f"{pattern}: lies at a URL, which the other machine can read too; pack local data")
        for path in source_files(source, root):
            assert isinstance(path, Path)  # nothing is at a URL
            found[_inside(path, recipe)] = path
    for _, each in validation_sources(recipe):
        written.append(each.path)
        if located(each.path, root) is not None:
            raise ConfigError(f"{each.path}: lies at a URL, which the other machine can read too; pack local data")
        path = Path(root) / user_path(each.path)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; set data_root=FOLDER")
        found[_inside(path, recipe)] = path
    for path in found.values():
        if file_kind(path) == "table":
            raise ConfigError(f"{path}: a table names images that are elsewhere; pack Parquet, tars or folders")
    for name in written:
        if user_path(name).is_absolute():
            raise ConfigError(
                f"{name}: another machine has no such path; name it from data_root ({Path(root).absolute()})"
            )
    return found


def _regular_files(path: Path) -> Iterator[Path]:
    """The files at or below a path that a run may read: links to files are followed, and links that are a class.

    Raises `DataError` for what is neither file nor folder.
    """
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in (
        each for entry in entries for each in ([entry, *sorted(entry.rglob("*"))] if entry.is_dir() else [entry])
    ):
        if file.is_file():
            yield file
        elif not file.exists():
            raise DataError(f"{file}: a link that leads to nothing ({os.readlink(file)}); mend it, or remove it")
        elif not file.is_dir():
            raise DataError(f"{file}: neither a file nor a folder; a pipe or a device cannot be packed: remove it")


def _inside(path: Path, recipe: Recipe) -> Path:
    """Where the recipe looks for it, below the root: what a link is called, not what it leads to."""
    root = Path(os.path.abspath(user_path(recipe.data_root)))
    named = Path(os.path.abspath(path))
    if not named.is_relative_to(root):
        raise ConfigError(f"{path}: is not below data_root ({root}), so the recipe would not find it there")
    return named.relative_to(root)


def _parent(target: Path) -> Path:
    parent = target.absolute().parent
    if not parent.is_dir():
        raise DataError(f"{parent}: no such folder to write {target.name} into")
    if target.exists():
        raise DataError(f"{target}: there is such a file; remove it, or name another one")
    return parent
