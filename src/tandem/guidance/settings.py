"""How a picture is guided: one frozen value, checked, which a state file holds too. Knows no torch."""

from dataclasses import dataclass
from typing import Literal

from tandem.errors import TandemError

SIZE, STEPS, CROPS, STRENGTH = 256, 100, 32, 0.5  # defaults, which the command shares
LARGEST, MOST_SHAPES = 4096, 1024
WRITABLE = (".png", ".jpg", ".jpeg", ".webp")
Parametrisation = Literal["fourier", "shapes"]
STATE_SUFFIX = ".guidance"  # added to a picture's name


@dataclass(frozen=True)
class Settings:
    """Sizes are pixels. `shapes` None: Fourier coefficients. Raises `TandemError` for what cannot be computed."""

    height: int = SIZE
    width: int = SIZE
    steps: int = STEPS
    seed: int = 0
    shapes: int | None = None
    crops: int = CROPS
    strength: float = STRENGTH  # of the change to a photo: 1 forgets it

    def __post_init__(self) -> None:
        limits = {
            "height": (self.height, 16, LARGEST),
            "width": (self.width, 16, LARGEST),
            "steps": (self.steps, 1, 1_000_000),
            "seed": (self.seed, 0, 2**32 - 1),
            "crops": (self.crops, 1, 4096),
            "shapes": (1 if self.shapes is None else self.shapes, 1, MOST_SHAPES),
        }
        for name, (value, low, high) in limits.items():
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise TandemError(f"{name}: expected a whole number from {low:,} to {high:,}, got {value!r}")
        if max(self.height, self.width) > 8 * min(self.height, self.width):
            raise TandemError(f"size: {self.width}x{self.height} is too narrow; at most 8 to 1")
        if not 0 < self.strength <= 1:
            raise TandemError(f"strength: expected a number above 0 and at most 1, got {self.strength:g}")

    @property
    def parametrisation(self) -> Parametrisation:
        """What is optimised."""
        return "fourier" if self.shapes is None else "shapes"


def fitted_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """The width and height of a photo whose longer side becomes `longest` pixels."""
    scale = longest / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
