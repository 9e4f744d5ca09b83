"""What a NaFlex Vision Transformer is: sizes, and the array that an image becomes. Pure."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from tandem.errors import ConfigError, EngineError
from tandem.fields import Range
from tandem.towers.parts.description import (
    Activation,
    DenseMethod,
    Layers,
    Pixels,
    StateLayout,
    VariedEpsilon,
    Width,
)


@dataclass(frozen=True)
class NaFlex:
    """Image encoder of SigLIP 2 (Tschannen et al. 2025, 2.4.2): patches of an image in its own aspect ratio.

    Images come as arrays of patches of one shape, whose last ones are padding that no patch sees. Positions are
    interpolated from a square table to the grid of each image. Everything else is SigLIP's: no class token, attention
    pooling, no projection.
    """

    patch_size: Pixels  # pixels, square
    grid: Annotated[int, Range(1, 256)]  # positions along a side of the table
    max_patches: Annotated[int, Range(1, 1024)]  # of an image
    width: Width
    layers: Layers
    heads: Width
    mlp_width: Width
    activation: Activation
    norm_epsilon: VariedEpsilon = 1e-6

    dense_method: ClassVar[DenseMethod | None] = None  # attention pooling, as for a VisionTransformer that has it
    takes_patch_dropout: ClassVar[bool] = False
    has_last_norm: ClassVar[bool] = True
    projects_states: ClassVar[bool] = False

    @property
    def image_size(self) -> int:
        """Pixels a side of the largest square image."""
        return math.isqrt(self.max_patches) * self.patch_size

    @property
    def pool_heads(self) -> int:
        """Heads of attention pooling."""
        return self.heads

    @property
    def pool_mlp_width(self) -> int:
        """Width inside the MLP of attention pooling."""
        return self.mlp_width

    @property
    def tokens(self) -> int:
        """Tokens of an image, padding included."""
        return self.max_patches

    @property
    def least_image_size(self) -> int:
        """Pixels a side that give one patch."""
        return self.patch_size

    @property
    def state_layers(self) -> int:
        """Layers that states are counted by: blocks."""
        return self.layers

    @property
    def summary(self) -> str:
        """What it is, in a phrase for people."""
        return f"Vision Transformer, {self.layers} layers of width {self.width}, patches of {self.patch_size}"

    def deepened(self, like: object) -> "NaFlex":
        """Unchanged: a new block would not start as identity."""
        return self

    def state_layout(self, layer: int) -> StateLayout:
        """Refused: every image has a grid of its own. Raises `EngineError`."""
        raise EngineError(
            "a NaFlex model gives no image states: its grid differs from image to image; use a SigLIP 2 model of fixed "
            "resolution"
        )

    def check(self, embed_dim: int) -> None:
        """Refuse what cannot be built. Raises `ConfigError` whose message begins with the field."""
        if self.width % self.heads:
            raise ConfigError(f"width = {self.width} is not divisible by heads = {self.heads}")
        if self.width != embed_dim:
            raise ConfigError(
                f"width: a naflex tower has no projection, so its {self.width} dimensions must equal embed_dim, "
                f"{embed_dim}"
            )
