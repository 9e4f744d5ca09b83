"""What a model is: frozen dataclasses, and the nine published models as instances.

Knows sizes, names and constants; what a tower is, its room in `towers` knows. It knows no arrays, no files and no
engine: both engines, the training code and the readers of foreign checkpoints all start from a `ModelConfig`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tandem import fields
from tandem.errors import ConfigError
from tandem.fields import LeftOutAtDefault, NonNegative, Range, Share, Tagged
from tandem.towers import IMAGE_TOWERS, TEXT_TOWERS, ImageTower, TextTower, tower_type
from tandem.towers.bert.description import Bert
from tandem.towers.fastvit.description import FastViT
from tandem.towers.naflex.description import NaFlex
from tandem.towers.parts.description import (
    QUICK_GELU_SLOPE,
    Activation,
    Cleaning,
    Pixels,
    VariedFlag,
    VariedWidth,
    Width,
    patch_array_shape,
)
from tandem.towers.resnet.description import Block, ResNet
from tandem.towers.text_transformer.description import TextTransformer
from tandem.towers.vision_transformer.description import VisionTransformer

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "INCEPTION_MEAN",
    "INCEPTION_STD",
    "LEAST_NEIGHBOURS",
    "LEAST_TOP1",
    "PROMISE",
    "PUBLISHED",
    "QUICK_GELU_SLOPE",
    "Activation",
    "Bert",
    "Block",
    "Cleaning",
    "FastViT",
    "ImageTower",
    "Interpolation",
    "MeasuredAgreement",
    "ModelConfig",
    "NaFlex",
    "Preprocessing",
    "Quantization",
    "ResNet",
    "ResizeMode",
    "TextTower",
    "TextTransformer",
    "VisionTransformer",
    "check",
    "clip_text",
    "from_dict",
    "to_dict",
    "tower_type",
]

ResizeMode = Literal["shortest", "squash", "longest", "naflex"]  # naflex: the aspect ratio is kept, in whole patches
Interpolation = Literal["bicubic", "bilinear", "nearest", "lanczos"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
INCEPTION_MEAN = INCEPTION_STD = (0.5, 0.5, 0.5)  # SigLIP's and PE-Core's: pixels from -1 to 1


# What a quantised model must agree with its source on to be called good
LEAST_TOP1, LEAST_NEIGHBOURS = 0.99, 0.95

_Deviation = Annotated[float, Range(above=0)]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes pixels. Engines apply `mean` and `std` to pixels scaled to 0..1."""

    image_size: Pixels
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[_Deviation, _Deviation, _Deviation] = CLIP_STD
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    fill: Annotated[int, Range(0, 255)] = 0  # the border that `longest` pads with
    patch_size: VariedWidth = 0  # of `naflex`: pixels a side
    max_patches: VariedWidth = 0  # of `naflex`: of an image

    @property
    def makes_patches(self) -> bool:
        """Whether an image becomes patches in its own aspect ratio; else a square."""
        return self.resize_mode == "naflex"

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """The shape of the array that an image becomes: a square [s s 3], or patches [t v] (`patch_array_shape`)."""
        if self.makes_patches:
            return patch_array_shape(self.patch_size, self.max_patches)
        return self.image_size, self.image_size, 3

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each value of the last axis of `pixel_shape`, of pixels in 0..1."""
        if not self.makes_patches:
            return self.mean, self.std
        count = self.patch_size**2
        return (*self.mean * count, *(0.0,) * 4), (*self.std * count, *(1 / 255,) * 4)


class MeasuredAgreement:
    """What is promised of a model beside its source, and whether what was measured keeps it: decided here alone."""

    top1: float
    neighbours: float
    mixed_neighbours: float

    @property
    def is_good(self) -> bool:
        """Whether it keeps the promise of its agreement with the source."""
        return not self.below_promise

    @property
    def mixes(self) -> bool:
        """Whether its vectors may be compared with the source's."""
        return self.is_good and self.mixed_neighbours >= LEAST_NEIGHBOURS

    @property
    def promised(self) -> tuple[tuple[str, float, float], ...]:
        """What is promised: its name, what was measured and the least."""
        return (("top-1", self.top1, LEAST_TOP1), ("ten nearest neighbours", self.neighbours, LEAST_NEIGHBOURS))

    @property
    def below_promise(self) -> tuple[str, ...]:
        """What misses the promise, in words."""
        return tuple(
            f"{name} {value:.1%} (promised: {least:.0%})" for name, value, least in self.promised if value < least
        )

    @property
    def figures(self) -> str:
        """What was measured, in words; what collections ask of a stand-in comes last."""
        named = [f"{name} {value:.1%}" for name, value, _ in self.promised]
        return ", ".join([*named, f"queries among the source's vectors {self.mixed_neighbours:.1%}"])


PROMISE = f"top-1 {LEAST_TOP1:.0%}, ten nearest neighbours {LEAST_NEIGHBOURS:.0%}"


