"""What was measured of a policy with a model, and the file beside the policy that keeps it.

A fit holds for one model and one policy, to the byte: any other is refused by name. Knows numbers and files; how they
are found is `fitting`.

Shapes: n images, d the shared dimension.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tandem.errors import ConfigError, DataError
from tandem.evaluate.figures import Figure
from tandem.fields import NonNegative, Positive, Range, Share, read, to_plain
from tandem.files import write_text
from tandem.home import data_folder
from tandem.moderation.category_scores import LinearScore
from tandem.moderation.policy_files import SHIPPED, PolicyFile
from tandem.scores.scoring import sigmoid
from tandem.search.indexing.image_record import digest_of_id, id_of_digest

VERSION = 1
MAX_BYTES = 32 << 20
DIGEST_DIGITS = 16  # of a kept SHA-256: among a million photos and a million others, one in 18 million is mistaken
_LARGEST = 1e9  # of any number of a fit; those of scores are far below
_Z = 1.959963984540054  # of a 95% interval

Numbers = NDArray[np.float64]
ScoreKind = Literal["texts", "examples", "learned"]


@dataclass(frozen=True)
class CategoryFit:
    """From a category's score to its probability, its thresholds, and the figures of both.

    With z = (score - center) / spread the log-odds are intercept + slope z at the stated base rate. Scores beyond those
    of the labelled images count as the nearest of them: nothing is known there.
    """

    score_kind: ScoreKind
    center: float
    spread: Annotated[float, Range(above=0)]
    intercept: float
    slope: float
    covariance: tuple[
        float, float, float
    ]  # of intercept and slope: both variances' and, in the middle, their covariance
    low: float  # the range of the scores
    high: float
    base_rate: Share  # where the policy is used
    fitted_base_rate: Share  # among the labelled images
    positives: Positive
    negatives: Positive
    review_score: float | None  # from which an image is looked at; None: never
    block_score: float | None
    promised: Mapping[str, float] = field(default_factory=dict)  # by the names of figures; else the policy's bands hold
    cannot_tell: str = ""  # why no image is in a band
    weights: tuple[float, ...] = ()  # of a score that is not that of the texts
    bias: float = 0.0
    figures: Mapping[str, Figure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def contradiction(self) -> str:
        """What in it no labelled images give, with its key; "" for a fit that can be used."""
        if not self.low <= self.high:
            return "high: expected at least low"
        if self.spread < 1e-300:  # the machine may take the smallest numbers for 0
            return "spread: expected a larger number"
        numbers = [self.intercept, self.slope, *self.covariance, self.bias, *self.weights]
        places = [(each - self.center) / self.spread for each in (self.low, self.high)]
        if not all(abs(each) < _LARGEST for each in (*numbers, *places)):
            return "spread: expected numbers that go with the scores, got some beyond any"
        var_intercept, covariance, var_slope = self.covariance
        if min(var_intercept, var_slope) < 0 or covariance**2 > var_intercept * var_slope * (1 + 1e-6):
            return "covariance: expected that of two numbers"
        bounds = [each for each in (self.review_score, self.block_score) if each is not None]
        if bounds and self.slope <= 0:
            return "slope: expected a number above 0 where bands begin"
        if not self.cannot_tell and self.slope <= 0:
            return "slope: expected a number above 0"
        if bounds != sorted(bounds) or any(not self.low <= each <= self.high for each in bounds):
            return "review_score: expected low, review_score, block_score and high in this order"
        return ""

    def linear(self) -> LinearScore | None:
        """The score, where it is not that of the texts."""
        return LinearScore(np.array(self.weights, np.float32), self.bias) if self.score_kind != "texts" else None

    def probabilities(self, scores: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """The probability of each image [n] at the stated base rate, and the bounds of its 95% interval."""
        z = (np.clip(scores, self.low, self.high) - self.center) / self.spread
        log_odds = self.intercept + self.slope * z
        var_intercept, covariance, var_slope = self.covariance
        half = _Z * np.sqrt(np.maximum(var_intercept + 2 * z * covariance + z * z * var_slope, 0))
        return sigmoid(log_odds), sigmoid(log_odds - half), sigmoid(log_odds + half)

    def score_of(self, probability: float) -> float | None:
        """The score from which a probability is reached; None where no score that was seen does."""
        if probability <= 0:
            return self.low
        if probability >= 1:
            return None
        log_odds = math.log(probability) - math.log1p(-probability)
        score = self.center + self.spread * (log_odds - self.intercept) / self.slope
        return None if score > self.high else max(score, self.low)

    @property
    def review_probability(self) -> float | None:
        """The probability from which an image is looked at; None: never."""
        return self._probability_of(self.review_score)

    @property
    def block_probability(self) -> float | None:
        """The probability from which an image is blocked; None: never."""
        return self._probability_of(self.block_score)

    def _probability_of(self, score: float | None) -> float | None:
        return None if score is None else float(self.probabilities(np.array([score]))[0][0])

    def as_dict(self) -> dict[str, Any]:
        """Plain values for people and programs: without the weights, with the probabilities where bands begin."""
        plain = {key: value for key, value in to_plain(self).items() if key not in ("weights", "covariance")}
        return plain | {
            "review_probability": self.review_probability,
            "block_probability": self.block_probability,
            "figures": {name: figure.as_dict() for name, figure in self.figures.items()},
        }


@dataclass(frozen=True)
class FittedOn:
    """The labelled images."""

    name: str
    hash: str
    images: NonNegative
    corrections: NonNegative = 0
    # The beginnings of their digests, corrections included: what is said of these photos later says nothing of others.
    digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """What was measured of a policy with a model. `categories` may lack some: those were not fitted."""

    policy: str
    policy_fingerprint: str
    model: str
    model_fingerprint: str
    data: FittedOn
    date: str
    tandem: str
    seed: NonNegative
    categories: Mapping[str, CategoryFit]
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all of it."""
        return hashlib.sha256(json.dumps(to_plain(self), sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `tandem moderate fit --json` prints them."""
        categories = {name: each.as_dict() for name, each in self.categories.items()}
        plain = to_plain(self)
        del plain["data"]["digests"]
        return {"fingerprint": self.fingerprint, **plain, "categories": categories}

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.data.digests)

    def was_fitted_on(self, sha256: str) -> bool | None:
        """Whether it was made from an image, by the digest of its file or its id in a collection; None if unknown."""
        if not self._known:
            return None
        of_id = digest_of_id(id_of_digest(sha256)).hex()
        return sha256[:DIGEST_DIGITS] in self._known or of_id[:DIGEST_DIGITS] in self._known

    def check(self, opened: PolicyFile, *, model: str, fingerprint: str, dimensions: int, source: str) -> None:
        """Raise `DataError` where it was made with another policy or another model."""
        if self.policy_fingerprint != opened.fingerprint:
            what = "another policy" if self.policy != opened.policy.name else "an earlier version of the policy"
            raise DataError(
                f"{source}: fitted with {what} ({self.policy}, {self.policy_fingerprint[:12]}), but this is "
                f"{opened.policy.name} ({opened.fingerprint[:12]}): {_AGAIN}"
            )
        if self.model_fingerprint != fingerprint:
            raise DataError(
                f"{source}: fitted with another model ({self.model}, {self.model_fingerprint[:12]}), but this is "
                f"{model} ({fingerprint[:12]}): {_AGAIN}"
            )
        unknown = [name for name in self.categories if name not in opened.policy.categories]
        if unknown:
            raise DataError(f"{source}: categories: {unknown[0]!r} is none of the policy: {_AGAIN}")
        for name, each in self.categories.items():
            wrong = each.contradiction()
            if each.base_rate != opened.policy.categories[name].base_rate:
                wrong = "base_rate: expected that of the policy"
            if wrong:
                raise DataError(f"{source}: categories.{name}.{wrong}: {_AGAIN}")
            wanted = 0 if each.score_kind == "texts" else dimensions
            if len(each.weights) != wanted:
                came = f"expected {wanted:,} numbers, got {len(each.weights):,}"
                raise DataError(f"{source}: categories.{name}.weights: {came}: {_AGAIN}")


_AGAIN = "fit it again (tandem moderate fit), or go without a fit"


def fit_path(opened: PolicyFile) -> Path:
    """Where the fit of a policy is kept: beside its file; of one that ships, among the user's own data."""
    folder = data_folder() / "policies" if opened.path.parent == SHIPPED else opened.path.parent
    return folder / f"{opened.path.stem}.fit.json"


def write_fit(fit: Fit, path: Path) -> None:
    """Write a fit; an earlier one is replaced. Raises `DataError`."""
    document = {"format": "tandem-moderation-fit", "version": VERSION, **to_plain(fit)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise DataError(f"{path}: the fit cannot be written: {error.strerror or error}") from None


def check_replaced(path: Path) -> None:
    """Raise `DataError` where another file than a fit would be replaced."""
    if path.is_dir():
        raise DataError(f"{path}: expected a file to write, it is a folder; say {path / 'policy.fit.json'}")
    if path.exists() and b'"tandem-moderation-fit"' not in path.read_bytes()[:200]:
        raise DataError(f"{path}: there is a file already that is no fit; write to another one")


def read_fit(path: Path) -> Fit:
    """The fit that `write_fit` wrote. Raises `DataError` that names the file and the key for anything else."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: expected a fit of at most {MAX_BYTES >> 20} MB")
        document: Any = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise DataError(f"{path}: the fit cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: no fit of a policy: expected JSON as tandem moderate fit writes it") from None
    if not isinstance(document, dict) or document.get("format") != "tandem-moderation-fit":
        raise DataError(f"{path}: no fit of a policy: expected what tandem moderate fit writes")
    if document.get("version") != VERSION:
        raise DataError(
            f"{path}: expected version {VERSION} of a fit, got {str(document.get('version'))[:20]}: {_AGAIN}"
        )
    values = {key: value for key, value in document.items() if key not in ("format", "version")}
    try:
        return read(Fit, values)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from None


def _no_constant(_: str) -> float:
    raise ValueError("NaN is not JSON")
