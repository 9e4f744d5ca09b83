"""Zero-shot classification: images among the names of classes, by words alone.

Shapes: n images, c classes, d the shared dimension, f figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import DataError, named
from tandem.evaluate import confidence, intervals, metrics
from tandem.evaluate.class_prompts import class_prompts
from tandem.evaluate.class_rows import per_class_rows
from tandem.evaluate.features import Features
from tandem.evaluate.figures import Figure, Unit
from tandem.evaluate.model_checks import check_same_model, note_of_training
from tandem.evaluate.multi_label import multi_label
from tandem.evaluate.result import DatasetRecord, TaskResult
from tandem.model import Model

_ROWS = 1 << 22  # scores worked on at once: 16 MB


def zero_shot(
    model: Model,
    data: Features,
    *,
    templates: str | Sequence[str] | None = None,
    language: str | None = None,
    seed: int = 0,
) -> TaskResult:
    """Classify the images among the names of the data set's classes; images of several labels by `multi_label`.

    `templates` are those of the data set where it has some, else the default one of `language`, as classifying takes
    it. All figures are of these; one prompt and an ensemble are always both shown beside, with their paired difference.
    The prior-corrected accuracy divides the probability of each class by its mean over all of these images
    (`confidence.answer_prior`), which so help each other: it is no property of one photo by itself.

    Raises `DataError` for vectors of another model, no images, or fewer than two classes.
    """
    check_same_model(model, data)
    if data.dataset.multi_label:
        return multi_label(model, data, templates=templates, language=language, seed=seed)
    dataset, vectors = data.dataset, data.vectors
    names, labels = dataset.classes, dataset.labels
    if len(names) < 2:
        raise DataError(f"{dataset.name}: zero-shot needs at least two classes, got {named(names) or 'none'}")
    chosen = class_prompts(model, dataset, templates, language)
    main = judged(vectors, chosen.chosen, labels)
    other = judged(vectors, chosen.one if chosen.chosen_is_ensemble else chosen.ensemble, labels)
    one, ensemble = (other, main) if chosen.chosen_is_ensemble else (main, other)
    columns: dict[str, NDArray[np.float64]] = {"top1": main.right}
    if len(names) > 5:
        columns["top5"] = (main.ranks <= 5).astype(np.float64)
    columns |= {"top1_one_prompt": one.right, "top1_ensemble": ensemble.right}
    columns["ensemble_gain"] = ensemble.right - one.right
    logits = np.float32(model.logit_scale) * (vectors @ chosen.chosen.T)
    prior = confidence.answer_prior(logits)
    corrected = judged(
        vectors, chosen.chosen, labels, np.asarray(np.log(prior) / np.float32(model.logit_scale), dtype=np.float32)
    )
    columns["top1_prior_corrected"] = corrected.right
    columns["prior_correction_gain"] = corrected.right - main.right
    images = np.bincount(labels, minlength=len(names))
    favourites = favourites_of_halves(main.answers, seed)
    columns["most_answered_share"] = (main.answers == favourites).astype(np.float64)
    chances = dict.fromkeys(columns, 1 / len(names)) | {"top5": 5 / len(names)}
    chances["most_answered_share"] = float((labels == favourites).mean())
    figures = _means(columns, chances, seed)
    figures = _with_mean_per_class(figures, main.right, labels, len(names), seed)
    stated, calibrated, tables = _confidence(logits, main, labels, seed)
    outcomes = {key: column.astype(np.float32) for key, column in columns.items() if not key.endswith("_gain")}
    there = images[labels] * (images > 0).sum()
    return TaskResult(
        "zero-shot",
        DatasetRecord.of(dataset),
        {
            "templates": list(chosen.templates),
            "one_prompt": chosen.one_template,
            "ensemble": list(chosen.ensemble_templates),
            "language": language,
            "seed": seed,
            "resamples": intervals.RESAMPLES,
            "logit_scale": model.logit_scale,
            "calibration_bins": confidence.BINS,
        },
        figures | calibrated,
        {"classes": list(names), **_class_tables(names, labels, main, corrected), **tables},
        dataset.keys,
        outcomes
        | {
            "mean_per_class": np.asarray(main.right * len(labels) / there, dtype=np.float32),
            "answer": main.answers.astype(np.float32),
            "probability": stated,
        },
        (*dataset.notes, *_notes(names, images), *note_of_training(model)),
    )


@dataclass(frozen=True, eq=False)
class Judged:
    """The rank of each image's class [n], and the class that each was given [n]."""

    ranks: NDArray[np.int64]
    answers: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.float64]:
        """1 where the answer is the label, 0 elsewhere [n]."""
        return np.asarray(self.ranks == 1, dtype=np.float64)


