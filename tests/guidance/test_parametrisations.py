"""A run knows no parametrisation: a further one is a class and a line of the table."""

import numpy as np
import pytest
import torch
from support import toy

from tandem import engine as engines
from tandem.guidance import guide
from tandem.guidance.fourier import FourierPicture, resized
from tandem.guidance.picture import PICTURES
from tandem.guidance.settings import Settings
from tandem.guidance.views import Augmentation, draw_views
from tandem.model import Model


class Flat(torch.nn.Module):
    """A picture of one colour."""

    variation = 0.0

    def __init__(self, settings: Settings, height: int, width: int, draw: torch.Generator, start: object) -> None:
        super().__init__()
        self.size = height, width
        self.colour = torch.nn.Parameter(torch.randn(3, 1, 1, generator=draw))

    def canvas(self, done: float) -> torch.Tensor:
        return torch.sigmoid(self.colour).expand(3, *self.size)

    @torch.no_grad()
    def render(self, height: int, width: int, start: torch.Tensor | None = None) -> torch.Tensor:
        return torch.sigmoid(self.colour).expand(3, height, width)

    def groups(self) -> list[dict]:
        return [{"params": [self.colour], "peak": 0.1}]

    def svg(self, height: int, width: int) -> str | None:
        return f"<svg of {width} by {height}/>"


def test_a_third_one_is_guided_kept_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PICTURES, "fourier", Flat)
    checkpoint = toy.checkpoint("resnet")
    model = Model(checkpoint, engines.build(checkpoint.config, checkpoint.tensors, engine="torch"))
    guided = guide(
        model, "red", steps=3, size=(40, 32), crops=2, among=("a cat",), callback=lambda step: step.step == 2
    )
    pixels = np.asarray(guided.image)
    assert pixels.shape == (32, 40, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1
    assert guided.svg == "<svg of 40 by 32/>"
    assert guided.state is not None
    assert set(guided.state.arrays) >= {"picture.colour", "adam.exp_avg.colour"}


def test_waves_have_the_same_strength_at_every_size() -> None:
    """The picture drawn twice as fine is the picture: shrunk again it has the values of the canvas."""
    picture = FourierPicture(24, 20, torch.Generator().manual_seed(0), decay=1.5)
    with torch.no_grad():
        picture.spectrum *= 400
        canvas = picture()
    assert canvas.std() > 0.1
    back = resized(picture.render(48, 40), 24, 20)
    assert float((back - canvas)[:, 2:-2, 2:-2].abs().max()) < 0.12
    assert float((back - canvas).abs().mean()) < 0.02


def test_contrast_leaves_middle_grey_as_it_is() -> None:
    how = Augmentation(light=0, noise=0)
    grey = draw_views(torch.full((3, 16, 16), 0.5), 8, 12, torch.Generator().manual_seed(1), how)
    assert float((grey - 0.5).abs().max()) < 1e-6
    white = draw_views(torch.ones(3, 16, 16), 8, 12, torch.Generator().manual_seed(1), how)
    gain = (white - 0.5) / 0.5
    assert float(gain.log().abs().max()) <= how.contrast + 1e-5
    assert float(gain.max() - gain.min()) > 0.3
