"""What a BERT-like text tower is: sizes, token ids, pooling and projection. Pure."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from tandem.errors import ConfigError
from tandem.fields import LeftOutAtDefault, NonNegative
from tandem.towers.parts.description import (
    NORM_EPSILON,
    Activation,
    Cleaning,
    Layers,
    TokenId,
    Tokens,
    VariedEpsilon,
    VariedFlag,
    Width,
    check_token_ids,
)

# mean: of all tokens but padding; class: the first token; pooler: the first token through BERT's linear layer and tanh
Pooling = Literal["mean", "class", "pooler"]
# mlp: two linear layers without biases, of width (width + embed_dim) // 2, the exact GELU between them
Projection = Literal["mlp", "linear", "none"]


@dataclass(frozen=True)
class Bert:
    """Text encoder: a masked, post-norm transformer (Devlin et al. 2019; Conneau et al. 2020), as open_clip ends it.

    The defaults are XLM-RoBERTa's. Every token sees every other but padding, which is told by its id and reaches no
    vector: texts need no padding to a fixed length.
    """

    context_length: Tokens  # tokens, start and end included
    vocabulary_size: Tokens
    width: Width
    layers: Layers
    heads: Width
    mlp_width: Width
    positions: Tokens  # of the table; RoBERTa's texts begin at pad_id + 1
    activation: Activation = "gelu"
    start_id: TokenId = 0
    end_id: TokenId = 2
    pad_id: NonNegative = 1
    positions_from_zero: VariedFlag = False  # as BERT's: padding counts, and the first token is at 0
    token_types: Annotated[Width, LeftOutAtDefault()] = 1  # of the table, whose first row is added to every token
    pooling: Annotated[Pooling, LeftOutAtDefault()] = "mean"
    projection: Annotated[Projection, LeftOutAtDefault()] = "mlp"
    norm_epsilon: VariedEpsilon = NORM_EPSILON
    cleaning: Annotated[Cleaning, LeftOutAtDefault()] = "whitespace"

    causal: ClassVar[bool] = False
    fixed_length: ClassVar[bool] = False
    masks_padding: ClassVar[bool] = True
    projection_bias: ClassVar[bool] = False
    activation_may_be_assumed: ClassVar[bool] = False

    @property
    def first_position(self) -> int:
        """The row of the position table for a text's first token."""
        return 0 if self.positions_from_zero else self.pad_id + 1

    def check(self, embed_dim: int) -> None:
        """Refuse what cannot be built. Raises `ConfigError` whose message begins with the field."""
        if self.width % self.heads:
            raise ConfigError(f"width = {self.width} is not divisible by heads = {self.heads}")
        check_token_ids(self)
        if self.context_length > self.positions - self.first_position:
            raise ConfigError(
                f"context_length: expected 1..{max(1, self.positions - self.first_position)}, as many as there are "
                f"positions, got {self.context_length}"
            )
        if self.projection == "none" and self.width != embed_dim:
            raise ConfigError(
                f"projection: none leaves {self.width} dimensions, but embed_dim is {embed_dim}: they must be equal"
            )
