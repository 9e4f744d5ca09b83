"""The arguments of a search as one value, and the vector that ranks a collection by them.

`SearchQuery` is what Python, the client, the server and the command line share. The functions
that compute vectors are passed in: this module knows no model and no store.

Shapes: d dimensions, m sampled records.
"""

import contextlib
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from tandem.arrays import Vectors
from tandem.defaults import HITS, MOMENTS, TEXT_WEIGHT, LongTexts
from tandem.errors import TandemError, did_you_mean
from tandem.image import ImageSource, source_name
from tandem.scores.relevance import MeasuredKind, QueryKind, kind_of_text

MINUS_WEIGHT = 0.5  # weight of `minus`; all that is looked for weighs 1 together
MIN_STD = 1e-3  # of cosines over a collection of one image, or of one image many times


@dataclass(frozen=True)
class QueryPart:
    """A part of a query with its unit vector [d]: to be found (weight above 0) or avoided (below 0)."""

    kind: Literal["text", "image"]
    vector: Vectors
    weight: float


@dataclass(frozen=True, eq=False)
class SearchQuery:
    """The validated arguments of a search. Raises `TandemError` for invalid ones, of whatever type.

    Args:
        text: a description of the images.
        image: an image to find similar ones to; `like` is the id of one in the collection.
        minus, minus_image: a text and an image to avoid.
        weight: the weight of the text beside an image, 0..1.
        k, offset: the number of hits to return, and to skip.
        moments: how many moments of one film come before everything else; 0 for all, also those next to each other.
        where: a filter over the metadata, such as "width > 1000 and path like '%2023%'".
        threshold: if the best hit is less relevant, nothing matches; None for the calibration's own threshold.
        long: what happens to texts of more tokens than the model takes, as for `Model.embed_texts`.
    """

    text: str | None = None
    image: ImageSource | None = None
    like: str | None = None
    minus: str | None = None
    minus_image: ImageSource | None = None
    weight: float = TEXT_WEIGHT
    k: int = HITS
    offset: int = 0
    moments: int = MOMENTS
    where: str | None = None
    threshold: float | None = None
    long: LongTexts = "error"

    def __post_init__(self) -> None:
        for name, expected in _STRINGS.items():
            text = getattr(self, name)
            if text is not None and (not isinstance(text, str) or not text.strip()):
                raise TandemError(f"{name}: expected {expected}, got {text!r}")
        _check_share("weight", self.weight, "the share of the text, 0..1")
        if self.threshold is not None:
            _check_share("threshold", self.threshold, "a probability in 0..1")
        for name, least in (("k", 1), ("offset", 0), ("moments", 0)):
            # Converted to a Python int: numpy's is not JSON.
            object.__setattr__(self, name, _whole(name, getattr(self, name), least))
        if self.long not in get_args(LongTexts):
            raise TandemError(f"long: expected one of {', '.join(get_args(LongTexts))}, got {self.long!r}")
        if self.text is None and self.image is None and self.like is None:
            raise TandemError("nothing to look for: give text, or an image")

    @classmethod
    def of(cls, text: "str | SearchQuery | None", **others: Any) -> "SearchQuery":
        """A query from the arguments of `Collection.search`, whose `text` may be the whole query."""
        if not isinstance(text, SearchQuery):
            return cls(text, **others)
        defaults = {field.name: field.default for field in fields(cls)}
        if beside := [name for name, value in others.items() if _differ(value, defaults[name])]:
            raise TandemError(f"{', '.join(beside)}: expected in the SearchQuery, not beside it")
        return text

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "SearchQuery":
        """From the dict of `to_dict`, or the JSON of a request. Raises `TandemError` for an unknown field."""
        known = [field.name for field in fields(cls)]
        for name in plain:
            if name not in known:
                hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                raise TandemError(f"no field {name!r} in a search{hint}")
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults. Images are as they were given: encode them to make JSON."""
        given = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in given.items() if _differ(value, default)}

    @property
    def texts(self) -> dict[str, str]:
        """The texts to embed, by the name of their field."""
        return _given({"text": self.text, "minus": self.minus})

    @property
    def images(self) -> dict[str, ImageSource]:
        """The images to embed, by the name of their field; without `like`, whose vector is in the collection."""
        return _given({"image": self.image, "minus_image": self.minus_image})

    def described(self) -> dict[str, str]:
        """The part of the query that results repeat: texts, ids and the names of images."""
        images = {name: source_name(image) for name, image in self.images.items()}
        return _given({"text": self.text, "like": self.like, "minus": self.minus}) | images

    def vectors(
        self,
        ready: Mapping[str, Vectors],
        dimensions: int,
        embed_texts: Callable[[list[str]], Vectors],
        embed_image: Callable[[ImageSource], Vectors],
        stored: Callable[[str], Vectors],
    ) -> dict[str, Vectors]:
        """The unit vector [d] of each given field, from `ready` if it is there.

        The embedding functions return [n d]; `stored` returns the vector [d] of an id.
        """
        self._check_ready(ready, dimensions)
        vectors = dict(ready)
        texts = {name: text for name, text in self.texts.items() if name not in ready}
        if texts:
            vectors |= dict(zip(texts, embed_texts(list(texts.values())), strict=True))
        for name, image in self.images.items():
            if name not in ready:
                rows = embed_image(image)
                if len(rows) != 1:
                    raise TandemError(f"{name}: expected one image, got {len(rows)}")
                vectors[name] = rows[0]
        if self.like is not None and "like" not in ready:
            vectors["like"] = stored(self.like)
        return vectors

    def parts(self, vectors: Mapping[str, Vectors]) -> list[QueryPart]:
        """The parts of the query, from the unit vector [d] of each field that is given."""
        images = [name for name in ("image", "like") if getattr(self, name) is not None]
        of_text = 1.0 if not images else self.weight if self.text is not None else 0.0
        of_image = (1 - of_text) / max(len(images), 1)
        parts = [QueryPart("text", vectors["text"], of_text)] if self.text is not None else []
        parts += [QueryPart("image", vectors[name], of_image) for name in images]
        if self.minus is not None:
            parts.append(QueryPart("text", vectors["minus"], -MINUS_WEIGHT))
        if self.minus_image is not None:
            parts.append(QueryPart("image", vectors["minus_image"], -MINUS_WEIGHT))
        return parts

    def measured_kinds(self, parts: Sequence[QueryPart]) -> list[MeasuredKind]:
        """The kinds of these parts of it, as calibrations measure how well they can tell."""
        kinds: set[MeasuredKind] = set()
        for part in parts:
            if part.weight and part.kind == "image":
                kinds.add("images")
            elif part.weight:
                kinds.add(kind_of_text((self.text if part.weight > 0 else self.minus) or ""))
        return sorted(kinds)

    def _check_ready(self, ready: Mapping[str, Vectors], dimensions: int) -> None:
        known = [*self.texts, *self.images, *(["like"] if self.like is not None else [])]
        for name, vector in ready.items():
            if name not in known:
                raise TandemError(f"vectors: expected those of what is searched for ({', '.join(known)}), got {name!r}")
            if not isinstance(vector, np.ndarray) or vector.shape != (dimensions,):
                came = list(vector.shape) if isinstance(vector, np.ndarray) else type(vector).__name__
                raise TandemError(f"vectors: {name}: expected an array [{dimensions}], got {came}")
            length = float(np.linalg.norm(vector))
            if not abs(length - 1) < 1e-3:  # also NaN
                raise TandemError(f"vectors: {name}: expected unit length, got {length:g}")


def combine(parts: Sequence[QueryPart], sample: Vectors) -> Vectors:
    """The unit vector [d] whose cosines rank a collection by all parts at once; `sample` [m d] stands for it.

    Cosines of texts spread far less over a collection than cosines of an image do (the two lie in different regions
    of the space), so a plain sum would follow the image alone. Each part is divided by the standard deviation of
    its cosines: the product with the sum is then, up to a constant, the weighted sum of standard scores.
    """
    parts = [part for part in parts if part.weight]
    if not any(part.weight > 0 for part in parts):
        raise TandemError("nothing to look for: give text or an image; minus alone is no direction")
    if len(parts) == 1:
        return parts[0].vector
    total = np.zeros_like(parts[0].vector)
    for part in parts:
        std = float((sample @ part.vector).std()) if len(sample) else 0.0
        total += np.float32(part.weight / max(std, MIN_STD)) * part.vector
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise TandemError("what is looked for and what is to be avoided are the same: nothing is left to look for")
    return np.asarray(total / np.float32(length), dtype=np.float32)


def kind_of(parts: Sequence[QueryPart]) -> QueryKind:
    """The kind of a query: text only, one image only, or mixed."""
    used = [part for part in parts if part.weight]
    return used[0].kind if len(used) == 1 else "mixed"


_STRINGS = {"text": "a text", "minus": "a text", "like": "the id of an image", "where": "a filter"}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _differ(value: Any, default: Any) -> bool:
    # An image may be an array, which is not compared.
    return value is not default and not (isinstance(value, str | int | float) and value == default)


def _check_share(name: str, value: object, expected: str) -> None:
    # bool is a subclass of int in Python, but a boolean here is a mistake
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
