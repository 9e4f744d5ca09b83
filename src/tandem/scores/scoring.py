"""From cosines to the probabilities of labels: among each other, or each by itself. Pure arithmetic; knows no model.

A `Scoring` is all that is needed: a logit is `scale * cosine + bias`. Labels that compete share 100% (softmax, Radford
et al. 2021); labels that stand by themselves each have the sigmoid of their logit: the model's own where it was trained
so (Zhai et al. 2023, with a learned bias), else one fitted on images with captions (`LabelCoefficients`). The classes
of a head compete, too: their vectors are the head's weights, and products with them take the place of cosines.

Shapes: n images, c labels, d dimensions.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.fields import Range

ScoringKind: TypeAlias = Literal["softmax", "sigmoid", "calibrated", "head"]
_Float = TypeVar("_Float", bound=np.floating[Any])


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the last axis."""
    result = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result /= result.sum(axis=-1, keepdims=True)
    return np.asarray(result, dtype=np.float32)


def sigmoid(log_odds: NDArray[_Float]) -> NDArray[_Float]:
    """Log-odds -> probabilities, of the same type, without overflow.

    Small ones are exact: 1e-12 does not become 0, as with the hyperbolic tangent.
    """
    small = np.exp(-np.abs(log_odds))
    return np.asarray(np.where(log_odds < 0, small, 1) / (1 + small), dtype=log_odds.dtype)


def compete(kind: ScoringKind) -> bool:
    """Whether an image's probabilities sum to 1; else each label stands by itself."""
    return kind in ("softmax", "head")


def probabilities(kind: ScoringKind, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [n c] -> probabilities [n c]."""
    return softmax(logits) if compete(kind) else sigmoid(logits)


def percent(probability: float) -> str:
    """A probability for people, with one decimal: one that is not 0 is not shown as 0."""
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"


def digits(probability: float) -> str:
    """A probability for programs: six decimals, or four significant digits where those would say less."""
    return f"{probability:.6f}" if probability >= 1e-3 else f"{probability:.4g}"


@dataclass(frozen=True, eq=False)
class Scoring:
    """How cosines with some labels become probabilities.

    "softmax": labels compete, and their probabilities sum to 1. "sigmoid": each label by itself, as the model was
    trained. "calibrated": each label by itself, by a calibration. "head": the classes of a head, which compete.
    """

    kind: ScoringKind
    scale: float  # above 0
    bias: float | NDArray[np.float32] = 0.0  # [c] where each label has its own

    @property
    def keeps_order(self) -> bool:
        """Whether an image's labels come in the order of their cosines."""
        return not isinstance(self.bias, np.ndarray)

    def logits(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines [n c] -> logits [n c]."""
        scaled = cosines * np.float32(self.scale)
        if isinstance(self.bias, np.ndarray) or self.bias:
            scaled += np.asarray(self.bias, dtype=np.float32)
        return scaled

    def probabilities(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines [n c] -> probabilities [n c]."""
        return probabilities(self.kind, self.logits(cosines))

    def evidence(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """What images are ranked by for a label, [c n] -> [c n]: the probability, on a scale where none are equal to 0.

        The logarithm of a probability among labels, the log-odds of one by itself: `from_evidence` is the way back.
        """
        found = self.logits(cosines.T).T
        if not compete(self.kind):
            return found
        highest = found.max(axis=0)
        found -= highest + np.log(np.exp(found - highest).sum(axis=0))
        return found

    def from_evidence(self, evidence: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of the same shape."""
        return np.exp(evidence) if compete(self.kind) else sigmoid(evidence)

    def best_probabilities(
        self, cosines: NDArray[np.float32], labels: NDArray[np.intp], best: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probabilities [n k] of the k best labels, likeliest first: of their indices and cosines [n k] among [n c]."""
        bias = self.bias[labels] if isinstance(self.bias, np.ndarray) else np.float32(self.bias)
        found = np.asarray(best * np.float32(self.scale) + bias, dtype=np.float32)
        if not compete(self.kind):
            return sigmoid(found)
        highest = found[:, :1]
        total = np.exp(self.logits(cosines) - highest).sum(axis=1, keepdims=True)
        return np.asarray(np.exp(found - highest) / total)

    def shown(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is shown beside probabilities, of the same shape [n c]: cosines, or the logits of a head."""
        return self.logits(cosines) if self.kind == "head" else cosines


@dataclass(frozen=True)
class LabelCoefficients:
    """The fitted log-odds that a label is true of an image, from their cosine and what is known of the label.

    Some labels score high with every image; the mean cosine of a label with the images of the calibration tells which.
    """

    intercept: float
    score_coef: Annotated[float, Range(above=0)]  # per unit of cosine: a higher score is never worse
    mean_coef: float  # per unit of the label's mean cosine
    mean_image: tuple[float, ...]  # the mean of the images' unit vectors [d]: a product with it is that mean cosine

    def scoring(self, class_vectors: Vectors) -> Scoring:
        """The scoring of labels with these vectors [c d]."""
        mean = class_vectors @ np.array(self.mean_image, dtype=np.float32)  # [c d] [d] -> [c]
        bias = self.intercept + self.mean_coef * mean.astype(np.float64)
        return Scoring("calibrated", self.score_coef, bias.astype(np.float32))
