"""Plain values: written as TOML, overridden by `key=value`, and compared. Knows TOML and nothing else."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from tandem.errors import ConfigError
from tandem.fields import parse_toml


def override(values: dict[str, Any], text: str) -> None:
    """Put `key=value` into plain values: a dotted key, and a TOML value or a bare word, which is a string.

    Raises `ConfigError` for what is not `key=value`.
    """
    key, equals, written = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got {text!r:.80}")
    try:
        parsed = parse_toml(f"value = {written}")
        if len(parsed) > 1:
            raise ConfigError(f"{key:.80}: expected one value, got {written!r:.80}")
        value = parsed["value"]
    except tomllib.TOMLDecodeError:
        value = written  # no quoted quotes in a shell
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{key:.80}: {parent:.80} is a single value, not a table")
    values[last] = value


def to_toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Plain values as TOML, which `tomllib` reads back as the same values. None is left out: TOML has no null."""
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


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)  # the shortest decimal that reads back as the same number; inf and nan are TOML too
    if isinstance(value, str):
        # JSON's escapes are TOML's too; TOML also wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_written(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(_written(item) for item in value) + "]"
