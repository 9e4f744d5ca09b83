"""How a picture is parametrised: what a run asks of it, and the table of those that there are.

A further one is a file with a class like `FourierPicture`, and a line of `PICTURES`.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tandem.guidance.fourier import FourierPicture
from tandem.guidance.settings import Parametrisation, Settings
from tandem.guidance.shapes import ShapePicture


class Picture(Protocol):
    """Parameters that are a picture. h, w: the working canvas; H, W: another size."""

    @property
    def variation(self) -> float:
        """The weight of the canvas's total variation in the loss."""

    def canvas(self, done: float) -> Tensor:
        """[3 h w] in 0..1, with a gradient, when so much of the run is done (0..1)."""

    def render(self, height: int, width: int, start: Tensor | None = None) -> Tensor:
        """The picture at another size [3 H W] in 0..1. `start` [3 H W]: the photo that it began from."""

    def groups(self) -> list[dict[str, Any]]:
        """All parameters, for Adam, each group with its highest rate as `peak`."""

    def svg(self, height: int, width: int) -> str | None:
        """The picture as an SVG document; None for one that is not of shapes."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What the optimiser changes, and a state keeps."""


class Begin(Protocol):
    """Makes a picture before the first step; `start` [3 h w] in 0..1 is a photo to begin from."""

    def __call__(
        self, settings: Settings, height: int, width: int, draw: torch.Generator, start: Tensor | None
    ) -> Picture: ...


PICTURES: dict[Parametrisation, Begin] = {
    "fourier": FourierPicture.begin,
    "shapes": ShapePicture.begin,
}
