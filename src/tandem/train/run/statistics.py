"""Batch-norm statistics measured again: those of interpolated weights are not the average of the two models' own.

The features of interpolated weights vary less than those of either model (REPAIR, Jordan et al. 2023), so averaged
statistics scale them wrongly. They are measured on images of the training mixture as inference sees them: the centre
square, at the last size. Needs torch. Knows a checkpoint and the data of a recipe.
"""

from dataclasses import replace

import torch
from torch import nn

from tandem.errors import ConfigError
from tandem.nn import from_arrays, to_arrays
from tandem.train.data.loader import Loader
from tandem.train.model.towers import Towers
from tandem.train.recipe import Recipe
from tandem.weights import Checkpoint


def has_statistics(checkpoint: Checkpoint) -> bool:
    """Whether a model has batch norms."""
    return any(name.endswith(".running_mean") for name in checkpoint.tensors)


@torch.no_grad()
def measure_statistics(
    checkpoint: Checkpoint, recipe: Recipe, images: int = 8192, device: torch.device | str = "cpu"
) -> Checkpoint:
    """The same weights with batch-norm statistics of at least `images` images of the recipe's data.

    Raises `ConfigError` for a model without batch norms, `DataError` if the data cannot be read.
    """
    clip = from_arrays(checkpoint.config, checkpoint.tensors)
    layers = [module for module in clip.modules() if isinstance(module, nn.BatchNorm2d)]
    if not layers:
        raise ConfigError(
            f"{checkpoint.source}: no batch norms whose statistics could be measured; leave --statistics out"
        )
    plain = replace(
        recipe,
        data=tuple(replace(source, augment="none") for source in recipe.data),
        stages=(),
        model=checkpoint.config,
        patch_dropout=0.0,
    )
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    towers = Towers(clip, "float32").to(device)
    steps = -(-images // recipe.batch_size)
    for batch in Loader(plain, checkpoint.tokenizer).stream(0, steps):
        towers(torch.from_numpy(batch.pixels).to(device), None)
    tensors = {name: array.astype(checkpoint.tensors[name].dtype) for name, array in to_arrays(clip).items()}
    return replace(checkpoint, tensors=tensors)
