"""Images that have several labels, or none: each label ranks all images, and average precision says how well.

There is no accuracy here, since labels do not compete.

Shapes: n images, c classes, d the shared dimension, b resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.errors import DataError, named
from tandem.evaluate import intervals, metrics
from tandem.evaluate.class_prompts import class_prompts
from tandem.evaluate.features import Features
from tandem.evaluate.figures import Figure
from tandem.evaluate.model_checks import check_same_model, note_of_training
from tandem.evaluate.result import DatasetRecord, TaskResult
from tandem.model import Model

Floats = NDArray[np.floating]


def multi_label(
    model: Model,
    data: Features,
    *,
    templates: str | Sequence[str] | None = None,
    language: str | None = None,
    seed: int = 0,
) -> TaskResult:
    """Mean average precision over the classes that have images, and that of each; chance is their share of images.

    Templates as for `zero_shot`. The difference between one prompt and the ensemble is resampled over the same images.
    Raises `DataError` for vectors of another model, and where no image has any label.
    """
    check_same_model(model, data)
    dataset = data.dataset
    truth = dataset.label_matrix
    n, counts = len(dataset), truth.sum(axis=0)
    present = np.flatnonzero(counts)
    if not len(present):
        raise DataError(f"{dataset.name}: no image has any label: there is nothing to find")
    chosen = class_prompts(model, dataset, templates, language)
    # The scale and the bias of logits change no order.
    one, ensemble = (data.vectors @ vectors[present].T for vectors in (chosen.one, chosen.ensemble))
    statistic = average_precision_statistic([one, ensemble], truth[:, present])
    found = intervals.bootstrap(statistic, n, centred=True, seed=seed)
    c = len(present)
    main = found[c : 2 * c] if chosen.chosen_is_ensemble else found[:c]
    chance = float(counts[present].mean() / n)

    means = {
        key: Figure.of(each.within(0.0, 1.0), n, chance=chance)
        for key, each in (("one_prompt", found[-3]), ("ensemble", found[-2]))
    }
    figures = {
        "mean_average_precision": means["ensemble" if chosen.chosen_is_ensemble else "one_prompt"],
        **{f"mean_average_precision_{key}": each for key, each in means.items()},
        "ensemble_gain": Figure.of(found[-1], n, unit="difference"),
    }
    tables: dict[str, Any] = {
        "classes": list(dataset.classes),
        "average_precision": [
            {"class": dataset.classes[place], "n": int(counts[place]), "value": each.value}
            | {"low": max(0.0, each.low), "high": min(1.0, each.high), "chance": float(counts[place] / n)}
            for place, each in zip(present.tolist(), main, strict=True)
        ],
    }
    empty = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    notes = list(dataset.notes)
    if empty:
        notes.append(f"{len(empty)} of {len(counts)} classes have no images, and are left out: {named(empty)}.")
    return TaskResult(
        "multi-label",
        DatasetRecord.of(dataset),
        {
            "templates": list(chosen.templates),
            "one_prompt": chosen.one_template,
            "ensemble": list(chosen.ensemble_templates),
            "language": language,
            "seed": seed,
            "resamples": intervals.RESAMPLES,
        },
        figures,
        tables,
        dataset.keys,
        {},
        (*notes, *note_of_training(model)),
    )


def average_precision_statistic(scores: Sequence[Floats], truth: NDArray[np.bool_]) -> intervals.Statistic:
    """Average precisions of several scorings [n c] as a statistic of weights [b n].

    Those of each class of each scoring, then the mean of each scoring, then the last mean less the one before (if there
    are two). A class of which a resample has no image is left out of that resample's mean. Equal scores share one step,
    as in `metrics.average_precision`.
    """
    plans = []
    for each in scores:
        for column, positives in zip(each.T, truth.T, strict=True):
            order, ends = metrics.precision_places(column)
            places = np.flatnonzero(positives[order])
            # Of equal scores, the last positive one: all of them are counted by its step.
            last = np.searchsorted(ends[places], ends[places], side="right") - 1
            plans.append((order, places, ends[places], last))

    def statistic(weights: Floats) -> Floats:
        found = np.empty((len(weights), len(plans)))
        for i, (order, places, ends, last) in enumerate(plans):
            drawn = weights[:, order]
            own = drawn[:, places]
            seen = np.cumsum(drawn, axis=1)[:, ends]
            right = np.cumsum(own, axis=1)
            precision = np.divide(right[:, last], seen, out=np.zeros_like(own), where=seen > 0)
            total = right[:, -1]
            gained = (own * precision).sum(axis=1)
            found[:, i] = np.divide(gained, total, out=np.full(len(total), np.nan), where=total > 0)
        each = found.reshape(len(weights), len(scores), -1)
        there = np.isfinite(each).sum(axis=2)
        sums = np.nansum(each, axis=2)
        means = np.divide(sums, there, out=np.full_like(sums, np.nan), where=there > 0)
        return np.column_stack([found, means, means[:, -1:] - means[:, -2:-1]])

    return statistic
