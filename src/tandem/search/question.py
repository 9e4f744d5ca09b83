"""What is asked of a collection: checked when it is made, described in answers, and made into parts of a query.

Knows what a question may say. Vectors come from functions that are passed in: it knows no model and no store.

Legend: d dimensions.
"""

import contextlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from tandem.errors import TandemError
from tandem.image import ImageSource, source_name
from tandem.search.query import Part
from tandem.search.stores.protocol import Vectors

MINUS = 0.5  # how strongly `minus` pushes away, beside 1 for all that is looked for


@dataclass(frozen=True, eq=False)
class Question:
    """The arguments of `Collection.search`. Raises `TandemError` for what makes no sense, whatever its type."""

    words: str | None = None
    image: ImageSource | None = None
    like: str | None = None
    minus: str | None = None
    minus_image: ImageSource | None = None
    weight: float = 0.5
    k: int = 10
    offset: int = 0
    where: str | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name, expected in _TEXTS.items():
            text = getattr(self, name)
            if text is not None and (not isinstance(text, str) or not text.strip()):
                raise TandemError(f"{name}: expected {expected}, got {text!r}")
        _check_share("weight", self.weight, "the share of the words, 0..1")
        if self.threshold is not None:
            _check_share("threshold", self.threshold, "a probability in 0..1")
        for name, least in (("k", 1), ("offset", 0)):
            # Written down as Python's own int: numpy's would not become JSON.
            object.__setattr__(self, name, _whole(name, getattr(self, name), least))
        if self.words is None and self.image is None and self.like is None:
            raise TandemError("nothing to look for: give words, or a picture")

    @property
    def texts(self) -> dict[str, str]:
        """What is in words, by the name of its field."""
        return _given({"words": self.words, "minus": self.minus})

    @property
    def pictures(self) -> dict[str, ImageSource]:
        """What is in pictures, by the name of its field; without `like`, whose vector is in the collection."""
        return _given({"image": self.image, "minus_image": self.minus_image})

    def described(self) -> dict[str, str]:
        """What answers say was asked."""
        pictures = {name: source_name(picture) for name, picture in self.pictures.items()}
        return _given({"words": self.words, "like": self.like, "minus": self.minus}) | pictures

    def vectors(
        self,
        ready: Mapping[str, Vectors],
        dimensions: int,
        embed_texts: Callable[[list[str]], Vectors],
        embed_picture: Callable[[ImageSource], Vectors],
        stored: Callable[[str], Vectors],
    ) -> dict[str, Vectors]:
        """The unit vector [d] of every field that is asked: one that is `ready`, else from what gives them.

        Sentences and a picture become [n d], what is `stored` under an id [d].
        """
        self._check(ready, dimensions)
        made = dict(ready)
        texts = {name: text for name, text in self.texts.items() if name not in ready}
        if texts:
            made |= dict(zip(texts, embed_texts(list(texts.values())), strict=True))
        for name, picture in self.pictures.items():
            if name not in ready:
                rows = embed_picture(picture)
                if len(rows) != 1:
                    raise TandemError(f"{name}: expected one picture, got {len(rows)}")
                made[name] = rows[0]
        if self.like is not None and "like" not in ready:
            made["like"] = stored(self.like)
        return made

    def parts(self, vectors: Mapping[str, Vectors]) -> list[Part]:
        """The parts of the query, from the unit vector [d] of every field that is asked."""
        pictures = [name for name in ("image", "like") if getattr(self, name) is not None]
        of_words = 1.0 if not pictures else self.weight if self.words is not None else 0.0
        of_picture = (1 - of_words) / max(len(pictures), 1)
        parts = [Part("words", vectors["words"], of_words)] if self.words is not None else []
        parts += [Part("picture", vectors[name], of_picture) for name in pictures]
        if self.minus is not None:
            parts.append(Part("words", vectors["minus"], -MINUS))
        if self.minus_image is not None:
            parts.append(Part("picture", vectors["minus_image"], -MINUS))
        return parts

    def _check(self, ready: Mapping[str, Vectors], dimensions: int) -> None:
        asked = [*self.texts, *self.pictures, *(["like"] if self.like is not None else [])]
        for name, vector in ready.items():
            if name not in asked:
                raise TandemError(f"vectors: expected those of what is asked ({', '.join(asked)}), got {name!r}")
            if not isinstance(vector, np.ndarray) or vector.shape != (dimensions,):
                came = list(vector.shape) if isinstance(vector, np.ndarray) else type(vector).__name__
                raise TandemError(f"vectors: {name}: expected an array [{dimensions}], got {came}")
            length = float(np.linalg.norm(vector))
            if not abs(length - 1) < 1e-3:  # also NaN
                raise TandemError(f"vectors: {name}: expected unit length, got {length:g}")


_TEXTS = {"words": "words", "minus": "words", "like": "the id of a picture", "where": "a filter"}


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _check_share(name: str, value: object, expected: str) -> None:
    # To Python, True is the number 1; to whoever wrote it, it is a mistake.
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TandemError(f"{name}: expected {expected}, got {value!r}")
    if not 0 <= float(value) <= 1:
        raise TandemError(f"{name}: expected {expected}, got {float(value):g}")


def _whole(name: str, value: Any, least: int) -> int:
    number = None
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError):
            number = operator.index(value)
    if number is None:
        raise TandemError(f"{name}: expected a whole number, at least {least}, got {value!r}")
    if number < least:
        raise TandemError(f"{name}: expected at least {least}, got {value}")
    return number
