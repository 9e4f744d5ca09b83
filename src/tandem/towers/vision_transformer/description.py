"""What a Vision Transformer is: sizes, and what its families vary. Pure."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from tandem.errors import ConfigError
from tandem.fields import LeftOutAtDefault
from tandem.towers.parts.description import (
    NORM_EPSILON,
    Activation,
    DenseMethod,
    Layers,
    Pixels,
    StateLayout,
    VariedEpsilon,
    VariedFlag,
    VariedWidth,
    Width,
)

# class: the class token; mean: the mean of the patches; attention: one learned query attends to all tokens, followed by
# an MLP with a residual (multi-head attention pooling, MAP, Zhai et al. 2022)
Pooling = Literal["class", "mean", "attention"]
Projection = Literal["linear", "biased", "none"]


@dataclass(frozen=True)
class VisionTransformer:
    """Image encoder: patches through pre-norm transformer blocks (Radford et al. 2021, 2.4; Zhai et al. 2023).

    The defaults are OpenAI's CLIP. CLIPA has no first norm and pools by the mean; SigLIP has no class token, attention
    pooling and no projection; PE-Core (Bolya et al. 2025) has attention pooling and rotary positions; MobileCLIP's B
    (Vasu et al. 2024) makes its patches by three convolutions.
    """

    image_size: Pixels  # pixels, square
    patch_size: Pixels  # pixels, square
    width: Width
    layers: Layers
    heads: Width
    mlp_width: Width
    activation: Activation
    class_token: VariedFlag = True
    class_position: VariedFlag = True  # a position for the class token, too
    patch_bias: VariedFlag = False
    stem_width: VariedWidth = 0  # channels of three convolutions that make the patches; 0: one convolution does
    first_norm: VariedFlag = True  # a layer norm before the first block
    pooling: Annotated[Pooling, LeftOutAtDefault()] = "class"
    norm_after_pooling: VariedFlag = False  # the last layer norm; CLIP's is the same either way
    pool_heads: VariedWidth = 0  # of attention pooling
    pool_mlp_width: VariedWidth = 0  # of attention pooling
    projection: Annotated[Projection, LeftOutAtDefault()] = "linear"
    norm_epsilon: VariedEpsilon = NORM_EPSILON
    # Rotary positions of patches, beside the learned ones: `rotary`. The grid they were trained on, patches along a
    # side, to which those of any other image size are stretched; 0: none
    rotary_grid: VariedWidth = 0
    rotary_offset: VariedWidth = 0  # of the first patch, in patches

    takes_patch_dropout: ClassVar[bool] = True
    has_last_norm: ClassVar[bool] = True

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Tokens of an image: its patches, and the class token where there is one."""
        return self.grid**2 + self.class_token

    @property
    def stem(self) -> tuple[tuple[int, int, int], ...]:
        """Channels in, channels out and pixels a side of the stem's convolutions, none of which overlaps its stride."""
        inner = self.stem_width
        return ((3, inner, self.patch_size // 4), (inner, inner, 2), (inner, self.width, 2)) if inner else ()

    @property
    def positions(self) -> int:
        """Rows of the table of positions."""
        return self.grid**2 + (self.class_token and self.class_position)

    @property
    def least_image_size(self) -> int:
        """Pixels a side that give one patch."""
        return self.patch_size

    @property
    def state_layers(self) -> int:
        """Layers that states are counted by: blocks."""
        return self.layers

    @property
    def projects_states(self) -> bool:
        """Whether there is a projection, which every token's state can go through."""
        return self.projection != "none"

    @property
    def dense_method(self) -> DenseMethod | None:
        """naclip where a patch goes through the same norm and projection as the pooled token.

        Attention pooling has an MLP between them, trained on what is pooled from all patches; and what rotary
        positions do to products of keys with keys, nobody has measured.
        """
        return None if self.pooling == "attention" or self.rotary_grid else "naclip"

    @property
    def summary(self) -> str:
        """What it is, in a phrase for people."""
        return f"Vision Transformer, {self.layers} layers of width {self.width}, patches of {self.patch_size}"

    def deepened(self, like: object) -> "VisionTransformer":
        """Unchanged: a new block would not start as identity."""
        return self

    def state_layout(self, layer: int) -> StateLayout:
        """How the states after a block lie; 0 is the embedding."""
        return StateLayout(self.grid, self.grid, self.width, self.class_token)

    def check(self, embed_dim: int) -> None:
        """Refuse what cannot be built. Raises `ConfigError` whose message begins with the field."""
        _divides("width", self.width, "heads", self.heads)
        if self.patch_size > self.image_size:
            raise ConfigError(f"patch_size: expected 1..{self.image_size}, got {self.patch_size}")
        if self.stem_width and self.patch_size % 4:
            raise ConfigError(f"patch_size: expected a multiple of 4 with stem_width, got {self.patch_size}")
        if not self.class_position and not self.class_token:
            raise ConfigError("class_position: expected true where class_token is false, got false")
        if self.pooling == "class" and not self.class_token:
            raise ConfigError("pooling: expected mean or attention where class_token is false, got class")
        if (self.pooling == "attention") != bool(self.pool_heads and self.pool_mlp_width):
            raise ConfigError(
                "pool_heads, pool_mlp_width: expected both with pooling attention and 0 elsewhere, got "
                f"{self.pool_heads} and {self.pool_mlp_width} with {self.pooling}"
            )
        if self.pool_heads:
            _divides("width", self.width, "pool_heads", self.pool_heads)
        if self.norm_after_pooling and self.pooling == "attention":
            raise ConfigError("norm_after_pooling: expected false with pooling attention, whose norm comes before it")
        if self.rotary_grid and self.width // self.heads % 4:
            raise ConfigError(
                f"rotary_grid: expected heads of a multiple of 4, half for columns and half for rows, got "
                f"{self.width // self.heads} (width {self.width}, heads {self.heads})"
            )
        if self.rotary_offset and not self.rotary_grid:
            raise ConfigError(f"rotary_offset: expected 0 without a rotary_grid, got {self.rotary_offset}")
        if self.projection == "none" and self.width != embed_dim:
            raise ConfigError(
                f"projection: none leaves {self.width} dimensions, but embed_dim is {embed_dim}: they must be equal"
            )


def _divides(name: str, value: int, by_name: str, by: int) -> None:
    if value % by:
        raise ConfigError(f"{name} = {value} is not divisible by {by_name} = {by}")
