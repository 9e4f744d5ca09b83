"""What a task measured: figures by name, the tables behind them, and the outcome for every image.

Reports are written from it, and two of them are compared image by image. Tables by name; all are plain
values for JSON, and places are places in `classes`:

- `classes`: the names, in the order of the data set
- `per_class`: rows of `class`, `n`, `accuracy`, `low`, `high`, `confused_with` (the most frequent mistake, or None)
- `confusion`: rows of [true place, answered place, images], those that occur
- `calibration`: rows of `confidence` (mean), `accuracy`, `n`, and `low` and `high` of the bin, for bins with images
- `class_prior`: rows of `class`, `share` (of all answers), `true_share` (of all images) and `share_after_correction`:
  which names a model favours
- `few_shot`: rows of `method`, `shots`, `value`, `low`, `high`, `gain` with `gain_low` and `gain_high`, `draws` (how
  many) and `of_draws` (the accuracy of each); of zero-shot, no gain, and 0 shots and draws
- `draws`: rows of `seed`, `shots`, `keys` (of the images drawn; the first of each class are the draw of one shot)
- `wise_ft`: rows of `alpha`, `validation` (the accuracy that alpha was chosen by, or None), `test` and `elsewhere` (by
  name), each of these with `value`, `low`, `high`, `n`
- `sweep`: rows of `c`, `accuracy`, in the order of `c`
- `calibration_after_temperature`: as `calibration`
- `average_precision`: rows of `class`, `n`, `value`, `low`, `high`, `chance`, for labels that do not compete
- `recall_curve`: rows of `direction`, `k`, `value`, `chance`
- `class_prior_distance`: the share of answers that had to be others for each class to be answered as often as it
  occurs, `plain` and `after_correction`
- `temperature`: `of_halves` (each fitted on one half of the images and used on the other), `log_loss_before`, `_after`
- `worst_queries`: rows of `caption`, `key` (of its image), `rank`

Outcomes that reports show beside the figures' own: `answer` (the place that was answered) and `probability` (of it).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tandem.datasets.dataset import Dataset
from tandem.evaluate.figures import Figure

# As `tandem evaluate --task` calls it; multi-label is zero-shot where labels do not compete.
Task = Literal["zero-shot", "multi-label", "retrieval", "linear-probe", "few-shot", "fine-tune"]


@dataclass(frozen=True)
class DatasetRecord:
    """Which data a result is about."""

    name: str
    source: str
    split: str | None
    hash: str
    images: int
    classes: int

    @staticmethod
    def of(dataset: Dataset) -> "DatasetRecord":
        """The record of a data set."""
        return DatasetRecord(
            dataset.name, dataset.source, dataset.split, dataset.hash, len(dataset), len(dataset.classes)
        )


@dataclass(frozen=True, eq=False)
class TaskResult:
    """The result of one task on one data set.

    `figures` in the order in which they are shown; `tables` are plain values for JSON (per class, confusion, curves,
    calibration bins), by name; `outcomes` are arrays whose first axis is that of `keys`: what is averaged to the figure
    of that name, for paired tests; and `answer` and `probability`, for finding the worst images.
    """

    task: Task
    dataset: DatasetRecord
    settings: Mapping[str, Any]  # templates, seeds, splits, draws: all that is needed to repeat it
    figures: Mapping[str, Figure]
    tables: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    outcomes: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what a reader must know: seen classes, images that were skipped, empty classes
