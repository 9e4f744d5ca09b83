"""What a method says of its own shots when it has not seen them: each, or a part of them, is left out in turn.

Leave-one-out in closed form where there is one, else folds with the same share of every class. Whatever a method
chooses (GDA's alpha, the linear probe's C) is chosen without the images that are left out.

Shapes: n images, c classes.
"""

from dataclasses import dataclass

import numpy as np

from tandem.arrays import Vectors
from tandem.heads.fitting import METHODS, fit_shots
from tandem.heads.folds import stratified_folds
from tandem.heads.shots import Shots

FOLDS = 8


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Out-of-sample logits, float32 [n c], and how they were made, for a report."""

    logits: Vectors  # NaN for images that cannot be left out: the only ones of their class
    scheme: str  # "leave-one-out", "8 folds"
    seed: int | None  # of the folds


def leave_out(method: str, shots: Shots, *, folds: int = FOLDS, seed: int = 0) -> LeftOut:
    """Classify every image with a head fitted without it.

    At most `folds` folds, and no more than there are images. A fold never has all images of a class: the only image of
    one is in none, since without it nothing would be known of the class, and its logits are NaN. Raises `DataError`
    where every class has one image.
    """
    if shots.counts.max() < 2:
        shots.at_least(2, "measuring on images that are left out")
    closed_form = METHODS[method].leave_one_out
    if closed_form is not None and shots.counts.min() > 1:
        return LeftOut(closed_form(shots), "leave-one-out", None)
    several = shots.counts[shots.labels] > 1
    count = int(min(folds, several.sum()))
    fold = np.full(len(shots.labels), -1)
    fold[several] = stratified_folds(shots.labels[several], count, seed)
    logits = np.full((len(shots.labels), len(shots.classes)), np.nan, dtype=np.float32)
    for each in range(count):
        held_out = fold == each
        fit = fit_shots(method, shots.take(np.flatnonzero(~held_out)))
        logits[held_out] = fit.logits(shots.vectors[held_out])
    return LeftOut(logits, "leave-one-out" if count == several.sum() else f"{count} folds", seed)
