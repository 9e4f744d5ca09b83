"""Recipe files: TOML with `key=value` overrides, the data of another file, and recipes that start where others end.

Knows files of recipes and which of them come first; it runs none. Needs no torch.
"""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem import fields
from tandem.errors import ConfigError
from tandem.files import open_regular, user_path
from tandem.train import toml
from tandem.train.recipe import Init, Recipe, from_dict

# Overrides that hold for each recipe of a chain: they say where it runs, where its data is and what it reports.
SHARED = (
    "data_root", "device", "workers", "cache_images", "cache_folder", "log_every_steps", "log", "remote", "resume",
)  # fmt: skip
_TAKEN = ("data", "validation")  # by `data_from`
_MOST = 100  # files, one leading to the next
_MAX_BYTES = 2**20  # of a recipe; the longest of ours has 0.02 MB


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as its file and the overrides say it."""

    path: Path
    recipe: Recipe  # of one that `waits`: with the model that the recipe before it describes
    values: Mapping[str, Any]

    def after(self, model: Path) -> Recipe:
        """The recipe that starts from the model which the run before it has ended with."""
        init = {**self.values["init"], "model": str(model)}
        return _checked(self.path, {**self.values, "init": init})


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file, with `key=value` overrides (dotted keys, TOML values).

    Raises `ConfigError` that names the file and the key.
    """
    return read_chain(path, overrides)[-1].recipe


def read_chain(path: Path, overrides: Sequence[str] = ()) -> list[RecipeFile]:
    """The recipe in a TOML file, after all whose runs must end before its own can start (`init.recipe`).

    Their folders lie beside the last one's; of the overrides they get those in `SHARED`.
    Raises `ConfigError` that names the file and the key, also for a recipe that would start from itself.
    """
    return _chain(path, overrides, "", [])


def _chain(path: Path, overrides: Sequence[str], beside: str, later: list[Path]) -> list[RecipeFile]:
    """beside: the folder of the run that comes after, if one does. later: the recipes that wait for this one."""
    _refuse_circle(path, later, "init.recipe")
    values = _values(path, overrides, [])
    if beside and isinstance(own := values.get("folder"), str):
        values["folder"] = str(Path(beside).parent / Path(own).name)
    init = values.get("init")
    before: list[RecipeFile] = []
    if isinstance(init, Mapping) and _checked_init(path, init).waits:
        first = _beside(path, init["recipe"], "init.recipe")
        folder = values.get("folder")
        shared = [text for text in overrides if text.partition("=")[0].strip().split(".")[0] in SHARED]
        before = _chain(first, shared, folder if isinstance(folder, str) else "", [*later, path])
        for each in before:
            if Path(each.recipe.folder) == Path(str(folder)):
                raise ConfigError(f"{path}: folder: expected another one than that of {each.path}, got {folder}")
    recipe = _checked(path, values, before[-1].recipe if before else None)
    return [*before, RecipeFile(path, recipe, values)]


def _values(path: Path, overrides: Sequence[str], takers: list[Path]) -> dict[str, Any]:
    """Plain values: of the file, of the overrides, and then of the file that `data_from` names."""
    _refuse_circle(path, takers, "data_from")
    try:
        with open_regular(path) as file:  # a pipe might never answer
            written = file.read(_MAX_BYTES + 1)
        if len(written) > _MAX_BYTES:
            raise ConfigError(f"expected a recipe of at most {_MAX_BYTES:,} bytes, got more")
        values = fields.parse_toml(written.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the recipe ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    overridden = copy.deepcopy(values)
    _override(path, overridden, overrides)
    if "data_from" not in overridden:
        return overridden
    other = _values(_beside(path, overridden["data_from"], "data_from"), (), [*takers, path])
    if "batch_size" in overridden:
        other["data"] = _weighted(other.get("data"))
    values = {**{key: other[key] for key in _TAKEN if key in other}, **values}
    _override(path, values, overrides)  # again: they may change what is taken
    del values["data_from"]
    return values


def _override(path: Path, values: dict[str, Any], overrides: Sequence[str]) -> None:
    try:
        for text in overrides:
            toml.override(values, text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _weighted(sources: Any) -> Any:
    """Training sets that share a batch of any size as they share the batch that they were written for."""
    if not isinstance(sources, list) or not all(isinstance(each, Mapping) for each in sources):
        return sources  # refused when the whole is read
    return [
        {"weight" if key == "per_batch" else key: value for key, value in each.items() if key != "weight"}
        if "per_batch" in each
        else each
        for each in sources
    ]


def _beside(path: Path, name: Any, key: str) -> Path:
    """The file that a recipe names, from its own folder."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{path}: {key}: expected the name of a recipe, got {fields.shown(name)}")
    found = path.parent / user_path(name)
    if not found.is_file():
        raise ConfigError(f"{path}: {key}: {found}: no such file; it is looked for beside {path.name}")
    return found


def _refuse_circle(path: Path, before: list[Path], key: str) -> None:
    if any(path.samefile(each) for each in before):  # all there: they have been read
        names = " -> ".join(each.name for each in (*before, path))
        raise ConfigError(f"{path}: {key}: {names} leads back to itself; expected a recipe that needs none of them")
    if len(before) == _MOST:
        raise ConfigError(f"{before[0]}: {key}: expected at most {_MOST} recipes that lead to one another, got more")


def _checked_init(path: Path, values: Mapping[str, Any]) -> Init:
    try:
        return fields.read(Init, values, path="init")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _checked(path: Path, values: Mapping[str, Any], before: Recipe | None = None) -> Recipe:
    try:
        return from_dict(values, before.model if before else None)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
