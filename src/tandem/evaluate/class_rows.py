"""What became of each class, for the table `per_class` of a result.

Shapes: n images, c classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.evaluate.intervals import wilson


def per_class_rows(
    names: Sequence[str], labels: NDArray[np.int64], answered: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Accuracy with Wilson's interval, and the most frequent mistake, of each class that has images.

    From places of classes, both [n]: the labels, and what was answered.
    """
    rows = []
    for place in np.flatnonzero(np.bincount(labels, minlength=len(names))).tolist():
        given = answered[labels == place]
        wrong = given[given != place]
        right = len(given) - len(wrong)
        low, high = wilson(right, len(given))
        mistake = names[int(np.bincount(wrong).argmax())] if len(wrong) else None
        rows.append(
            {"class": names[place], "n": len(given), "accuracy": right / len(given)}
            | {"low": low, "high": high, "confused_with": mistake}
        )
    return rows
