"""What a recipe says of measuring a run, and of what is chosen by the measures."""

from dataclasses import dataclass, field
from typing import Literal

from tandem.fields import Fraction, NonNegative, Positive, Share


@dataclass(frozen=True)
class ValidationSource:
    """A further validation set. Its measures are named `NAME/zero_shot_top1` and so on."""

    name: str
    path: str  # below `data_root`, or absolute: a tar or a Parquet file
    kind: Literal["zero_shot", "retrieval", "classification"]
    # JSON key or column; empty: `names` for zero-shot, `captions` for retrieval, the training set's for classification
    text: str = ""
    limit: NonNegative = 2000  # images that are used; 0: all
    where: dict[str, str] = field(default_factory=dict)  # as of a training set
    hold_out: Fraction = 0.0  # only the samples that a training set with the same share leaves out; 0: all


@dataclass(frozen=True)
class Validation:
    """The measures taken during the run, and the one that chooses the best weights."""

    every_steps: Positive = 500
    zero_shot: str = ""  # Parquet with `image` and a column of names
    names: str = "names"
    retrieval: str = ""  # WebDataset tar with captions
    classification: str = ""  # of the head: labelled images of any kind that a training set may have
    limit: NonNegative = 2000  # images of the zero-shot and the classification set that are used; 0: all
    sets: tuple[ValidationSource, ...] = ()  # further ones
    best: str = "sum"  # the measure that chooses the best weights, or the sum of all


@dataclass(frozen=True)
class Interpolation:
    """The end of a run: weights between its first ones (alpha 0) and its last (alpha 1; Wortsman et al. 2022)."""

    alphas: tuple[Share, ...] = ()  # those that are measured; `validation.best` chooses one. None: the last weights
    statistics_images: NonNegative = 8192  # for batch-norm statistics, measured again in between; 0: averaged ones
    at_least: dict[str, float] = field(default_factory=dict)  # the least values of measures that may be chosen

    @property
    def distinct_alphas(self) -> list[float]:
        """Each alpha once, in ascending order: as they are measured."""
        return sorted(set(self.alphas))
