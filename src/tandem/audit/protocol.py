"""What a test is: a module with `ABOUT`, and `measure(subject)`. Knows no test.

Shapes: n images, m texts, d dimensions.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from PIL import Image

from tandem.arrays import Vectors
from tandem.audit.labelled_images import CaptionedImage, LabelledImages
from tandem.evaluate.figures import Figure

if TYPE_CHECKING:
    from tandem.audit.groups import Groups


class Encoder(Protocol):
    """What tests ask of a model: vectors of unit length."""

    def images(self, images: Sequence[CaptionedImage]) -> Vectors:
        """float32 [n d]"""

    def texts(self, texts: Sequence[str]) -> Vectors:
        """float32 [m d]"""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and all that a test may use. `scale` shrinks the number of scenes: 1 is the whole test."""

    encoder: Encoder
    images: LabelledImages
    groups: "Groups | None" = None
    seed: int = 0
    scale: float = 1.0

    def count(self, whole: int) -> int:
        """The number of scenes or images instead of `whole`."""
        return max(4, round(whole * self.scale))

    def random(self, purpose: str) -> np.random.Generator:
        """Random numbers of one purpose: the same whichever other tests run."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])


@dataclass(frozen=True)
class About:
    """What a reader must know about a test, in a sentence or two each."""

    title: str
    measures: str
    chance: str
    not_for: str  # what it must not be used for


@dataclass(frozen=True)
class Finding:
    """A figure of a test, and how to read it.

    `better` is the direction that a user wants, None where there is none. A control says what the other figures can be
    worth: where it is at chance, they mean nothing. `one_sided`: below chance is no weakness, only no ability.
    """

    name: str
    figure: Figure
    better: Literal["higher", "lower"] | None = "higher"
    control: bool = False
    one_sided: bool = False

    @property
    def verdict(self) -> str:
        """What the interval shows; "" for a figure without a chance level."""
        figure = self.figure
        if figure.chance is None:
            return ""
        above, below = figure.low > figure.chance, figure.high < figure.chance
        if figure.unit == "difference":
            return "higher" if above else "lower" if below else "no difference shown"
        if above:
            return "above chance"
        if below:
            return "not above chance" if self.one_sided else "below chance"
        return "not shown to be above chance" if self.better == "higher" else "not shown to differ from chance"

    @property
    def at_chance(self) -> bool:
        """Whether the interval contains chance: its value must not be read as an ability."""
        return self.verdict.startswith("not shown")

    @property
    def is_weakness(self) -> bool:
        """Whether the interval lies on the side that a user does not want."""
        bad = {"higher": ("lower", "below chance"), "lower": ("higher", "above chance")}
        return self.better is not None and self.verdict in bad[self.better]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        own = {"better": self.better, "control": self.control, "verdict": self.verdict}
        return {"name": self.name, **self.figure.as_dict(), **own}


@dataclass(frozen=True, eq=False)
class Example:
    """An image, what would have been right, and what the model answered."""

    image: Image.Image
    right: str
    answer: str
    asked: str = ""


@dataclass(frozen=True, eq=False)
class Table:
    """Figures in rows, for the report: such as a corruption at each strength."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str | Figure, ...], ...]


@dataclass(frozen=True, eq=False)
class Findings:
    """What a test found."""

    findings: tuple[Finding, ...]
    examples: tuple[Example, ...] = ()
    tables: tuple[Table, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def failed_controls(self) -> tuple[str, ...]:
        """Controls that are at chance: the model does not know what the test is made of."""
        return tuple(finding.name for finding in self.findings if finding.control and finding.at_chance)


class AuditTest(Protocol):
    """The interface of a test's module."""

    ABOUT: About

    def encoded(self, subject: Subject) -> int:
        """About how many images it encodes, for progress."""

    def measure(self, subject: Subject) -> Findings:
        """Run the test. Raises `SkippedTest` where it lacks what it needs."""


class SkippedTest(Exception):  # no error: the report says why a test did not run
    """A test that cannot run on what was given; the message says what it needs."""
