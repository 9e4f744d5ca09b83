"""Frozen dataclasses from plain values and back to TOML: each value checked against its annotation, each error by name.

Knows types and TOML. It has never heard of training.
"""

import dataclasses
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tandem.errors import ConfigError


def build(kind: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    """A dataclass from plain values. Raises `ConfigError` that names the field, with `prefix` before it."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in values:
        if name not in fields:
            raise ConfigError(f"{prefix}{name}: unknown key; expected one of {', '.join(fields)}")
    missing = [n for n, f in fields.items() if n not in values and f.default is dataclasses.MISSING]
    missing = [n for n in missing if fields[n].default_factory is dataclasses.MISSING]
    if missing:
        raise ConfigError(f"{prefix}{missing[0]}: missing")
    return kind(**{name: _value(hints[name], value, prefix + name) for name, value in values.items()})


def override(values: dict[str, Any], text: str) -> None:
    """Put `key=value` into plain values: the key dotted, the value as TOML writes it, a bare word being a string."""
    key, equals, written = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got {text!r}")
    try:
        value = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written  # so that nobody needs to quote quotes in a shell
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{text!r}: {parent} is not a table")
    values[last] = value


def to_toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Plain values as TOML: what `tomllib` reads back as the same values. None is left out: TOML has no word for it."""
    plain = {key: value for key, value in values.items() if value is not None}
    tables = {key: value for key, value in plain.items() if isinstance(value, Mapping) and value}
    lists = {key: value for key, value in plain.items() if _is_tables(value)}
    lines = [f"{_key(k)} = {_written(v)}" for k, v in plain.items() if k not in tables and k not in lists]
    parts = ["\n".join(lines)] if lines else []
    for key, value in tables.items():
        parts.append(f"[{prefix}{_key(key)}]\n{to_toml(value, f'{prefix}{_key(key)}.')}")
    for key, items in lists.items():
        parts += [f"[[{prefix}{_key(key)}]]\n{to_toml(item, f'{prefix}{_key(key)}.')}" for item in items]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, before, now) wherever two plain values differ; None where one of them has no such key."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from differences(old, new, f"{name}[{i}]")
    elif before != now:
        yield name, before, now


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{name}: expected one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name}: expected a list, got {value!r}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise ConfigError(f"{name}: expected {len(kinds)} values, got {len(value)}")
        return tuple(
            _value(kind, item, f"{name}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{name}: expected a table, got {value!r}")
        return {key: _value(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if not isinstance(value, dict):
            raise ConfigError(f"{name}: expected a table, got {value!r}")
        return build(hint, value, f"{name}.")
    if origin is types.UnionType or hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{name}: expected {hint.__name__}, got {value!r}")
    return value


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)  # the shortest decimal that reads back as the same number; inf and nan are TOML's words too
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the ones TOML asks for beyond ASCII's control letters: DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_written(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(_written(item) for item in value) + "]"
