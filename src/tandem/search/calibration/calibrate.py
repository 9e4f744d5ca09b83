"""From searches with known answers to a `Fit`: what a model's scores mean; and where fits are kept.

The arithmetic of a fit is `relevance`; the searches it learns from are `caption_set` and `trials`; how well it holds
is `reliability`. Knows no command line.

Legend: h hits, t trials, k hits of each.
"""

import math
import os
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tandem.errors import TandemError
from tandem.model import Model
from tandem.search.calibration.trials import TOP, Known, Trial, Trials, many_trials, sizes_up_to
from tandem.search.experience import NONE, Experience
from tandem.search.home import data_folder
from tandem.search.relevance import TERMS, Asked, Fit, Numbers, Terms, fit_logistic, sigmoid

if TYPE_CHECKING:
    from tandem.search.calibration.caption_set import CaptionSet

FILE = "relevance.json"
OF_ANY = ("score", "standing", "size", "freely", "spread")
# People mostly look for what they believe is there: of the searches that a fit learns from, this share is in vain.
IN_VAIN = 0.2
# Of the searches that show a match among their ten best hits, this share may be told that nothing matches well.
WRONGLY_DISCOURAGED = 0.1
# Queries that experience is kept of: the most frequent, up to so many words. On halves of Flickr8k dev (2,000 in all),
# 512 instead of all cost 5% of the log-loss of two or three words.
MOST_KEPT, LONGEST_KEPT = 1000, 4


@dataclass(frozen=True, eq=False)
class _Searches:
    """Trials of one kind of query, what is usual for it, and what was known of its queries beforehand."""

    usual: Terms
    asked: Asked
    trials: list[Trial]


def fit(name: str, fingerprint: str, known: Mapping[str, Known], *, seed: int = 0) -> Fit:
    """What the scores of a model mean, from the queries of a `CaptionSet.known`.

    Collections of many sizes are searched, with what is looked for and without, and for what is never there.
    """
    words, picture = _usual(known["words"]), _usual(known["picture"])
    # A vector of several parts scores somewhere between words and pictures.
    mixed = replace(words, mean=(words.mean + picture.mean) / 2, deviation=(words.deviation + picture.deviation) / 2)
    # What a query is expected to find was learnt from pictures other than those it is tried on.
    side = np.random.default_rng(seed).permutation(known["words"].scores.shape[1]) % 2
    parts = [np.flatnonzero(side == which) for which in (0, 1)]
    sides = [experience(known["words"], part) for part in parts]

    def searches(kind: str, usual: Terms) -> _Searches:
        each = known[kind]
        expected = np.zeros(len(each.scores))
        if kind != "picture" and len(each.scores):
            one, other = (kept.expect(each.queries) for kept in sides)
            expected = np.where(side[each.own] == 0, other, one)
        return _Searches(usual, Asked(each.length, expected), _trials(each, seed))

    of_words = [searches("words", words), searches("strange", words)]
    of_picture = [searches("picture", picture)]
    return Fit(
        fingerprint,
        name,
        words=_fit_terms(words, of_words, terms=TERMS),
        picture=_fit_terms(picture, of_picture, terms=OF_ANY),
        mixed=_fit_terms(mixed, of_words + of_picture, terms=("standing", "size")),
        experience=experience(known["words"], *parts),
    )


