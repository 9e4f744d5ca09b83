"""The torch definition of the models, for training and for GPUs: two towers of `tandem.towers` side by side.

Knows tensors and a `ModelConfig`; knows no files, no processes and no optimiser. Parameters carry the original's names,
so that a checkpoint under those names loads as it is.
"""

from tandem.nn.clip import CLIP, from_arrays, initialise, to_arrays

__all__ = ["CLIP", "from_arrays", "initialise", "to_arrays"]
