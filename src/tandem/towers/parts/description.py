"""Types that the descriptions of several towers share. Pure: no arrays, no files, no engine."""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from tandem.fields import LeftOutAtDefault, NonNegative, Range

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
QUICK_GELU_SLOPE = 1.702  # quick_gelu(x) = x * sigmoid(1.702 x); gelu is the exact one, by the error function
NORM_EPSILON = 1e-5  # of layer norms and batch norms, where a description has no field for it

# Far beyond any model; larger ones could only be refused after hours of counting their tensors.
Pixels = Annotated[int, Range(1, 2**16)]
Width = Annotated[int, Range(1, 2**20)]
Layers = Annotated[int, Range(1, 1000)]
Tokens = Annotated[int, Range(1, 2**24)]

# What only some models vary. A configuration that says nothing of it describes a model as OpenAI published it.
VariedFlag = Annotated[bool, LeftOutAtDefault()]
VariedEpsilon = Annotated[float, Range(above=0, most=1), LeftOutAtDefault()]
VariedWidth = Annotated[int, Range(0, 2**20), LeftOutAtDefault()]
TokenId = NonNegative | None


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


class BlockSizes(Protocol):
    """What a description says about its pre-norm blocks."""

    @property
    def heads(self) -> int: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def norm_epsilon(self) -> float: ...
