r"""Prompts with weights: `(word:1.3)`, `(word)`, `[word]`, `\(`, and BREAK, to texts with a weight each.

The grammar of the web UIs: parentheses multiply by 1.1, or by the number at their end; brackets divide by 1.1; they
nest. A backslash makes a parenthesis or bracket plain text; what closes nothing is plain text, and what is never closed
reaches to the end. Knows no tokens and no models.
"""

import math
import re
from dataclasses import dataclass

from tandem.errors import ConditioningError

STEP = 1.1  # what parentheses multiply by, and brackets divide by
LARGEST_WEIGHT = 100.0
DEEPEST = 50  # each level passes over what is inside of it

_PARTS = re.compile(
    r"""\\(?P<escaped>[\\()\[\]])
      | :\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)
      | (?P<mark>[()\[\]])
      | (?P<text>[^\\()\[\]:]+|[\\:])""",
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")
# What other programs read as changes between the steps of sampling, and as weights to load
_SCHEDULED = re.compile(r"(?<!\\)\[[^\[\]]*(?:\||:\s*[\d.]+\s*\])")
_EXTRA_NETWORK = re.compile(r"<(?:lora|lyco|hypernet|locon):[^<>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class Segment:
    """A part of a prompt with one weight; `breaks` says that a new chunk of tokens begins before it."""

    text: str
    weight: float = 1.0
    breaks: bool = False


def parse_prompt(prompt: str) -> tuple[Segment, ...]:
    """The parts of a prompt, in order; neighbours of one weight are one part. An empty prompt has none.

    Raises `ConditioningError` for weights out of range, and for what belongs to other parts of a program:
    `[from:to:0.5]`, `[a|b]`, `<lora:name:1>`.
    """
    _refuse(prompt)
    found: list[tuple[str, float]] = []
    opened: list[tuple[str, int]] = []  # the mark, and where in `found` it begins

    def close(mark: str, factor: float) -> bool:
        if not opened or opened[-1][0] != mark:
            return False
        start = opened.pop()[1]
        found[start:] = [(text, weight * factor) for text, weight in found[start:]]
        return True

    for match in _PARTS.finditer(prompt):
        written = match.group()
        if match["escaped"]:
            found.append((match["escaped"], 1.0))
        elif match["number"]:
            if not close("(", _number(match["number"])):
                found.append((written, 1.0))
        elif written in ("(", "["):
            opened.append((written, len(found)))
            if len(opened) > DEEPEST:
                raise ConditioningError(
                    f"the prompt nests more than {DEEPEST} parentheses and brackets; a backslash makes them plain text"
                )
        elif written == ")":
            if not close("(", STEP):
                found.append((written, 1.0))
        elif written == "]":
            if not close("[", 1 / STEP):
                found.append((written, 1.0))
        else:
            found.append((written, 1.0))
    while opened:
        close(opened[-1][0], STEP if opened[-1][0] == "(" else 1 / STEP)
    return _merged(found)


def _merged(found: list[tuple[str, float]]) -> tuple[Segment, ...]:
    joined: list[tuple[str, float]] = []
    for text, weight in found:
        if joined and math.isclose(joined[-1][1], weight):
            joined[-1] = (joined[-1][0] + text, weight)
        else:
            joined.append((text, weight))
    segments: list[Segment] = []
    breaks = False
    for text, weight in joined:
        if abs(weight) > LARGEST_WEIGHT:
            raise ConditioningError(
                f"the prompt gives {text.strip()!r:.60} a weight of {weight:.4g}; expected -100 to 100"
            )
        for i, part in enumerate(_BREAK.split(text)):
            breaks = breaks or i > 0
            if part.strip():
                segments.append(Segment(part, weight, breaks))
                breaks = False
    return tuple(segments)


def _number(written: str) -> float:
    return float(written) if len(written) < 20 else math.inf


def _refuse(prompt: str) -> None:
    if found := _SCHEDULED.search(prompt):
        raise ConditioningError(
            f"the prompt has {found.group()!r:.60}, which changes it between the steps of sampling: encode one prompt "
            "for each part of the steps; a backslash before the bracket makes it plain text"
        )
    if found := _EXTRA_NETWORK.search(prompt):
        raise ConditioningError(
            f"the prompt has {found.group()!r:.60}, which asks for weights, not words: load them in your image "
            "generator, and leave it out of the prompt"
        )
