"""A training run, complete, typed and printable: what `tandem train RECIPE.toml key=value` reads.

Knows names, types and defaults. It reads no data and builds no model.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tandem import config as model_config
from tandem.config import ModelConfig, Preprocessing, ResNet, TextTransformer, VisionTransformer
from tandem.errors import ConfigError


@dataclass(frozen=True)
class Source:
    """One training set: files, where its texts are, and its share of every batch."""

    path: str  # glob below `data_root`, or absolute; WebDataset tars (*.tar) or Parquet (*.parquet)
    text: str  # tar: a JSON key such as `captions`, or `txt`; Parquet: the text column
    per_batch: int  # pictures of every batch that come from here
    kind: Literal["captions", "names"] = "captions"  # names: comma-separated synonyms, put into `templates`
    templates: tuple[str, ...] = ("a photo of a {}.",)
    broader: dict[str, tuple[str, ...]] = field(default_factory=dict)  # word -> names it holds for: cat -> tabby, ...
    captions_per_picture: int = 1  # sentences drawn for each picture of a batch
    crop: tuple[float, float] = (0.5, 1.0)  # share of the area that a random crop keeps


@dataclass(frozen=True)
class Stage:
    """From `start` (share of the steps) on, pictures have `image_size` pixels a side."""

    start: float
    image_size: int


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


@dataclass(frozen=True)
class Distillation:
    """The text side learns from a sentence encoder too. `teacher` empty: it does not."""

    teacher: str = ""  # a folder in sentence-transformers' layout, or an installed package that carries one
    weight: float = 1.0  # of the text vectors' distance to the teacher's, beside the contrastive loss
    words_per_batch: int = 0  # words of the teacher's own vocabulary, as further sentences without pictures
    soften: float = 0.0  # share of the contrastive target that follows the teacher's similarity of sentences
    temperature: float = 0.1  # of that similarity


@dataclass(frozen=True)
class Validation:
    """What is measured on the way, and which measure chooses the weights that are kept."""

    every_steps: int = 500
    zero_shot: str = ""  # Parquet with `image` and a column of names
    names: str = "names"
    retrieval: str = ""  # WebDataset tar with captions
    limit: int = 2000  # pictures of the zero-shot set that are looked at on the way


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
    vocabulary: int = 0  # train a byte-level BPE of this size on the texts; 0: CLIP's
    stages: tuple[Stage, ...] = ()
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    device: str = "auto"
    workers: int = 1  # threads that prepare batches
    cache_pictures: bool = False  # keep decoded pictures in memory
    checkpoint_every_steps: int = 500
    log_every_steps: int = 20
    optimiser: Optimiser = Optimiser()
    distillation: Distillation = Distillation()
    validation: Validation = Validation()

    @property
    def batch_size(self) -> int:
        """Pictures in a batch."""
        return sum(source.per_batch for source in self.data)

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
        _override(values, override)
    try:
        return _recipe(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values, complete: what a checkpoint records and what is printed."""
    return {**dataclasses.asdict(recipe), "model": model_config.to_dict(recipe.model)}


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string, so that nobody needs to quote quotes in a shell
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{override!r}: {parent} is not a table")
    values[last] = value


def _recipe(values: dict[str, Any]) -> Recipe:
    model = dict(values.get("model") or {})
    vision = dict(model.get("vision") or {})
    if "type" not in vision:
        raise ConfigError("model.vision.type: missing; expected 'resnet' or 'vision_transformer'")
    tower = _typed(ResNet if vision.pop("type") == "resnet" else VisionTransformer, vision, "model.vision.")
    text = _typed(TextTransformer, dict(model.get("text") or {}), "model.text.")
    preprocessing = {"image_size": tower.image_size, **model.get("preprocessing", {})}
    facts = {key: model[key] for key in ("licence", "data") if key in model}
    built = ModelConfig(
        embed_dim=model.get("embed_dim", 512),
        vision=tower,
        text=text,
        preprocessing=_typed(Preprocessing, preprocessing, "model.preprocessing."),
        name=values.get("name", ""),
        **facts,
    )
    recipe: Recipe = _typed(Recipe, {**values, "model": built}, "")
    if not recipe.data:
        raise ConfigError("data: expected at least one [[data]] table")
    return recipe


def _typed(kind: Any, values: dict[str, Any], prefix: str) -> Any:
    """A dataclass from plain values, each checked against its annotation."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in values:
        if name not in fields:
            raise ConfigError(f"{prefix}{name}: unknown key; expected one of {', '.join(fields)}")
    missing = [n for n, f in fields.items() if n not in values and f.default is dataclasses.MISSING]
    missing = [n for n in missing if fields[n].default_factory is dataclasses.MISSING]
    if missing:
        raise ConfigError(f"{prefix}{missing[0]}: missing")
    return kind(**{name: _value(hints[name], value, prefix + name) for name, value in values.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{name}: expected one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name}: expected a list, got {value!r}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise ConfigError(f"{name}: expected {len(kinds)} values, got {len(value)}")
        return tuple(
            _value(kind, item, f"{name}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{name}: expected a table, got {value!r}")
        return {key: _value(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if not isinstance(value, dict):
            raise ConfigError(f"{name}: expected a table, got {value!r}")
        return _typed(hint, value, f"{name}.")
    if origin is types.UnionType or hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{name}: expected {hint.__name__}, got {value!r}")
    return value
