"""What a score means: the probability that a hit matches its query. Pure arithmetic; knows no model, store or file.

A cosine says little by itself: 0.3 is high for one model and low for another, some queries score high with everything,
and the best of a million strangers scores higher than the best of ten. So the log-odds that a hit matches are a sum
of terms, fitted for each model on pictures with captions (`calibration`): a constant, the score, its standing (how
many standard deviations it is above what the collection scores for the same query), that mean and deviation
themselves, and the logarithm of the collection's size. Of words two more things are known before they are looked for:
how many there are (people describe one picture in many words and a kind of picture in few), and how well the model did
with such words where the answers were known (`experience`).

The size counts up to that of the collections that the fit has seen: in them each further picture was one more chance
to be wrong; a larger collection is taken to hold more matches in the same measure. A collection of a few pictures
says little about what is usual: its mean and deviation are blended with those that came with the fit, which count as
`OWN_WEIGHT` pictures.

Legend: q queries, k hits of each, m pictures sampled, d dimensions.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from tandem.errors import TandemError
from tandem.search.experience import NONE, Experience
from tandem.search.query import QueryKind

Numbers: TypeAlias = NDArray[np.float64]

OWN_WEIGHT = 16  # pictures; on Flickr8k dev 4, 16 and 64 differ by less than 0.5% in log-loss
MOST_WORDS = 20  # more of them count no further
_VERSION = 2


@dataclass(frozen=True, eq=False)
class Background:
    """How a collection scores some queries: mean and standard deviation, each [q], over `sampled` of its `count`.

    The two numbers are the same for all queries, or [q], one for each.
    """

    mean: Numbers
    deviation: Numbers
    sampled: int | NDArray[np.intp]
    count: int | NDArray[np.intp]


def background(queries: NDArray[np.float32], sample: NDArray[np.float32], count: int) -> Background:
    """Score queries [q d] against pictures [m d] that stand for a collection of `count`; all of unit length."""
    queries = np.atleast_2d(queries)
    if len(queries) == 1 and len(sample):
        # Not by BLAS, whose threads wait for each other where several queries are judged at once: a server of two
        # cores answered 283 searches a second rather than 92.
        scores = np.einsum("md,d->m", sample, queries[0])[None]
    else:
        scores = queries @ sample.T  # [q d] [m d] -> [q m]
    if not len(sample):
        nothing = np.zeros(len(scores))
        return Background(nothing, nothing, 0, count)
    return Background(scores.mean(1, dtype=np.float64), scores.std(1, dtype=np.float64), len(sample), count)


@dataclass(frozen=True, eq=False)
class Asked:
    """What is known of queries before they are looked for, each [q]."""

    length: Numbers  # the natural logarithm of the number of words; 0 for other queries
    experience: Numbers  # log-odds that a best hit is right, from queries alike; 0 for other queries

    def of(self, queries: NDArray[np.intp]) -> "Asked":
        """Some of them, in any order."""
        return Asked(self.length[queries], self.experience[queries])


def number_of_words(text: str) -> int:
    """How many words a query has, at least one."""
    return max(1, len(re.findall(r"\w+", text)))


def log_length(words: Sequence[int]) -> Numbers:
    """Numbers of words -> `Asked.length`."""
    return np.log(np.clip(np.array(words, dtype=np.float64), 1, MOST_WORDS))


@dataclass(frozen=True)
class Terms:
    """The fitted numbers of one kind of query."""

    constant: float
    score: float  # per unit of cosine. Not negative, so that a higher score is never worse; 0 if it says nothing
    standing: float  # per standard deviation above the mean; not negative either
    size: float  # per unit of the natural logarithm of the count
    freely: float  # per unit of the mean: of a query that scores high with everything, a high score means less
    spread: float  # per unit of the standard deviation
    largest: int  # pictures; the largest collection that the fit has seen
    mean: float  # of scores, usual for such queries
    deviation: float  # of scores, usual for such queries; positive
    length: float = 0.0  # per unit of the natural logarithm of the number of words
    experience: float = 0.0  # per unit of the log-odds of queries alike
    experience_size: float = 0.0  # the same times the logarithm of the count: what is usual lasts where there are many
    threshold: float = 0.0  # best hit below it: nothing matches well

    def features(self, scores: Numbers, background: Background, asked: Asked) -> Numbers:
        """What the terms but the constant are factors of, in their order, for scores [q k]: [q k 8]."""
        seen, weight = background.sampled, background.sampled + OWN_WEIGHT
        mean = (seen * background.mean + OWN_WEIGHT * self.mean) / weight  # [q]
        # The variance of the mixture: within both parts, and between their means.
        theirs = OWN_WEIGHT * (self.deviation**2 + (self.mean - mean) ** 2)
        variance = (seen * (background.deviation**2 + (background.mean - mean) ** 2) + theirs) / weight
        mean, deviation = mean[:, None], np.sqrt(variance)[:, None]
        size = np.log(np.clip(background.count, 1, self.largest)).reshape(-1, 1)  # [1 1] or [q 1]
        length, experience = asked.length[:, None], asked.experience[:, None]
        standing = (scores - mean) / deviation
        columns = (scores, standing, size, mean, deviation, length, experience, experience * size)
        return np.stack(np.broadcast_arrays(*columns), axis=-1)

    def log_odds(self, scores: Numbers, background: Background, asked: Asked) -> Numbers:
        """Of matching, for scores [q k]."""
        factors = np.array([getattr(self, name) for name in TERMS])
        return np.asarray(self.constant + self.features(scores, background, asked) @ factors)


TERMS = ("score", "standing", "size", "freely", "spread", "length", "experience", "experience_size")


@dataclass(frozen=True)
class Fit:
    """What the scores of one model mean.

    `words` is for queries in words: a hit matches if people who see it would write what the query says. `picture` is
    for queries by picture: a hit matches if people would write the same about both. `mixed` is for words with a
    picture, and for examples minus examples: what such a vector scores by itself is not known, so only the standing
    and the size count, fitted on queries of both other kinds together.
    """

    fingerprint: str
    model: str
    words: Terms
    picture: Terms
    mixed: Terms
    experience: Experience = field(default_factory=lambda: NONE)
    figures: Mapping[str, Any] = field(default_factory=dict)  # the report it was published with

    @property
    def threshold(self) -> float:
        """The relevance of the best hit below which nothing matches words well."""
        return self.words.threshold

    def terms(self, kind: QueryKind) -> Terms:
        """The numbers for one kind of query."""
        if kind not in get_args(QueryKind):
            raise TandemError(f"kind of query: expected words, picture or mixed, got {kind!r}")
        return {"words": self.words, "picture": self.picture, "mixed": self.mixed}[kind]

    def probability(
        self,
        kind: QueryKind,
        scores: NDArray[np.floating[Any]],
        background: Background,
        queries: NDArray[np.float32],
        words: Sequence[int] = (),
    ) -> Numbers:
        """That each hit matches, 0..1, float64 [q k], from cosines [q k]. Never falls as the score rises.

        `background.count` is how many pictures the hits are the best of: with a filter, those that pass it. `queries`
        are the unit vectors [q d]; `words`, for queries in words, how many each has (`number_of_words`).
        """
        terms = self.terms(kind)
        asked = self.asked(kind, queries, log_length(words) if words else np.zeros(len(queries)))
        return sigmoid(terms.log_odds(np.asarray(scores, dtype=np.float64), background, asked))

    def asked(self, kind: QueryKind, queries: NDArray[np.float32], length: Numbers) -> Asked:
        """What is known of queries [q d] of a kind, beforehand; `length` [q] as `log_length` gives it."""
        return Asked(length, self.experience.expect(queries) if kind == "words" else np.zeros(len(queries)))

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        plain = {
            "version": _VERSION,
            "fingerprint": self.fingerprint,
            "model": self.model,
            **{kind: asdict(self.terms(kind)) for kind in get_args(QueryKind)},
            "experience": self.experience.to_plain(),
            "figures": dict(self.figures),
        }
        return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "relevance.json") -> "Fit":
        """Raises `TandemError`, naming `source`, for anything but what `to_json` writes."""
        try:
            plain = json.loads(text)
            version = plain.pop("version")
            terms = {kind: Terms(**plain.pop(kind)) for kind in get_args(QueryKind)}
            experience = Experience.from_plain(plain.pop("experience"))
            fit = cls(
                words=terms["words"], picture=terms["picture"], mixed=terms["mixed"], experience=experience, **plain
            )
            numbers = [value for part in terms.values() for value in asdict(part).values()]
            sound = version == _VERSION and all(isinstance(x, int | float) and math.isfinite(x) for x in numbers)
            sound &= all(
                t.score >= 0 and t.standing >= 0 and t.deviation > 0 and t.largest >= 1 for t in terms.values()
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            sound = False
        if not sound:
            raise TandemError(f"{source}: expected a fit of `tandem calibrate`, version {_VERSION}; fit it again")
        return fit


def sigmoid(log_odds: Numbers) -> Numbers:
    """Log-odds -> probabilities, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * log_odds)))


def fit_logistic(
    features: Numbers,
    labels: NDArray[np.bool_],
    counts: Numbers | None = None,
    *,
    ridge: float = 1e-3,
    rounds: int = 50,
) -> Numbers:
    """The constant and one coefficient a feature, [1+f], that make labels [n] likeliest given features [n f].

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
