"""A picture as Fourier coefficients of decorrelated colours: what is optimised, and how it becomes pixels.

Knows nothing of models. Shapes: h rows and w columns of the working canvas, H and W of a rendered picture.
"""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from tandem.guidance.settings import Settings

# Columns: light against dark, yellow against blue, red against green, whose values hardly depend on one another in
# photos (Ruderman, Cronin, Chiao 1998); their lengths are about as far as each of them varies, the first being 1.
_COLOURS = (
    (0.577 * 1.0, 0.408 * 0.5, 0.707 * 0.4),
    (0.577 * 1.0, 0.408 * 0.5, -0.707 * 0.4),
    (0.577 * 1.0, -0.816 * 0.5, 0.0),
)
# Chosen by pictures of tandem-mini's first edition, and by ranks (docs/log.md, "Guidance").
DECAY = 1.5
FIRST_BAND, WHOLE_AT = 0.15, 0.6  # the share of frequencies that is shown first; when in a run all of them are
RATE = 1.0  # of Adam
FIRST_DEVIATION = 0.01  # of the coefficients before the first step: a nearly grey picture


class FourierPicture(nn.Module):
    """A picture from scratch, or, with `start`, a photo and what is added to it.

    The coefficient of a frequency f is scaled by f^-decay, as in photos, so that one step of the optimiser changes
    coarse parts more than fine ones (Olah, Mordvintsev, Schubert 2017). Frequencies above `band` (1: all) are zero.
    """

    variation = 2.0

    def __init__(
        self, height: int, width: int, draw: torch.Generator, *, decay: float = 1.0, start: Tensor | None = None
    ) -> None:
        super().__init__()
        self.height, self.width = height, width
        shape = (3, height, width // 2 + 1, 2)
        self.spectrum = nn.Parameter(torch.randn(shape, generator=draw) * FIRST_DEVIATION)
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
        frequency = torch.sqrt(rows**2 + columns**2)  # [h w/2+1], in cycles a pixel
        lowest = 1 / max(height, width)
        # The same picture on a canvas of another size has the same coefficients.
        self.scale: Tensor
        self.register_buffer("scale", (frequency.clamp(min=lowest) / lowest) ** -decay * math.sqrt(height * width))
        self.frequency: Tensor
        self.register_buffer("frequency", frequency)
        self.colours: Tensor
        self.register_buffer("colours", torch.tensor(_COLOURS))
        self.start: Tensor | None
        self.register_buffer("start", None if start is None else _logits(start))

    @classmethod
    def begin(cls, settings: Settings, height: int, width: int, draw: torch.Generator, start: Tensor | None) -> Self:
        """A picture before the first step, on a canvas of that size."""
        return cls(height, width, draw, decay=DECAY, start=start)

    def groups(self) -> list[dict[str, Any]]:
        """All coefficients at one rate."""
        return [{"params": list(self.parameters()), "peak": RATE}]

    def canvas(self, done: float) -> Tensor:
        """The working canvas [3 h w] in 0..1: coarse waves first, finer ones as more of the run is `done` (0..1)."""
        canvas: Tensor = self(FIRST_BAND + (1 - FIRST_BAND) * min(1.0, done / WHOLE_AT))
        return canvas

    def svg(self, height: int, width: int) -> str | None:
        """None: waves are no shapes."""
        return None

    def forward(self, band: float = 1.0) -> Tensor:
        """The working canvas [3 h w] in 0..1. `band`: the share of frequencies, from the lowest, that is shown."""
        spectrum = self._coefficients()
        if band < 1:
            spectrum = spectrum * torch.sigmoid((band * 0.5 - self.frequency) * 2 * max(self.height, self.width))
        return self._picture(spectrum, self.height, self.width, self.start)

    @torch.no_grad()
    def render(self, height: int, width: int, start: Tensor | None = None) -> Tensor:
        """The picture at another size [3 H W] in 0..1: the same waves, drawn finer.

        start [3 H W] in 0..1: the photo at that size, for a picture that began from one.
        """
        spectrum = self._coefficients()
        wide = spectrum.new_zeros(3, height, width // 2 + 1)
        up, down = (min(self.height, height) + 1) // 2, min(self.height, height) // 2
        across = min(spectrum.shape[2], wide.shape[2])
        wide[:, :up, :across] = spectrum[:, :up, :across]
        wide[:, height - down :, :across] = spectrum[:, self.height - down :, :across]
        wide *= height * width / (self.height * self.width)  # the inverse transform divides by the number of pixels
        return self._picture(wide, height, width, None if start is None else _logits(start))

    def _coefficients(self) -> Tensor:
        return torch.view_as_complex(self.spectrum) * self.scale

    def _picture(self, spectrum: Tensor, height: int, width: int, start: Tensor | None) -> Tensor:
        waves = torch.fft.irfft2(spectrum, s=(height, width))  # [3 h w], decorrelated
        logits = torch.einsum("ck,khw->chw", self.colours, waves)
        return torch.sigmoid(logits if start is None else logits + start)


def _logits(picture: Tensor) -> Tensor:
    """The inverse of the sigmoid, with black and white kept from infinity."""
    return torch.logit(picture.clamp(1 / 255, 254 / 255))


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """[3 H W] -> [3 h w], antialiased."""
    if picture.shape[1:] == (height, width):
        return picture
    return functional.interpolate(picture[None], size=(height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)
