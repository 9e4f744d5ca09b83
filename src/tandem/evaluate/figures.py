"""A figure that can be trusted: its value, what it was counted on, what guessing gives, and its 95% interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tandem.evaluate.intervals import Interval

Unit = Literal["share", "rank", "score", "difference"]


@dataclass(frozen=True)
class Figure:
    """One measured number.

    `low` and `high` bound the 95% bootstrap interval over images (or queries). `chance` is what guessing gives, in the
    same unit, and 0 for a difference; None where it has no meaning (a calibration error).
    """

    value: float
    n: int  # images, queries or pairs that were counted
    low: float
    high: float
    chance: float | None = None
    unit: Unit = "share"  # a share is 0..1 and shown in percent; a difference of shares in percentage points

    @staticmethod
    def of(interval: "Interval", n: int, *, chance: float | None = None, unit: Unit = "share") -> "Figure":
        """The figure of an interval over n images; the chance of a difference is 0, that nothing differs."""
        if unit == "difference":
            chance = 0.0
        return Figure(interval.value, n, interval.low, interval.high, chance, unit)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "value": self.value,
            "interval": [self.low, self.high],
            "n": self.n,
            "chance": self.chance,
            "unit": self.unit,
        }

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> "Figure":
        """The figure that `as_dict` wrote. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        low, high = document["interval"]
        return Figure(document["value"], document["n"], low, high, document["chance"], document["unit"])
