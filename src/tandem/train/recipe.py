"""A training run, complete, typed and printable: what `tandem train RECIPE.toml key=value` reads.

Knows names, types and defaults. It reads no data and builds no model.
"""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tandem import config as model_config
from tandem.config import ModelConfig
from tandem.errors import ConfigError
from tandem.train import typed
from tandem.train.model_config import inherit, model_of

Tower = Literal["image", "text"]


@dataclass(frozen=True)
class Source:
    """One training set: files, where its texts are, and its share of every batch."""

    path: str | list[str]  # below `data_root`, or absolute; globs and braces: `cc12m-{0000..0099}.tar` (docs/train.md)
    text: str = ""  # tar: a JSON key such as `captions`, or `txt`; Parquet, CSV, TSV: the text column; folders: none
    image: str = "image"  # Parquet: the column of encoded pictures; CSV, TSV: of paths, relative to the file
    per_batch: int = 0  # pictures of every batch that come from here; or else
    weight: float = 0.0  # its share of `batch_size`, over the sum of all weights
    kind: Literal["captions", "names"] = "captions"  # names: comma-separated synonyms, put into `templates`
    templates: tuple[str, ...] = ("a photo of a {}.",)
    broader: dict[str, tuple[str, ...]] = field(default_factory=dict)  # word -> names it holds for: cat -> tabby, ...
    captions: Literal["random", "first", "longest", "shortest", "all"] = "random"  # which of a picture's are taken
    captions_per_picture: int = 1  # sentences drawn for each picture of a batch
    augment: Literal["crop", "paper", "strong", "none"] = "crop"  # paper: a random square of the resized picture
    crop: tuple[float, float] = (0.5, 1.0)  # share of the area that a random crop keeps (crop, strong)
    classes: bool = True  # its names are classes for `objective.classes`; of several sources, the first one's


@dataclass(frozen=True)
class Stage:
    """From `start` (share of the steps) on, pictures have `image_size` pixels a side."""

    start: float
    image_size: int


@dataclass(frozen=True)
class Objective:
    """What is minimised (with `distillation` beside it)."""

    loss: Literal["infonce", "sigmoid"] = "infonce"  # Radford et al. 2021; Zhai et al. 2023
    classes: float = 0.0  # weight of the cross-entropy of `names` pictures against a sentence of each class


@dataclass(frozen=True)
class Optimiser:
    """AdamW, a linear warm-up and a cosine to 0 (Radford et al. 2021, 2.5)."""

    learning_rate: float = 1e-3
    warmup_steps: int = 500
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    clip_norm: float = 1.0  # of the whole gradient; 0: none
    layer_decay: float = 1.0  # the rate of a block over that of the block above it


@dataclass(frozen=True)
class Parallel:
    """How a step's work is shared out. What is computed stays the same but for rounding (`norm_batch` said)."""

    strategy: Literal["ddp", "fsdp", "none"] = "ddp"  # on several processes; one process needs none of them
    micro_batches: int = 1  # parts that are encoded one after the other: less memory, the same gradient
    norm_batch: int = 0  # pictures that batch norm takes its statistics of; 0: whatever a forward pass holds
    activation_checkpointing: bool = False  # compute activations twice instead of keeping them
    compile: bool = False  # torch.compile


@dataclass(frozen=True)
class Average:
    """The exponential moving average of the weights: what is measured and written where `decay` is not 0."""

    decay: float = 0.0


@dataclass(frozen=True)
class Init:
    """Where first weights come from: whatever `tandem.load` reads. Empty: drawn from `seed`."""

    model: str = ""  # both towers
    image: str = ""
    text: str = ""


@dataclass(frozen=True)
class Distillation:
    """What is learned from other models: a sentence encoder (`teacher`), a CLIP (`model`); empty: not from it."""

    teacher: str = ""  # a folder in sentence-transformers' layout, or an installed package that carries one
    weight: float = 1.0  # of the text vectors' distance to the teacher's, beside the contrastive loss
    words_per_batch: int = 0  # words of the teacher's own vocabulary, as further sentences without pictures
    soften: float = 0.0  # share of the contrastive target that follows the teacher's similarity of sentences
    temperature: float = 0.1  # of that similarity
    model: str = ""  # a CLIP teacher of both sides: whatever `tandem.load` reads
    model_weight: float = 1.0  # of how differently the two see which picture and sentence belong together


@dataclass(frozen=True)
class Measured:
    """One more validation set. Its measures are called `NAME/zero_shot_top1` and so on."""

    name: str
    path: str  # below `data_root`, or absolute: a tar or a Parquet file
    kind: Literal["zero_shot", "retrieval"]
    text: str = ""  # JSON key or column; empty: `names` for zero-shot, `captions` for retrieval
    limit: int = 2000  # pictures that are looked at; 0: all


@dataclass(frozen=True)
class Validation:
    """What is measured on the way, and which measure chooses the weights that are kept as the best."""

    every_steps: int = 500
    zero_shot: str = ""  # Parquet with `image` and a column of names
    names: str = "names"
    retrieval: str = ""  # WebDataset tar with captions
    limit: int = 2000  # pictures of the zero-shot set that are looked at on the way
    sets: tuple[Measured, ...] = ()  # further ones
    best: str = "sum"  # the measure that chooses, or the sum of all


