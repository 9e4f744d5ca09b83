"""Few-shot classification: what a few labelled images of every class add to zero-shot, method by method.

Shapes: n test images, c classes, r draws of shots, b resamples, k columns (a method with so many shots).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.errors import TandemError, did_you_mean, named
from tandem.evaluate import intervals
from tandem.evaluate.class_prompts import class_prompts
from tandem.evaluate.features import Features
from tandem.evaluate.figures import Figure
from tandem.evaluate.metrics import answers
from tandem.evaluate.model_checks import check_same_model, matched, note_of_training
from tandem.evaluate.result import DatasetRecord, TaskResult
from tandem.evaluate.splits import ranks_within_class
from tandem.heads.fitting import METHODS, fit_shots
from tandem.heads.shots import Shots, check_shots
from tandem.heads.tip_adapter import fit_tip_adapter
from tandem.model import Model

TIP_ADAPTER = "tip_adapter"
ZERO_SHOT, ZERO_SHOT_TOP1 = "zero_shot", "zero_shot_top1"  # as a method of the curve, and as a figure

_Column = tuple[str, int]  # a method and its shots


def few_shot(
    model: Model,
    train: Features,
    test: Features,
    *,
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    methods: Sequence[str] = ("clap", "gda", TIP_ADAPTER, "nearest_mean"),
    templates: str | Sequence[str] | None = None,
    language: str | None = None,
    seed: int = 0,
) -> TaskResult:
    """Accuracy on `test` of each method after so many shots of every class of `train`, beside zero-shot.

    Every seed is a draw of shots, the same for all methods, and the draw of two contains that of one. Nothing is chosen
    on `test` and there is no validation set: what a method has to choose it chooses on its shots. Values are means over
    draws. Their intervals are over images, which are resampled (`seed`), and over draws: five are too few to
    resample, so their spread enters with Student's t. Raises `DataError` for vectors of another model, several labels
    for an image, and classes without an image to learn from; `TandemError` for unknown methods.
    """
    _check(shots, seeds, methods)
    check_same_model(model, train)
    check_same_model(model, test)
    train, test, notes = matched(train, test)
    prompts = class_prompts(model, test.dataset, templates, language)
    classes, labels = test.dataset.classes, test.dataset.labels
    learnt = np.bincount(train.dataset.labels, minlength=len(classes))
    used = sorted({each for each in shots if each <= learnt.max() or each == min(shots)})
    unseen = np.asarray(test.vectors)
    right: dict[_Column, list[NDArray[np.bool_]]] = {}
    drawn = []
    for draw in seeds:
        rank = ranks_within_class(train.dataset.labels, draw)
        drawn.append({"seed": draw, "shots": max(used), "keys": _keys(train, rank, max(used))})
        for count in used:
            places = np.flatnonzero(rank < count)
            given = check_shots(
                train.vectors[places],
                train.dataset.labels[places],
                classes,
                prompts.chosen,
                model.logit_scale,
            )
            for method in methods:
                logits = _logits(method, given, unseen)
                if logits is not None:
                    right.setdefault((method, count), []).append(answers(logits, labels) == labels)
    baseline = answers(unseen @ prompts.chosen.T, labels) == labels
    measured = _measured(right, baseline, len(classes), seed)
    return TaskResult(
        "few-shot",
        DatasetRecord.of(test.dataset),
        {
            "train": train.dataset.name,
            "train_hash": train.dataset.hash,
            "train_images": len(train),
            "shots": used,
            "seeds": list(seeds),
            "methods": list(methods),
            "templates": list(prompts.templates),
            "language": language,
            "logit_scale": model.logit_scale,
            "seed": seed,
            "resamples": intervals.RESAMPLES,
        },
        measured.figures,
        {"classes": list(classes), "few_shot": measured.rows, "draws": drawn},
        test.dataset.keys,
        measured.outcomes,
        (
            *test.dataset.notes,
            *notes,
            *_notes(classes, learnt, shots, used, seeds, methods, right),
            *note_of_training(model),
        ),
    )


def _check(shots: Sequence[int], seeds: Sequence[int], methods: Sequence[str]) -> None:
    known = [*METHODS, TIP_ADAPTER]
    for method in methods:
        if method not in known:
            expected = f"expected one of {', '.join(known)}"
            raise TandemError(f"methods: {expected}, got {method!r}{did_you_mean(method, known)}")
    for name, values in (("shots", shots), ("seeds", seeds), ("methods", methods)):
        if not values or len(set(values)) < len(values):
            raise TandemError(f"{name}: expected at least one, each once, got {list(values)}")
    if min(shots) < 1 or min(seeds) < 0:
        raise TandemError(f"expected shots of at least 1 and seeds of at least 0, got {list(shots)} and {list(seeds)}")


def _keys(train: Features, rank: NDArray[np.int64], count: int) -> list[str]:
    """The keys of a draw in the order in which they were drawn: the first c are the draw of one shot."""
    places = np.lexsort((train.dataset.labels, rank))
    return [train.dataset.keys[place] for place in places if rank[place] < count]


def _logits(method: str, given: Shots, unseen: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """What a method says of the test images [n c]; None where the shots are too few for it."""
    if method == TIP_ADAPTER:
        return fit_tip_adapter(given).logits(unseen)
    if given.counts.min() < METHODS[method].least_images:  # it chooses on its shots
        return None
    return fit_shots(method, given).logits(unseen)


@dataclass(frozen=True, eq=False)
class _Curve:
    figures: Mapping[str, Figure]
    rows: list[dict[str, Any]]
    outcomes: Mapping[str, NDArray[np.float32]]


def _measured(
    right: Mapping[_Column, Sequence[NDArray[np.bool_]]], baseline: NDArray[np.bool_], classes: int, seed: int
) -> _Curve:
    """Figures, the table of the curve and the outcomes for each image, from what was right in each draw."""
    n, chance = len(baseline), 1 / classes
    zero = baseline.astype(np.float64)
    level = intervals.mean_interval(zero, seed=seed)
    figures = {ZERO_SHOT_TOP1: Figure.of(level, n, chance=chance)}
    rows: list[dict[str, Any]] = [
        {"method": ZERO_SHOT, "shots": 0, "value": level.value, "low": level.low, "high": level.high, "draws": 0}
    ]
    outcomes = {ZERO_SHOT_TOP1: zero.astype(np.float32)}
    for (method, count), draws in right.items():
        each = np.array(draws, dtype=np.float64)  # [r n]
        value = intervals.share(interval_over_draws(each, seed=seed), n)
        found = interval_over_draws(each - zero, seed=seed)
        gain = intervals.difference(found, n, bool((each != zero).any()))
        name = f"{method}_{count}_shot" + ("s" if count > 1 else "")
        figures[name] = Figure.of(value, n, chance=chance)
        figures[f"{name}_gain"] = Figure.of(gain, n, unit="difference")
        rows.append(
            {"method": method, "shots": count, "value": value.value, "low": value.low, "high": value.high}
            | {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "draws": len(each)}
            | {"of_draws": each.mean(axis=1).tolist()}
        )
        outcomes[name] = each.mean(axis=0).astype(np.float32)
    return _Curve(figures, rows, outcomes)


def interval_over_draws(outcomes: NDArray[np.float64], *, seed: int = 0) -> intervals.Interval:
    """The mean of outcomes [r n] and its 95% interval over both images and draws.

    Images are resampled with the mean over draws as the outcome of each. To each resample is added the standard error
    of the draws' means, s / sqrt(r), times a value of Student's t with r - 1 degrees of freedom. What the draws' means
    differ by because of the images is in both: the interval is a little too wide rather than too narrow. With one draw
    it is over images alone.
    """
    draws, n = outcomes.shape
    statistic = intervals.means(outcomes.mean(axis=0)[:, None])
    resampled = np.concatenate([statistic(weights)[:, 0] for weights in intervals.resamples_of(n, seed=seed)])
    if draws > 1:
        error = outcomes.mean(axis=1).std(ddof=1) / np.sqrt(draws)
        resampled = resampled + error * np.random.default_rng([seed, draws]).standard_t(draws - 1, len(resampled))
    low, high = np.quantile(resampled, [(1 - intervals.LEVEL) / 2, (1 + intervals.LEVEL) / 2])
    return intervals.Interval(float(outcomes.mean()), float(low), float(high))


def _notes(
    classes: Sequence[str],
    learnt: NDArray[np.int64],
    shots: Sequence[int],
    used: Sequence[int],
    seeds: Sequence[int],
    methods: Sequence[str],
    right: Mapping[_Column, Any],
) -> list[str]:
    notes = []
    few = [f"{name} ({count})" for name, count in zip(classes, learnt, strict=True) if count < max(used)]
    if few:
        notes.append(f"Fewer than {max(used)} images to learn from, of which all are used: {named(few)}.")
    beyond = sorted(set(shots) - set(used))
    if beyond:
        notes.append(
            f"No class has {beyond[0]} images to learn from: {', '.join(map(str, beyond))} shots were left out."
        )
    for method in methods:
        missing = [str(count) for count in used if (method, count) not in right]
        if missing:
            notes.append(
                f"{method} needs two images of every class, to choose its parameter by leaving some out: it has no "
                f"figure for {', '.join(missing)} shot{'s' if missing != ['1'] else ''}."
            )
    if len(seeds) == 1:
        notes.append("One draw of shots: the intervals are over images alone, and another draw may differ by more.")
    return notes
