"""What a model is: frozen dataclasses, and the nine published models as instances.

Knows sizes, names and constants; no arrays, files or engines. The engines, the training code and the readers of
foreign checkpoints all start from a `ModelConfig`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tandem import fields
from tandem.errors import ConfigError
from tandem.fields import NonNegative, Range, Tagged

Activation = Literal["quick_gelu", "gelu"]
QUICK_GELU_SLOPE = 1.702  # quick_gelu(x) = x * sigmoid(1.702 x); gelu is the exact one, with the error function
Block = Literal["bottleneck", "basic"]
ResizeMode = Literal["shortest", "squash", "longest"]
Interpolation = Literal["bicubic", "bilinear", "nearest", "lanczos"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


# Far beyond any model. Without limits, listing the tensors of an absurd configuration could take hours.
_Pixels = Annotated[int, Range(1, 2**16)]
_Width = Annotated[int, Range(1, 2**20)]
_Layers = Annotated[int, Range(1, 1000)]
_Tokens = Annotated[int, Range(1, 2**24)]


@dataclass(frozen=True)
class VisionTransformer:
    """Image encoder: patches and a class token through pre-norm transformer blocks (Radford et al. 2021, 2.4)."""

    image_size: _Pixels  # pixels, square
    patch_size: _Pixels  # pixels, square
    width: _Width
    layers: _Layers
    heads: _Width
    mlp_width: _Width
    activation: Activation

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ResNet:
    """Image encoder: CLIP's ResNet, with a three-convolution stem, antialiased strides and attention pooling.

    The published models have bottleneck blocks after a stem of stride 4. A small model is better served by basic
    blocks (two 3 x 3 convolutions; a strided block averages its input first) after a stem of stride 2.
    """

    image_size: _Pixels  # pixels, square
    layers: tuple[_Layers, _Layers, _Layers, _Layers]  # blocks of each of the four stages
    width: _Width  # channels after the stem
    heads: _Width  # of the attention pooling
    block: Block = "bottleneck"
    stem_stride: Literal[2, 4] = 4  # 4: with an average pooling of 2 at the end of the stem; 2: without

    @property
    def expansion(self) -> int:
        """Output channels of a block divided by its inner channels."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def pool_width(self) -> int:
        """Channels that reach the attention pooling."""
        return self.width * 8 * self.expansion

    @property
    def grid(self) -> int:
        """Positions along one side that reach the attention pooling."""
        return self.image_size // (self.stem_stride * 8)


@dataclass(frozen=True)
class TextTransformer:
    """Text encoder: a causal pre-norm transformer; the text's vector is read at the first end token."""

    context_length: _Tokens  # tokens, start and end included
    vocabulary_size: _Tokens
    width: _Width
    layers: _Layers
    heads: _Width
    mlp_width: _Width
    activation: Activation
    start_id: NonNegative = 49406
    end_id: NonNegative = 49407
    pad_id: NonNegative = 0  # does not change the text's vector, only the states of tokens after the end


_Deviation = Annotated[float, Range(above=0)]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes pixels. Engines apply `mean` and `std` to pixels scaled to 0..1."""

    image_size: _Pixels
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[_Deviation, _Deviation, _Deviation] = CLIP_STD
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    fill: Annotated[int, Range(0, 255)] = 0  # the border that `longest` pads with


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: two towers into one space of `embed_dim` dimensions, with its name, licence and data."""

    embed_dim: _Width
    vision: Annotated[
        VisionTransformer | ResNet, Tagged("type", {"vision_transformer": VisionTransformer, "resnet": ResNet})
    ]
    text: TextTransformer
    preprocessing: Preprocessing
    name: str = ""
    licence: str = ""
    data: str = ""  # training data, in a phrase
    notes: Mapping[str, str] = field(default_factory=dict)  # warned about once, at loading, e.g. an assumed activation

    def __post_init__(self) -> None:
        check(self)


def check(config: ModelConfig) -> None:
    """Refuse sizes that no engine could build, with a `ConfigError` that names the field."""
    fields.check(config)
    vision, text = config.vision, config.text
    if config.preprocessing.image_size != vision.image_size:
        raise ConfigError(
            f"preprocessing.image_size is {config.preprocessing.image_size}, but the image encoder takes "
            f"{vision.image_size} pixels: they must be equal"
        )
    if isinstance(vision, VisionTransformer):
        _divides("vision.width", vision.width, "vision.heads", vision.heads)
        if vision.patch_size > vision.image_size:
            raise ConfigError(f"vision.patch_size: expected 1..{vision.image_size}, got {vision.patch_size}")
    else:
        _divides("vision: the pooled width", vision.pool_width, "vision.heads", vision.heads)
        if vision.width % 2:
            raise ConfigError(f"vision.width: expected an even number, got {vision.width}")
        if vision.grid < 1:
            raise ConfigError(f"vision.image_size: expected at least {vision.stem_stride * 8}, got {vision.image_size}")
    _divides("text.width", text.width, "text.heads", text.heads)
    for name, token in (("start_id", text.start_id), ("end_id", text.end_id), ("pad_id", text.pad_id)):
        if token >= text.vocabulary_size:
            raise ConfigError(f"text.{name}: expected 0..{text.vocabulary_size - 1}, got {token}")


def _divides(name: str, value: int, by_name: str, by: int) -> None:
    if value % by:
        raise ConfigError(f"{name} = {value} is not divisible by {by_name} = {by}")


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
