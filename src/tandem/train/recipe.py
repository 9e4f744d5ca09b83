"""A training run, complete, typed and printable: what a recipe file says.

Knows names, types, ranges and defaults; no files (`recipe_file.py`), no data. It builds no model.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tandem import fields
from tandem.config import ModelConfig
from tandem.errors import ConfigError
from tandem.fields import Fraction, NonNegative, Positive, Range, Share
from tandem.towers import tower_type
from tandem.train import toml
from tandem.train.model_config import complete_model, config_from_checkpoint
from tandem.train.remote_settings import Remote
from tandem.train.validation_settings import Interpolation, Validation

Tower = Literal["image", "text"]
Weight = Annotated[float, Range(least=0)]
PositiveFloat = Annotated[float, Range(above=0)]
Area = Annotated[float, Range(above=0, most=1)]
Seed = Annotated[int, Range(least=0, most=2**63 - 1)]  # torch's limit


@dataclass(frozen=True)
class Source:
    """One training set: files, where its texts are, and its share of every batch."""

    path: str | list[str]  # below `data_root`, absolute, or a URL; globs and braces: `cc12m-{0000..0099}.tar`
    text: str = ""  # tar: a JSON key such as `captions`, or `txt`; Parquet, CSV, TSV: the text column; folders: none
    image: str = "image"  # Parquet: the column of encoded images; CSV, TSV: of paths, relative to the file
    where: dict[str, str] = field(default_factory=dict)  # Parquet: only rows whose column has this text in it
    hold_out: Fraction = 0.0  # share of the samples, drawn by their keys, that is kept for validation
    per_batch: NonNegative = 0  # images of every batch that come from here; or else
    weight: Weight = 0.0  # its share of `batch_size`, over the sum of all weights
    kind: Literal["captions", "names"] = "captions"  # names: comma-separated synonyms, put into `templates`
    templates: tuple[str, ...] = ("a photo of a {}.",)
    broader: dict[str, tuple[str, ...]] = field(default_factory=dict)  # word -> names it holds for, or ["*"] for all
    captions: Literal["random", "first", "longest", "shortest", "all"] = "random"  # which of those of an image
    captions_per_image: Positive = 1  # texts for each image of a batch
    augment: Literal["crop", "paper", "strong", "none"] = "crop"  # paper: a random square of the resized image
    crop: tuple[Area, Area] = (0.5, 1.0)  # share of the area that a random crop keeps (crop, strong)
    low_resolution: Share = 0.0  # share of the images that are reduced and enlarged again (crop, strong)
    classes: bool = True  # its names are classes for `objective.classes`: an image's compete within its source
    classes_per_step: NonNegative = 0  # of those, so many at a step; all of its own images at least; 0: all

    def __post_init__(self) -> None:
        least, most = self.crop
        if least > most:
            raise ConfigError(f"crop: expected two shares of the area, the smaller first, got {list(self.crop)}")
        for word, held in self.broader.items():
            if not word or not held or ("*" in held and len(held) > 1):
                raise ConfigError(
                    f"broader: expected a word with names, or ['*'] for all, got {word!r:.40}: {[*held]!r:.40}"
                )
        if self.kind == "names" and not self.templates:
            raise ConfigError("templates: expected at least one, such as 'a photo of a {}.', got none")
        for template in self.templates:
            if not _has_placeholder(template):
                raise ConfigError(f"templates: expected one {{}} for the name, got {template!r}")


@dataclass(frozen=True)
class Stage:
    """From `start` (share of the steps) on, images have `image_size` pixels a side."""

    start: Share
    image_size: Positive


@dataclass(frozen=True)
class ObjectiveSettings:
    """What is learnt, and the loss that is minimised, together with `distillation`."""

    loss: Literal["infonce", "sigmoid"] = "infonce"  # Radford et al. 2021; Zhai et al. 2023
    classes: Weight = 0.0  # weight of the cross-entropy of `names` images against a text of each class
    # classification: a linear head beside the image tower, started at the zero-shot class vectors of the first weights
    kind: Literal["contrastive", "classification"] = "contrastive"
    label_smoothing: Fraction = 0.0  # of classification: share of the target that is spread over all classes


@dataclass(frozen=True)
class Optimiser:
    """AdamW, a linear warm-up and a cosine to 0 (Radford et al. 2021, 2.5)."""

    learning_rate: PositiveFloat = 1e-3
    warmup_steps: NonNegative = 500
    weight_decay: Weight = 0.1
    beta1: Fraction = 0.9
    beta2: Fraction = 0.98
    epsilon: PositiveFloat = 1e-6
    clip_norm: Weight = 1.0  # of the whole gradient; 0: none
    layer_decay: Area = 1.0  # the rate of a block over that of the block above it


@dataclass(frozen=True)
class Parallel:
    """How the work of a step is divided. The result stays the same up to rounding, given `norm_batch`."""

    strategy: Literal["ddp", "fsdp", "none"] = "ddp"  # on several processes; one process uses none
    micro_batches: Positive = 1  # parts that are encoded one after the other: less memory, the same gradient
    norm_batch: NonNegative = 0  # images of a group that batch norm takes statistics of; 0: those of a forward pass
    activation_checkpointing: bool = False  # compute activations again instead of keeping them
    compile: bool = False  # torch.compile


@dataclass(frozen=True)
class Ema:
    """The exponential moving average of the weights, which is validated and written if `decay` is not 0."""

    decay: Fraction = 0.0


@dataclass(frozen=True)
class Init:
    """Where first weights come from: anything that `tandem.load` reads. Empty: initialised from `seed`."""

    model: str = ""  # both towers
    image: str = ""
    text: str = ""
    recipe: str = ""  # beside this one: the model its run ends with, where `model` names none; it is run before

    @property
    def has_both_towers(self) -> bool:
        """Whether no tower is initialised from the seed."""
        return bool(self.model or self.recipe or (self.image and self.text))

    @property
    def waits(self) -> bool:
        """Whether a tower comes from a run that has not been looked for yet."""
        return bool(self.recipe and not self.model and not (self.image and self.text))


@dataclass(frozen=True)
class Distillation:
    """Learning from other models: a sentence encoder (`teacher`), a CLIP (`model`); empty: none."""

    teacher: str = ""  # a folder in sentence-transformers' layout, or an installed package that carries one
    weight: Weight = 1.0  # of the text vectors' distance to the teacher's, beside the contrastive loss
    words_per_batch: NonNegative = 0  # words of the teacher's own vocabulary, as further texts without images
    soften: Share = 0.0  # share of the contrastive target that follows the teacher's similarity of texts
    temperature: PositiveFloat = 0.1  # of that similarity
    model: str = ""  # a CLIP teacher: anything that `tandem.load` reads
    model_weight: Weight = 1.0  # of the divergence of the similarities of images and texts from the teacher's


@dataclass(frozen=True)
class Checkpoints:
    """When checkpoints are saved, and how many are kept."""

    every_steps: Positive = 500
    keep_last: Positive = 1
    keep_best: bool = True  # the weights of the best measure, as a model folder `best`


@dataclass(frozen=True)
class Guards:
    """How a run handles a step that went wrong."""

    max_bad: Positive = 10  # steps in a row without a finite loss and gradient before the run stops; each is skipped
    spike_factor: Weight = 2.0  # a loss above this many times the running median is reported; 0: never
    median_steps: Positive = 100  # of that median


@dataclass(frozen=True)
class Log:
    """Where the figures of a run go, beside the terminal and curve.csv."""

    tensorboard: bool = True  # where it is installed
    wandb: str = ""  # a Weights & Biases project; empty: none


@dataclass(frozen=True)
class Resume:
    """How a run resumes."""

    allow_rounding: bool = False  # on other processes, devices or micro-batches: sums are rounded differently


@dataclass(frozen=True)
class Recipe:
    """The whole run."""

    name: str
    folder: str  # where the run lives: checkpoints, log, curve, the final model
    model: ModelConfig
    data: tuple[Source, ...]
    steps: Positive
    data_root: str = "."  # a folder, or a URL
    seed: Seed = 1
    batch_size: NonNegative = 0  # images of a step, over all processes; 0: the sum of the sources' `per_batch`
    vocabulary: NonNegative = 0  # train a byte-level BPE of this size on the texts; 0: CLIP's
    stages: tuple[Stage, ...] = ()
    patch_dropout: Fraction = 0.0  # share of the patches that a ViT does not see in training (Li et al. 2023)
    locked: tuple[Tower, ...] = ()  # towers that stay as they are (Zhai et al. 2022)
    unlocked_blocks: NonNegative = 0  # the last blocks of a locked tower that learn all the same
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    device: str = "auto"
    workers: NonNegative = 1  # processes that prepare batches; 0: the training process itself
    cache_images: bool = False  # keep decoded images in memory, in each worker
    cache_folder: str = ""  # of the indexes of training sets (and copies of Parquet images); "": in `folder`
    log_every_steps: Positive = 20
    objective: ObjectiveSettings = ObjectiveSettings()
    optimiser: Optimiser = Optimiser()
    parallel: Parallel = Parallel()
    ema: Ema = Ema()
    init: Init = Init()
    distillation: Distillation = Distillation()
    validation: Validation = field(default_factory=Validation)
    interpolation: Interpolation = field(default_factory=Interpolation)
    checkpoints: Checkpoints = Checkpoints()
    guards: Guards = Guards()
    log: Log = Log()
    remote: Remote = field(default_factory=Remote)
    resume: Resume = Resume()

    @property
    def classifies(self) -> bool:
        """Whether a head on the image tower is trained, instead of both towers together."""
        return self.objective.kind == "classification"

    def image_size_at(self, step: int) -> int:
        """Pixels a side at `step`."""
        size = self.model.vision.image_size
        for stage in self.stages:
            if step >= stage.start * self.steps:
                size = stage.image_size
        return size


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values, complete, as a checkpoint records them."""
    plain: dict[str, Any] = fields.to_plain(recipe)
    return plain


