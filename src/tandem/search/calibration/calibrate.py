"""From images with captions to a calibration, with figures of how well it holds: AUC and calibration error.

Shapes: h hits, b bins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.scores.relevance import MEASURED, Calibration, Coefficients, MeasuredKind, Numbers, QueryFeatures, QueryKind
from tandem.scores.scoring import LabelCoefficients, sigmoid
from tandem.search.calibration.caption_set import CaptionSet
from tandem.search.calibration.fitting import NO_MATCH_PRIOR, fit
from tandem.search.calibration.label_fitting import NO_WORDS, fit_labels, label_counts
from tandem.search.calibration.trials import LabelledQueries, Trials, run_trials

BINS = 15


def auc(
    positive: Numbers,
    negative: Numbers,
    positive_counts: Numbers | None = None,
    negative_counts: Numbers | None = None,
) -> float | None:
    """Area under the ROC curve: the probability that one of the first is higher than one of the second.

    Ties count half; chance is 0.5. Each counts as many times as the counts say, once if None. None where there are none
    of either.
    """
    if not len(positive) or not len(negative):
        return None
    order = np.argsort(negative)
    ordered = negative[order]
    lower = np.cumsum([0.0, *(np.ones(len(negative)) if negative_counts is None else negative_counts[order])])
    wins = (lower[np.searchsorted(ordered, positive, "left")] + lower[np.searchsorted(ordered, positive, "right")]) / 2
    return float(np.average(wins, weights=positive_counts) / lower[-1])


def reliability(
    probability: Numbers, matches: NDArray[np.bool_], counts: Numbers | None = None
) -> list[dict[str, float]]:
    """For each of `BINS` equal bins that has hits: how many, their mean probability, and the share that match.

    A hit counts as many times as `counts` says, once if None.
    """
    bins = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
    counts = np.ones(len(probability)) if counts is None else counts
    rows = []
    for index in np.unique(bins):
        inside = bins == index
        rows.append(
            {
                "from": index / BINS,
                "hits": float(counts[inside].sum()),
                "mean_probability": float(np.average(probability[inside], weights=counts[inside])),
                "match_rate": float(np.average(matches[inside], weights=counts[inside])),
            }
        )
    return rows


def calibration_error(probability: Numbers, matches: NDArray[np.bool_], counts: Numbers | None = None) -> float:
    """Expected calibration error (Naeini et al. 2015): probability less match rate, over bins, weighted by hits."""
    rows = reliability(probability, matches, counts)
    hits = sum(row["hits"] for row in rows)
    return float(sum(row["hits"] * abs(row["mean_probability"] - row["match_rate"]) for row in rows) / max(hits, 1e-9))


def calibrate(
    name: str,
    fingerprint: str,
    captions: CaptionSet,
    held_out: CaptionSet | None = None,
    *,
    names: Sequence[str] = (),
) -> Calibration:
    """A calibration with its figures: of `held_out` (whose files are `names`), or, without it, of two halves.

    Then one half is fitted and the other reported; the calibration that is given is that of all.
    """
    whole = _fit(name, fingerprint, captions)
    if held_out is not None:
        figures = {"data": ", ".join(names), **evaluate(whole, held_out)}
    else:
        fitted, tested = captions.halves()
        figures = {"data": "the half not fitted on", **evaluate(_fit(name, fingerprint, fitted), tested)}
    if whole.labels is None:
        figures.pop("labels", None)
        figures["no_labels"] = whole.labels_reason
    labels = whole.labels if "labels" in figures else None  # how well they are told is not known without a report
    return replace(whole, labels=labels, areas=areas_in(figures), figures=figures)


def _fit(name: str, fingerprint: str, captions: CaptionSet) -> Calibration:
    known = captions.known()
    labels = fit_labels(known["label"], captions.image_vectors.mean(axis=0))
    found = fit(name, fingerprint, known)
    return replace(found, figures={"no_labels": labels}) if isinstance(labels, str) else replace(found, labels=labels)


def areas_in(figures: Mapping[str, Any]) -> dict[MeasuredKind, dict[int, float]]:
    """The areas of a report, as a calibration keeps them: how well it tells searches with a match from others."""
    found: dict[MeasuredKind, dict[int, float]] = {}
    for kind in MEASURED:
        if kind == "labels":
            sizes = {1: figures["labels"]["auc"]} if "labels" in figures else {}
        else:
            collections = figures["queries"].get(kind, {}).get("collections", {})
            sizes = {int(size): part["auc_present_emptied"] for size, part in collections.items()}
        if known := {size: area for size, area in sizes.items() if area is not None}:
            found[kind] = known
    return found


def evaluate(
    calibration: Calibration, captions: CaptionSet, sizes: Sequence[int] = (10, 100), *, seed: int = 1
) -> dict[str, Any]:
    """Figures on images that the calibration has not seen, for captions, phrases and images as queries.

    For each: `pairs_auc` of the cosines of matched against mismatched pairs, and for collections of each of the sizes
    and of all images what `_figures` gives. For labels what `_label_figures` gives. Numbers have four digits.
    """
    known = captions.known()
    text, is_phrase = known["text"], captions.is_phrase
    parts: dict[str, tuple[QueryKind, LabelledQueries]] = {
        "captions": ("text", text.part(~is_phrase)),
        "phrases": ("text", text.part(is_phrase)),
        "images": ("image", known["image"]),
    }
    figures: dict[str, Any] = {"images": len(captions), "queries": {}}
    for name, (kind, each) in parts.items():
        if len(each.scores):
            others = each.scores[~each.matches][::101]  # enough of them
            coefficients = calibration.coefficients(kind)
            features = calibration.features(kind, each.queries, each.length)
            figures["queries"][name] = {
                "count": len(each.scores),
                "pairs_auc": _rounded(auc(each.scores[each.matches].astype(float), others.astype(float))),
                "collections": {
                    str(size): _figures(coefficients, each, features, size, seed)
                    for size in (*(size for size in sizes if size < len(captions)), len(captions))
                },
            }
    if calibration.labels is not None and len(known["label"].scores):
        figures["labels"] = _label_figures(calibration.labels, known["label"])
    else:
        figures["no_labels"] = calibration.labels_reason or NO_WORDS
    return figures


def _label_figures(coefficients: LabelCoefficients, known: LabelledQueries) -> dict[str, Any]:
    """How the probability of a label by itself holds, over all pairs of a label and an image.

    Every label counts as much, with a share `LABEL_PRIOR` of images that it is true of. AUC is of the probability, of
    true against false labels; `pairs_auc` of their cosines.
    """
    counts = label_counts(known.matches)
    probability = coefficients.scoring(known.queries).probabilities(known.scores.T).T.astype(np.float64)
    true, false = known.matches, ~known.matches
    rates = {
        name: auc(values[true].astype(float), values[false].astype(float), counts[true], counts[false])
        for name, values in (("auc", probability), ("pairs_auc", known.scores))
    }
    each = (probability.ravel(), known.matches.ravel(), counts.ravel())
    return _all_rounded(
        {
            "count": len(known.scores),
            **rates,
            "mean_probability": np.average(probability, weights=counts),
            "match_rate": np.average(known.matches, weights=counts),
            "ece": calibration_error(*each),
            "true_above_half": np.average(probability[true] >= 0.5, weights=counts[true]),
            "false_above_half": np.average(probability[false] >= 0.5, weights=counts[false]),
            "reliability": [_all_rounded(row) for row in reliability(*each)],
        }
    )


def _figures(
    coefficients: Coefficients, known: LabelledQueries, features: QueryFeatures, size: int, seed: int
) -> dict[str, Any]:
    """How relevance holds in collections of `size` images.

    "present" are searches for something that is there; "removed" the same searches with the query's own image taken
    out, and nothing else; "emptied" with all that matches taken out. AUC is of the best hit's relevance. ECE is of
    the relevance of best hits (or of all hits shown), half of the searches present, half emptied. "strict" calls a
    match only the query's own image; "prior" has a share `NO_MATCH_PRIOR` of searches emptied rather than half. The
    baseline is 0.5.
    """
    present = _Shown(coefficients, features, list(run_trials(known, size, seed, present=True)))
    removed = _Shown(coefficients, features, list(run_trials(known, size, seed, present=False, take_out="own")))
    emptied = _Shown(coefficients, features, list(run_trials(known, size, seed, present=False)))
    probability, matches = (
        np.concatenate([present.best, emptied.best]),
        np.concatenate([present.best_matches, emptied.best_matches]),
    )
    # As fitted: most searches are for something that is there.
    prior = np.repeat([1 - NO_MATCH_PRIOR, NO_MATCH_PRIOR], [len(present.best), len(emptied.best)])
    own = np.concatenate([present.best_is_own, emptied.best_is_own])
    everything = [np.concatenate(pair) for pair in zip(present.shown, emptied.shown, strict=True)]
    found = present.finds
    return _all_rounded(
        {
            "best_is_own": present.best_is_own.mean(),
            "best_matches": present.best_matches.mean(),
            "auc_present_removed": auc(present.best, removed.best),
            "auc_present_emptied": auc(present.best, emptied.best),
            "auc_best_matches": auc(present.best[present.best_matches], present.best[~present.best_matches]),
            "mean_probability_best": probability.mean(),
            "match_rate_best": matches.mean(),
            "ece_best": calibration_error(probability, matches),
            "mean_probability_prior": np.average(probability, weights=prior),
            "match_rate_prior": np.average(matches, weights=prior),
            "ece_prior": calibration_error(probability, matches, prior),
            "ece_best_strict": calibration_error(probability, own),
            "ece_shown": calibration_error(*everything),
            "ece_of_half": calibration_error(np.full(len(matches), 0.5), matches),
            "no_match_said_found": np.mean(present.best[found] < coefficients.threshold) if found.any() else None,
            "no_match_said_present": np.mean(present.best < coefficients.threshold),
            "no_match_said_removed": np.mean(removed.best < coefficients.threshold),
            "no_match_said_emptied": np.mean(emptied.best < coefficients.threshold),
            "reliability_best": [_all_rounded(row) for row in reliability(probability, matches)],
        }
    )


class _Shown:
    """Results of searches: the best hit of each that has one, and all hits."""

    def __init__(self, coefficients: Coefficients, features: QueryFeatures, trials: list[Trials]) -> None:
        relevance = np.concatenate(
            [sigmoid(coefficients.log_odds(t.scores.astype(float), t.stats, features.take(t.query))) for t in trials]
        )
        exists = np.concatenate([t.exists for t in trials])
        matches = np.concatenate([t.matches for t in trials]) & exists
        some = exists[:, 0]
        self.best: Numbers = relevance[some, 0]
        self.best_matches: NDArray[np.bool_] = matches[some, 0]
        self.best_is_own: NDArray[np.bool_] = np.concatenate([t.own for t in trials])[some, 0]
        self.finds: NDArray[np.bool_] = matches[some].any(1)
        self.shown = (relevance[exists], matches[exists])


def _all_rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: _rounded(value) for name, value in figures.items()}


def _rounded(value: Any) -> Any:
    return round(float(value), 4) if isinstance(value, float | np.floating) else value
