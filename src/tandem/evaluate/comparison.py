"""Runs side by side, image by image: what differs, and whether that is more than chance.

The first run is what the others are compared with. Only the same images with the same labels and captions compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tandem.errors import DataError
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import McNemar, mcnemar, paired_bootstrap
from tandem.evaluate.result import Task, TaskResult
from tandem.evaluate.run_report import RunReport

SIGNIFICANCE = 0.05
FLIPS = 4999  # of a sign-flip test
_SAME_MEAN = 1e-4  # how near the mean of outcomes, which are float32, is to the figure that they are averaged to
_CELLS = 1 << 22  # flipped differences held at once

DifferenceVerdict = Literal["higher", "lower", "no difference shown", "not tested"]


@dataclass(frozen=True)
class Difference:
    """A figure of one run against that of the first.

    `p` is that of McNemar's exact test where outcomes are right or wrong, else of a sign-flip test; `p_corrected` is
    Holm's over the runs that are compared with the first (Holm 1979). A difference is shown where that is below 0.05
    and the interval of the paired bootstrap excludes 0. All are None for figures that are no mean over images.
    """

    value: Figure
    difference: Figure | None = None
    p: float | None = None
    p_corrected: float | None = None
    only_this: int | None = None  # images that only this run got right
    only_first: int | None = None
    verdict: DifferenceVerdict = "not tested"


@dataclass(frozen=True)
class ComparedFigure:
    """One figure in all runs."""

    name: str
    first: Figure
    others: tuple[Difference, ...]


@dataclass(frozen=True)
class ComparedTask:
    """One task on one data set, measured by all runs."""

    task: Task
    dataset: str
    images: int
    figures: tuple[ComparedFigure, ...]
    settings: dict[str, tuple[Any, ...]]  # those that differ, with each run's value


@dataclass(frozen=True)
class Comparison:
    """All that the runs have in common."""

    runs: tuple[str, ...]  # the folders' names
    models: tuple[str, ...]
    fingerprints: tuple[str, ...]
    tasks: tuple[ComparedTask, ...]
    notes: tuple[str, ...]  # what only some of the runs have


def compare(runs: Sequence[RunReport], names: Sequence[str]) -> Comparison:
    """Compare each run with the first, figure by figure, over the same images.

    Raises `DataError` for fewer than two runs, for data or images that differ, and where they have no task in common.
    """
    if len(runs) < 2:
        raise DataError("expected at least two runs to compare")
    tasks, notes = [], []
    for result in runs[0].results:
        matched = [result]
        for run, name in zip(runs[1:], names[1:], strict=True):
            other = _match(result, run, names[0], name)
            if other is None:
                notes.append(f"{name} has no {result.task} on {result.dataset.name}")
            else:
                matched.append(other)
        if len(matched) == len(runs):
            tasks.append(_compared(matched))
    if not tasks:
        had = "; ".join(
            f"{name}: {', '.join(f'{each.task} on {each.dataset.name}' for each in run.results) or 'nothing'}"
            for run, name in zip(runs, names, strict=True)
        )
        raise DataError(f"the runs have no task on the same data in common ({had})")
    for run, name in zip(runs[1:], names[1:], strict=True):
        if _is_same(runs[0], run):
            notes.append(f"{names[0]} and {name} are the same run: nothing can differ")
    models = tuple(run.model.name for run in runs)
    return Comparison(tuple(names), models, tuple(run.model.fingerprint for run in runs), tuple(tasks), tuple(notes))


def _is_same(a: RunReport, b: RunReport) -> bool:
    """Whether two are one run, or copies of it."""
    figures = [[(each.task, each.dataset.hash, each.figures) for each in run.results] for run in (a, b)]
    return (a.made, a.model) == (b.made, b.model) and figures[0] == figures[1]


def _match(result: TaskResult, run: RunReport, first: str, name: str) -> TaskResult | None:
    """The result of another run on the same task and data. Raises `DataError` where the data changed in between."""
    for other in run.results:
        if other.task != result.task or other.dataset.hash != result.dataset.hash:
            continue
        if other.keys != result.keys:
            apart = len(set(other.keys) ^ set(result.keys))
            raise DataError(
                f"{result.dataset.name}: {first} and {name} measured different images "
                + (f"({apart:,} are in one of them only); " if apart else "(in another order); ")
                + "measure both on the same"
            )
        return other
    for other in run.results:
        if (other.task, other.dataset.name, other.dataset.split) == (
            result.task,
            result.dataset.name,
            result.dataset.split,
        ):
            raise DataError(
                f"{result.dataset.name}: {first} and {name} were measured on different data (hash "
                f"{result.dataset.hash[:12]} against {other.dataset.hash[:12]}: images, labels or captions differ); "
                "measure both on the same"
            )
    return None


def _compared(results: Sequence[TaskResult]) -> ComparedTask:
    first = results[0]
    names = dict.fromkeys(name for result in results for name in result.settings)
    values = {name: tuple(result.settings.get(name) for result in results) for name in names}
    settings = {name: each for name, each in values.items() if len(set(map(repr, each))) > 1}
    common = [name for name in first.figures if all(name in result.figures for result in results)]
    figures = tuple(_figure(name, results) for name in common)
    return ComparedTask(first.task, first.dataset.name, len(first.keys), figures, settings)


def _figure(name: str, results: Sequence[TaskResult]) -> ComparedFigure:
    first = results[0].figures[name]
    others = [result.figures[name] for result in results[1:]]
    if not all(_is_mean(name, result) for result in results):
        return ComparedFigure(name, first, tuple(map(Difference, others)))
    before = results[0].outcomes[name]
    tested = [_tested(result.figures[name], result.outcomes[name], before) for result in results[1:]]
    corrected = holm([each.p for each in tested if each.p is not None])
    found = []
    for each, p in zip(tested, corrected, strict=True):
        assert each.difference is not None
        low, high = each.difference.low, each.difference.high
        verdict: DifferenceVerdict = "no difference shown"
        if p < SIGNIFICANCE and (low > 0 or high < 0):
            verdict = "higher" if each.difference.value > 0 else "lower"
        found.append(Difference(each.value, each.difference, each.p, p, each.only_this, each.only_first, verdict))
    return ComparedFigure(name, first, tuple(found))


def _is_mean(name: str, result: TaskResult) -> bool:
    """Whether the figure is the mean of outcomes that the result kept."""
    values = result.outcomes.get(name)
    if values is None or values.ndim != 1 or len(values) != len(result.keys) or not len(values):
        return False
    return abs(float(values.mean(dtype=np.float64)) - result.figures[name].value) <= _SAME_MEAN * max(
        1, abs(result.figures[name].value)
    )


def _tested(figure: Figure, values: NDArray[np.floating], before: NDArray[np.floating]) -> Difference:
    interval = paired_bootstrap(values, before)
    unit = "difference" if figure.unit == "share" else figure.unit
    difference = Figure.of(interval, len(values), chance=0.0, unit=unit)
    if np.isin(values, (0, 1)).all() and np.isin(before, (0, 1)).all():
        test: McNemar = mcnemar(values, before)
        return Difference(figure, difference, test.p_exact, None, test.only_a, test.only_b)
    return Difference(figure, difference, sign_flip_p(np.asarray(values, np.float64) - before))


def sign_flip_p(differences: NDArray[np.floating], *, seed: int = 0) -> float:
    """The two-sided probability of a sum of paired differences [n] as large, were each sign a coin's (Fisher 1935)."""
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    observed = abs(moved.sum())
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // len(moved))
    as_large = 0
    for start in range(0, FLIPS, block):
        signs = rng.integers(0, 2, (min(block, FLIPS - start), len(moved)), dtype=np.int8)
        sums = 2 * (signs @ moved) - moved.sum()
        as_large += int((np.abs(sums) >= observed * (1 - 1e-12)).sum())
    return (as_large + 1) / (FLIPS + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Probabilities corrected for their number by Holm's step-down method (Holm 1979), in the order given."""
    order = sorted(range(len(ps)), key=lambda at: ps[at])
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[at]))
        corrected[at] = highest
    return corrected
