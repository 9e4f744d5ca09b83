"""What a text transformer is: sizes, token ids, and what its families vary. Pure."""

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


@dataclass(frozen=True)
class TextTransformer:
    """Text encoder: a pre-norm transformer (Radford et al. 2021, 2.4). The defaults are OpenAI's CLIP.

    CLIP is causal and reads the vector at the first end token, so that nothing after it counts. The others see every
    position, padding too: their texts are always padded to the context length.
    """

    context_length: Tokens  # tokens, start and end included
    vocabulary_size: Tokens
    width: Width
    layers: Layers
    heads: Width
    mlp_width: Width
    activation: Activation
    start_id: TokenId = 49406  # None: texts begin without a token of their own
    end_id: TokenId = 49407  # None: and end without one
    pad_id: NonNegative = 0  # where texts are cut at their end, padding reaches per-token states only
    causal: VariedFlag = True  # each token sees those before it; else every token sees all, padding included
    pooling: Annotated[Literal["end", "last"], LeftOutAtDefault()] = "end"  # first end token, or last position
    projection_bias: VariedFlag = False
    norm_epsilon: VariedEpsilon = NORM_EPSILON
    cleaning: Annotated[Cleaning, LeftOutAtDefault()] = "clip"

    masks_padding: ClassVar[bool] = False
    activation_may_be_assumed: ClassVar[bool] = True

    @property
    def fixed_length(self) -> bool:
        """Whether padding reaches the vector, so that every text is padded to the context length."""
        return not (self.causal and self.pooling == "end")

    def check(self, embed_dim: int) -> None:
        """Refuse what cannot be built. Raises `ConfigError` whose message begins with the field."""
        if self.width % self.heads:
            raise ConfigError(f"width = {self.width} is not divisible by heads = {self.heads}")
        if self.pooling == "end" and self.end_id is None:
            raise ConfigError("end_id: expected a token id with pooling end, got none")
        check_token_ids(self)
