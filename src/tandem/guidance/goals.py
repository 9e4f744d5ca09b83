"""What a picture is guided toward and away from: texts and pictures with weights, as vectors.

Knows the vectors' owner, the model, and how weights are written; nothing of pictures that change. d: the shared
dimension.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import TandemError
from tandem.image import ImageSource, source_name
from tandem.model import Model

Texts: TypeAlias = str | Sequence[str | tuple[str, float]] | Mapping[str, float]
Pictures: TypeAlias = Sequence[ImageSource | tuple[ImageSource, float]]


@dataclass(frozen=True)
class Goal:
    """A text, or with `is_text=False` a picture, to go toward or away from. `weight` is above 0."""

    name: str
    weight: float = 1.0
    is_text: bool = True


def read_goal(written: str) -> Goal:
    """`text` or `text:0.5`, as on the command line. A number behind another one, as in "at 10:30", is no weight."""
    found = re.fullmatch(r"(?s)(.*[^\d\s])\s*:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*", written)
    return text_goal(found[1], float(found[2])) if found else text_goal(written)


def text_goal(text: str, weight: float = 1.0) -> Goal:
    """A text to guide by. Raises `TandemError` for an empty one, and for a weight that is not above 0."""
    if not isinstance(text, str) or not text.strip():
        raise TandemError("a text to guide by is empty: say what the picture should show")
    return Goal(text.strip(), _weight(text, weight))


def texts_of(texts: Texts) -> tuple[Goal, ...]:
    """One text, several, pairs of text and weight, or a mapping of texts to weights."""
    if isinstance(texts, str):
        return (text_goal(texts),)
    if isinstance(texts, Mapping):
        return tuple(text_goal(text, weight) for text, weight in texts.items())
    return tuple(text_goal(each) if isinstance(each, str) else text_goal(*each) for each in texts)


def pictures_of(pictures: Pictures) -> tuple[tuple[Goal, ImageSource], ...]:
    """Pictures, or pairs of picture and weight, as goals beside their sources."""
    made = []
    for each in pictures:
        source, weight = each if isinstance(each, tuple) else (each, 1.0)
        name = source_name(source)
        made.append((Goal(name, _weight(name, weight), is_text=False), source))
    return tuple(made)


def _weight(name: str, weight: float) -> float:
    if not math.isfinite(weight) or weight <= 0:
        raise TandemError(f"{name}: the weight is {weight:g}; expected one above 0 (away takes what is not wanted)")
    return float(weight)


@dataclass(frozen=True, eq=False)
class Goals:
    """All goals with their vectors, of unit length.

    The vectors of `toward` are [g d], of `away` [a d], of the negatives (common sentences) [b d], all float32.
    """

    toward: tuple[Goal, ...]
    away: tuple[Goal, ...]
    toward_vectors: Vectors
    away_vectors: Vectors
    negative_vectors: Vectors


def embed_goals(
    model: Model,
    texts: Sequence[Goal],
    pictures: Sequence[tuple[Goal, ImageSource]],
    away: Sequence[Goal],
    negatives: Sequence[str],
) -> Goals:
    """The goals through the model. Raises `TandemError` without any to go toward, `ImageError` for a picture."""
    if not texts and not pictures:
        raise TandemError("nothing to guide by: give a text, or a picture with like")
    asked = model.embed_texts([goal.name for goal in texts])
    liked = model.embed_images([source for _, source in pictures])
    return Goals(
        (*texts, *(goal for goal, _ in pictures)),
        tuple(away),
        np.concatenate([asked, liked]),
        model.embed_texts([goal.name for goal in away]),
        model.embed_texts(negatives),
    )