def experience(words: Known, *parts: NDArray[np.intp]) -> Experience:
    """What share of the best hits is right of the queries about the pictures of each part, among these pictures.

    Of queries that are asked in several parts the mean. A share is higher among more pictures, so that parts of one
    size can be compared.
    """
    vectors, shares = [], []
    for pictures in parts:
        each = words.part(np.isin(words.own, pictures) & (words.length <= math.log(LONGEST_KEPT)))
        best = np.argsort(-each.scores[:, pictures], axis=1, kind="stable")[:, :TOP]
        vectors.append(each.queries)
        shares.append(np.take_along_axis(each.matches[:, pictures], best, 1).mean(1))
    asked, right = np.concatenate(vectors), np.concatenate(shares)
    if not len(asked):
        return NONE
    # People who say the same have the same vector, up to rounding.
    _, first, which, count = np.unique(
        np.round(asked * 127), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    mean = np.bincount(which.reshape(-1), right) / count
    kept = np.argsort(-count, kind="stable")[:MOST_KEPT]
    return Experience.of(asked[first[kept]], mean[kept])


def fit_and_report(
    name: str,
    fingerprint: str,
    captions: "CaptionSet",
    held_out: "CaptionSet | None" = None,
    *,
    names: Sequence[str] = (),
) -> Fit:
    """A fit with its figures: of `held_out` (whose files are `names`), or, without it, of two halves.

    Then one half is fitted and the other reported; the fit that is given is that of all.
    """
    from tandem.search.calibration.reliability import report  # here, since every search loads a fit and none reports

    whole = fit(name, fingerprint, captions.known())
    if held_out is not None:
        figures = {"data": ", ".join(names), **report(whole, held_out)}
    else:
        fitted, tested = captions.halves()
        figures = {"data": "the half not fitted on", **report(fit(name, fingerprint, fitted.known()), tested)}
    return replace(whole, figures=figures)


def _trials(known: Known, seed: int) -> list[Trial]:
    return list(many_trials(known, sizes_up_to(known.scores.shape[1]), seed)) if len(known.scores) else []


def _usual(known: Known) -> Terms:
    """Terms that know what scores are usual, and nothing yet of what they mean."""
    scores = known.scores.astype(np.float64)
    deviation = float(np.sqrt(scores.var(axis=1).mean()))
    return Terms(0, 0, 0, 0, 0, 0, scores.shape[1], float(scores.mean()), deviation)


def _fit_terms(usual: Terms, searches: Sequence[_Searches], *, terms: Sequence[str]) -> Terms:
    """`usual` with the numbers that make the labels of the trials likeliest; each search has its own usual scores."""
    hits = [(each, present, trials) for each in searches for _, present, trials in each.trials]
    features = np.concatenate([_features(each, trials)[trials.there] for each, _, trials in hits])  # [h 8]
    matches = np.concatenate([trials.matches[trials.there] for _, _, trials in hits])  # [h]
    # As many are tried with as without what they look for; how much each counts makes the share.
    counts = np.concatenate(
        [np.full(trials.there.sum(), 1 - IN_VAIN if present else IN_VAIN) for _, present, trials in hits]
    )
    used = list(terms)
    while True:
        columns = [TERMS.index(name) for name in used]
        numbers = fit_logistic(features[:, columns], matches, counts).tolist()
        found = dict(zip(["constant", *used], numbers, strict=True))
        # A higher score must never look worse: of the two terms that rise with it, the one that says so goes.
        falling = [name for name in ("score", "standing") if found.get(name, 0) < 0]
        if not falling:
            break
        used.remove(falling[0])
    fitted = replace(usual, **found)
    return replace(fitted, threshold=_threshold(fitted, searches))


def _features(searches: _Searches, trials: Trials) -> Numbers:
    asked = searches.asked.of(trials.query)
    return searches.usual.features(trials.scores.astype(np.float64), trials.background, asked)


def _threshold(fitted: Terms, searches: Sequence[_Searches]) -> float:
    """The relevance that the best hit exceeds in all but `WRONGLY_DISCOURAGED` of the searches that show a match.

    In the largest collections alone, where relevance is lowest.
    """
    best = [np.zeros(0)]
    for group in searches:
        own = replace(fitted, mean=group.usual.mean, deviation=group.usual.deviation)
        for size, present, each in group.trials:
            if present and size == fitted.largest:
                scores = each.scores[:, :1].astype(np.float64)
                relevance = sigmoid(own.log_odds(scores, each.background, group.asked.of(each.query)))[:, 0]
                best.append(relevance[(each.matches & each.there).any(1)])
    found = np.concatenate(best)
    return float(np.quantile(found, WRONGLY_DISCOURAGED)) if len(found) else 0.0


# --- where fits are kept ---------------------------------------------------------------------------------------------


def load_fit(model: Model) -> Fit | None:
    """What the scores of this model mean: the user's own fit, else the one in the model's folder, else None.

    A fit that was made for other weights is refused: a warning says so, and there is none. Raises `TandemError` for a
    file that is no fit.
    """
    for path in (own_path(model.fingerprint), Path(model.checkpoint.source) / FILE):
        if path.is_file():
            found = Fit.from_json(path.read_text(encoding="utf-8"), str(path))
            if found.fingerprint == model.fingerprint:
                return found
            warnings.warn(
                f"{path} is for {found.model} ({found.fingerprint[:12]}), not for {model.name} "
                f"({model.fingerprint[:12]}): not used; fit this model with tandem calibrate",
                stacklevel=2,
            )
    return None


def save_fit(fit: Fit, path: Path | None = None) -> Path:
    """Keep a fit where `load_fit` finds it, or at `path`. The file is written whole or not at all."""
    path = own_path(fit.fingerprint) if path is None else path
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(fit.to_json(), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise TandemError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)
    return path


def own_path(fingerprint: str) -> Path:
    """Where the user's own fit of a model is kept."""
    return data_folder() / "relevance" / f"{fingerprint}.json"
