"""What a score means: the probability that a hit matches its query. Pure arithmetic; knows no model, store or file.

A cosine says little by itself: 0.3 is high for one model and low for another, some queries score high with everything,
and the best of a million strangers scores higher than the best of ten. So the log-odds that a hit matches are a
logistic regression, fitted for each model on images with captions (`calibration`): an intercept, the score, its
z-score (how many standard deviations it is above what the collection scores for the same query), that mean and
deviation themselves, and the logarithm of the collection's size. Of a text two more things are known before it is
searched for: its length (people describe one image in many words and a kind of image in few), and how well the model
did with such queries where the answers were known (`query_prior`).

The size counts up to that of the collections that the calibration has seen: in them each further image was one more
chance to be wrong; a larger collection is taken to hold more matches in the same measure. A collection of a few images
says little about usual scores: its mean and deviation are blended with the calibration's baseline, which counts as
`BASELINE_WEIGHT` images.

Shapes: q queries, k hits of each, m images sampled, d dimensions.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import TandemError
from tandem.fields import Positive, Range
from tandem.scores.query_prior import NO_PRIOR, QueryPrior
from tandem.scores.scoring import LabelCoefficients, Scoring, sigmoid

Numbers: TypeAlias = NDArray[np.float64]
QueryKind: TypeAlias = Literal["text", "image", "mixed"]
# Kinds of queries whose separation is measured: long texts, short texts, images; and labels, one image at a time.
MeasuredKind: TypeAlias = Literal["captions", "phrases", "images", "labels"]
MEASURED: tuple[MeasuredKind, ...] = get_args(MeasuredKind)

BASELINE_WEIGHT = 16  # images; on Flickr8k dev 4, 16 and 64 differ by less than 0.5% in log-loss
MAX_LENGTH = 20  # words; more of them count no further
LONGEST_PHRASE = 8  # words; a longer text is taken for a caption
# The least area under the ROC curve at which a calibration counts as able to tell: half way between chance and 0.9.
MIN_AREA = 0.7


@dataclass(frozen=True, eq=False)
class ScoreStats:
    """How a collection scores some queries: mean and standard deviation, each [q], over `sampled` of its `count`.

    The two numbers are the same for all queries, or [q], one for each.
    """

    mean: Numbers
    std: Numbers
    sampled: int | NDArray[np.intp]
    count: int | NDArray[np.intp]


def score_stats(queries: NDArray[np.float32], sample: NDArray[np.float32], count: int) -> ScoreStats:
    """Score queries [q d] against images [m d] that stand for a collection of `count`; all of unit length."""
    queries = np.atleast_2d(queries)
    if len(queries) == 1 and len(sample):
        # Not by BLAS, whose threads wait for each other where several queries are judged at once: a server of two
        # cores answered 283 searches a second rather than 92.
        scores = np.einsum("md,d->m", sample, queries[0])[None]
    else:
        scores = queries @ sample.T  # [q d] [m d] -> [q m]
    if not len(sample):
        nothing = np.zeros(len(scores))
        return ScoreStats(nothing, nothing, 0, count)
    return ScoreStats(scores.mean(1, dtype=np.float64), scores.std(1, dtype=np.float64), len(sample), count)


@dataclass(frozen=True, eq=False)
class QueryFeatures:
    """What is known of queries before they are searched for, each [q]."""

    length: Numbers  # the natural logarithm of the number of words; 0 for other queries
    prior: Numbers  # log-odds that a best hit is right, from similar queries; 0 for other queries

    def take(self, queries: NDArray[np.intp]) -> "QueryFeatures":
        """Some of them, in any order."""
        return QueryFeatures(self.length[queries], self.prior[queries])


def number_of_words(text: str) -> int:
    """How many words a query has, at least one."""
    return max(1, len(re.findall(r"\w+", text)))


def log_length(words: Sequence[int]) -> Numbers:
    """Numbers of words -> `QueryFeatures.length`."""
    return np.log(np.clip(np.array(words, dtype=np.float64), 1, MAX_LENGTH))


@dataclass(frozen=True)
class Coefficients:
    """The fitted numbers of one kind of query."""

    intercept: float
    score_coef: Annotated[float, Range(least=0)]  # per unit of cosine: a higher score is never worse
    z_score_coef: Annotated[float, Range(least=0)]  # per standard deviation above the mean
    size_coef: float  # per unit of the natural logarithm of the count
    mean_coef: float  # per unit of the mean: of a query that scores high with everything, a high score means less
    std_coef: float  # per unit of the standard deviation
    max_size: Positive  # images; the largest collection that the calibration has seen
    baseline_mean: float  # of scores, usual for such queries
    baseline_std: Annotated[float, Range(above=0)]  # of scores, usual for such queries
    length_coef: float = 0.0  # per unit of the natural logarithm of the number of words
    prior_coef: float = 0.0  # per unit of the log-odds of similar queries
    prior_size_coef: float = 0.0  # the same times the logarithm of the count: a prior lasts where there are many
    threshold: float = 0.0  # best hit below it: nothing matches well

    def features(self, scores: Numbers, stats: ScoreStats, query: QueryFeatures) -> Numbers:
        """The values that `FEATURES` are the coefficients of, in their order, for scores [q k]: [q k 8]."""
        seen, weight = stats.sampled, stats.sampled + BASELINE_WEIGHT
        mean = (seen * stats.mean + BASELINE_WEIGHT * self.baseline_mean) / weight  # [q]
        # The variance of the mixture: within both parts, and between their means.
        baseline = BASELINE_WEIGHT * (self.baseline_std**2 + (self.baseline_mean - mean) ** 2)
        variance = (seen * (stats.std**2 + (stats.mean - mean) ** 2) + baseline) / weight
        mean, std = mean[:, None], np.sqrt(variance)[:, None]
        size = np.log(np.clip(stats.count, 1, self.max_size)).reshape(-1, 1)  # [1 1] or [q 1]
        length, prior = query.length[:, None], query.prior[:, None]
        z_score = (scores - mean) / std
        return np.stack(np.broadcast_arrays(scores, z_score, size, mean, std, length, prior, prior * size), axis=-1)

    def log_odds(self, scores: Numbers, stats: ScoreStats, query: QueryFeatures) -> Numbers:
        """Of matching, for scores [q k]."""
        factors = np.array([getattr(self, name) for name in FEATURES])
        return np.asarray(self.intercept + self.features(scores, stats, query) @ factors)


FEATURES = (
    *("score_coef", "z_score_coef", "size_coef", "mean_coef", "std_coef"),
    *("length_coef", "prior_coef", "prior_size_coef"),
)


@dataclass(frozen=True)
class Calibration:
    """What the scores of one model mean.

    `text` is for queries by text: a hit matches if people who see it would write what the query says. `image` is for
    queries by image: a hit matches if people would write the same about both. `mixed` is for a text with an image, and
    for examples minus examples: what such a vector scores by itself is not known, so only the z-score and the size
    count, fitted on queries of both other kinds together.
    """

    fingerprint: str
    model: str
    text: Coefficients
    image: Coefficients
    mixed: Coefficients
    query_prior: QueryPrior = field(default_factory=lambda: NO_PRIOR)
    labels: LabelCoefficients | None = None  # None in those of earlier versions, and where labels cannot be told
    areas: Mapping[MeasuredKind, Mapping[int, float]] = field(default_factory=dict)  # see `area`
    figures: Mapping[str, Any] = field(default_factory=dict)  # the report it was published with

    @property
    def threshold(self) -> float:
        """The relevance of the best hit below which nothing matches a text well."""
        return self.text.threshold

    def coefficients(self, kind: QueryKind) -> Coefficients:
        """The numbers for one kind of query."""
        if kind not in get_args(QueryKind):
            raise TandemError(f"kind of query: expected text, image or mixed, got {kind!r}")
        return {"text": self.text, "image": self.image, "mixed": self.mixed}[kind]

    def probability(
        self,
        kind: QueryKind,
        scores: NDArray[np.floating[Any]],
        stats: ScoreStats,
        queries: NDArray[np.float32],
        words: Sequence[int] = (),
    ) -> Numbers:
        """That each hit matches, 0..1, float64 [q k], from cosines [q k]. Never falls as the score rises.

        `stats.count` is how many images the collection has. `queries` are the unit vectors [q d]; `words`, for
        queries by text, how many words each has (`number_of_words`).
        """
        features = self.features(kind, queries, log_length(words) if words else np.zeros(len(queries)))
        return sigmoid(self.coefficients(kind).log_odds(np.asarray(scores, dtype=np.float64), stats, features))

    def features(self, kind: QueryKind, queries: NDArray[np.float32], length: Numbers) -> QueryFeatures:
        """What is known of queries [q d] of a kind, beforehand; `length` [q] as `log_length` gives it."""
        return QueryFeatures(length, self.query_prior.log_odds(queries) if kind == "text" else np.zeros(len(queries)))

    def area(self, kind: MeasuredKind, count: int) -> float | None:
        """How well it separates searches of a kind with a match from those without, among `count` images.

        The area under the ROC curve of the best hit's relevance: chance is 0.5. Interpolated between the sizes of
        collections that were measured, over the logarithm of the size; beyond them that of the nearest one. For labels,
        of an image's probabilities of labels that are true of it and that are not, with `count` 1. None where it was
        not measured.
        """
        measured = sorted(self.areas.get(kind, {}).items())
        if not measured:
            return None
        sizes, areas = zip(*measured, strict=True)
        return float(np.interp(np.log(max(count, 1)), np.log(sizes), areas))

    def cannot_tell(self, kinds: Iterable[MeasuredKind], count: int) -> str | None:
        """Why relevance would mean nothing, in one line; None where it means something.

        A query of several kinds counts as the kind that is told worst.
        """
        for kind in kinds:
            area = self.area(kind, count)
            if area is None:
                return (
                    f"the calibration of {self.model} does not say how well it separates {_MATCHES[kind]} from others; "
                    "run tandem calibrate again"
                )
            if area < MIN_AREA:
                among = "" if kind == "labels" else f" among {count:,} images"
                instead = "only the order means something"
                if kind == "labels":
                    instead = "let labels compete, or load a model that was trained with a sigmoid"
                return (
                    f"the calibration of {self.model} cannot separate {_MATCHES[kind]} from others{among} (area under "
                    f"the ROC curve {area:.3f}, below {MIN_AREA}); {instead}"
                )
        return None

    @property
    def labels_reason(self) -> str | None:
        """Why there are no coefficients of labels; None where there are, or where it was not kept."""
        return self.figures.get("no_labels")

    def label_scoring(self, class_vectors: Vectors) -> Scoring | str:
        """The scoring of each label by itself, for vectors [c d]; or in one line why there is none."""
        if self.labels is None:
            return f"its calibration says nothing of labels: {self.labels_reason or 'it is of an earlier version'}"
        return self.cannot_tell(["labels"], 1) or self.labels.scoring(class_vectors)


_MATCHES: dict[MeasuredKind, str] = {
    "captions": f"matches of texts of more than {LONGEST_PHRASE} words",
    "phrases": f"matches of texts of up to {LONGEST_PHRASE} words",
    "images": "matches of images",
    "labels": "labels that are true of an image",
}


def kind_of_text(text: str) -> MeasuredKind:
    """As which kind of query a text counts."""
    return "phrases" if number_of_words(text) <= LONGEST_PHRASE else "captions"
