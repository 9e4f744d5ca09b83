"""The scoring of labels that stand by themselves, for models without a sigmoid of their own: by a calibration."""

from typing import Protocol

from tandem.arrays import Vectors
from tandem.errors import TandemError
from tandem.scores.calibration_files import CalibratedModel, how_to_calibrate
from tandem.scores.relevance import Calibration
from tandem.scores.scoring import Scoring


class ScoredModel(CalibratedModel, Protocol):
    """What is asked of a model."""

    @property
    def calibration(self) -> Calibration | None: ...


def calibrated_scoring(model: ScoredModel, class_vectors: Vectors) -> Scoring:
    """The scoring of labels with vectors [c d] by the model's calibration. Raises `TandemError` where it has none."""
    calibration = model.calibration
    if calibration is None:
        found: Scoring | str = f"it has no calibration; {how_to_calibrate(model)}"
    elif calibration.labels is None and calibration.labels_reason is None:
        found = f"its calibration says nothing of labels; {how_to_calibrate(model)}"
    else:
        found = calibration.label_scoring(class_vectors)
    if isinstance(found, Scoring):
        return found
    raise TandemError(f"{model.name} cannot judge a label by itself: it has no logit bias, and {found}")
