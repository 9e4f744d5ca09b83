"""How many texts a request may have, and how long: every check of them, before a text is looked at.

Each raises `ProblemError` 413. Knows settings and counts; no tokenizer and no routes.
"""

from collections.abc import Sequence

from tandem.serve.http.problems import ProblemError
from tandem.serve.settings import Settings


def check_length(text: str, name: str, most: int) -> None:
    """One text, which errors call `name`."""
    if len(text) > most:
        raise ProblemError(413, "Text too long", f"{name}: expected at most {most:,} characters, got {len(text):,}")


def check_lengths(texts: Sequence[str], names: Sequence[str] | str, settings: Settings) -> None:
    """Each text by itself; a single name is that of all."""
    for text, name in zip(texts, [names] * len(texts) if isinstance(names, str) else names, strict=True):
        check_length(text, name, settings.max_text_characters)


def check_number(count: int, settings: Settings) -> None:
    """Of texts of a request."""
    if count > settings.max_texts:
        detail = f"labels times templates: expected at most {settings.max_texts:,} texts, got {count:,}"
        raise ProblemError(413, "Too many at once", detail)


def check_together(characters: int, what: str, settings: Settings, how: str = "") -> None:
    """The characters of all texts; `how` says how they are counted."""
    most = settings.max_request_characters
    if characters > most:
        detail = f"{what}: expected at most {most:,} characters, got {characters:,}{how}"
        raise ProblemError(413, "Text too long", detail)


def check_filled(labels: Sequence[str], templates: Sequence[str], settings: Settings) -> None:
    """Labels in templates, before they are filled in: many long ones are more than the memory takes."""
    check_number(len(labels) * len(templates), settings)
    for texts, name in ((labels, "labels"), (templates, "templates")):
        check_length(max(texts, key=len), name, settings.max_text_characters)
    characters = len(templates) * sum(map(len, labels)) + len(labels) * sum(map(len, templates))
    check_together(characters, "labels in their templates", settings)
