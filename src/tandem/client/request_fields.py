"""Fields of requests: labels or a head, and options beside their defaults. Knows the JSON of the interface only."""

from collections.abc import Mapping, Sequence
from typing import Any

from tandem import prompts
from tandem.defaults import LongTexts


def labels_or_head(
    labels: prompts.Labels | None,
    head: str | None,
    templates: Sequence[str] | None,
    language: str | None,
    long: LongTexts,
    independent: bool,
) -> tuple[list[str], dict[str, Any]]:
    """The names of labels, none for a head, and the fields to send."""
    prompts.check_labels_or_head(
        labels, head, templates=templates, language=language, long=long, independent=independent
    )
    if labels is None:
        return [], {"head": head}
    names, texts = prompts.labels_in(labels, language)
    body = {"labels": texts, **beside_defaults(language=language, long=long, independent=independent)}
    return names, body if templates is None else {**body, "templates": list(templates)}


def beside_defaults(
    *, long: LongTexts, language: str | None = None, independent: bool = False
) -> dict[str, str | bool]:
    """What servers that are older than these fields need not know."""
    given: dict[str, str | bool] = {} if long == "error" else {"long": long}
    given |= {} if language is None else {"language": language}
    return given | ({"independent": True} if independent else {})


def without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
