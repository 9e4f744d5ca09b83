"""Values of open_clip's configurations: how they are read, and what both towers say in the same way."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from tandem import fields
from tandem.config import Activation
from tandem.errors import ConfigError
from tandem.fields import Range
from tandem.weights.config_values import squares

_Kind = TypeVar("_Kind")
Ratio = Annotated[float, Range(above=0, most=2**20)]


def read_values(kind: type[_Kind], values: Mapping[str, Any], source: str, path: str) -> _Kind:
    """None means the default. Fields that are not read here were looked at before."""
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return fields.read(kind, squares(given), path=path, ignore_unknown=True)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def activation_of(activation: Activation, act_kwargs: Mapping[str, str]) -> Activation:
    """The activation of a tower: the model's, in the approximation that the tower names."""
    return "gelu_tanh" if activation == "gelu" and act_kwargs.get("approximate") == "tanh" else activation


def ratio_of(mlp_width: int, width: int) -> float:
    """A ratio that gives `mlp_width` back after open_clip's rounding down."""
    ratio = mlp_width / width
    return ratio if int(width * ratio) == mlp_width else (mlp_width + 0.5) / width
