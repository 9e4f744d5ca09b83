"""Labelled and captioned images in the layouts that people have them in. Knows no model.

`Dataset` is what tasks read; each layout is a module that makes one of it.
"""

from tandem.datasets.dataset import Dataset, StoredVectors
from tandem.datasets.opening import dataset_splits, open_dataset

__all__ = ["Dataset", "StoredVectors", "dataset_splits", "open_dataset"]
