"""What is said of an image: for each category a score, a probability where it was measured, the band, and what decided.

Knows fits and vectors; where images come from, it does not.

Shapes: n images, d the shared dimension.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tandem.arrays import Vectors
from tandem.files import display_name
from tandem.moderation.category_scores import CategoryVectors, Nearest
from tandem.moderation.fit_file import CategoryFit, ScoreKind

Band = Literal["allow", "not fitted", "cannot tell", "review", "block"]  # the mildest first
BANDS: tuple[Band, ...] = get_args(Band)
FLAGGED: tuple[Band, ...] = BANDS[BANDS.index("review") :]
WIDEST = 0.5  # of the interval of a probability that still says something


@dataclass(frozen=True)
class CategoryDecision:
    """A category's part of a decision. Without a fit there is no probability, and `band` is "not fitted"."""

    score: float  # orders images; means nothing by itself
    band: Band
    score_kind: ScoreKind  # what the score is of: the texts, the examples, or the labelled images of the fit
    nearest: Mapping[str, Nearest]  # by "for" and "against"
    probability: float | None = None
    interval: tuple[float, float] | None = None  # of the probability, 95%

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        nearest = {
            side: {key: value for key, value in vars(each).items() if value is not None}
            for side, each in self.nearest.items()
        }
        interval = None if self.interval is None else list(self.interval)
        return {
            "band": self.band,
            "probability": self.probability,
            "interval": interval,
            "score": self.score,
            "score_kind": self.score_kind,
            "nearest": nearest,
        }


@dataclass(frozen=True)
class Decision:
    """What is said of an image. `digest` is the SHA-256 of its bytes, where it was asked for; `id` that of a
    collection's image."""

    image: str
    categories: Mapping[str, CategoryDecision]
    digest: str | None = None
    id: str | None = None

    @property
    def band(self) -> Band:
        """The most severe band of all categories."""
        return worst(each.band for each in self.categories.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `tandem moderate --json` prints them."""
        known = {"sha256": self.digest, "id": self.id}
        return {
            "image": display_name(self.image),
            **{key: value for key, value in known.items() if value is not None},
            "band": self.band,
            "categories": {name: each.as_dict() for name, each in self.categories.items()},
        }


def is_flagged(band: str) -> bool:
    """Whether an image is looked at or blocked. One that was not judged is neither allowed nor flagged."""
    return band in FLAGGED


def worst(bands: Iterable[Band]) -> Band:
    """The most severe of bands. An image that one category cannot judge is not allowed by the others."""
    return max(bands, key=BANDS.index)


def decide(category: CategoryVectors, fit: CategoryFit | None, vectors: Vectors) -> list[CategoryDecision]:
    """One category of each image [n d]."""
    nearest = category.nearest(vectors)
    if fit is None:
        kind: ScoreKind = "texts" if category.example_score is None else "examples"
        scores = category.unfitted(vectors).tolist()
        return [
            CategoryDecision(_rounded(score), "not fitted", kind, near)
            for score, near in zip(scores, nearest, strict=True)
        ]
    linear = fit.linear()
    exact = category.text_scores(vectors) if linear is None else linear(vectors)
    if fit.cannot_tell:
        return [
            CategoryDecision(_rounded(score), "cannot tell", fit.score_kind, near)
            for score, near in zip(exact.tolist(), nearest, strict=True)
        ]
    found = []
    review, block = fit.review_probability, fit.block_probability
    columns = (exact, *fit.probabilities(exact))
    for score, probability, low, high, near in zip(*(each.tolist() for each in columns), nearest, strict=True):
        # Where the interval is as good as none, or reaches from allow to block.
        if high - low > WIDEST or (review is not None and block is not None and low < review < block <= high):
            band: Band = "cannot tell"
        elif fit.block_score is not None and score >= fit.block_score:
            band = "block"
        elif fit.review_score is not None and score >= fit.review_score:
            band = "review"
        else:
            band = "allow"
        interval = (_rounded(low), _rounded(high))
        found.append(CategoryDecision(_rounded(score), band, fit.score_kind, near, _rounded(probability), interval))
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def counts(decisions: Sequence[Decision], categories: Iterable[str]) -> dict[str, dict[str, int]]:
    """The images in each band, of every category and, under "", of all together."""
    found: dict[str, dict[str, int]] = {name: dict.fromkeys(BANDS, 0) for name in ("", *categories)}
    for decision in decisions:
        found[""][decision.band] += 1
        for name, each in decision.categories.items():
            found[name][each.band] += 1
    return found
