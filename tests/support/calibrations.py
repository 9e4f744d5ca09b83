"""The calibration of the model that ships, telling what a test says: its own areas change with each edition."""

from dataclasses import replace
from pathlib import Path

import tandem
from tandem.scores.calibration_files import load_calibration, save_calibration
from tandem.scores.relevance import MEASURED

TELLS, CANNOT = 0.9, 0.6  # areas under the ROC curve, on either side of `MIN_AREA`


def save_telling(*kinds: str) -> Path:
    """Keep, as the user's own, a fit of the model that ships that can tell queries of these kinds and no others."""
    shipped = load_calibration(tandem.load())
    assert shipped is not None
    areas = {kind: {1: TELLS if kind in kinds else CANNOT} for kind in MEASURED}
    return save_calibration(replace(shipped, areas=areas))
