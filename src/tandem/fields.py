"""Plain values, as JSON and TOML hold them, into frozen dataclasses and back; each value checked by its annotation.

    class Optimiser:
        learning_rate: Annotated[float, Range(above=0)] = 1e-3
        warmup_steps: NonNegative = 500

`read` refuses unknown keys, missing keys, wrong types and impossible ranges, and names the key by its whole path:
"optimiser.warmup_steps: expected a whole number of at least 0, got -1". It supports int, float, bool, str, None,
`Literal`, unions, tuples, lists, mappings from str, dataclasses, and tagged unions of dataclasses (`Tagged`). Rules
across several fields belong in `__post_init__`, whose message should begin with a field's name. Knows types and ranges;
nothing of models or files.
"""

import dataclasses
import functools
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from tandem.errors import ConfigError, TandemError, did_you_mean

T = TypeVar("T")

_LARGEST = 2**64  # whole numbers stay below; Python refuses to print far larger ones
_LONGEST_SHOWN = 80  # characters of a value that a message shows


@dataclasses.dataclass(frozen=True)
class Range:
    """The range of a number: `least` and `most` are inclusive, `above` and `below` exclusive."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        if self.least is not None and self.least == self.most:
            return f"that is {self.least:,}"
        if self.least is not None and self.most is not None:
            return f"from {self.least:,} to {self.most:,}"
        limits = (("at least", self.least), ("at most", self.most), ("above", self.above), ("below", self.below))
        return " and ".join(f"{says} {limit:,}" for says, limit in limits if limit is not None)


Positive = Annotated[int, Range(least=1)]
NonNegative = Annotated[int, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
Fraction = Annotated[float, Range(least=0, below=1)]


@dataclasses.dataclass(frozen=True, eq=False)
class Tagged:
    """Annotates a union of dataclasses: the value under `key` says which of `kinds` it is.

    The kind called `default` is meant where the key is left out, and is written without it.
    """

    key: str
    kinds: Mapping[str, type]
    default: str | None = None


@dataclasses.dataclass(frozen=True)
class LeftOutAtDefault:
    """Annotates a field that `to_plain` leaves out while it has its default: what is written stays as it was before."""


class _Mismatch(Exception):
    """What is wrong with a plain value; the text begins with the path of its key."""


def parse_toml(text: str) -> dict[str, Any]:
    """TOML as plain values. Raises `tomllib.TOMLDecodeError`, and `ConfigError` for what is too large for Python."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ConfigError("expected plain TOML, got brackets nested too deep") from None
    except ValueError as error:  # a number of thousands of digits, a date of month 13
        raise ConfigError(f"expected plain TOML ({error})") from None


def read(
    kind: type[T],
    values: Mapping[str, Any],
    *,
    path: str = "",
    error: type[TandemError] = ConfigError,
    ignore_unknown: bool = False,
) -> T:
    """A `kind` from plain values; missing keys have their defaults. `to_plain` is the inverse.

    `path` is put before every key in messages. `ignore_unknown` is for foreign files, which have keys that are not
    read. Raises `error` with one line that names the key, what was expected and what was found.
    """
    try:
        return _dataclass(kind, values, path, ignore_unknown)
    except _Mismatch as mismatch:
        raise error(str(mismatch)) from None


def check(instance: object, *, path: str = "", error: type[TandemError] = ConfigError) -> None:
    """Raise `error` if a field of a dataclass instance has the wrong type or is out of range."""
    try:
        _check(instance, path)
    except _Mismatch as mismatch:
        raise error(str(mismatch)) from None


