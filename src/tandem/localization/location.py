"""The answer: for each text a heat map, boxes, a point, and whether it is there. Knows results, no model.

Shapes: h and w rows and columns of a heat map.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tandem import html
from tandem.answer import Identity, ModelIdentity
from tandem.errors import TandemError
from tandem.files import display_name, user_path
from tandem.image import ImageSource, load_image
from tandem.localization.boxes import Box
from tandem.localization.maps import resized
from tandem.localization.methods import Method

REPR_ROWS = 5
REPR_SIDE = 224  # pixels
_COLOUR, _OPACITY = (232, 89, 12), 0.72  # as on the page


@dataclass(frozen=True, eq=False)
class Location:
    """Where one text is in an image.

    All coordinates are pixels of the upright image, from its top left corner. `boxes` is empty where the text is not
    there; `point` and `heat` say where it would be first of all.
    """

    text: str
    present: bool
    # Log-odds at its best places against words for backgrounds; of a model that was measured, from what the text gets
    # in windows that nobody chose for it, in their standard deviations. 0 is a draw.
    score: float
    whole_score: float  # the same for the image as a whole
    probability: float | None  # that it is there; None for a model of which that was not measured
    point: tuple[int, int]  # x, y: the best place
    boxes: tuple[Box, ...]  # around the best places, the one with `point` first
    heat: NDArray[np.float32]  # [h w], 0..1: the share of this text among all texts and what else may be there
    width: int = field(repr=False, default=0)  # of the image
    height: int = field(repr=False, default=0)

    def heat_at(self, width: int | None = None, height: int | None = None) -> NDArray[np.float32]:
        """The heat map at another size, bilinear, float32 [height width]: that of the image, unless it is given."""
        width, height = self.width if width is None else width, self.height if height is None else height
        if width < 1 or height < 1:
            raise TandemError(f"heat_at: expected at least 1 x 1 pixels, got {width} x {height}")
        return resized(self.heat, width, height)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the map."""
        return {
            "text": self.text,
            "present": self.present,
            "score": _short(self.score),
            "whole_score": _short(self.whole_score),
            "probability": None if self.probability is None else _short(self.probability),
            "point": list(self.point),
            "boxes": [{"box": list(box.edges), "heat": _short(box.heat)} for box in self.boxes],
        }


@dataclass(frozen=True, eq=False, repr=False)
class Locations:
    """One `Location` for each text, in their order; they compete for each place of the image."""

    model: Identity
    source: str
    width: int  # pixels of the upright image
    height: int
    method: Method
    locations: tuple[Location, ...]
    image: ImageSource | None = None  # what `plot` draws; None where it was not kept

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(each.text for each in self.locations)

    def __len__(self) -> int:
        return len(self.locations)

    def __iter__(self) -> Iterator[Location]:
        return iter(self.locations)

    @overload
    def __getitem__(self, index: int) -> Location: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Location]: ...

    def __getitem__(self, index: int | slice) -> Location | Sequence[Location]:
        return self.locations[index]

    def plot(self, path: str | Path | None = None) -> Path | None:
        """Draw each text's heat over the image, with its box and its point.

        Writes the drawing to `path` and returns it. Without a path, shows the drawing in the notebook or in a window.
        """
        from tandem import plots

        if self.image is None:
            raise TandemError(f"{self.source} came from an open file and was not kept; to draw, locate in a path")
        image = load_image(self.image)
        found = [
            plots.Found(
                each.text,
                each.heat,
                [box.edges for box in each.boxes],
                each.point,
                verdict(each),
                each.present,
            )
            for each in self.locations
        ]
        target = None if path is None else user_path(path)
        title = display_name(self.source)
        return plots.draw_locations(image, (self.width, self.height), found, target, title=title, model=self.said())

    def said(self) -> str:
        """The model and how it looked."""
        return f"{self.model.name}, by {self.method}"

    def as_dict(self) -> dict[str, Any]:
        """A dict of plain values, as `tandem locate --json` prints it."""
        return {
            "image": display_name(self.source),
            "width": self.width,
            "height": self.height,
            "method": self.method,
            "locations": [each.as_dict() for each in self.locations],
        }

    def to_json(self, indent: int | None = 2) -> str:
        named = {"model": {"name": self.model.name, "fingerprint": self.model.fingerprint}, **self.as_dict()}
        return json.dumps(named, indent=indent, ensure_ascii=False, allow_nan=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "model": ModelIdentity(self.model.name, self.model.fingerprint)}

    def _repr_html_(self) -> str:
        """What a notebook shows: the photo, small, with the heat, the box and the point of the first texts."""
        small = html.small_image(self.image, REPR_SIDE)
        rows = []
        for each in self.locations[:REPR_ROWS]:
            uri = None if small is None else html.image_uri(painted(small, each))
            said = f"<div>{html.text(each.text)}</div><div>{html.text(verdict(each))}</div>"
            rows.append((html.photo(uri, each.text, REPR_SIDE), said))
        more = f"; the first {REPR_ROWS} texts are shown" if len(self) > REPR_ROWS else ""
        return html.table(rows, f"{display_name(self.source)}, {self.said()}{more}")

    def __repr__(self) -> str:
        lines = [f"Locations: {display_name(self.source)}, {self.width} x {self.height}, {self.said()}"]
        for each in self.locations:
            where = f" at {each.point[0]}, {each.point[1]}" if each.present else ""
            lines.append(f"  {each.text}: {verdict(each)}{where}")
        return "\n".join(lines)


def painted(image: Image.Image, location: Location) -> Image.Image:
    """An RGB image, of any size, under the heat of a text, with its first box and its point where it is there."""
    share = Image.fromarray(np.uint8(np.clip(location.heat, 0, 1) * (255 * _OPACITY)))
    drawn = Image.composite(Image.new("RGB", image.size, _COLOUR), image, share.resize(image.size))
    across, down = image.width / max(location.width, 1), image.height / max(location.height, 1)
    draw = ImageDraw.Draw(drawn)
    for box in location.boxes[:1]:
        edges = (box.left * across, box.top * down, box.right * across - 1, box.bottom * down - 1)
        left, top, right, bottom = map(round, edges)
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=_COLOUR, width=2)
        x, y = location.point[0] * across, location.point[1] * down
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_COLOUR, outline="white")
    return drawn


def verdict(location: Location) -> str:
    """`there, 87%`, `not there, 12%`; without a percentage where none was measured."""
    said = "there" if location.present else "not there"
    return said if location.probability is None else f"{said}, {location.probability:.0%}"


def _short(value: float) -> float:
    return float(f"{value:.6g}")
