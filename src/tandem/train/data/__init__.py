"""Training sets -> batches. `batch.py` says what a step learns from; `loader.py` makes the batches of a run."""