def to_toml(recipe: Recipe) -> str:
    """The complete recipe as a TOML file that reads back as the same recipe."""
    plain = to_dict(recipe)
    if plain["model"]["name"] == recipe.name:
        del plain["model"]["name"]  # it is the default
    return toml.to_toml(plain)


def from_dict(plain: Mapping[str, Any], after: ModelConfig | None = None) -> Recipe:
    """The inverse of `to_dict`; missing keys have their defaults. Raises `ConfigError` that names the key.

    after: the model that the run of `init.recipe` ends with.
    """
    values = _with_new_names(plain)
    model, init, name = values.get("model", {}), values.get("init", {}), values.get("name", "")
    if isinstance(model, Mapping):
        if isinstance(init, Mapping) and any(init.values()):
            fields.read(Init, init, path="init")  # before anything is loaded by it
            model = config_from_checkpoint(model, init, after)
        values["model"] = complete_model(model, name if isinstance(name, str) else "")
    recipe = fields.read(Recipe, values)
    recipe = dataclasses.replace(recipe, batch_size=_batch_size(recipe), model=_with_bias(recipe, values["model"]))
    _check(recipe)
    return recipe


def _with_new_names(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values under the present names of their keys; recipes of before the first release have others."""
    values = fields.renamed(plain, {"cache_pictures": "cache_images"})
    checkpoints = values.get("checkpoints", {})
    if "checkpoint_every_steps" in values and isinstance(checkpoints, Mapping):
        values["checkpoints"] = {"every_steps": values.pop("checkpoint_every_steps"), **checkpoints}
    if isinstance(resume := values.get("resume"), Mapping):
        values["resume"] = fields.renamed(resume, {"elsewhere": "allow_rounding"})
    if isinstance(data := values.get("data"), list | tuple):
        names = {"captions_per_picture": "captions_per_image"}
        values["data"] = [fields.renamed(each, names) if isinstance(each, Mapping) else each for each in data]
    return values


def _with_bias(recipe: Recipe, table: Mapping[str, Any]) -> ModelConfig:
    """The model has a bias of its logits if the loss learns one: nobody need say so."""
    learnt = recipe.objective.loss == "sigmoid"
    if table.get("logit_bias", learnt) != learnt:
        raise ConfigError(
            f"model.logit_bias: expected {str(learnt).lower()} with the loss {recipe.objective.loss}, got "
            f"{str(not learnt).lower()}; leave it out"
        )
    return dataclasses.replace(recipe.model, logit_bias=learnt)


def _batch_size(recipe: Recipe) -> int:
    """Images of a step: the sum over the sources, or the number they share by weight."""
    sources = recipe.data
    if not sources:
        raise ConfigError("data: expected at least one [[data]] table, got none")
    counts = sum(source.per_batch for source in sources)
    for i, source in enumerate(sources):
        if (source.per_batch > 0) == (source.weight > 0) or (source.per_batch > 0) != (sources[0].per_batch > 0):
            raise ConfigError(f"data[{i}]: expected per_batch on every source, or else weight on every source")
    if counts and recipe.batch_size not in (0, counts):
        raise ConfigError(f"batch_size: expected {counts}, the sum of the sources' per_batch, got {recipe.batch_size}")
    if not counts and recipe.batch_size < 1:
        raise ConfigError("batch_size: missing; sources with weights share it")
    return counts or recipe.batch_size


def _check(recipe: Recipe) -> None:
    """Check rules across fields. Raises `ConfigError` that names the key."""
    if not recipe.folder or "\0" in recipe.folder:
        raise ConfigError(f"folder: expected the name of a folder for the run, got {recipe.folder!r:.80}")
    if recipe.model.quantization is not None:
        raise ConfigError("model.quantization: expected none: train in floating point, then quantise")
    vision = recipe.model.vision
    if recipe.model.preprocessing.makes_patches:
        raise ConfigError(
            "model.preprocessing.resize_mode: naflex cannot be trained, since batches are of square images; start "
            "from a SigLIP 2 model of fixed resolution"
        )
    if recipe.patch_dropout and not vision.takes_patch_dropout:
        kind = tower_type(vision)
        raise ConfigError(f"patch_dropout: expected 0 for a {kind}, which has no patches, got {recipe.patch_dropout}")
    for i, stage in enumerate(recipe.stages):
        if i and stage.start <= recipe.stages[i - 1].start:
            before = recipe.stages[i - 1].start
            raise ConfigError(
                f"stages[{i}].start: expected more than that of the stage before ({before}), got {stage.start}"
            )
        if stage.image_size < vision.least_image_size:
            least = vision.least_image_size
            raise ConfigError(f"stages[{i}].image_size: expected at least {least}, got {stage.image_size}")
    if recipe.classifies:
        _check_classification(recipe)
    elif recipe.validation.classification or any(s.kind == "classification" for s in recipe.validation.sets):
        raise ConfigError("validation: sets of kind classification need objective.kind = classification; use zero_shot")
    elif recipe.objective.label_smoothing:
        raise ConfigError("objective.label_smoothing: expected 0 without objective.kind = classification")
    if recipe.interpolation.alphas:
        _check_interpolation(recipe)


def _check_interpolation(recipe: Recipe) -> None:
    """Check that there are two ends and something to choose by. Raises `ConfigError` that names the key."""
    measured = recipe.validation.zero_shot or recipe.validation.retrieval or recipe.validation.sets
    if recipe.classifies:
        raise ConfigError("interpolation.alphas: expected none with objective.kind = classification, which has wise-ft")
    if not recipe.init.has_both_towers:
        raise ConfigError("interpolation.alphas: expected none without first weights; name them in init.model")
    if not measured and (len(recipe.interpolation.alphas) > 1 or recipe.interpolation.at_least):
        raise ConfigError("interpolation.alphas: nothing chooses among them; name a set in [validation], or one alpha")


def _check_classification(recipe: Recipe) -> None:
    """Check that nothing is asked for that only texts could answer. Raises `ConfigError` that names the key."""
    init, chosen = recipe.init, recipe.objective
    if not init.has_both_towers:
        raise ConfigError(
            "init.model: missing; classification starts from the zero-shot classifier of a model, such as tandem-mini"
        )
    for i, source in enumerate(recipe.data):
        if source.kind != "names":
            raise ConfigError(f"data[{i}].kind: expected names with objective.kind = classification, got {source.kind}")
        if source.broader:
            raise ConfigError(f"data[{i}].broader: expected none with objective.kind = classification: classes compete")
    unused = {
        "objective.loss": chosen.loss != "infonce",
        "objective.classes": chosen.classes > 0,
        "distillation.teacher": bool(recipe.distillation.teacher),
        "distillation.model": bool(recipe.distillation.model),
        "vocabulary": recipe.vocabulary > 0,
    }
    for name, given in unused.items():
        if given:
            raise ConfigError(f"{name}: has no meaning with objective.kind = classification; leave it out")


def _has_placeholder(template: str) -> bool:
    try:
        return template.format("x") != template
    except (
        LookupError,
        ValueError,
        AttributeError,
        TypeError,
    ):  # of `{x}`, `{`, `{.x}`, `{[x]}`
        return False
