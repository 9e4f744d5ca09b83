"""One run: a picture, its optimiser and its generator, a step at a time. What it consists of can be kept and put back.

Knows tensors; nothing of files, clocks and people.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tandem.errors import TandemError
from tandem.guidance.encoder import Encoder
from tandem.guidance.fourier import resized
from tandem.guidance.goals import Goals
from tandem.guidance.objective import Objective
from tandem.guidance.picture import PICTURES, Picture
from tandem.guidance.settings import Settings
from tandem.guidance.views import Augmentation, draw_views, total_variation

# Chosen by pictures of tandem-mini's first edition, and by ranks (docs/log.md, "Guidance").
CANVAS = 0.75  # of the encoder's side: what guidance works on; finer waves are what only the encoder sees
HELD = 40.0  # weight of the squared distance from the photo at a strength of one half
AUGMENTATION = Augmentation()

Arrays = dict[str, NDArray[np.generic]]


class Run:
    """A picture on its way. `start` uint8 [H W 3] is the photo, at the picture's own size."""

    def __init__(
        self, encoder: Encoder, goals: Goals, logit_scale: float, settings: Settings, start: NDArray[np.uint8] | None
    ) -> None:
        self.settings = settings
        self.step = 0
        self._encoder = encoder
        self._objective = Objective(goals, logit_scale)
        self._draw = torch.Generator().manual_seed(settings.seed)
        self._start = None if start is None else torch.from_numpy(start.copy()).permute(2, 0, 1) / 255  # [3 H W]
        shorter = round(encoder.size * CANVAS)
        scale = shorter / min(settings.height, settings.width)
        height, width = round(settings.height * scale), round(settings.width * scale)
        self._held = None if self._start is None else resized(self._start, height, width)  # [3 h w]
        self.picture: Picture = PICTURES[settings.parametrisation](settings, height, width, self._draw, self._held)
        self._optimiser = torch.optim.Adam(self.picture.groups(), betas=(0.9, 0.99))

    def advance(self, done: float | None = None) -> float:
        """One step; gives the loss. Raises `TandemError` when it is not finite.

        `done` is the share of the run that is behind it, by which waves are shown and rates fall; by default that of
        the steps.
        """
        settings = self.settings
        done = self.step / settings.steps if done is None else done
        canvas = self.picture.canvas(done)
        views = draw_views(canvas, settings.crops, self._encoder.size, self._draw, AUGMENTATION)
        loss = self._objective(self._encoder(views)) + self.picture.variation * total_variation(canvas)
        if self._held is not None:
            loss = loss + HELD * (1 / settings.strength - 1) * ((canvas - self._held) ** 2).mean()
        if not math.isfinite(value := float(loss.detach())):
            raise TandemError(f"the gradient overflows at step {self.step}: are the model's weights damaged?")
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * min(1.0, 2 * (1 - done))  # the second half comes to rest
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.step += 1
        return value

    def image(self) -> Image.Image:
        """The picture as it is, RGB, at its own size."""
        settings = self.settings
        pixels = self.picture.render(settings.height, settings.width, self._start)
        return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())

    def svg(self) -> str | None:
        """The picture as an SVG document; None for one that is not of shapes."""
        return self.picture.svg(self.settings.height, self.settings.width)

    def state(self) -> Arrays:
        """Everything that later steps depend on: parameters, the optimiser's moments, and the generator."""
        made: dict[str, Tensor] = {"generator": self._draw.get_state()}
        for name, parameter in self.picture.named_parameters():
            made[f"picture.{name}"] = parameter.detach()
            for kind, value in self._optimiser.state[parameter].items():
                made[f"adam.{kind}.{name}"] = value.reshape(1) if kind == "step" else value  # files have no scalars
        return {name: tensor.numpy().copy() for name, tensor in made.items()}

    def restore(self, state: Mapping[str, NDArray[np.generic]], step: int) -> None:
        """Put `state` back. Raises `TandemError` where it is not one of such a run."""
        expected = {name: (value.shape, value.dtype) for name, value in self.state().items()}
        parameters = dict(self.picture.named_parameters())
        if step:
            for name, parameter in parameters.items():
                like = (tuple(parameter.shape), np.dtype(np.float32))
                expected |= {f"adam.exp_avg.{name}": like, f"adam.exp_avg_sq.{name}": like}
                expected[f"adam.step.{name}"] = ((1,), np.dtype(np.float32))
        found = {name: (value.shape, value.dtype) for name, value in state.items()}
        if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
            raise TandemError(f"the state does not fit the run it describes: {wrong[0]}")
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"picture.{name}"])
                if step:
                    moments = {kind: tensors[f"adam.{kind}.{name}"] for kind in ("exp_avg", "exp_avg_sq")}
                    self._optimiser.state[parameter] = {"step": tensors[f"adam.step.{name}"][0], **moments}
        try:
            self._draw.set_state(tensors["generator"])
        except RuntimeError:
            raise TandemError("the state does not fit the run it describes: generator") from None
        self.step = step
