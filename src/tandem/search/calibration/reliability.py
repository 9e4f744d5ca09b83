"""How well a fit holds on searches whose answers are known: area under the ROC curve and calibration error.

Legend: h hits, b bins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.search.calibration.calibrate import IN_VAIN
from tandem.search.calibration.caption_set import CaptionSet
from tandem.search.calibration.trials import Known, Trials, run_trials
from tandem.search.query import QueryKind
from tandem.search.relevance import Asked, Fit, Numbers, Terms, sigmoid

BINS = 15


def area(positive: Numbers, negative: Numbers) -> float | None:
    """Under the ROC curve: how often one of the first is higher than one of the second. Ties count half; chance 0.5.

    None where there are none of either.
    """
    if not len(positive) or not len(negative):
        return None
    _, rank, count = np.unique(np.concatenate([positive, negative]), return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2  # mean rank, from 1, of those that are equal
    wins = middle[rank[: len(positive)]].sum() - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))


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
                "said": float(np.average(probability[inside], weights=counts[inside])),
                "true": float(np.average(matches[inside], weights=counts[inside])),
            }
        )
    return rows


def calibration_error(probability: Numbers, matches: NDArray[np.bool_], counts: Numbers | None = None) -> float:
    """Expected calibration error (Naeini et al. 2015): what is said less what is true, over bins, weighted by hits."""
    rows = reliability(probability, matches, counts)
    hits = sum(row["hits"] for row in rows)
    return float(sum(row["hits"] * abs(row["said"] - row["true"]) for row in rows) / max(hits, 1e-9))


def report(fit: Fit, captions: CaptionSet, sizes: Sequence[int] = (10, 100), *, seed: int = 1) -> dict[str, Any]:
    """Figures on pictures that the fit has not seen, for captions, phrases and pictures as queries.

    For each: `pairs_area` of the cosines of matched against mismatched pairs, and for collections of each of the sizes
    and of all pictures what `searched` gives. Numbers have four digits.
    """
    known = captions.known()
    words, short = known["words"], captions.short
    parts: dict[str, tuple[QueryKind, Known]] = {
        "captions": ("words", words.part(~short)),
        "phrases": ("words", words.part(short)),
        "pictures": ("picture", known["picture"]),
    }
    figures: dict[str, Any] = {"pictures": len(captions), "queries": {}}
    for name, (kind, each) in parts.items():
        if len(each.scores):
            others = each.scores[~each.matches][::101]  # enough of them
            figures["queries"][name] = {
                "count": len(each.scores),
                "pairs_area": _rounded(area(each.scores[each.matches].astype(float), others.astype(float))),
                "collections": {
                    str(size): searched(fit.terms(kind), each, fit.asked(kind, each.queries, each.length), size, seed)
                    for size in (*(size for size in sizes if size < len(captions)), len(captions))
                },
            }
    return figures


def searched(terms: Terms, known: Known, asked: Asked, size: int, seed: int) -> dict[str, Any]:
    """How relevance holds in collections of `size` pictures.

    "present" are searches for something that is there; "removed" the same searches with the query's own picture taken
    out, and nothing else; "emptied" with all that matches taken out. Areas are of the best hit's relevance. Errors are
    of the relevance of best hits (or of all hits shown), half of the searches present, half emptied. "strict" calls a
    match only the query's own picture; "usual" has a share `IN_VAIN` of searches emptied rather than half. What can be
    said without looking stands beside: 0.5 always.
    """
    present = _Shown(terms, asked, list(run_trials(known, size, seed, present=True)))
    removed = _Shown(terms, asked, list(run_trials(known, size, seed, present=False, take_out="own")))
    emptied = _Shown(terms, asked, list(run_trials(known, size, seed, present=False)))
    said, true = (
        np.concatenate([present.best, emptied.best]),
        np.concatenate([present.best_matches, emptied.best_matches]),
    )
    # As fitted: most searches are for something that is there.
    usual = np.repeat([1 - IN_VAIN, IN_VAIN], [len(present.best), len(emptied.best)])
    own = np.concatenate([present.best_is_own, emptied.best_is_own])
    everything = [np.concatenate(pair) for pair in zip(present.shown, emptied.shown, strict=True)]
    found = present.finds
    return _all_rounded(
        {
            "best_is_own": present.best_is_own.mean(),
            "best_matches": present.best_matches.mean(),
            "area_present_removed": area(present.best, removed.best),
            "area_present_emptied": area(present.best, emptied.best),
            "area_best_matches": area(present.best[present.best_matches], present.best[~present.best_matches]),
            "said_best": said.mean(),
            "true_best": true.mean(),
            "error_best": calibration_error(said, true),
            "said_usual": np.average(said, weights=usual),
            "true_usual": np.average(true, weights=usual),
            "error_usual": calibration_error(said, true, usual),
            "error_best_strict": calibration_error(said, own),
            "error_shown": calibration_error(*everything),
            "error_of_half": calibration_error(np.full(len(true), 0.5), true),
            "nothing_said_found": np.mean(present.best[found] < terms.threshold) if found.any() else None,
            "nothing_said_present": np.mean(present.best < terms.threshold),
            "nothing_said_removed": np.mean(removed.best < terms.threshold),
            "nothing_said_emptied": np.mean(emptied.best < terms.threshold),
            "reliability_best": [_all_rounded(row) for row in reliability(said, true)],
        }
    )


class _Shown:
    """What searches show: the best hit of each that has one, and all hits."""

    def __init__(self, terms: Terms, asked: Asked, trials: list[Trials]) -> None:
        relevance = np.concatenate(
            [sigmoid(terms.log_odds(t.scores.astype(float), t.background, asked.of(t.query))) for t in trials]
        )
        there = np.concatenate([t.there for t in trials])
        matches = np.concatenate([t.matches for t in trials]) & there
        some = there[:, 0]
        self.best: Numbers = relevance[some, 0]
        self.best_matches: NDArray[np.bool_] = matches[some, 0]
        self.best_is_own: NDArray[np.bool_] = np.concatenate([t.own for t in trials])[some, 0]
        self.finds: NDArray[np.bool_] = matches[some].any(1)
        self.shown = (relevance[there], matches[there])


def _all_rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: _rounded(value) for name, value in figures.items()}


def _rounded(value: Any) -> Any:
    return round(float(value), 4) if isinstance(value, float | np.floating) else value
