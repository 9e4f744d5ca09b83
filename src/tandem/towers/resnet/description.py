"""What CLIP's ResNet is: its sizes. Pure."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from tandem.errors import ConfigError
from tandem.towers.parts.description import DenseMethod, Layers, Pixels, StateLayout, Width

Block = Literal["bottleneck", "basic"]


@dataclass(frozen=True)
class ResNet:
    """Image encoder: CLIP's ResNet, with a three-convolution stem, antialiased strides and attention pooling.

    The published models have bottleneck blocks after a stem of stride 4. A small model is better served by basic
    blocks (two 3 x 3 convolutions; a strided block averages its input first) after a stem of stride 2.
    """

    image_size: Pixels  # pixels, square
    layers: tuple[Layers, Layers, Layers, Layers]  # blocks of each of the four stages
    width: Width  # channels after the stem
    heads: Width  # of the attention pooling
    block: Block = "bottleneck"
    stem_stride: Literal[2, 4] = 4  # 4: the stem ends in an average pooling of 2; 2: it does not

    dense_method: ClassVar[DenseMethod | None] = "attention-pool"
    takes_patch_dropout: ClassVar[bool] = False
    has_last_norm: ClassVar[bool] = False
    projects_states: ClassVar[bool] = False  # its projection takes what the attention pooling gives

    @property
    def expansion(self) -> int:
        """Channels that leave a block, over its inner channels."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def pool_width(self) -> int:
        """Channels that reach the attention pooling."""
        return self.width * 8 * self.expansion

    @property
    def grid(self) -> int:
        """Positions along one side that reach the attention pooling."""
        return self.image_size // (self.stem_stride * 8)

    @property
    def tokens(self) -> int:
        """Positions of an image at the end of the tower."""
        return self.grid**2

    @property
    def least_image_size(self) -> int:
        """Pixels a side that give one position."""
        return self.stem_stride * 8

    @property
    def state_layers(self) -> int:
        """Layers that states are counted by: stages."""
        return len(self.layers)

    @property
    def summary(self) -> str:
        """What it is, in a phrase for people."""
        return f"ResNet of {'-'.join(map(str, self.layers))} {self.block} blocks, width {self.width}"

    def deepened(self, like: object) -> "ResNet":
        """This tower with as many blocks as another: new ones come last in a stage and start as identity.

        Unchanged where the other has fewer in some stage, or is of another kind.
        """
        if not isinstance(like, ResNet) or any(m > o for m, o in zip(self.layers, like.layers, strict=True)):
            return self
        return replace(self, layers=like.layers)

    def state_layout(self, layer: int) -> StateLayout:
        """How the states after a stage lie; 0 is the stem."""
        side = (self.image_size + 1) // self.stem_stride  # the first convolution rounds up, averaging rounds down
        side //= 2 ** max(layer - 1, 0)
        return StateLayout(side, side, self.width * 2 ** (layer - 1) * self.expansion if layer else self.width)

    def check(self, embed_dim: int) -> None:
        """Refuse what cannot be built. Raises `ConfigError` whose message begins with the field."""
        if self.pool_width % self.heads:
            raise ConfigError(f"the pooled width = {self.pool_width} is not divisible by heads = {self.heads}")
        if self.width % 2:
            raise ConfigError(f"width: expected an even number, got {self.width}")
        if self.grid < 1:
            raise ConfigError(f"image_size: expected at least {self.least_image_size}, got {self.image_size}")