def renamed(plain: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Rename former keys to their present names. If both are there, the present one wins."""
    known = {names[key]: value for key, value in plain.items() if key in names}
    return known | {key: value for key, value in plain.items() if key not in names}


def left_out_at_default(kind: type, name: str) -> bool:
    """Whether a field of a dataclass is annotated with `LeftOutAtDefault`."""
    return _metadata(_hints(kind)[name], LeftOutAtDefault) is not None


def to_plain(value: Any) -> Any:
    """A dataclass as dicts, lists, numbers, texts and None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        return {
            each.name: _to_plain(getattr(value, each.name), hints[each.name])
            for each in dataclasses.fields(value)
            if not left_out_at_default(type(value), each.name) or getattr(value, each.name) != each.default
        }
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def _to_plain(value: Any, hint: Any) -> Any:
    tagged = _metadata(hint, Tagged)
    if tagged is None:
        return to_plain(value)
    tag = next(tag for tag, kind in tagged.kinds.items() if type(value) is kind)
    return to_plain(value) if tag == tagged.default else {tagged.key: tag, **to_plain(value)}


# --- dataclasses -----------------------------------------------------------------------------------------------------


def _hints(kind: Any) -> dict[str, Any]:
    return _cached_hints(kind)


@functools.cache
def _cached_hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _dataclass(kind: type[T], values: Any, path: str, ignore_unknown: bool) -> T:
    if not isinstance(values, Mapping):
        raise _Mismatch(_expected(path, "a mapping of keys to values", values))
    hints = _hints(kind)
    known = {each.name: each for each in dataclasses.fields(kind) if each.init}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key in known:
            arguments[key] = _value(hints[key], value, _join(path, key), ignore_unknown)
        elif not ignore_unknown:
            advice = did_you_mean(str(key), known) or f"; expected one of {', '.join(known)}"
            raise _Mismatch(f"{_join(path, key)}: unknown key{advice}")
    for key, each in known.items():
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and key not in arguments:
            raise _Mismatch(f"{_join(path, key)}: missing; expected {_described(hints[key])}")
    try:
        return kind(**arguments)
    except TandemError as error:  # of its __post_init__
        raise _Mismatch(f"{path}.{error}" if path else str(error)) from None


def _check(instance: Any, path: str) -> None:
    hints = _hints(type(instance))
    for each in dataclasses.fields(instance):
        _value(hints[each.name], getattr(instance, each.name), _join(path, each.name), False)


def _tagged(tagged: Tagged, value: Any, path: str, ignore_unknown: bool) -> Any:
    if isinstance(value, tuple(tagged.kinds.values())):
        _check(value, path)
        return value
    if not isinstance(value, Mapping):
        raise _Mismatch(_expected(path, "a mapping of keys to values", value))
    at = _join(path, tagged.key)
    one_of = f"expected one of {', '.join(tagged.kinds)}"
    if tagged.key not in value and tagged.default is None:
        raise _Mismatch(f"{at}: missing; {one_of}")
    tag = value.get(tagged.key, tagged.default)
    if not isinstance(tag, str) or tag not in tagged.kinds:
        near = did_you_mean(tag, tagged.kinds) if isinstance(tag, str) else ""
        raise _Mismatch(f"{at}: {one_of}, got {shown(tag)}{near}")
    others = {key: item for key, item in value.items() if key != tagged.key}
    return _dataclass(tagged.kinds[tag], others, path, ignore_unknown)


# --- values ----------------------------------------------------------------------------------------------------------


def _value(hint: Any, value: Any, path: str, ignore_unknown: bool) -> Any:
    """Convert a value to the type `hint`: lists to tuples, whole numbers to floats, mappings to dataclasses."""
    if (tagged := _metadata(hint, Tagged)) is not None:
        return _tagged(tagged, value, path, ignore_unknown)
    bare = _bare(hint)
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if bare is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _union(hint, arguments, value, path, ignore_unknown)
    if origin is Literal:
        if not any(value == allowed and type(value) is type(allowed) for allowed in arguments):
            near = did_you_mean(value, map(str, arguments)) if isinstance(value, str) else ""
            raise _Mismatch(_expected(path, _described(hint), value) + near)
        return value
    if origin in (tuple, list):
        return _sequence(origin, arguments, hint, value, path, ignore_unknown)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _Mismatch(_expected(path, _described(hint), value))
        return {key: _value(arguments[1], item, _join(path, key), ignore_unknown) for key, item in value.items()}
    if dataclasses.is_dataclass(bare):
        if isinstance(value, bare):  # type: ignore[arg-type]
            _check(value, path)
            return value
        return _dataclass(bare, value, path, ignore_unknown)  # type: ignore[arg-type]
    return _plain(bare, hint, value, path)


def _plain(bare: Any, hint: Any, value: Any, path: str) -> Any:
    converted = value
    if bare is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**1023:
        converted = float(value)
    fits = isinstance(converted, bare) and (bare is bool or not isinstance(converted, bool))
    fits = fits and (bare is not int or abs(converted) < _LARGEST)
    allowed = _metadata(hint, Range)
    if (
        not fits
        or (bare is float and not math.isfinite(converted))
        or (allowed is not None and converted not in allowed)
    ):
        raise _Mismatch(_expected(path, _described(hint), value))
    return converted


def _union(hint: Any, members: tuple[Any, ...], value: Any, path: str, ignore_unknown: bool) -> Any:
    others = [member for member in members if member is not types.NoneType]
    if value is None and len(others) < len(members):
        return None
    if len(others) == 1:
        return _value(others[0], value, path, ignore_unknown)
    for member in others:
        try:
            return _value(member, value, path, ignore_unknown)
        except _Mismatch:
            continue
    raise _Mismatch(_expected(path, _described(hint), value))


def _sequence(origin: Any, arguments: tuple[Any, ...], hint: Any, value: Any, path: str, ignore_unknown: bool) -> Any:
    if not isinstance(value, list | tuple):
        raise _Mismatch(_expected(path, _described(hint), value))
    endless = origin is list or arguments[-1] is Ellipsis
    kinds = [arguments[0]] * len(value) if endless else list(arguments)
    if len(kinds) != len(value):
        raise _Mismatch(f"{path}: expected {_described(hint)}, got {len(value)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return origin(_value(kind, item, f"{path}[{index}]", ignore_unknown) for index, (kind, item) in pairs)


# --- words -----------------------------------------------------------------------------------------------------------


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _metadata(hint: Any, kind: type[T]) -> T | None:
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, kind)), None)


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", types.NoneType: "nothing"}


def _described(hint: Any) -> str:
    bare = _bare(hint)
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if origin in (types.UnionType, typing.Union):
        if _metadata(hint, Tagged) is not None:
            return "a mapping of keys to values"
        return " or ".join(_described(member) for member in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}"
    if origin in (tuple, list):
        return f"a list (of {_described(arguments[0])} each)"
    if origin is not None or dataclasses.is_dataclass(bare):
        return "a mapping of keys to values"
    allowed = _metadata(hint, Range)
    described = _NAMES.get(bare, getattr(bare, "__name__", str(bare)))
    if allowed is None:
        return described
    return f"{described} {'of ' if allowed.least is not None and allowed.most is None else ''}{allowed}"


def _expected(path: str, what: str, value: Any) -> str:
    return f"{path + ': ' if path else ''}expected {what}, got {shown(value)}"


def shown(value: Any) -> str:
    """A value for a message, in few characters."""
    try:
        return _short(repr(value))
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        return f"{'an' if isinstance(value, int) else 'a'} {type(value).__name__} too large to show"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def _join(path: str, key: Any) -> str:
    return f"{path}.{_short(str(key))}" if path else _short(str(key))
