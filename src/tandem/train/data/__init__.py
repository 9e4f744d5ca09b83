"""Training sets -> batches. `batch.py` says what a step learns from, `loader.py` makes the batches of a run."""

from tandem.train.data.old import Batch, Batches, TrainingSet, random_crop, read_source

# The names of the one-process loop, until it reads `loader.Loader`.
__all__ = ["Batch", "Batches", "TrainingSet", "random_crop", "read_source"]
