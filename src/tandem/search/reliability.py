"""How well a fit holds on searches whose answers are known: area under the ROC curve and calibration error.

Legend: h hits, b bins.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.search.relevance import Fit, Kind, Numbers, sigmoid
from tandem.search.trials import Known, Trials, run_trials

BINS = 15


def area(positive: Numbers, negative: Numbers) -> float:
    """Under the ROC curve: how often one of the first is higher than one of the second. Ties count half; chance 0.5."""
    _, rank, count = np.unique(np.concatenate([positive, negative]), return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2  # mean rank, from 1, of those that are equal
    wins = middle[rank[: len(positive)]].sum() - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))


def reliability(probability: Numbers, matches: NDArray[np.bool_]) -> list[dict[str, float]]:
    """For each of `BINS` equal bins that has hits: how many, their mean probability, and the share that match."""
    bins = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
    rows = []
    for index in np.unique(bins):
        inside = bins == index
        rows.append(
            {
                "from": index / BINS,
                "hits": int(inside.sum()),
                "said": float(probability[inside].mean()),
                "true": float(matches[inside].mean()),
            }
        )
    return rows


def calibration_error(probability: Numbers, matches: NDArray[np.bool_]) -> float:
    """Expected calibration error (Naeini et al. 2015): what is said less what is true, over bins, weighted by hits."""
    rows = reliability(probability, matches)
    return float(sum(row["hits"] * abs(row["said"] - row["true"]) for row in rows) / max(len(probability), 1))


def report(fit: Fit, kind: Kind, known: Known, sizes: tuple[int, ...] = (10, 100), *, seed: int = 1) -> dict[str, Any]:
    """Figures on queries of one kind that the fit has not seen, by size of collection (and with all pictures).

    "present" are searches for something that is there, "removed" the same with the query's own picture taken out,
    "emptied" with all that matches taken out. Area: the best hit's relevance, present against each of these. Error:
    of the relevance of best hits and of all hits shown, half of the searches present, half emptied. Beside it what
    would come of saying 0.5 always, the cosine itself, and (as the least possible) the share that matches.
    """
    pictures = known.scores.shape[1]
    others = ~known.matches
    figures: dict[str, Any] = {
        "queries": len(known.scores),
        "pictures": pictures,
        "pairs_area": area(known.scores[known.matches].astype(float), known.scores[others][::101].astype(float)),
        "collections": {},
    }
    for size in (*(size for size in sizes if size < pictures), pictures):
        figures["collections"][str(size)] = _at_size(fit, kind, known, size, seed)
    return figures


def _at_size(fit: Fit, kind: Kind, known: Known, size: int, seed: int) -> dict[str, Any]:
    terms = fit.terms(kind)

    def searched(trials: list[Trials]) -> tuple[Numbers, NDArray[np.bool_], NDArray[np.bool_], Numbers, NDArray[Any]]:
        log_odds = [terms.log_odds(each.scores.astype(np.float64), each.background) for each in trials]
        parts = (
            [sigmoid(x) for x in log_odds],
            *zip(*((t.matches, t.there, t.scores, t.own) for t in trials), strict=True),
        )
        return tuple(np.concatenate(part) for part in parts)  # type: ignore[return-value]

    present, match, there, scores, own = searched(list(run_trials(known, size, seed, present=True)))
    removed, *_ = searched(list(run_trials(known, size, seed, present=False, take_out="own")))
    emptied, e_match, e_there, e_scores, e_own = searched(list(run_trials(known, size, seed, present=False)))
    said, true, real = (
        np.concatenate([present, emptied]),
        np.concatenate([match, e_match]),
        np.concatenate([there, e_there]),
    )
    cosine = np.clip(np.concatenate([scores, e_scores]), 0, 1)
    strictly = np.concatenate([own, e_own])
    best, is_best = real[:, 0], np.zeros_like(real)
    is_best[:, 0] = best
    return {
        "best_is_own": float(own[:, 0].mean()),
        "best_matches": float(match[:, 0].mean()),
        "area_present_removed": area(present[:, 0], removed[:, 0]),
        "area_present_emptied": area(present[:, 0], emptied[:, 0]),
        "area_best_matches": area(present[match[:, 0], 0], present[~match[:, 0], 0]),
        "error_best": calibration_error(said[is_best], true[is_best]),
        "error_best_strict": calibration_error(said[is_best], strictly[is_best]),
        "error_shown": calibration_error(said[real], true[real]),
        "error_best_if_half": abs(0.5 - float(true[is_best].mean())),
        "error_best_if_cosine": calibration_error(cosine[is_best], true[is_best]),
        "said_best": float(said[is_best].mean()),
        "true_best": float(true[is_best].mean()),
        "nothing_said_found": _share(present[(match & there).any(1), 0] < terms.threshold),
        "nothing_said_present": _share(present[:, 0] < terms.threshold),
        "nothing_said_removed": _share(removed[:, 0] < terms.threshold),
        "nothing_said_emptied": _share(emptied[:, 0] < terms.threshold),
        "reliability_best": reliability(said[is_best], true[is_best]),
    }


def _share(said: NDArray[np.bool_]) -> float:
    return float(said.mean()) if len(said) else 0.0
