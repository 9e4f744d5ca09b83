"""The states of an image's tokens, as other models take them: an image tower as their backbone.

Knows arrays, grids and layers, and how a model streams images; no files, and no arithmetic of the towers.

Shapes: n images, p tokens of an image (patches or positions, and perhaps a class token), w width, d shared dimension.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.config import ModelConfig
from tandem.defaults import BATCH_SIZE
from tandem.engine import Engine
from tandem.errors import ImageError, TandemError
from tandem.image import ImageSource, many

Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImageStates:
    """The states of images after one layer of the image tower, float32. Those of one image have no axis n."""

    states: Vectors  # [n p w]: the class token first where there is one, then the grid row by row
    grid: tuple[int, int]  # rows, columns
    layer: int  # as it was asked for
    has_class_token: bool = False

    def __post_init__(self) -> None:
        rows, columns = self.grid
        if self.states.ndim not in (2, 3) or self.states.shape[-2] != rows * columns + self.has_class_token:
            token = " and a class token" if self.has_class_token else ""
            raise TandemError(f"states: expected [n p w] with a grid of {rows} x {columns}{token}, got {self._shape()}")

    @property
    def patches(self) -> Vectors:
        """The states of the patches (a ResNet's positions) on their grid: [n rows columns w]."""
        return self.patch_tokens.reshape(*self.states.shape[:-2], *self.grid, self.states.shape[-1])

    @property
    def patch_tokens(self) -> Vectors:
        """The same in a row, which is `states` without the class token: [n rows*columns w]."""
        return self.states[..., int(self.has_class_token) :, :]

    @property
    def class_token(self) -> Vectors | None:
        """The state of the class token [n w]; None for a tower that has none."""
        return self.states[..., 0, :] if self.has_class_token else None

    def without_class_token(self) -> "ImageStates":
        """The same states without the class token."""
        return replace(self, states=self.patch_tokens, has_class_token=False)

    def __repr__(self) -> str:
        token = " and a class token" if self.has_class_token else ""
        return f"<ImageStates {self._shape()}: layer {self.layer}, {self.grid[0]} x {self.grid[1]} patches{token}>"

    def _shape(self) -> str:
        return "[" + " ".join(map(str, self.states.shape)) + "]"


class ImageBackbone(ABC):
    """What a model offers as a backbone: the states of its image tower, of a few images or of a stream."""

    engine: Engine

    @property
    @abstractmethod
    def config(self) -> ModelConfig:
        """What the model is."""

    @abstractmethod
    def _encoded_batches(
        self, sources: Iterable[ImageSource], batch_size: int, encode: Callable[[Pixels], Vectors] | None = None
    ) -> Iterator[list[tuple[int, Vectors | ImageError]]]:
        """Decode images ahead of `encode` ([n h w 3] -> a row for each); with each row, or error, its index."""

    @abstractmethod
    def _finite(self, vectors: Vectors) -> Vectors:
        """The same, all finite. Raises `EngineError`."""

    def image_states(
        self,
        sources: ImageSource | Iterable[ImageSource],
        *,
        layer: int = -2,
        norm: bool | None = None,
        projection: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> ImageStates:
        """The state of every token of images: `states` float32 [n p w], with `patches`, `class_token` and `grid`.

        Args:
            layer: counted as in `text_states` and transformers' `hidden_states`: 0 is the embedding, k the state after
                k blocks, -2 before the last block. -1 is the end of the tower, with the last norm. A ResNet counts
                its stages; 0 is the stem.
            norm: whether the last norm follows. None: at layer -1 and before a projection only.
            projection: project every token into the space of the vectors, [n p d], not to unit length.
            batch_size: how many images are encoded at once.

        Raises `ImageError` for the first image that cannot be read, and `EngineError` for a layer, a norm or a
        projection that the image tower does not have.
        """
        empty = self._no_states(layer, norm, projection)
        some: list[Vectors] = []
        for _, item in self.iter_image_states(
            sources, layer=layer, norm=norm, projection=projection, batch_size=batch_size
        ):
            if isinstance(item, ImageError):
                raise item
            some.append(item.states)
        return replace(empty, states=np.stack(some)) if some else empty

    def iter_image_states(
        self,
        sources: ImageSource | Iterable[ImageSource],
        *,
        layer: int = -2,
        norm: bool | None = None,
        projection: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[tuple[int, "ImageStates | ImageError"]]:
        """`image_states` as a stream: yields each image's index and its states [p w], or its `ImageError`.

        Images are decoded in threads ahead of the tower, and none is kept: memory does not grow with their number.
        """
        empty = self._no_states(layer, norm, projection)  # refuses now what the first batch would refuse

        def encode(pixels: Pixels) -> Vectors:
            return self._finite(self.engine.image_states(pixels, layer, norm=norm, projection=projection))

        def stream() -> Iterator[tuple[int, ImageStates | ImageError]]:
            for batch in self._encoded_batches(many(sources), batch_size, encode):
                for index, item in batch:
                    # A copy: states that are kept do not keep those of their whole batch
                    yield index, item if isinstance(item, ImageError) else replace(empty, states=item.copy())

        return stream()

    def _no_states(self, layer: int, norm: bool | None, projection: bool) -> ImageStates:
        """The states of no images. Raises `EngineError` for what the image tower does not have."""
        vision = self.config.vision
        pixels = np.empty((0, *self.config.preprocessing.pixel_shape), np.uint8)
        states = self.engine.image_states(pixels, layer, norm=norm, projection=projection)
        layout = vision.state_layout(layer if layer >= 0 else vision.state_layers + 1 + layer)
        return ImageStates(states, (layout.rows, layout.columns), layer, layout.class_token)
