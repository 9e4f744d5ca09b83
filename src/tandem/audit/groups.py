"""A user's file of attributes and neutral words, between whose answers gaps are measured."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem.errors import DataError, in_words
from tandem.files import user_path
from tandem.prompts import DEFAULT_TEMPLATE, check_template

EXAMPLE = '{"attributes": {"young": ["a young person"], "old": ["an old person"]}, "words": ["a doctor", "a thief"]}'


@dataclass(frozen=True)
class Groups:
    """Attributes by name, each with one or more phrases; words that should fit all of them alike."""

    attributes: tuple[tuple[str, tuple[str, ...]], ...]
    words: tuple[str, ...]
    template: str
    source: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.attributes)


def read_groups(path: str | Path) -> Groups:
    """Read a file of JSON: "attributes" (phrases by name), "words", and, if wanted, "template".

    Raises `DataError` for anything else.
    """
    file = user_path(path)
    try:
        plain = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON such as {EXAMPLE}: {in_words(error)}") from None
    return groups_of(plain, str(path))


def groups_of(plain: Any, source: str = "groups") -> Groups:
    """The same from plain values. Raises `DataError`."""
    if not isinstance(plain, dict) or set(plain) - {"attributes", "words", "template"}:
        raise DataError(f"{source}: expected attributes, words and, if wanted, a template: {EXAMPLE}")
    attributes, words = plain.get("attributes"), plain.get("words")
    if not isinstance(attributes, dict) or len(attributes) < 2:
        raise DataError(f"{source}: attributes: expected at least two, each with its phrases: {EXAMPLE}")
    found = []
    for name, phrases in attributes.items():
        given = [phrases] if isinstance(phrases, str) else phrases
        found.append((name, _texts(given, f"{source}: attributes: {name}", 1)))
    template = plain.get("template", "{}")
    if not isinstance(template, str) or template.count("{}") != 1:
        raise DataError(f"{source}: template: expected {{}} exactly once, as in {DEFAULT_TEMPLATE!r}, got {template!r}")
    return Groups(tuple(found), _texts(words, f"{source}: words", 2), check_template(template), source)


def _texts(given: Any, source: str, least: int) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(text, str) and text.strip() for text in given):
        raise DataError(f"{source}: expected a list of texts, got {given!r}")
    texts = tuple(dict.fromkeys(text.strip() for text in given))
    if len(texts) < least:
        raise DataError(f"{source}: expected at least {least} different texts, got {len(texts)}")
    return texts
