"""One run of an evaluation as a folder: what was measured, with what, and the outcome for every image.

result.json     model, versions, machine, and for each result its data, settings, figures and tables
outcomes.npz    the outcome for every image, for paired tests
report.md       the figures, for a terminal or a forge
report.html     the same with charts and images, in one file
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tandem.datasets.dataset import Dataset
from tandem.errors import DataError
from tandem.evaluate.records import Environment, ModelRecord, timestamp
from tandem.evaluate.report.document import html_report
from tandem.evaluate.report.markdown import markdown_report
from tandem.evaluate.result import TaskResult
from tandem.evaluate.stored_run import FORMAT, OUTCOMES, RESULT, VERSION, read_run
from tandem.files import atomic_folder, folder_to_write, json_text, user_path, write_text

MARKDOWN, HTML = "report.md", "report.html"


@dataclass(frozen=True, eq=False)
class RunReport:
    """What one model was measured to be worth on one or several data sets.

    `datasets` are those whose images can be shown, and `skipped` counts images that could not be read; a run that was
    loaded has neither.
    """

    model: ModelRecord
    environment: Environment
    made: str  # ISO 8601, UTC
    results: tuple[TaskResult, ...]
    datasets: tuple[Dataset, ...] = ()
    skipped: int = 0

    @staticmethod
    def of(model: ModelRecord, results: Sequence[TaskResult], datasets: Sequence[Dataset] = ()) -> "RunReport":
        """A report made now, here."""
        return RunReport(model, Environment.here(), timestamp(), tuple(results), tuple(datasets))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the outcomes for every image are not among them."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "made": self.made,
            "model": asdict(self.model),
            "environment": asdict(self.environment),
            "results": [_result_as_dict(result) for result in self.results],
        }

    def save(self, folder: str | Path) -> Path:
        """Write the run's folder, whole or not at all; an earlier run in it is replaced.

        The HTML shows the best and worst images of `datasets`. Raises `DataError` where the folder holds anything
        else than a run.
        """
        target = check_target(folder)
        with atomic_folder(target) as partial:
            write_text(partial / RESULT, json_text(plain(self.as_dict())) + "\n")
            np.savez_compressed(partial / OUTCOMES, **dict(_arrays(self.results)))
            write_text(partial / MARKDOWN, markdown_report(self.model, self.environment, self.made, self.results))
            page = html_report(self.model, self.environment, self.made, self.results, self.datasets)
            write_text(partial / HTML, page)
        return target

    @staticmethod
    def load(folder: str | Path) -> "RunReport":
        """Read a run's folder, or its `result.json`, which then must stand beside its `outcomes.npz`.

        Raises `DataError` where there is none, or where it is damaged.
        """
        path = user_path(folder)
        found = read_run(path.parent if path.name == RESULT else path)
        return RunReport(found.model, found.environment, found.made, found.results)


def check_target(folder: str | Path) -> Path:
    """The path of a folder that a run may be written to: new, empty, or holding a run. Raises `DataError`."""
    return folder_to_write(folder, (RESULT, OUTCOMES, MARKDOWN, HTML), "a run")


def refuse_other_run(folder: Path, fingerprint: str, hashes: Iterable[str]) -> None:
    """Refuse to replace a run of another model, of other data, or one that cannot be read. Raises `DataError`.

    `hashes` are those of the data sets that the new run measured.
    """
    if not (folder / RESULT).is_file():
        return
    how = "give another folder, or --overwrite to replace it"
    try:
        found = read_run(folder)
    except DataError as error:
        raise DataError(f"{error}; {how}") from None
    if found.model.fingerprint != fingerprint:
        raise DataError(f"{folder}: holds a run of another model, {found.model.name}: {how}")
    if {result.dataset.hash for result in found.results} != set(hashes):
        names = ", ".join(dict.fromkeys(result.dataset.name for result in found.results))
        raise DataError(f"{folder}: holds a run on other data ({names}): {how}")


def plain(value: Any) -> Any:
    """The same in types that JSON has: numpy's numbers and arrays, tuples and mappings."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def _result_as_dict(result: TaskResult) -> dict[str, Any]:
    return {
        "task": result.task,
        "dataset": asdict(result.dataset),
        "settings": dict(result.settings),
        "figures": {name: figure.as_dict() for name, figure in result.figures.items()},
        "tables": dict(result.tables),
        "outcomes": list(result.outcomes),
        "notes": list(result.notes),
    }


def _arrays(results: Sequence[TaskResult]) -> Iterator[tuple[str, Any]]:
    """Names and arrays of `outcomes.npz`: the result's place, then `keys` or the outcome's name."""
    for at, result in enumerate(results):
        yield f"{at}/keys", np.array(result.keys, dtype=np.str_)
        for name, values in result.outcomes.items():
            yield f"{at}/{name}", values
