"""What a run of classification leaves beside its model: the zero-shot classifier it started from, and WiSE-FT's.

    zero-shot  zero-shot.tandem-head     the first weights
    model      model.tandem-head         the last weights
    wise-ft    wise-ft.tandem-head       between the two, at the alpha that is best on `validation.classification`
    wise-ft.csv                          all validation measures at every alpha

Knows a run's folder and its validation sets; no steps.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tandem.train.run.assembly import MODEL
from tandem.train.run.encoder import CheckpointEncoder
from tandem.train.run.validation import ValidationSet, validate
from tandem.train.wise_ft import (
    ModelWithHead,
    between,
    choose,
    curve,
    read_model_with_head,
    write_curve,
    write_model_with_head,
)

ZERO_SHOT, WISE_FT = "zero-shot", "wise-ft"
CHOSEN_BY = "classification_top1"


def write_wise_ft(folder: Path, validation: Sequence[ValidationSet], device: torch.device) -> str:
    """Choose alpha, write the classifier there and the curve, and return a line about them."""
    zero_shot, fine_tuned = (read_model_with_head(folder / name) for name in (ZERO_SHOT, MODEL))
    texts: dict[tuple[str, ...], np.ndarray] = {}
    points = curve(zero_shot, fine_tuned, lambda each: measures(each, validation, device, texts)) if validation else []
    alpha = choose(points, CHOSEN_BY)
    write_model_with_head(between(zero_shot, fine_tuned, alpha), folder / WISE_FT)
    if points:
        write_curve(points, folder / "wise-ft.csv")
    found = {point.alpha: point.measures.get(CHOSEN_BY) for point in points}
    if (best := found.get(alpha)) is None:
        return f"WiSE-FT: alpha {alpha:g}, not chosen by any measure (set validation.classification)"
    first, last = found[0.0], found[1.0]
    return f"WiSE-FT: alpha {alpha:g}, {best:.1%} on validation (zero-shot {first:.1%}, fine-tuned {last:.1%})"


def measures(
    classifier: ModelWithHead,
    sets: Sequence[ValidationSet],
    device: torch.device,
    texts: dict[tuple[str, ...], np.ndarray] | None = None,
) -> dict[str, float]:
    """The validation measures of a classifier, by name, from 0 to 1.

    texts: vectors of lists of texts, kept for the next classifier of the same text tower.
    """
    encoder = CheckpointEncoder(classifier.model, device)
    known = {} if texts is None else texts

    def encode_texts(several: list[str]) -> np.ndarray:
        key = tuple(several)
        if key not in known:
            known[key] = encoder.texts(several)
        return known[key]

    return validate(sets, encoder.images, encode_texts, classifier.head.logits)
