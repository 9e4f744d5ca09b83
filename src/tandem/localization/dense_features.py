"""The vectors of an image's places: of whole windows, or of the patches inside of them.

Knows windows, pixels and an engine; no texts.

Shapes: r rows and c columns of places, d the shared dimension.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.arrays import Vectors
from tandem.config import ModelConfig
from tandem.localization.settings import LocateSettings
from tandem.localization.windows import FloatArray, WindowGrid, window_grid
from tandem.pixels import preprocess

BATCH_WINDOWS = 32  # in memory at once, as pixels
Pixels = NDArray[np.uint8] | Vectors


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """Vectors at places of one kind, on a grid that need not be even."""

    rows: FloatArray  # [r] pixels from the top, of the places' middles
    columns: FloatArray  # [c] pixels from the left
    side: float  # pixels that a place covers
    vectors: Vectors  # [r c d], of unit length


class DenseEncoder(Protocol):
    """What is asked of a model."""

    @property
    def config(self) -> ModelConfig: ...
    def encode_pixels(self, pixels: Pixels) -> Vectors: ...
    def encode_dense(self, pixels: Pixels) -> Vectors: ...


def dense_features(image: Image.Image, model: DenseEncoder, settings: LocateSettings) -> Iterator[DenseFeatures]:
    """The places of an RGB image at each of the settings' scales."""
    config = model.config
    for scale in settings.scales:
        grid = window_grid(image.width, image.height, scale, settings.stride)
        if settings.method == "windows":
            vectors = _encoded(image, grid, config, model.encode_pixels)
            half = grid.side / 2
            yield DenseFeatures(
                grid.tops + half, grid.lefts + half, grid.side, vectors.reshape(len(grid.tops), len(grid.lefts), -1)
            )
        else:
            vectors = _encoded(image, grid, config, model.encode_dense)
            yield _of_patches(vectors, grid, config.vision.grid)


def _encoded(image: Image.Image, grid: WindowGrid, config: ModelConfig, encode: Callable[[Pixels], Vectors]) -> Vectors:
    """What `encode` makes of each window: [r*c ...]"""
    boxes = grid.boxes
    parts = []
    for start in range(0, len(boxes), BATCH_WINDOWS):
        pixels = np.stack([cut(image, box, config) for box in boxes[start : start + BATCH_WINDOWS]])
        parts.append(encode(pixels))
    return np.concatenate(parts)


def cut(image: Image.Image, box: tuple[float, float, float, float], config: ModelConfig) -> NDArray[np.uint8]:
    """The pixels of a window as the model reads them, uint8 of `pixel_shape`."""
    preprocessing = config.preprocessing
    if preprocessing.makes_patches:
        return preprocess(image.crop(box), preprocessing)
    size = preprocessing.image_size
    resample = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}.get(
        preprocessing.interpolation, Image.Resampling.BICUBIC
    )
    left, top, right, bottom = box
    inside = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    return np.asarray(image.resize((size, size), resample, box=inside))


def _of_patches(vectors: Vectors, grid: WindowGrid, patches: int) -> DenseFeatures:
    """The patches of windows [r*c g*g d] as one grid of places."""
    middles = (np.arange(patches) + 0.5) * (grid.side / patches)
    rows, columns = ((starts[:, None] + middles).ravel() for starts in (grid.tops, grid.lefts))
    split = vectors.reshape(len(grid.tops), len(grid.lefts), patches, patches, -1)
    joined = split.transpose(0, 2, 1, 3, 4).reshape(len(rows), len(columns), -1)
    return DenseFeatures(rows, columns, grid.side / patches, joined)
