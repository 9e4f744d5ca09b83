"""What a FastViT is: its sizes, and what its variants vary. Pure."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from tandem.errors import ConfigError
from tandem.fields import LeftOutAtDefault, Range
from tandem.towers.parts.description import DenseMethod, Layers, Pixels, StateLayout, VariedFlag, Width

HEAD_WIDTH = 32  # channels of an attention head
STAGES = 8  # at most; each halves the grid

StageCount = Annotated[int, Range(0, STAGES), LeftOutAtDefault()]


@dataclass(frozen=True)
class FastViT:
    """Image encoder: FastViT (Vasu et al. 2023) as MobileCLIP has it (Vasu et al. 2024).

    A convolutional stem of stride 4, then stages; between them a downsampling halves the grid and doubles the channels.
    A block mixes positions, by a depthwise 3 x 3 convolution or by attention, and then channels, by a depthwise 7 x 7
    convolution and an MLP. In training most convolutions are sums of branches with batch norms; in inference each sum
    is one convolution. A depthwise convolution with squeeze-and-excitation ends the tower; the mean of its positions is
    projected. The activation is the exact GELU.

    The defaults are MobileCLIP's S0 to S2; S3 and S4 have a fifth stage, and attention in two.
    """

    image_size: Pixels  # pixels, square
    layers: tuple[Layers, ...]  # blocks of each stage
    width: Width  # channels of the first stage
    mlp_ratio: Width = 3  # the MLP's inner channels over its outer ones
    attention_stages: StageCount = 1  # the last stages: they begin with positions, by convolution, and mix by attention
    attention_norm: Annotated[Literal["batch", "layer"], LeftOutAtDefault()] = "batch"  # before attention
    squeezed_stages: StageCount = 2  # the last stages, whose downsampling has squeeze-and-excitation
    stem_scale: VariedFlag = True  # branches of 1 x 1 in the stem's larger convolutions

    dense_method: ClassVar[DenseMethod | None] = None  # its head takes the mean of all positions
    takes_patch_dropout: ClassVar[bool] = False
    has_last_norm: ClassVar[bool] = False
    projects_states: ClassVar[bool] = False  # its projection takes what the last convolution gives

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.layers)))

    @property
    def pool_width(self) -> int:
        """Channels that are averaged over the positions, and projected."""
        return 2 * self.widths[-1]

    @property
    def grid(self) -> int:
        """Positions along one side of the last stage."""
        return -(-self.image_size // self.least_image_size)

    @property
    def tokens(self) -> int:
        """Positions of an image at the end of the tower."""
        return self.grid**2

    @property
    def least_image_size(self) -> int:
        """Pixels along a side of one position of the last stage."""
        return int(2 ** (len(self.layers) + 1))

    @property
    def state_layers(self) -> int:
        """Layers that states are counted by: stages."""
        return len(self.layers)

    @property
    def summary(self) -> str:
        """What it is, in a phrase for people."""
        return f"FastViT of {'-'.join(map(str, self.layers))} blocks, width {self.width}"

    def deepened(self, like: object) -> "FastViT":
        """Unchanged: a new block would not start as identity."""
        return self

    def state_layout(self, layer: int) -> StateLayout:
        """How the states after a stage lie; 0 is the stem."""
        stage = max(layer - 1, 0)
        side = -(-self.image_size // (4 * 2**stage))  # every halving rounds up
        return StateLayout(side, side, self.widths[stage])

    def mixes_by_attention(self, stage: int) -> bool:
        """Whether the blocks of a stage, counted from 0, are attention blocks."""
        return stage >= len(self.layers) - self.attention_stages

    def squeeze_width(self, stage: int) -> int:
        """Inner channels of the squeeze-and-excitation in the downsampling before a stage; 0: it has none."""
        if stage < len(self.layers) - self.squeezed_stages:
            return 0
        return max(8, (self.widths[stage] // 4 + 4) // 8 * 8)  # a quarter, in whole eights

    @property
    def last_squeeze_width(self) -> int:
        """Inner channels of the squeeze-and-excitation after the last stage."""
        return max(1, (self.pool_width + 8) // 16)

    def check(self, embed_dim: int) -> None:
        """Refuse what cannot be built. Raises `ConfigError` whose message begins with the field."""
        stages = len(self.layers)
        if not 1 <= stages <= STAGES:
            raise ConfigError(f"layers: expected 1 to {STAGES} stages, got {stages}")
        if self.attention_stages > stages:
            raise ConfigError(f"attention_stages: expected at most {stages}, the stages, got {self.attention_stages}")
        if self.squeezed_stages >= stages:
            raise ConfigError(
                f"squeezed_stages: expected at most {stages - 1}, all but the first stage, got {self.squeezed_stages}"
            )
        if self.attention_stages and self.widths[stages - self.attention_stages] % HEAD_WIDTH:
            width = self.widths[stages - self.attention_stages]
            raise ConfigError(f"width: attention over {width} channels is not divisible into heads of {HEAD_WIDTH}")
