"""Runs one after the other: each recipe of a chain starts from the model that the run before it ends with.

A run that has ended is not run again, nor those before it; one that was stopped resumes. Knows recipe files and runs;
no steps.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from tandem.errors import ConfigError, DataError
from tandem.files import user_path
from tandem.train.data.loader import data_root, shard_reader
from tandem.train.data.paths import located, source_files
from tandem.train.model.initial_weights import check_fits
from tandem.train.parallel.process import Processes, start
from tandem.train.recipe import Recipe
from tandem.train.recipe_file import RecipeFile
from tandem.train.run.dry_run import dry_run, temporary_folder
from tandem.train.run.ending import TrainResult, finished_model
from tandem.train.run.loop import train
from tandem.train.run.reporting import duration, echo
from tandem.train.run.validation import check_measures, validation_sources


def train_chain(
    chain: Sequence[RecipeFile],
    stop_requested: Callable[[], bool] = lambda: False,
    processes: Processes | None = None,
) -> tuple[TrainResult, Recipe]:
    """Run all recipes of a chain that have not ended; the result of the last one that ran, and its recipe.

    Raises what `train` raises; before the first run also if another one lacks its data (`DataError`), or cannot start
    from the model of the one before it (`ConfigError`).
    """
    processes = processes or start(chain[-1].recipe.device)
    remaining, model = _remaining(chain, processes, echo)
    for place, each in enumerate(remaining, 1):
        if len(remaining) > 1 and processes.is_main:
            echo(f"{each.path}: run {place} of {len(remaining)}")
        recipe = each.after(model) if model else each.recipe
        result = train(recipe, stop_requested, processes)
        if result.model is None:
            break
        model = result.model
    return result, recipe


def dry_run_chain(chain: Sequence[RecipeFile], processes: Processes | None = None) -> Iterator[str]:
    """Try each recipe that has not ended, and yield the findings, in lines.

    Each starts from the first weights of the one before it, whose last ones do not exist yet. Raises what `train_chain`
    would raise before its first step.
    """
    mine = processes or start(chain[-1].recipe.device)
    said: list[str] = []
    try:
        remaining, model = _remaining(chain, mine, said.append)
        yield from said
        seconds = 0.0
        with temporary_folder(chain[-1].recipe, mine) as folder:
            for place, each in enumerate(remaining):
                if len(remaining) > 1 and mine.is_main:
                    yield f"{each.path}:"
                recipe = each.after(model) if model else each.recipe
                model = folder / f"model-{place}"
                seconds += yield from dry_run(recipe, mine, write_to=model)
        if len(remaining) > 1 and mine.is_main:
            yield f"time: about {duration(seconds)} for {', then '.join(each.path.name for each in remaining)}"
    finally:
        if processes is None:
            mine.close()


def _remaining(
    chain: Sequence[RecipeFile], processes: Processes, say: Callable[[str], None]
) -> tuple[Sequence[RecipeFile], Path | None]:
    """The recipes still to be run, the last one at least, and the model that the first of them starts from."""
    *before, last = chain
    newest = None
    if processes.is_main:
        models = [finished_model(each.recipe) for each in before]
        newest = max(((place, str(model)) for place, model in enumerate(models) if model), default=None)
    ended, model = processes.broadcast_object(newest) or (-1, "")
    remaining = [*before[ended + 1 :], last]
    for one, other in pairwise(remaining):
        _check_link(one, other)
        _check_data(other)
    if model:
        if processes.is_main:
            say(f"{chain[ended].path}: ended before, with {model}")
        return remaining, Path(model)
    return remaining, None


def _check_link(one: RecipeFile, other: RecipeFile) -> None:
    """Check that the second recipe can start where the first one ends. Raises `ConfigError`."""
    folder = user_path(one.recipe.folder)
    if (folder / "config.json").exists() and not (folder / "recipe.json").exists():
        raise ConfigError(f"{one.path}: folder: {folder} is a model, no run; to start from it say init.model={folder}")
    try:
        check_fits(one.recipe.model, other.recipe, str(one.path))
    except ConfigError as error:
        raise ConfigError(f"{other.path}: {error}") from None


def _check_data(each: RecipeFile) -> None:
    """Look for the files of a recipe whose run may start hours later, and for the measures that it chooses by.

    Raises `DataError` or `ConfigError`.
    """
    try:
        check_measures(each.recipe)
    except ConfigError as error:
        raise ConfigError(f"{each.path}: {error}") from None
    root, reader = data_root(each.recipe), shard_reader(each.recipe)
    try:
        for source in each.recipe.data:
            source_files(source, root, reader)
        for _, measured in validation_sources(each.recipe):
            path = measured.path if located(measured.path, root) else Path(root) / user_path(measured.path)
            if isinstance(path, Path) and not path.exists():
                raise DataError(f"{path}: no such file or folder to validate on; set data_root=FOLDER")
    except DataError as error:
        raise DataError(f"{each.path}: {error}") from None
