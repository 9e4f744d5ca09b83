"""One category's fit from scores of labelled images: which score is used, what it means, where the bands begin.

Nothing is measured on the images it was set on: scores of a head are those of heads fitted without the image, and the
figures of thresholds and probabilities are those of folds, each set on the other folds.

Shapes: n images, d the shared dimension, b resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.evaluate.confidence import calibration_errors
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import Floats, Statistic, bootstrap
from tandem.heads.folds import stratified_folds
from tandem.moderation import promises
from tandem.moderation.category_scores import CategoryVectors, LinearScore, head_score
from tandem.moderation.fit_file import CategoryFit, ScoreKind
from tandem.moderation.policy import Category
from tandem.scores.scoring import sigmoid
from tandem.search.calibration.fitting import fit_logistic

FOLDS = 10

Numbers = NDArray[np.float64]
Shown = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Score:
    """A score and what it gives each labelled image [n], where it was not fitted with it."""

    kind: ScoreKind
    values: Numbers
    linear: LinearScore | None = None


# --- scores ----------------------------------------------------------------------------------------------------------


def scores(
    category: CategoryVectors,
    vectors: Vectors,
    shown: Shown,
    further: tuple[Vectors, Shown] | None = None,
    *,
    seed: int = 0,
) -> list[Score]:
    """The scores that can be had for labelled images [n d]: of the texts, of the examples, and of a head of the images
    themselves and of `further` ones, fitted without the fold that an image is in."""
    found = [Score("texts", category.text_scores(vectors))]
    if category.example_score is not None:
        found.append(Score("examples", category.example_score(vectors), category.example_score))
    extra, more = (vectors[:0], shown[:0]) if further is None else further
    for side, is_for in ((category.in_favour, True), (category.against, False)):
        extra = np.concatenate([extra, side.example_vectors])
        more = np.concatenate([more, np.full(len(side.example_vectors), is_for)])
    if min(shown.sum(), (~shown).sum()) < FOLDS:
        return found
    fold = stratified_folds(shown.astype(np.int64), FOLDS, seed)
    left_out = np.zeros(len(vectors))
    for each in range(FOLDS):
        kept = fold != each
        head = head_score(category.shots(np.concatenate([vectors[kept], extra]), np.concatenate([shown[kept], more])))
        left_out[~kept] = head(vectors[~kept])
    whole = head_score(category.shots(np.concatenate([vectors, extra]), np.concatenate([shown, more])))
    return [*found, Score("learned", left_out, whole)]


def areas(columns: Sequence[Numbers], shown: Shown) -> Statistic:
    """The area under the ROC curve of each score [n], as a statistic of weights [b n] -> [b f] (`intervals.bootstrap`).

    Ties count half.
    """
    sorted_by = []
    for values in columns:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        starts = np.searchsorted(ordered, ordered, "left")
        ends = np.searchsorted(ordered, ordered, "right")
        sorted_by.append((order, starts, ends, shown[order]))

    def statistic(weights: Floats) -> Floats:
        found = []
        for order, starts, ends, positive in sorted_by:
            drawn = weights[:, order].astype(np.float64)
            lower = np.concatenate([np.zeros((len(drawn), 1)), np.cumsum(drawn * ~positive, axis=1)], axis=1)
            below = (lower[:, starts] + lower[:, ends]) / 2
            pairs = (drawn * positive).sum(axis=1) * lower[:, -1]
            wins = (drawn * positive * below).sum(axis=1)
            found.append(np.divide(wins, pairs, out=np.full(len(drawn), 0.5), where=pairs > 0))
        return np.stack(found, axis=1)

    return statistic


def choose(found: Sequence[Score], shown: Shown, *, seed: int = 0) -> tuple[Score, Figure, tuple[str, ...]]:
    """The score of the texts, unless another one is better outside of the noise; its area, and what was compared."""
    columns = [each.values for each in found]
    area = areas(columns, shown)

    def with_differences(weights: Floats) -> Floats:
        each = area(weights)
        pairs = [each[:, i] - each[:, j] for i in range(len(found)) for j in range(len(found))]
        return np.concatenate([each, np.stack(pairs, axis=1)], axis=1)

    intervals = bootstrap(with_differences, len(shown), seed=seed)
    best, notes = 0, list[str]()
    for other in range(1, len(found)):
        gain = intervals[len(found) + other * len(found) + best]
        taken = gain.low > 0
        notes.append(
            f"{found[other].kind} against {found[best].kind}: AUC {intervals[other].value:.3f} against "
            f"{intervals[best].value:.3f}, difference {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]: "
            f"{'taken' if taken else 'not taken'}"
        )
        best = other if taken else best
    return found[best], Figure.of(intervals[best].within(0.0, 1.0), len(shown), chance=0.5, unit="score"), tuple(notes)


# --- one category ----------------------------------------------------------------------------------------------------


def fit_category(
    found: Sequence[Score],
    shown: Shown,
    category: Category,
    *,
    block_precision: float | None = None,
    review_recall: float | None = None,
    seed: int = 0,
) -> CategoryFit:
    """The fit of a category from the scores of labelled images [n] and whether they show it [n]."""
    score, area, notes = choose(found, shown, seed=seed)
    fit, more = _set(score.values, shown, category, block_precision, review_recall)
    if score.linear is not None:
        weights = tuple(float(f"{each:.7g}") for each in score.linear.weights.tolist())
        fit = replace(fit, score_kind=score.kind, weights=weights, bias=score.linear.bias)
    figures = {"auc": area}
    if area.low <= 0.5 or fit.slope <= 0:
        shows = f"AUC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]"
        why = f"its score does not tell images with it from others: {shows}"
        return replace(fit, figures=figures, notes=notes, cannot_tell=why, review_score=None, block_score=None)
    measured, without = _measured(score.values, shown, category, block_precision, review_recall, seed)
    if fit.block_score is None:  # what some folds blocked is not what this fit does
        measured = {name: figure for name, figure in measured.items() if not name.startswith("block_")}
    elif without:
        more = (*more, f"in {without} of {FOLDS} folds, which have fewer images, nothing would be blocked")
    return replace(fit, figures=figures | measured, notes=(*notes, *more))


def _set(
    values: Numbers, shown: Shown, category: Category, block_precision: float | None, review_recall: float | None
) -> tuple[CategoryFit, tuple[str, ...]]:
    """Probability and thresholds from scores [n], without figures, and notes on what could not be promised."""
    n, m = int(shown.sum()), int((~shown).sum())
    center, spread = float(values.mean()), float(values.std()) or 1.0
    z = (values - center) / spread
    # As if one more image of each kind were there, so that a clean cut is no certainty (Platt 1999).
    target = np.where(shown, (n + 1) / (n + 2), 1 / (m + 2))
    intercept, slope = fit_logistic(
        np.concatenate([z, z])[:, None], np.repeat([True, False], len(z)), np.concatenate([target, 1 - target])
    ).tolist()
    probability = sigmoid(intercept + slope * z)
    design = np.stack([np.ones_like(z), z], axis=1)
    curvature = (design * (probability * (1 - probability))[:, None]).T @ design + 1e-3 * np.eye(2)
    covariance = np.linalg.inv(curvature)
    observed = n / (n + m)
    # Another base rate multiplies the odds of every image by the same factor (prior shift; Saerens et al. 2002).
    intercept += math.log(category.base_rate / (1 - category.base_rate)) - math.log(observed / (1 - observed))
    wanted = {"block_precision": block_precision, "review_recall": review_recall}
    fit = CategoryFit(
        score_kind="texts",
        center=center,
        spread=spread,
        intercept=intercept,
        slope=slope,
        covariance=(float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])),
        low=float(values.min()),
        high=float(values.max()),
        base_rate=category.base_rate,
        fitted_base_rate=observed,
        positives=n,
        negatives=m,
        review_score=None,
        block_score=None,
        promised={name: share for name, share in wanted.items() if share is not None},
    )
    if slope <= 0:
        return fit, ()
    notes: tuple[str, ...] = ()
    bands = category.bands
    review, block = fit.score_of(bands.review), fit.score_of(bands.block)
    if block_precision is not None:
        block, best = promises.precision_threshold(values[shown], values[~shown], block_precision, category.base_rate)
        if block is None:
            notes += (
                f"no threshold promises a precision of {block_precision:.4g}, the best one {best:.3f}: "
                "nothing is blocked",
            )
    elif block is None:
        notes += (f"no image reached the probability of {bands.block:.4g} from which it would be blocked",)
    if review_recall is not None:
        review = promises.recall_threshold(values[shown], review_recall)
        if review is None:  # of a fold that is too small: then everything is looked at
            review = fit.low
    elif review is None:
        notes += (f"no image reached the probability of {bands.review:.4g} from which it would be looked at",)
    if review is not None and block is not None and review > block:
        review = block
    return replace(fit, review_score=review, block_score=block), notes


def _measured(
    values: Numbers,
    shown: Shown,
    category: Category,
    block_precision: float | None,
    review_recall: float | None,
    seed: int,
) -> tuple[dict[str, Figure], int]:
    """The figures of thresholds and probabilities on the images of folds that they were not set on, and the number of
    folds whose others did not suffice to block anything."""
    fold = stratified_folds(shown.astype(np.int64), FOLDS, seed)
    flagged, blocked = np.zeros(len(shown), bool), np.zeros(len(shown), bool)
    probability, without = np.zeros(len(shown)), 0
    for each in range(FOLDS):
        kept = fold != each
        fit, _ = _set(values[kept], shown[kept], category, block_precision, review_recall)
        here, without = values[~kept], without + (fit.block_score is None)
        probability[~kept] = fit.probabilities(here)[0]
        flagged[~kept] = False if fit.review_score is None else here >= fit.review_score
        blocked[~kept] = False if fit.block_score is None else here >= fit.block_score
    figures = band_figures(blocked, flagged | blocked, shown, category.base_rate)
    error = calibration_figure(probability, shown, category.base_rate, seed=seed)
    return {**figures, "calibration_error": error}, without


def band_figures(blocked: Shown, flagged: Shown, shown: Shown, base_rate: float) -> dict[str, Figure]:
    """What is blocked and what is blocked or looked at, each bool [n], against what the images show [n]."""
    n, m = int(shown.sum()), int((~shown).sum())
    found: dict[str, Figure | None] = {}
    for name, band in (("block", blocked), ("review", flagged)):
        right, wrong = int((band & shown).sum()), int((band & ~shown).sum())
        found[f"{name}_precision"] = promises.precision_figure(right, n, wrong, m, base_rate)
        found[f"{name}_recall"] = promises.recall_figure(right, n, wrong, m, base_rate)
    return {name: figure for name, figure in found.items() if figure is not None}


def calibration_figure(probability: Numbers, shown: Shown, base_rate: float, *, seed: int = 0) -> Figure:
    """The expected calibration error of probabilities [n] at a base rate, of images weighted so that they have it."""
    observed = float(shown.mean())
    counts = np.where(shown, base_rate / observed, (1 - base_rate) / (1 - observed))
    error = calibration_errors(probability, shown)

    def statistic(weights: Floats) -> Floats:
        return error(weights * counts)

    interval = bootstrap(statistic, len(shown), centred=True, seed=seed)[0].within(0.0, 1.0)
    return Figure.of(interval, len(shown), unit="score")
