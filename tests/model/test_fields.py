"""Plain values into dataclasses and back: what does not fit is refused by the whole path of its key."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from tandem import fields
from tandem.errors import ConfigError, TandemError, TextError
from tandem.fields import NonNegative, Positive, Range, Share, Tagged


@dataclass(frozen=True)
class Square:
    side: Positive


@dataclass(frozen=True)
class Circle:
    radius: Annotated[float, Range(above=0)]
    centre: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Part:
    name: str
    layers: Positive = 1
    mode: Literal["fast", "slow", 3] = "fast"

    def __post_init__(self) -> None:
        if self.name == "odd" and self.layers % 2 == 0:
            raise ConfigError(f"layers = {self.layers} is not odd")


@dataclass(frozen=True)
class Whole:
    shape: Annotated[Square | Circle, Tagged("type", {"square": Square, "circle": Circle})]
    part: Part = Part("main")
    parts: tuple[Part, ...] = ()
    files: str | list[str] = "."
    seed: NonNegative | None = None
    share: Share = 0.5
    fill: Annotated[int, Range(0, 255)] = 0
    flag: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    limits: dict[str, tuple[Positive, ...]] = field(default_factory=dict)
    anything: Any = None


FULL = Whole(
    Circle(1.5, (2.0, 3.0)),
    Part("a", 2, "slow"),
    (Part("b"), Part("c", 4)),
    ["x", "y"],
    7,
    0.25,
    255,
    True,
    {"k": "v"},
    {"a": (1, 2)},
    [None, {"b": 1}],
)


@pytest.mark.parametrize("value", [FULL, Whole(Square(3))], ids=["full", "defaults"])
def test_plain_values_and_back(value: Whole) -> None:
    plain = json.loads(json.dumps(fields.to_plain(value)))
    assert plain["shape"]["type"] == ("circle" if isinstance(value.shape, Circle) else "square")
    assert fields.read(Whole, plain) == value
    fields.check(value)


def test_what_is_left_out_has_its_default_and_numbers_become_what_is_declared() -> None:
    made = fields.read(Whole, {"shape": {"type": "circle", "radius": 2, "centre": [1, 2]}})
    assert made == Whole(Circle(2.0, (1.0, 2.0)))
    assert all(isinstance(number, float) for number in (made.shape.radius, *made.shape.centre))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shape": {"type": "square", "side": 0}}, "shape.side: expected a whole number of at least 1, got 0"),
        ({"shape": {"type": "square", "side": -3}}, "shape.side: expected a whole number of at least 1, got -3"),
        ({"shape": {"type": "square", "side": True}}, "shape.side: expected a whole number of at least 1, got True"),
        ({"shape": {"type": "square", "side": 2.0}}, "shape.side: expected a whole number of at least 1, got 2.0"),
        ({"shape": {"type": "square"}}, "shape.side: missing; expected a whole number of at least 1"),
        ({"shape": {"type": "circle", "radius": 0}}, "shape.radius: expected a number above 0, got 0"),
        ({"shape": {"type": "circle", "radius": "1"}}, "shape.radius: expected a number above 0, got '1'"),
        ({"shape": {"type": "circle", "radius": float("nan")}}, "shape.radius: expected a number above 0, got nan"),
        ({"shape": {"type": "circle", "radius": float("inf")}}, "shape.radius: expected a number above 0, got inf"),
        ({"shape": {"type": "circle", "radius": 10**400}}, "shape.radius: expected a number above 0, got 1000"),
        ({"shape": {"type": "circle", "radius": 1, "centre": [1]}}, "shape.centre: expected a list of 2, got 1"),
        ({"shape": {"type": "circle", "radius": 1, "centre": [1, None]}}, "shape.centre[1]: expected a number, got"),
        ({"shape": {"type": "sqare", "side": 1}}, "shape.type: expected one of square, circle, got 'sqare'; did you"),
        ({"shape": {"type": ["square"], "side": 1}}, "shape.type: expected one of square, circle, got ['square']"),
        ({"shape": {"side": 1}}, "shape.type: missing; expected one of square, circle"),
        ({"shape": {"type": "square", "side": 1, "radius": 1}}, "shape.radius: unknown key; expected one of side"),
        ({"shape": "square"}, "shape: expected a mapping of keys to values, got 'square'"),
        ({"shape": Circle(-1.0)}, "shape.radius: expected a number above 0, got -1.0"),
        ({"part": {"name": "a", "layerz": 1}}, "part.layerz: unknown key; did you mean 'layers'?"),
        ({"part": {"name": 3}}, "part.name: expected text, got 3"),
        ({"part": {"name": "a", "mode": "fats"}}, "part.mode: expected one of fast, slow, 3, got 'fats'; did you mean"),
        ({"part": {"name": "a", "mode": 3.0}}, "part.mode: expected one of fast, slow, 3, got 3.0"),
        ({"part": {"name": "odd", "layers": 2}}, "part.layers = 2 is not odd"),
        ({"part": []}, "part: expected a mapping of keys to values, got []"),
        ({"parts": [{"name": "a"}, {"name": "b", "layers": 0}]}, "parts[1].layers: expected a whole number of at"),
        ({"parts": {"name": "a"}}, "parts: expected a list"),
        ({"files": [1]}, "files: expected text or a list (of text each), got [1]"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
        ({"share": 1.01}, "share: expected a number from 0 to 1, got 1.01"),
        ({"fill": 256}, "fill: expected a whole number from 0 to 255, got 256"),
        ({"flag": 1}, "flag: expected true or false, got 1"),
        ({"notes": {"k": 1}}, "notes.k: expected text, got 1"),
        ({"notes": "k"}, "notes: expected a mapping of keys to values, got 'k'"),
        ({"limits": {"a": [1, 0]}}, "limits.a[1]: expected a whole number of at least 1, got 0"),
        ({"zzz": 1}, "zzz: unknown key; expected one of shape, part, parts"),
        ({"notes": "k" * 1000}, "got '" + "k" * 76 + "..."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fields.read(Whole, {"shape": {"type": "square", "side": 1}, **changes})
    assert says in str(caught.value)
    with pytest.raises(TextError) as caught_under:
        fields.read(Whole, {"shape": {"type": "square", "side": 1}, **changes}, path="model.vision", error=TextError)
    assert str(caught_under.value) == f"model.vision.{caught.value}"


def test_no_mapping_at_all() -> None:
    with pytest.raises(ConfigError, match=r"^expected a mapping of keys to values, got \[\]$"):
        fields.read(Whole, [])  # type: ignore[arg-type]


def test_files_of_others_may_hold_more() -> None:
    plain = {"shape": {"type": "square", "side": 1, "colour": "red"}, "x": 1}
    assert fields.read(Whole, plain, ignore_unknown=True) == Whole(Square(1))
    with pytest.raises(ConfigError, match=r"shape\.side"):
        fields.read(Whole, {"shape": {"type": "square", "side": 0, "colour": "red"}}, ignore_unknown=True)


def test_instances_are_checked_however_they_were_made() -> None:
    with pytest.raises(TandemError, match=r"^here\.parts\[0\]\.layers: expected a whole number of at least 1, got 0$"):
        fields.check(dataclasses.replace(FULL, parts=(Part("a", 0),)), path="here")


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        (Range(1), "at least 1"),
        (Range(most=5), "at most 5"),
        (Range(0, 1), "from 0 to 1"),
        (Range(above=0, below=1), "above 0 and below 1"),
        (Range(0, below=1), "at least 0 and below 1"),
        (Range(1000), "at least 1,000"),
    ],
)
def test_ranges_in_words(bounds: Range, says: str) -> None:
    assert str(bounds) == says
