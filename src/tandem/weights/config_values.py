"""Values as configurations of several formats give them, made one. Pure; knows no format."""

from collections.abc import Mapping
from typing import Any

from tandem.errors import ConfigError
from tandem.fields import shown


def squares(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, with `[224, 224]` as 224: some files give a square, or a grey, by each side or channel."""

    def is_square(key: str, value: Any) -> bool:
        return key != "layers" and isinstance(value, list) and bool(value) and value == value[:1] * len(value)

    return {key: value[0] if is_square(key, value) else value for key, value in values.items()}


def channels(value: Any, where: str) -> tuple[float, float, float]:
    """Three numbers, one for each of red, green and blue."""
    listed = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(listed) != 3 or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in listed):
        raise ConfigError(f"{where}: expected three numbers, got {shown(value)}")
    red, green, blue = (_in_range(x, where) for x in listed)
    return red, green, blue


def _in_range(value: float, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ConfigError(f"{where}: expected three numbers, got {shown(value)}") from None
