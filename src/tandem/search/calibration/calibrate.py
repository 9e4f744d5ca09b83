"""From searches with known answers to a `Fit`: what a model's scores mean; and where fits are kept.

The arithmetic of a fit is `relevance`; the searches it learns from are `caption_set` and `trials`; how well it holds
is `reliability`. Knows no command line.

Legend: h hits, t trials, k hits of each.
"""

import os
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tandem.errors import TandemError
from tandem.model import Model
from tandem.search.calibration.trials import Known, Trial, many_trials, sizes_up_to
from tandem.search.home import data_folder
from tandem.search.relevance import Fit, Terms, fit_logistic, sigmoid

if TYPE_CHECKING:
    from tandem.search.calibration.caption_set import CaptionSet

FILE = "relevance.json"
TERMS = ("score", "standing", "size", "freely", "spread")  # in the order of Terms.features
# Of the searches that show a match among their ten best hits, this share may be told that nothing matches well.
WRONGLY_DISCOURAGED = 0.1


def fit(name: str, fingerprint: str, known: Mapping[str, Known], *, seed: int = 0) -> Fit:
    """What the scores of a model mean, from the queries of a `CaptionSet.known`.

    Collections of many sizes are searched. In half of the searches nothing matches; a tenth or so are for what is
    never there.
    """
    words, picture = _usual(known["words"]), _usual(known["picture"])
    # A vector of several parts scores somewhere between words and pictures.
    mixed = replace(words, mean=(words.mean + picture.mean) / 2, deviation=(words.deviation + picture.deviation) / 2)
    trials = {kind: _trials(each, seed) for kind, each in known.items()}
    of_words = [(words, trial) for trial in [*trials["words"], *trials["strange"]]]
    of_picture = [(picture, trial) for trial in trials["picture"]]
    return Fit(
        fingerprint,
        name,
        words=_fit_terms(words, of_words),
        picture=_fit_terms(picture, of_picture),
        mixed=_fit_terms(mixed, of_words + of_picture, terms=("standing", "size")),
    )


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


def _fit_terms(usual: Terms, trials: Sequence[tuple[Terms, Trial]], *, terms: Sequence[str] = TERMS) -> Terms:
    """`usual` with the numbers that make the labels of the trials likeliest; each trial has its own usual scores."""
    features = np.concatenate(
        [own.features(t.scores.astype(np.float64), t.background)[t.there] for own, (_, _, t) in trials]
    )
    matches = np.concatenate([t.matches[t.there] for _, (_, _, t) in trials])  # [h]; features [h 5]
    used = list(terms)
    while True:
        columns = [TERMS.index(name) for name in used]
        found = dict(zip(["constant", *used], fit_logistic(features[:, columns], matches).tolist(), strict=True))
        # A higher score must never look worse: of the two terms that rise with it, the one that says so goes.
        falling = [name for name in ("score", "standing") if found.get(name, 0) < 0]
        if not falling:
            break
        used.remove(falling[0])
    fitted = replace(usual, **found)
    return replace(fitted, threshold=_threshold(fitted, trials))


def _threshold(fitted: Terms, trials: Sequence[tuple[Terms, Trial]]) -> float:
    """The relevance that the best hit exceeds in all but `WRONGLY_DISCOURAGED` of the searches that show a match.

    In the largest collections alone, where relevance is lowest.
    """
    best = [np.zeros(0)]
    for usual, (size, present, each) in trials:
        if present and size == fitted.largest:
            own = replace(fitted, mean=usual.mean, deviation=usual.deviation)
            relevance = sigmoid(own.log_odds(each.scores[:, :1].astype(np.float64), each.background))[:, 0]
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
