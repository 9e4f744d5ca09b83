"""`locate`: an image and texts in, `Locations` out, by vectors that a model computes.

Shapes: t texts, h and w rows and columns of a map, d the shared dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem import prompts
from tandem.arrays import Vectors
from tandem.errors import TandemError, TextError
from tandem.image import ImageSource, Limits, decode_in_budget, image_errors, source_name
from tandem.localization.boxes import find_boxes, peak
from tandem.localization.contrast import BACKGROUND, Contrast
from tandem.localization.dense_features import DenseEncoder, DenseFeatures, dense_features
from tandem.localization.location import Location, Locations
from tandem.localization.maps import FloatMap, best_mean, competing, log_odds_of_shares, map_size, spread
from tandem.localization.methods import HEAT_SIZE, MOST_HEAT_SIZE, Method
from tandem.localization.settings import LocateSettings, by_architecture, load_settings
from tandem.pixels import as_rgb, preprocess
from tandem.scores.measured_files import MeasuredModel

MOST_TEXTS = 64  # at once: each has a map
# The words as they are. A window shows one thing, and what people ask for often is more than a noun.
TEMPLATES = ("{}",)
_LEVEL = 0.5  # the probability from which a text counts as there


class LocatingModel(DenseEncoder, MeasuredModel, Protocol):
    """What is asked of a model."""

    orient: bool
    limits: Limits

    @property
    def logit_scale(self) -> float: ...
    def class_vectors(self, labels: prompts.Labels, templates: str | Sequence[str] | None = None) -> Vectors: ...


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """The vectors of an image and of its places: the same for all texts."""

    name: str
    image: ImageSource | None  # None where it was not kept
    size: tuple[int, int]  # width and height of the upright image, in pixels
    working_size: tuple[int, int]  # of what places are measured in
    whole: Vectors  # [d], the image's own vector
    dense: tuple[DenseFeatures, ...]  # at each scale


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
    ) -> Locations:
        """See `tandem.Model.locate`."""
        wanted = _checked(texts, heat_size)
        settings = self.with_method(method)
        contrast = self.contrast(wanted, settings, templates)  # before the image: texts are what is wrong more often
        return self.find(self.encode(image, settings), wanted, contrast, settings, heat_size)

    def encode(self, image: ImageSource, settings: LocateSettings) -> ImageFeatures:
        """The vectors of an image and of its places. Raises `ImageError`."""
        name, shorter = source_name(image), round(self._model.config.vision.image_size / min(settings.scales))
        reading = decode_in_budget(image, limits=self._model.limits, orient=self._model.orient, at_least=shorter)
        with reading as decoded, image_errors(name, "converted"):
            pixels = preprocess(decoded.image, self._model.config.preprocessing)
            small = _shrunk(as_rgb(decoded.image), shorter)
        kept = None if hasattr(image, "read") and not isinstance(image, Image.Image) else image
        return ImageFeatures(
            name,
            kept,
            (decoded.width, decoded.height),
            small.size,
            self._model.encode_pixels(pixels[None])[0],
            tuple(dense_features(small, self._model, settings)),
        )

    def find(
        self,
        features: ImageFeatures,
        texts: Sequence[str],
        contrast: Contrast,
        settings: LocateSettings,
        heat_size: int = HEAT_SIZE,
    ) -> Locations:
        """Where texts are in an image that was encoded."""
        width, height = features.size
        whole = contrast.logits(features.whole)  # [t]
        logits = [contrast.logits(places.vectors) for places in features.dense]
        scores = best_mean([each.reshape(-1, len(texts)) for each in logits], settings.best)  # [t]
        maps = self._maps(features, logits, settings, heat_size)
        # The hottest place of a map is as likely as its text
        maps += (scores - maps.max(axis=(1, 2)))[:, None, None]
        presence = settings.presence
        if presence is not None:
            maps = presence.log_odds(maps, whole[:, None, None])
        heat, odds = competing(maps), log_odds_of_shares(maps)
        found = []
        for i, text in enumerate(texts):
            probability = None if presence is None else _sigmoid(float(maps[i].max()))
            present = bool(scores[i] > 0 if probability is None else probability >= _LEVEL)
            boxes = find_boxes(odds[i], heat[i], settings.level, width, height) if present else ()
            found.append(
                Location(
                    text=text,
                    present=present,
                    score=float(scores[i]),
                    whole_score=float(whole[i]),
                    probability=probability,
                    point=peak(odds[i], width, height),
                    boxes=boxes,
                    heat=heat[i],
                    width=width,
                    height=height,
                )
            )
        return Locations(self._model, features.name, width, height, settings.method, tuple(found), features.image)

    def contrast(
        self, texts: Sequence[str], settings: LocateSettings, templates: str | Sequence[str] | None = None
    ) -> Contrast:
        """The texts against words for backgrounds, by what both get in baseline windows where there are some."""

        def embed(some: Sequence[str]) -> Vectors:
            return self._model.class_vectors(some, TEMPLATES if some is BACKGROUND or templates is None else templates)

        plain = Contrast.of(texts, BACKGROUND, embed, self._model.logit_scale)
        return plain if settings.baseline is None else settings.baseline.standardise(plain)

    def _maps(
        self, features: ImageFeatures, logits: Sequence[NDArray[np.float32]], settings: LocateSettings, heat_size: int
    ) -> FloatMap:
        """The mean of the maps at all scales: logits [t h w]."""
        width, height = features.working_size
        size = map_size(width, height, heat_size)
        maps = [
            spread(each, places.rows, places.columns, places.side, settings.bandwidth, (height, width), size)
            for each, places in zip(logits, features.dense, strict=True)
        ]
        return np.asarray(np.mean(maps, axis=0), np.float32)


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
