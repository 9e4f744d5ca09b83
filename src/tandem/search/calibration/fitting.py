"""From searches with known answers to a `Calibration`: what a model's scores mean.

What is fitted is `relevance`; the searches it learns from are `caption_set` and `trials`; how well it holds is
`calibrate`. Knows no files and no command line.

Shapes: h hits, t trials, k hits of each.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tandem.scores.query_prior import NO_PRIOR, QueryPrior
from tandem.scores.relevance import FEATURES, Calibration, Coefficients, Numbers, QueryFeatures
from tandem.scores.scoring import sigmoid
from tandem.search.calibration.trials import TOP, LabelledQueries, Trial, Trials, many_trials, sizes_up_to

OF_ANY = ("score_coef", "z_score_coef", "size_coef", "mean_coef", "std_coef")
# People mostly look for what they believe is there: of the searches that a fit learns from, this share has no match.
NO_MATCH_PRIOR = 0.2
# Of the searches that show a match among their ten best hits, this share may be told that nothing matches well.
FALSE_NEGATIVE_RATE = 0.1
# Queries that are kept as the prior: the most frequent, up to so many words. On halves of Flickr8k dev (2,000 in all),
# 512 instead of all cost 5% of the log-loss of two or three words.
MAX_QUERIES, MAX_WORDS = 1000, 4


@dataclass(frozen=True, eq=False)
class _Searches:
    """Trials of one kind of query, its baseline, and what was known of its queries beforehand."""

    baseline: Coefficients
    features: QueryFeatures
    trials: list[Trial]


def fit(name: str, fingerprint: str, known: Mapping[str, LabelledQueries], *, seed: int = 0) -> Calibration:
    """A calibration fitted on the queries of a `CaptionSet.known`.

    Collections of many sizes are searched, with what is looked for and without, and with out-of-domain queries.
    """
    text, image = _baseline(known["text"]), _baseline(known["image"])
    # A vector of several parts scores somewhere between texts and images.
    mixed = replace(
        text,
        baseline_mean=(text.baseline_mean + image.baseline_mean) / 2,
        baseline_std=(text.baseline_std + image.baseline_std) / 2,
    )
    # The prior of a query comes from images other than those it is tried on.
    side = np.random.default_rng(seed).permutation(known["text"].scores.shape[1]) % 2
    parts = [np.flatnonzero(side == which) for which in (0, 1)]
    sides = [query_prior(known["text"], part) for part in parts]

    def searches(kind: str, baseline: Coefficients) -> _Searches:
        each = known[kind]
        prior = np.zeros(len(each.scores))
        if kind != "image" and len(each.scores):
            one, other = (kept.log_odds(each.queries) for kept in sides)
            prior = np.where(side[each.own] == 0, other, one)
        return _Searches(baseline, QueryFeatures(each.length, prior), _trials(each, seed))

    of_text = [searches("text", text), searches("out_of_domain", text)]
    of_image = [searches("image", image)]
    return Calibration(
        fingerprint,
        name,
        text=_fit_coefficients(text, of_text, used=FEATURES),
        image=_fit_coefficients(image, of_image, used=OF_ANY),
        mixed=_fit_coefficients(mixed, of_text + of_image, used=("z_score_coef", "size_coef")),
        query_prior=query_prior(known["text"], *parts),
    )


def query_prior(known: LabelledQueries, *parts: NDArray[np.intp]) -> QueryPrior:
    """The precision of the best hits of the queries about the images of each part, among these images.

    Of queries that are asked in several parts the mean. Precision is higher among more images, so that parts of one
    size can be compared.
    """
    vectors, shares = [], []
    for images in parts:
        each = known.part(np.isin(known.own, images) & (known.length <= math.log(MAX_WORDS)))
        best = np.argsort(-each.scores[:, images], axis=1, kind="stable")[:, :TOP]
        vectors.append(each.queries)
        shares.append(np.take_along_axis(each.matches[:, images], best, 1).mean(1))
    queries, precision = np.concatenate(vectors), np.concatenate(shares)
    if not len(queries):
        return NO_PRIOR
    # People who say the same have the same vector, up to rounding.
    _, first, which, count = np.unique(
        np.round(queries * 127), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    mean = np.bincount(which.reshape(-1), precision) / count
    kept = np.argsort(-count, kind="stable")[:MAX_QUERIES]
    return QueryPrior.of(queries[first[kept]], mean[kept])


def _trials(known: LabelledQueries, seed: int) -> list[Trial]:
    return list(many_trials(known, sizes_up_to(known.scores.shape[1]), seed)) if len(known.scores) else []


def _baseline(known: LabelledQueries) -> Coefficients:
    """Coefficients with the baseline of scores, before anything is fitted."""
    scores = known.scores.astype(np.float64)
    std = float(np.sqrt(scores.var(axis=1).mean()))
    return Coefficients(0, 0, 0, 0, 0, 0, scores.shape[1], float(scores.mean()), std)


def _fit_coefficients(baseline: Coefficients, searches: Sequence[_Searches], *, used: Sequence[str]) -> Coefficients:
    """`baseline` with the numbers that make the labels of the trials likeliest; each search has its own baseline."""
    hits = [(each, present, trials) for each in searches for _, present, trials in each.trials]
    features = np.concatenate([_features(each, trials)[trials.exists] for each, _, trials in hits])  # [h 8]
    matches = np.concatenate([trials.matches[trials.exists] for _, _, trials in hits])  # [h]
    # As many are tried with as without what they look for; how much each counts makes the share.
    counts = np.concatenate(
        [np.full(trials.exists.sum(), 1 - NO_MATCH_PRIOR if present else NO_MATCH_PRIOR) for _, present, trials in hits]
    )
    used = list(used)
    while True:
        columns = [FEATURES.index(name) for name in used]
        numbers = fit_logistic(features[:, columns], matches, counts).tolist()
        found = dict(zip(["intercept", *used], numbers, strict=True))
        # A higher score must never look worse: of the two features that rise with it, the one that says so goes.
        falling = [name for name in ("score_coef", "z_score_coef") if found.get(name, 0) < 0]
        if not falling:
            break
        used.remove(falling[0])
    fitted = replace(baseline, **found)
    return replace(fitted, threshold=_threshold(fitted, searches))


def _features(searches: _Searches, trials: Trials) -> Numbers:
    query = searches.features.take(trials.query)
    return searches.baseline.features(trials.scores.astype(np.float64), trials.stats, query)


def _threshold(fitted: Coefficients, searches: Sequence[_Searches]) -> float:
    """The relevance that the best hit exceeds in all but `FALSE_NEGATIVE_RATE` of the searches that show a match.

    In the largest collections alone, where relevance is lowest.
    """
    best = [np.zeros(0)]
    for group in searches:
        baseline = group.baseline
        own = replace(fitted, baseline_mean=baseline.baseline_mean, baseline_std=baseline.baseline_std)
        for size, present, each in group.trials:
            if present and size == fitted.max_size:
                scores = each.scores[:, :1].astype(np.float64)
                relevance = sigmoid(own.log_odds(scores, each.stats, group.features.take(each.query)))[:, 0]
                best.append(relevance[(each.matches & each.exists).any(1)])
    found = np.concatenate(best)
    return float(np.quantile(found, FALSE_NEGATIVE_RATE)) if len(found) else 0.0


def fit_logistic(
    features: Numbers,
    labels: NDArray[np.bool_],
    counts: Numbers | None = None,
    *,
    ridge: float = 1e-3,
    rounds: int = 50,
) -> Numbers:
    """The intercept and one coefficient a feature, [1+f], that make labels [n] likeliest given features [n f].

    A label counts as many times as `counts` [n] says, once if None.

    Newton's method on the log-likelihood (iteratively reweighted least squares; McCullagh & Nelder 1989, 2.5), less
    `ridge` / 2 times the squared coefficients, which keeps them finite where the labels can be told apart perfectly.
    """
    design = np.column_stack([np.ones(len(features)), features])  # [n 1+f]
    penalty = np.full(design.shape[1], ridge)
    found = np.zeros(design.shape[1])
    counts = np.ones(len(features)) if counts is None else counts

    def loss(at: Numbers) -> float:
        log_odds = design @ at
        return float((counts * (np.logaddexp(0, log_odds) - labels * log_odds)).sum() + (penalty * at**2).sum() / 2)

    before = loss(found)
    for _ in range(rounds):
        probability = sigmoid(design @ found)
        gradient = design.T @ (counts * (labels - probability)) - penalty * found
        curvature = (design * (counts * probability * (1 - probability))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        # Far from the best point a whole step may overshoot.
        while (after := loss(found + step)) > before + 1e-9 * abs(before) and np.abs(step).max() > 1e-10:
            step /= 2
        found = found + step
        if before - after <= 1e-10 * abs(before):
            break
        before = after
    return found
