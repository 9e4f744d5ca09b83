"""`locate`: an image and texts in, `Locations` out, by vectors that a model computes.

Shapes: t texts, h and w rows and columns of a map, d the shared dimension.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from PIL import Image

from tandem import prompts
from tandem.arrays import Vectors
from tandem.errors import TandemError, TextError
from tandem.image import ImageSource, Limits, decode, image_errors, source_name
from tandem.localization.boxes import find_boxes, peak
from tandem.localization.contrast import BACKGROUND, Contrast, everyday_words
from tandem.localization.evidence import Eyes, look
from tandem.localization.location import Location, Locations
from tandem.localization.maps import FloatMap, competing, log_odds_of_shares, map_size, spread
from tandem.localization.settings import LocateSettings, Method, by_architecture, load_settings
from tandem.pixels import as_rgb, preprocess

HEAT_SIZE = 128  # of a map's longer side: more than any of the methods tells apart
MOST_HEAT_SIZE = 1024
MOST_TEXTS = 64  # at once: each has a map
# The words as they are. A window shows one thing, and what people ask for often is more than a noun.
TEMPLATES = ("{}",)
_LEVEL = 0.5  # the probability from which a text counts as there


class LocatingModel(Eyes, Protocol):
    """What is asked of a model."""

    orient: bool
    limits: Limits

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def checkpoint(self) -> Any: ...
    @property
    def logit_scale(self) -> float: ...
    def class_vectors(self, labels: prompts.Labels, templates: str | Sequence[str] | None = None) -> Vectors: ...


class Locator:
    """Finds texts in images with one model."""

    def __init__(self, model: LocatingModel) -> None:
        self._model = model

    @cached_property
    def settings(self) -> LocateSettings:
        """What was measured for this model, else the settings of its architecture."""
        return load_settings(self._model) or by_architecture(self._model.config.vision)

    def with_method(self, method: Method | None) -> LocateSettings:
        """The model's settings; those of its architecture for another method than its own. Raises `TandemError`."""
        if method is None or method == self.settings.method:
            return self.settings
        return by_architecture(self._model.config.vision, method)

    def locate(
        self,
        image: ImageSource,
        texts: str | Sequence[str],
        *,
        templates: str | Sequence[str] | None = None,
        method: Method | None = None,
        heat_size: int = HEAT_SIZE,
        settings: LocateSettings | None = None,
    ) -> Locations:
        """See `tandem.Model.locate`; `settings` take the place of the model's."""
        wanted = _checked(texts, heat_size)
        settings = settings or self.with_method(method)
        contrast = self._contrast(wanted, settings, templates)
        name, shorter = source_name(image), self._shorter_side(settings)
        decoded = decode(image, limits=self._model.limits, orient=self._model.orient, at_least=shorter)
        with image_errors(name, "converted"):
            whole = preprocess(decoded.image, self._model.config.preprocessing)
            small = _shrunk(as_rgb(decoded.image), shorter)
        width, height = decoded.width, decoded.height
        whole_logits = contrast.logits(self._model.encode_pixels(whole[None]))[0]  # [t]
        maps = self._maps(small, contrast, settings, heat_size)
        scores = maps.max(axis=(1, 2))
        presence = settings.presence
        if presence is not None:  # then a heat is a probability, too
            maps = presence.log_odds(maps, whole_logits[:, None, None])
        heat, odds = competing(maps), log_odds_of_shares(maps)
        found = []
        for i, text in enumerate(wanted):
            probability = None if presence is None else _sigmoid(float(maps[i].max()))
            present = scores[i] > 0 if probability is None else probability >= _LEVEL
            boxes = find_boxes(odds[i], heat[i], settings.level, width, height) if present else ()
            found.append(
                Location(
                    text=text,
                    present=bool(present),
                    score=float(scores[i]),
                    whole_score=float(whole_logits[i]),
                    probability=probability,
                    point=peak(odds[i], width, height),
                    boxes=boxes,
                    heat=heat[i],
                    width=width,
                    height=height,
                )
            )
        kept = None if hasattr(image, "read") and not isinstance(image, Image.Image) else image
        return Locations(self._model, name, width, height, settings.method, tuple(found), kept)

    def _contrast(
        self,
        texts: Sequence[str],
        settings: LocateSettings,
        templates: str | Sequence[str] | None,
    ) -> Contrast:
        words = tuple(dict.fromkeys((*BACKGROUND, *everyday_words()))) if settings.vocabulary else BACKGROUND

        def embed(some: Sequence[str]) -> Vectors:
            return self._model.class_vectors(some, TEMPLATES if some is words or templates is None else templates)

        return Contrast.of(texts, words, embed, self._model.logit_scale)

    def _maps(self, image: Image.Image, contrast: Contrast, settings: LocateSettings, heat_size: int) -> FloatMap:
        """The mean of the maps at all scales: logits [t h w]."""
        size = map_size(image.width, image.height, heat_size)
        maps = [
            spread(
                contrast.logits(places.vectors),
                places.rows,
                places.columns,
                places.side,
                settings.reach,
                (image.height, image.width),
                size,
            )
            for places in look(image, self._model, settings)
        ]
        return np.asarray(np.mean(maps, axis=0), np.float32)

    def _shorter_side(self, settings: LocateSettings) -> int:
        """Pixels of an image's shorter side at which the smallest windows have as many as the model reads."""
        return round(self._model.config.vision.image_size / min(settings.scales))


def _checked(texts: str | Sequence[str], heat_size: int) -> tuple[str, ...]:
    """The texts. Raises `TextError` for none, too many, or the same one twice, which would compete with itself."""
    wanted = tuple(prompts.several(texts))
    if not 1 <= len(wanted) <= MOST_TEXTS:
        raise TextError(f"texts: expected 1..{MOST_TEXTS} to locate at once, got {len(wanted)}")
    empty = next((text for text in wanted if not isinstance(text, str) or not text.strip()), None)
    if empty is not None:
        raise TextError(f"texts: expected words, got {empty!r}")
    if len(set(wanted)) < len(wanted):
        twice = next(text for i, text in enumerate(wanted) if text in wanted[:i])
        raise TextError(f"texts: {twice!r} is there twice; texts compete, so give each once")
    if not 1 <= heat_size <= MOST_HEAT_SIZE:
        raise TandemError(f"heat_size: expected 1..{MOST_HEAT_SIZE}, got {heat_size}; heat_at gives a map at any size")
    return wanted


def _shrunk(image: Image.Image, shorter: int) -> Image.Image:
    """The image with so many pixels on its shorter side, unless it has fewer."""
    scale = shorter / min(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))
