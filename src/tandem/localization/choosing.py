"""`which`: the region of an image, or the image of several, that an instruction is about. Knows locations and words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tandem.answer import Failure
from tandem.errors import ImageError, TandemError
from tandem.files import display_name
from tandem.image import ImageSource, many
from tandem.localization.boxes import Box
from tandem.localization.instructions import Instruction, read_instruction
from tandem.localization.locating import Locator
from tandem.localization.location import Locations

RankedBy: TypeAlias = Literal["score", "heat"]


@dataclass(frozen=True)
class Candidate:
    """A region of an image, or an image: where to reach for the thing in it."""

    source: str
    point: tuple[int, int]  # x, y in pixels of the upright image
    box: Box | None  # None for an image in which the thing was not found
    present: bool
    score: float  # of the image, as `Location.score`
    heat: float | None  # the highest in the box, 0..1; None without a box
    probability: float | None  # that the thing is in the image; None where that was not measured

    def rank(self, by: RankedBy) -> float:
        """What it is ranked by; a region without a box comes last."""
        return self.score if by == "score" else self.heat or 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "image": display_name(self.source),
            "present": self.present,
            "point": list(self.point),
            "box": None if self.box is None else list(self.box.edges),
            "score": _short(self.score),
            "heat": _short(self.heat),
            "probability": _short(self.probability),
        }


@dataclass(frozen=True, eq=False)
class Choice:
    """What an instruction is about, and what it may mean: the best candidate first, the runner-up second."""

    instruction: Instruction
    kind: str  # "regions" of one image, or "images"
    candidates: tuple[Candidate, ...]
    failures: tuple[Failure, ...]
    located: tuple[Locations, ...]  # of the images that could be read, in their order

    @property
    def best(self) -> Candidate | None:
        """The first candidate, where the thing is there; else None."""
        return self.candidates[0] if self.candidates and self.candidates[0].present else None

    @property
    def ranked_by(self) -> RankedBy:
        """What ranks the candidates, and the unit of `lead`: the scores of images, the heat of regions."""
        return "score" if self.kind == "images" else "heat"

    @property
    def lead(self) -> float | None:
        """How far the best candidate is ahead of the runner-up, in what they are ranked by; None without one."""
        if len(self.candidates) < 2:
            return None
        return self.candidates[0].rank(self.ranked_by) - self.candidates[1].rank(self.ranked_by)

    def as_dict(self) -> dict[str, Any]:
        """A dict of plain values, as `tandem which --json` prints it."""
        return {
            "instruction": self.instruction.text,
            "thing": self.instruction.thing,
            "left_out": list(self.instruction.left_out),
            "found": self.best is not None,
            "candidates_are": self.kind,
            "candidates": [each.as_dict() for each in self.candidates],
            "ranked_by": self.ranked_by,
            "lead": _short(self.lead),
        }


def choose(locator: Locator, images: ImageSource | Iterable[ImageSource], text: str) -> Choice:
    """Rank the regions of one image, or several images, by how well they fit an instruction.

    Images that cannot be read are in `failures`. Raises `ImageError` where none can, and `TextError` for an
    instruction without a thing.
    """
    instruction = read_instruction(text)
    located: list[Locations] = []
    failures: list[Failure] = []
    for index, image in enumerate(many(images)):
        try:
            located.append(locator.locate(image, [instruction.thing]))
        except ImageError as error:
            failures.append(Failure(index, error.renewed()))
    if not located:
        if failures:
            raise failures[0].error
        raise TandemError("expected at least one image, got none")
    several = len(located) + len(failures) > 1
    candidates = [_of_image(each) for each in located] if several else _of_regions(located[0])
    by: RankedBy = "score" if several else "heat"
    candidates.sort(key=lambda each: (each.present, each.rank(by)), reverse=True)
    return Choice(instruction, "images" if several else "regions", tuple(candidates), tuple(failures), tuple(located))


def _of_image(found: Locations) -> Candidate:
    location = found[0]
    box = location.boxes[0] if location.boxes else None
    heat = None if box is None else box.heat
    return Candidate(found.source, location.point, box, location.present, location.score, heat, location.probability)


def _of_regions(found: Locations) -> list[Candidate]:
    location = found[0]
    if not location.present:
        return [_of_image(found)]
    points: Sequence[tuple[int, int]] = [
        location.point if i == 0 else ((box.left + box.right) // 2, (box.top + box.bottom) // 2)
        for i, box in enumerate(location.boxes)
    ]
    return [
        Candidate(found.source, point, box, True, location.score, box.heat, location.probability)
        for point, box in zip(points, location.boxes, strict=True)
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
