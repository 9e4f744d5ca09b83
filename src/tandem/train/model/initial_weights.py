"""The first weights of a run: towers initialised, read from any checkpoint, or one of each; and which stay locked.

Knows checkpoints and recipes; no data, no optimiser.
"""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tandem.config import ImageTower, ModelConfig, TextTower
from tandem.errors import ConfigError
from tandem.nn import CLIP, initialise
from tandem.tokenizer import Tokenizer
from tandem.towers import tower_part, tower_type
from tandem.towers.parts.torch import resize_grid
from tandem.train.recipe import Recipe
from tandem.weights import Checkpoint, expected_shapes, read

# Positions are resized, projections can be new; padding is the checkpoint's
_MAY_DIFFER = ("image_size", "context_length", "positions", "pad_id", "projection", "projection_bias")
SIGMOID_SCALE = math.log(10)  # first value of the scale with the sigmoid loss; that of the bias is in `nn` (-10)


@dataclass(frozen=True)
class InitialWeights:
    """The checkpoints that the `[init]` of a recipe names, before anything is built."""

    config: ModelConfig
    tokenizer: Tokenizer | None  # that of the text tower, where one is read: the run must use it
    tensors: Mapping[str, Tensor]  # float32, read and fitted to `config`; other tensors are initialised
    notes: tuple[str, ...]  # for people: what was resized or newly initialised


def load_initial(recipe: Recipe) -> InitialWeights:
    """Read the checkpoints that `recipe.init` names.

    Raises `ConfigError` or `WeightsError` where one does not fit the recipe.
    """
    init, config = recipe.init, recipe.model
    if init.waits:
        raise ConfigError(f"init.recipe: {init.recipe} is run first; name the model that it ends with in init.model")
    sources = {"image": init.image or init.model, "text": init.text or init.model}
    for tower in recipe.locked:
        if not sources[tower]:
            raise ConfigError(
                f"locked: the {tower} tower would stay at random weights; name a model for it in init.{tower} or "
                "init.model"
            )
    checkpoints = {name: read(name) for name in dict.fromkeys(sources.values()) if name}
    tensors: dict[str, Tensor] = {}
    notes: list[str] = []
    tokenizer = None
    if sources["image"]:
        tensors |= _image_tensors(checkpoints[sources["image"]], config, notes)
    if sources["text"]:
        checkpoint = checkpoints[sources["text"]]
        tokenizer = _tokenizer_of(checkpoint, recipe)
        text, mine = _text_tensors(checkpoint, config, notes)
        config = replace(config, text=text)
        tensors |= mine
    elif config.text.masks_padding:
        raise ConfigError(
            "model.text.type: this tower tells padding by its token, which CLIP's tokenizers have none for; start from "
            "a checkpoint that has one (init.text or init.model)"
        )
    if sources["image"] and sources["image"] == sources["text"]:
        theirs = checkpoints[sources["image"]].tensors
        for name in ("logit_scale", *(("logit_bias",) if config.logit_bias and "logit_bias" in theirs else ())):
            tensors[name] = _float(theirs[name])
    return InitialWeights(config, tokenizer, tensors, tuple(notes))


def build_model(initial: InitialWeights, config: ModelConfig, seed: int) -> CLIP:
    """The model, float32, in training mode. `config`: that of `initial`, with the vocabulary of the run."""
    clip = initialise(CLIP(config), seed)
    state = clip.state_dict()
    tensors = dict(initial.tensors)
    if config.logit_bias and "logit_scale" not in tensors:
        state["logit_scale"] = state["logit_scale"].new_tensor(SIGMOID_SCALE)
    embedding = tower_part(config.text, "shapes").EMBEDDING
    if embedding in tensors:  # the vocabulary of `config` may be smaller: entries that the tokenizer never gives
        tensors[embedding] = tensors[embedding][: len(state[embedding])]
    clip.load_state_dict({**state, **tensors})
    return clip


def lock(
    clip: CLIP, locked: Collection[str], unlocked_blocks: int = 0, read_names: Collection[str] | None = None
) -> None:
    """Freeze towers ("image", "text"), except their last `unlocked_blocks` blocks and what follows these.

    read_names: the tensors that were read; others are new (a projection) and learn in any case. None: all were read.
    """
    for tower in locked:
        learning = {id(parameter) for parameter in _unlocked(clip, tower, unlocked_blocks)}
        module = clip.text if tower == "text" else clip.visual
        mine = {id(parameter) for parameter in module.parameters()}
        for name, parameter in clip.state_dict(keep_vars=True).items():
            fresh = read_names is not None and name not in read_names
            if id(parameter) in mine and not fresh and id(parameter) not in learning:
                parameter.requires_grad_(False)


def set_training(module: nn.Module, training: bool, keep_statistics: bool = False) -> None:
    """`module.train(training)`, but batch norms of locked parts stay in evaluation: their statistics are locked too.

    keep_statistics: all batch norms do; what they scale by still learns.
    """
    module.train(training)
    for part in module.modules():
        if isinstance(part, _BatchNorm) and (keep_statistics or not any(p.requires_grad for p in part.parameters())):
            part.eval()


def _unlocked(clip: CLIP, tower: str, blocks: int) -> Iterator[nn.Parameter]:
    """The parameters of a locked tower that learn all the same."""
    if not blocks:
        return
    module = clip.text if tower == "text" else clip.visual
    yield from module.after_blocks()  # type: ignore[operator]
    for block in module.blocks()[-blocks:]:  # type: ignore[operator]
        yield from block.parameters()