@dataclass(frozen=True)
class Checkpoints:
    """When the run is saved, and what stays."""

    every_steps: int = 500
    keep_last: int = 1
    keep_best: bool = True  # the weights of the best measure, as a model folder `best`


@dataclass(frozen=True)
class Guards:
    """What a run does about a step that is not to be trusted."""

    max_bad: int = 10  # steps in a row without a finite loss and gradient before the run stops; each is left out
    spike_factor: float = 2.0  # a loss over so many times the running median is named; 0: never
    median_steps: int = 100  # of that median


@dataclass(frozen=True)
class Log:
    """Where a run's figures go, beside the terminal and curve.csv."""

    tensorboard: bool = True  # where it is installed
    wandb: str = ""  # a Weights & Biases project; empty: none


@dataclass(frozen=True)
class Resume:
    """How a run goes on."""

    elsewhere: bool = False  # on other processes, devices or micro-batches than it was begun: rounds otherwise


@dataclass(frozen=True)
class Recipe:
    """The whole run."""

    name: str
    folder: str  # where the run lives: checkpoints, log, curve, the final model
    model: ModelConfig
    data: tuple[Source, ...]
    steps: int
    data_root: str = "."
    seed: int = 1
    batch_size: int = 0  # pictures of a step, over all processes; 0: the sum of the sources' `per_batch`
    vocabulary: int = 0  # train a byte-level BPE of this size on the texts; 0: CLIP's
    stages: tuple[Stage, ...] = ()
    patch_dropout: float = 0.0  # share of the patches that a ViT does not see in training (Li et al. 2023)
    locked: tuple[Tower, ...] = ()  # towers that stay as they are (Zhai et al. 2022)
    unlocked_blocks: int = 0  # the last blocks of a locked tower that learn all the same
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    device: str = "auto"
    workers: int = 1  # processes that prepare batches; 0: the training process itself
    cache_pictures: bool = False  # keep decoded pictures in memory, in each worker
    cache_folder: str = ""  # where indexes of the training sets (and copies of Parquet pictures) are; "": in `folder`
    log_every_steps: int = 20
    objective: Objective = Objective()
    optimiser: Optimiser = Optimiser()
    parallel: Parallel = Parallel()
    ema: Average = Average()
    init: Init = Init()
    distillation: Distillation = Distillation()
    validation: Validation = Validation()
    checkpoints: Checkpoints = Checkpoints()
    guards: Guards = Guards()
    log: Log = Log()
    resume: Resume = Resume()

    def image_size_at(self, step: int) -> int:
        """Pixels a side at `step`."""
        size = self.model.vision.image_size
        for stage in self.stages:
            if step >= stage.start * self.steps:
                size = stage.image_size
        return size


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file, with `key=value` (dotted keys, TOML values) put over it.

    Raises `ConfigError` that names the file and the field.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the recipe ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    for override in overrides:
        typed.override(values, override)
    try:
        return from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values, complete: what a checkpoint records and what is printed."""
    plain = {**dataclasses.asdict(recipe), "model": model_config.to_dict(recipe.model)}
    return json.loads(json.dumps(plain))  # type: ignore[no-any-return]  # tuples as lists: as it is read back


def to_toml(recipe: Recipe) -> str:
    """The complete recipe as a TOML file that reads back as the same recipe."""
    plain = to_dict(recipe)
    plain["model"] = {k: v for k, v in plain["model"].items() if k not in ("format", "version", "name")}
    return typed.to_toml(plain)


def from_dict(plain: Mapping[str, Any]) -> Recipe:
    """The inverse of `to_dict`; what is left out has its default. Raises `ConfigError` that names the field."""
    values = dict(plain)
    if "checkpoint_every_steps" in values:  # its first name
        values["checkpoints"] = {"every_steps": values.pop("checkpoint_every_steps"), **values.get("checkpoints", {})}
    model, init = dict(values.get("model") or {}), values.get("init") or {}
    if isinstance(init, Mapping) and any(init.values()):
        model = inherit(model, init)
    values["model"] = model_of(model, values.get("name", ""))
    recipe: Recipe = typed.build(Recipe, values)
    return dataclasses.replace(recipe, batch_size=_batch_size(recipe))


def _batch_size(recipe: Recipe) -> int:
    """Pictures in a step, from the sources or beside their weights."""
    sources = recipe.data
    if not sources:
        raise ConfigError("data: expected at least one [[data]] table")
    counts = sum(source.per_batch for source in sources)
    for i, source in enumerate(sources):
        if (source.per_batch > 0) == (source.weight > 0) or (source.per_batch > 0) != (sources[0].per_batch > 0):
            raise ConfigError(f"data[{i}]: expected per_batch on every source, or else weight on every source")
    if counts and recipe.batch_size not in (0, counts):
        raise ConfigError(f"batch_size: {recipe.batch_size}, but the sources' per_batch add up to {counts}")
    if not counts and recipe.batch_size < 1:
        raise ConfigError("batch_size: missing; sources with weights share it")
    return counts or recipe.batch_size
