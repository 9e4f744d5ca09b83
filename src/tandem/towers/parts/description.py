"""Types that the descriptions of several towers share. Pure: no arrays, no files, no engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from tandem.errors import ConfigError
from tandem.fields import LeftOutAtDefault, NonNegative, Range

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
# clip: mojibake mended, HTML entities resolved, spaces folded, lower case; whitespace: the same in the given case;
# canonical: lower case without punctuation (big_vision's canonicalize)
Cleaning = Literal["clip", "whitespace", "canonical"]
QUICK_GELU_SLOPE = 1.702  # quick_gelu(x) = x * sigmoid(1.702 x); gelu is the exact one, by the error function
NORM_EPSILON = 1e-5  # of layer norms and batch norms, where a description has no field for it

# Far beyond any model; larger ones could only be refused after hours of counting their tensors.
Pixels = Annotated[int, Range(1, 2**13)]  # no tensor says it of a FastViT: a square of more would take 200 MB
Width = Annotated[int, Range(1, 2**20)]
Layers = Annotated[int, Range(1, 1000)]
Tokens = Annotated[int, Range(1, 2**24)]

# What only some models vary. A configuration that says nothing of it describes a model as OpenAI published it.
VariedFlag = Annotated[bool, LeftOutAtDefault()]
VariedEpsilon = Annotated[float, Range(above=0, most=1), LeftOutAtDefault()]
VariedWidth = Annotated[int, Range(0, 2**20), LeftOutAtDefault()]
TokenId = NonNegative | None
# Which states of a text tower: so many blocks, and whether the final norm follows
Wanted = Sequence[tuple[int, bool]]

# How each patch or position gets a vector of its own in the shared space. naclip: in the last block, tokens attend to
# tokens with similar keys and to their neighbours (Hajimiri et al. 2024); attention pool: what an attention pooling
# makes of a position that it attends to alone (Zhou et al. 2022)
DenseMethod = Literal["naclip", "attention-pool"]
NEIGHBOURHOOD = 5.0  # of naclip: the standard deviation of the Gaussian around a patch, in patches


@dataclass(frozen=True)
class StateLayout:
    """How the states of one image lie, [p w]: the class token first where there is one, then the grid row by row."""

    rows: int
    columns: int
    width: int
    class_token: bool = False

    @property
    def tokens(self) -> int:
        """p: the patches or positions, and the class token."""
        return self.rows * self.columns + self.class_token


def patch_array_shape(patch_size: int, max_patches: int) -> tuple[int, int]:
    """The array [t v] that an image of any aspect ratio becomes: its patches row by row, and padding to `max_patches`.

    Each row has the values of a patch [row column channel], then the rows and the columns of the image's grid, two
    bytes each, the high one first.
    """
    return max_patches, 3 * patch_size**2 + 4


class BlockSizes(Protocol):
    """What a description says about its pre-norm blocks."""

    @property
    def heads(self) -> int: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def norm_epsilon(self) -> float: ...


class AttentionPoolSizes(Protocol):
    """What a description says about attention pooling."""

    @property
    def width(self) -> int: ...
    @property
    def pool_heads(self) -> int: ...
    @property
    def pool_mlp_width(self) -> int: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def norm_epsilon(self) -> float: ...


class ImageDescription(Protocol):
    """What every description of an image tower says: all that engines, training and backbones ask of one."""

    @property
    def image_size(self) -> int:
        """Pixels a side of a square image."""

    @property
    def least_image_size(self) -> int:
        """Pixels a side that give one patch or position."""

    @property
    def grid(self) -> int:
        """Patches or positions along one side; of a table of positions where the grid is an image's own."""

    @property
    def tokens(self) -> int:
        """Tokens of an image at the end of the tower."""

    @property
    def takes_patch_dropout(self) -> bool:
        """Whether it can be trained on some of an image's patches."""

    @property
    def state_layers(self) -> int:
        """Layers that states are counted by: blocks, or stages."""

    @property
    def has_last_norm(self) -> bool:
        """Whether every token has a state after a last norm."""

    @property
    def projects_states(self) -> bool:
        """Whether every token's state can go through the projection."""

    @property
    def dense_method(self) -> DenseMethod | None:
        """How each patch or position at the end of the tower gets a vector of its own; None: in no way."""

    @property
    def summary(self) -> str:
        """What it is, in a phrase for people."""

    def deepened(self, like: object) -> "ImageDescription":
        """This tower with as many blocks as another, where new ones can start as identity; else unchanged."""

    def state_layout(self, layer: int) -> StateLayout:
        """How the states after a layer lie; 0 is the embedding or the stem."""

    def check(self, embed_dim: int) -> None:
        """Refuse what cannot be built. Raises `ConfigError` whose message begins with the field."""


class TextDescription(BlockSizes, Protocol):
    """What every description of a text tower says: all that tokenizers, engines, training and formats ask of one."""

    @property
    def context_length(self) -> int: ...
    @property
    def vocabulary_size(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def mlp_width(self) -> int: ...
    @property
    def start_id(self) -> int | None: ...
    @property
    def end_id(self) -> int | None: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def causal(self) -> bool:
        """Whether each token sees those before it only."""

    @property
    def fixed_length(self) -> bool:
        """Whether padding reaches the vector, so that every text is padded to the context length."""

    @property
    def masks_padding(self) -> bool:
        """Whether no token sees padding, which is told by its id, so that a text of nothing else has no vector."""

    @property
    def pooling(self) -> str:
        """Where vectors are read; `end` is at the first end token."""

    @property
    def projection_bias(self) -> bool: ...
    @property
    def cleaning(self) -> Cleaning: ...
    @property
    def activation_may_be_assumed(self) -> bool:
        """Whether files may leave the activation open, so that a caller may state it."""

    def check(self, embed_dim: int) -> None:
        """Refuse what cannot be built. Raises `ConfigError` whose message begins with the field."""


def check_token_ids(text: TextDescription) -> None:
    """Refuse special tokens outside the vocabulary. Raises `ConfigError` whose message begins with the field."""
    for name, token in (("start_id", text.start_id), ("end_id", text.end_id), ("pad_id", text.pad_id)):
        if token is not None and not 0 <= token < text.vocabulary_size:
            raise ConfigError(f"{name}: expected 0..{text.vocabulary_size - 1}, got {token}")
