"""From labels whose images are known to `LabelCoefficients`: the probability of a label by itself. Pure arithmetic.

Shapes: l labels, n images, d dimensions.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.scores.relevance import Numbers
from tandem.scores.scoring import LabelCoefficients
from tandem.search.calibration.fitting import fit_logistic
from tandem.search.calibration.trials import LabelledQueries

# Of the labels that people ask about, this share is true of an image: one in five, as with a short list of tags. How
# often each is true among the images of a calibration says nothing of other images.
LABEL_PRIOR = 0.2


NO_WORDS = "there were no label words in the captions, which several images would have to share"
CANNOT_TELL = "higher cosines do not make a label likelier: this model cannot tell"


def label_counts(matches: NDArray[np.bool_]) -> Numbers:
    """How much each pair [l n] counts: every label as much, and of each the images that it is true of `LABEL_PRIOR`."""
    true = matches.sum(1, keepdims=True)
    false = matches.shape[1] - true
    counts = np.where(matches, LABEL_PRIOR / np.maximum(true, 1), (1 - LABEL_PRIOR) / np.maximum(false, 1))
    return np.asarray(counts * matches.shape[1], dtype=np.float64)


def fit_labels(known: LabelledQueries, mean_image: NDArray[np.float32]) -> LabelCoefficients | str:
    """The coefficients that make the known labels of images likeliest; `mean_image` [d] is the mean of their vectors.

    Or in one line why there are none: without labels, or where a higher cosine does not make a label likelier.
    """
    if not len(known.scores):
        return NO_WORDS
    mean = np.broadcast_to(known.scores.mean(1, keepdims=True), known.scores.shape)
    features = np.stack([known.scores.ravel(), mean.ravel()], axis=1).astype(np.float64)
    counts = label_counts(known.matches).ravel()
    intercept, score_coef, mean_coef = fit_logistic(features, known.matches.ravel(), counts).tolist()
    if score_coef <= 0:
        return CANNOT_TELL
    return LabelCoefficients(intercept, score_coef, mean_coef, tuple(float(f"{x:.6g}") for x in mean_image.tolist()))