def check_fits(model: ModelConfig, recipe: Recipe, source: str) -> None:
    """Check that a recipe can start from a model which is known by its configuration alone. Raises `ConfigError`."""
    if not recipe.init.image:
        _fitted_tower(model.vision, recipe.model.vision, source)
    if not recipe.init.text:
        _check_text(model.text, recipe, source)


def _fitted_tower(theirs: ImageTower, ours: ImageTower, source: str) -> ImageTower:
    """Their image tower with our number of blocks, where they can be added. Raises `ConfigError`."""
    if type(theirs) is not type(ours):
        raise ConfigError(
            f"init: the image tower of {source} is a {tower_type(theirs)}, the recipe's [model.vision] a "
            f"{tower_type(ours)}; leave [model.vision] out to take the checkpoint's"
        )
    theirs = theirs.deepened(ours)
    _same_sizes(theirs, ours, "model.vision", source)
    return theirs


def _image_tensors(checkpoint: Checkpoint, config: ModelConfig, notes: list[str]) -> dict[str, Tensor]:
    ours = config.vision
    theirs = _fitted_tower(checkpoint.config.vision, ours, checkpoint.source)
    before = checkpoint.config.vision
    if theirs != before:
        notes.append(f"{checkpoint.source}: {theirs.summary} instead of {before.summary}; new blocks start as identity")
    tensors = {name: _float(array) for name, array in checkpoint.tensors.items() if name.startswith("visual.")}
    for name in ("visual.positional_embedding", "visual.attnpool.positional_embedding"):
        if name in tensors and theirs.grid != ours.grid:
            others = len(tensors[name]) - theirs.grid**2  # a class token, or none
            tensors[name] = resize_grid(tensors[name], (ours.grid, ours.grid), others)
            notes.append(
                f"{checkpoint.source}: {name} resized from {theirs.grid} x {theirs.grid} to {ours.grid} x {ours.grid}"
            )
    mine, wanted = checkpoint.config.preprocessing, config.preprocessing
    if (mine.mean, mine.std) != (wanted.mean, wanted.std):
        notes.append(
            f"{checkpoint.source} was trained with mean {mine.mean} and std {mine.std}, this run takes {wanted.mean} "
            f"and {wanted.std}: set [model.preprocessing] unless that is meant"
        )
    return _projected(tensors, checkpoint, config, tower_part(ours, "shapes").PROJECTION, notes)


def _text_tensors(checkpoint: Checkpoint, config: ModelConfig, notes: list[str]) -> tuple[TextTower, dict[str, Tensor]]:
    """The text tower of a checkpoint with the context length of the run, and its tensors."""
    names = [name for name in checkpoint.tensors if not name.startswith(("visual.", "logit_"))]
    tensors = {name: _float(checkpoint.tensors[name]) for name in names}
    fit = tower_part(checkpoint.config.text, "module").fit_context
    text, tensors, note = fit(checkpoint.config.text, config.text, tensors)
    if note:
        notes.append(f"{checkpoint.source}: {note}")
    projection = tower_part(text, "shapes").PROJECTION
    return text, _projected(tensors, checkpoint, replace(config, text=text), projection, notes)


def _projected(
    tensors: dict[str, Tensor], checkpoint: Checkpoint, config: ModelConfig, names: tuple[str, ...], notes: list[str]
) -> dict[str, Tensor]:
    """Without a projection of another shape than the run's, or that the run does not have."""
    wanted = expected_shapes(config)
    kept = {n: t for n, t in tensors.items() if n not in names or wanted.get(n) == tuple(t.shape)}
    if fresh := [name for name in names if name in wanted and name not in kept]:
        before, after = checkpoint.config.embed_dim, config.embed_dim
        notes.append(
            f"{checkpoint.source}: {', '.join(fresh)} initialised anew"
            + (f", for {after} dimensions instead of {before}" if before != after else "")
        )
    if dropped := [name for name in names if name in tensors and name not in wanted]:
        notes.append(f"{checkpoint.source}: {', '.join(dropped)} not used")
    return kept


def _tokenizer_of(checkpoint: Checkpoint, recipe: Recipe) -> Tokenizer:
    """The tokenizer of the text tower, which the run must use: an embedding means nothing under other token ids."""
    _check_text(checkpoint.config.text, recipe, checkpoint.source)
    return checkpoint.tokenizer


def _check_text(theirs: TextTower, recipe: Recipe, source: str) -> None:
    ours = recipe.model.text
    if type(theirs) is not type(ours):
        raise ConfigError(
            f"init: the text tower of {source} is a {tower_type(theirs)}, the recipe's [model.text] a "
            f"{tower_type(ours)}; leave [model.text] out to take the checkpoint's"
        )
    if recipe.vocabulary:
        raise ConfigError(
            f"vocabulary: {recipe.vocabulary} entries would be learnt, but the text tower of {source} has its own "
            f"{theirs.vocabulary_size}; leave vocabulary out, or start without this text tower"
        )
    _same_sizes(theirs, ours, "model.text", source)


def _same_sizes(theirs: object, ours: object, prefix: str, source: str) -> None:
    for field in dataclasses.fields(theirs):  # type: ignore[arg-type]
        got, expected = getattr(theirs, field.name), getattr(ours, field.name)
        if field.name not in _MAY_DIFFER and got != expected:
            raise ConfigError(
                f"{prefix}.{field.name}: the recipe says {expected!r}, {source} has {got!r}; leave the field out to "
                "take the checkpoint's"
            )


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))