def judged(
    vectors: Vectors, class_vectors: Vectors, labels: NDArray[np.int64], offset: Vectors | None = None
) -> Judged:
    """Classify vectors [n d] by class vectors [c d], less an offset for each class [c], in blocks of images."""
    parts = []
    step = max(1, _ROWS // len(class_vectors))
    for start in range(0, len(vectors), step):
        rows = slice(start, start + step)
        scores = vectors[rows] @ class_vectors.T
        if offset is not None:
            scores -= offset
        parts.append((metrics.label_ranks(scores, labels[rows]), metrics.answers(scores, labels[rows])))
    return Judged(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def favourites_of_halves(answers: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The most frequent answer on the half of the images that an image is not in, [n]; a single image's is its own.

    Counted where it was chosen, the largest of many counts would flatter itself: a fair model would have a favourite.
    """
    n = len(answers)
    first = np.zeros(n, dtype=bool)
    first[np.random.default_rng(seed).permutation(n)[: n // 2]] = True
    if n < 2:
        return answers
    return np.where(first, np.bincount(answers[~first]).argmax(), np.bincount(answers[first]).argmax())


def _means(columns: dict[str, NDArray[np.float64]], chances: dict[str, float], seed: int) -> dict[str, Figure]:
    """Figures of mean outcomes, resampled together."""
    outcomes = np.column_stack(list(columns.values()))
    n, figures = len(outcomes), {}
    for key, found in zip(columns, intervals.bootstrap(intervals.means(outcomes), n, seed=seed), strict=True):
        is_gain = key.endswith("_gain")
        sure = intervals.difference(found, n, bool(columns[key].any())) if is_gain else intervals.share(found, n)
        unit: Unit = "difference" if is_gain else "share"
        figures[key] = Figure.of(sure, n, chance=chances.get(key), unit=unit)
    return figures


def _with_mean_per_class(
    figures: dict[str, Figure], right: NDArray[np.float64], labels: NDArray[np.int64], classes: int, seed: int
) -> dict[str, Figure]:
    (found,) = intervals.bootstrap(intervals.class_means(right[:, None], labels), len(labels), seed=seed)
    sure = intervals.share(found, len(labels))
    figure = Figure.of(sure, len(labels), chance=1 / classes)
    first = {key: figures[key] for key in ("top1", "top5") if key in figures}
    return first | {"mean_per_class": figure} | figures


def _confidence(
    logits: NDArray[np.float32], main: Judged, labels: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float32], dict[str, Figure], dict[str, Any]]:
    """The probability of each answer [n], the calibration error before and after a temperature, and their bins."""
    n = len(labels)
    figures: dict[str, Figure] = {}
    tables: dict[str, Any] = {}
    stated = np.exp(confidence.log_probabilities(logits, main.answers))
    cases = {"calibration": stated}
    if n > 1:
        temperatures, both = confidence.cross_fitted_temperatures(logits, labels, seed)
        cases["calibration_after_temperature"] = np.exp(
            confidence.log_probabilities(logits, main.answers, temperatures)
        )
        losses = [-confidence.log_probabilities(logits, labels, each).mean() for each in (None, temperatures)]
        tables["temperature"] = {
            "of_halves": [float(each) for each in both],  # each fitted on one half and used on the other
            "log_loss_before": float(losses[0]),
            "log_loss_after": float(losses[1]),
        }
    for key, chances in cases.items():
        statistic = confidence.calibration_errors(chances, main.right)
        (found,) = intervals.bootstrap(statistic, n, centred=True, seed=seed)
        name = key.replace("calibration", "calibration_error", 1)
        figures[name] = Figure.of(found.within(0.0, 1.0), n, unit="score")
        tables[key] = [
            {"confidence": each.confidence, "accuracy": each.accuracy, "n": each.n, "low": each.low, "high": each.high}
            for each in confidence.reliability(chances, main.right)
        ]
    return stated, figures, tables


def _class_tables(names: Sequence[str], labels: NDArray[np.int64], main: Judged, corrected: Judged) -> dict[str, Any]:
    count = np.bincount(labels, minlength=len(names))
    cells = metrics.confusion(labels, main.answers, len(names))
    shares = [np.bincount(each.answers, minlength=len(names)) / len(labels) for each in (main, corrected)]
    prior = [
        {"class": name, "share": float(shares[0][i]), "true_share": float(count[i] / len(labels))}
        | {"share_after_correction": float(shares[1][i])}
        for i, name in enumerate(names)
    ]
    # How many answers had to be others for the classes to be answered as often as they occur.
    moved = [float(np.abs(share - count / len(labels)).sum() / 2) for share in shares]
    return {
        "per_class": per_class_rows(names, labels, main.answers),
        "confusion": cells.tolist(),
        "class_prior": prior,
        "class_prior_distance": dict(zip(("plain", "after_correction"), moved, strict=True)),
    }


def _notes(names: Sequence[str], images: NDArray[np.int64]) -> list[str]:
    empty = [name for name, count in zip(names, images, strict=True) if not count]
    notes = []
    if empty:
        notes.append(
            f"{len(empty)} of {len(names)} classes have no images: {named(empty)}. They can be answered, but "
            "do not count in the mean per class."
        )
    notes.append(
        "The prior-corrected accuracy divides the probability of each class by its mean over all of these images: it "
        "uses the test images, without their labels, and assumes that classes are about equally frequent."
    )
    return notes
