"""Where a run begins: a model whose towers are drawn afresh, read from any checkpoint, or both; and what stays locked.

Knows checkpoints and recipes; no data, no optimiser.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from tandem.config import ModelConfig
from tandem.nn import CLIP
from tandem.tokenizer import Tokenizer
from tandem.train.recipe import Recipe


@dataclass(frozen=True)
class Beginning:
    """What a recipe's `[init]` comes to, before anything is built."""

    config: ModelConfig
    tokenizer: Tokenizer | None  # the text tower's own, where it is read: the run must use it
    tensors: dict[str, Any]  # what was read, fitted to `config`; names that are not here are drawn
    notes: tuple[str, ...]  # what was resized or drawn afresh, in words


def begin(recipe: Recipe) -> Beginning:
    """Read what `recipe.init` names. Raises `ConfigError` or `WeightsError` where it does not fit the recipe."""
    raise NotImplementedError


def build(beginning: Beginning, config: ModelConfig, seed: int) -> CLIP:
    """The model, float32. `config`: the beginning's, with the run's vocabulary."""
    raise NotImplementedError


def lock(clip: CLIP, locked: tuple[str, ...], unlocked_blocks: int = 0) -> None:
    """Freeze towers ("image", "text"); their last `unlocked_blocks` blocks, final norm and projection go on learning."""
    raise NotImplementedError


def set_mode(module: nn.Module, training: bool) -> None:
    """`train` and `eval` that leave the batch norms of locked parts in evaluation."""
    raise NotImplementedError
