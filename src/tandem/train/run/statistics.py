"""Statistics of batch norms, measured anew: those of averaged weights are not the average of two models' statistics.

Between two models whose units answer to different things, averaged features vary less than either's (Jordan et al.
2023, REPAIR); the norms' old statistics then scale them wrongly. Measured on pictures of the training mixture, as they
are answered about: the square in the middle, at the last size. Needs torch. Knows a checkpoint and a recipe's data.
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


@torch.no_grad()
def renew(checkpoint: Checkpoint, recipe: Recipe, pictures: int = 8192) -> Checkpoint:
    """The same weights with statistics of at least `pictures` pictures of the recipe's data, each batch alike.

    Raises `ConfigError` for a model without batch norms, `DataError` where the data cannot be read.
    """
    clip = from_arrays(checkpoint.config, checkpoint.tensors)
    layers = [module for module in clip.modules() if isinstance(module, nn.BatchNorm2d)]
    if not layers:
        raise ConfigError(
            f"{checkpoint.source}: has no batch norms whose statistics could be measured; leave --statistics out"
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
    towers = Towers(clip, "float32")
    steps = -(-pictures // recipe.batch_size)
    for batch in Loader(plain, checkpoint.tokenizer).stream(0, steps):
        towers(torch.from_numpy(batch.pixels), None)
    tensors = {name: array.astype(checkpoint.tensors[name].dtype) for name, array in to_arrays(clip).items()}
    return replace(checkpoint, tensors=tensors)