@dataclass(frozen=True)
class Quantization(MeasuredAgreement):
    """How a model was quantised, and how well it agrees with its source on images and texts kept out of calibration."""

    method: Literal["int8", "int8-weights"]
    source: str  # the name of the model that it was made from
    source_fingerprint: str
    images: NonNegative  # that were kept out
    texts: NonNegative
    top1: Share  # of the images whose best text is the source's
    neighbours: Share  # of the ten nearest images that are the source's
    mixed_neighbours: Share  # the same where the query alone is the quantised model's
    mean_cosine: float  # of its vectors to the source's
    least_cosine: float
    float32_blocks: tuple[str, ...] = ()  # what keeps the source's precision


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: two towers into one space of `embed_dim`, with what its users should know about it."""

    embed_dim: Width
    vision: Annotated[ImageTower, Tagged("type", IMAGE_TOWERS)]
    text: Annotated[TextTower, Tagged("type", TEXT_TOWERS, default="text_transformer")]
    preprocessing: Preprocessing
    name: str = ""
    licence: str = ""
    data: str = ""  # what it was trained on, in a sentence
    notes: Mapping[str, str] = field(default_factory=dict)  # warned of once, at loading, e.g. an assumed activation

    timm_model: Annotated[str, LeftOutAtDefault()] = ""  # timm's name of the image tower, where open_clip gave one
    quantization: Annotated[Quantization | None, LeftOutAtDefault()] = None
    logit_bias: VariedFlag = False  # added to the logits: a model of single pairs, trained with the sigmoid loss

    def __post_init__(self) -> None:
        check(self)

    @property
    def activation(self) -> Activation | None:
        """The activation of both towers; None where they differ."""
        mine = getattr(self.vision, "activation", self.text.activation)  # some have none to choose
        return mine if mine == self.text.activation else None


def check(config: ModelConfig) -> None:
    """Refuse sizes that no engine could build. Raises `ConfigError` that names the field."""
    fields.check(config)
    vision = config.vision
    if config.preprocessing.image_size != vision.image_size:
        raise ConfigError(
            f"preprocessing.image_size is {config.preprocessing.image_size}, but the image encoder takes "
            f"{vision.image_size} pixels: they must be equal"
        )
    _check_patches(config)
    for name, tower in (("vision", config.vision), ("text", config.text)):
        try:
            tower.check(config.embed_dim)
        except ConfigError as error:
            raise ConfigError(f"{name}.{error}") from None


def _check_patches(config: ModelConfig) -> None:
    """The preprocessing must give patches to the towers that take them, and squares to all others."""
    vision, preprocessing = config.vision, config.preprocessing
    takes = (vision.patch_size, vision.max_patches) if isinstance(vision, NaFlex) else (0, 0)
    gives = (preprocessing.patch_size, preprocessing.max_patches)
    if preprocessing.makes_patches != isinstance(vision, NaFlex) or takes != gives:
        raise ConfigError(
            f"preprocessing.resize_mode, patch_size, max_patches: expected naflex with {takes[0]} and {takes[1]} for "
            "this image encoder"
            if isinstance(vision, NaFlex)
            else "preprocessing.resize_mode, patch_size, max_patches: naflex is for an image encoder of type naflex"
        )


# --- to and from plain values (config.json) ----------------------------------------------------------------------


def to_dict(config: ModelConfig) -> dict[str, Any]:
    """Plain values for `config.json`; `from_dict` is its inverse."""
    return {"format": "tandem", "version": 1, **fields.to_plain(config)}


def from_dict(plain: Mapping[str, Any], source: str = "config.json") -> ModelConfig:
    """The inverse of `to_dict`. Raises `ConfigError` that names `source` and the field."""
    try:
        return fields.read(ModelConfig, {key: plain[key] for key in plain if key not in ("format", "version")})
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


# --- the published models ----------------------------------------------------------------------------------------


def clip_text(width: int, activation: Activation = "quick_gelu") -> TextTransformer:
    """The text encoder of the published models: 12 layers, 77 tokens, heads of 64."""
    return TextTransformer(77, 49408, width, 12, width // 64, width * 4, activation)


def _published(name: str, embed_dim: int, vision: VisionTransformer | ResNet, text_width: int) -> ModelConfig:
    return ModelConfig(
        embed_dim,
        vision,
        clip_text(text_width),
        Preprocessing(vision.image_size),
        name=name,
        licence="MIT",
        data="400 M pairs of images and texts from the internet (WIT, OpenAI)",
    )


def _vit(size: int, patch: int, width: int, layers: int) -> VisionTransformer:
    return VisionTransformer(size, patch, width, layers, width // 64, width * 4, "quick_gelu")


def _resnet(size: int, layers: tuple[int, int, int, int], width: int) -> ResNet:
    return ResNet(size, layers, width, width * 32 // 64)


PUBLISHED: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        _published("RN50", 1024, _resnet(224, (3, 4, 6, 3), 64), 512),
        _published("RN101", 512, _resnet(224, (3, 4, 23, 3), 64), 512),
        _published("RN50x4", 640, _resnet(288, (4, 6, 10, 6), 80), 640),
        _published("RN50x16", 768, _resnet(384, (6, 8, 18, 8), 96), 768),
        _published("RN50x64", 1024, _resnet(448, (3, 15, 36, 10), 128), 1024),
        _published("ViT-B/32", 512, _vit(224, 32, 768, 12), 512),
        _published("ViT-B/16", 512, _vit(224, 16, 768, 12), 512),
        _published("ViT-L/14", 768, _vit(224, 14, 1024, 24), 768),
        _published("ViT-L/14@336", 768, _vit(336, 14, 1024, 24), 768),
    )
}
