"""Preprocessed images and token ids to vectors that are finite. Knows an engine; no files, no decoding, no tokenizer.

Shapes: n images or texts, p patches or positions, t tokens, d the shared dimension.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.engine import Engine, OverlappingEngine
from tandem.errors import EngineError

_Result = TypeVar("_Result")


class Encoder(ABC):
    """What a model computes of arrays that are ready."""

    engine: Engine

    @property
    @abstractmethod
    def name(self) -> str:
        """What the model is called in messages."""

    def encode_pixels(self, pixels: NDArray[np.uint8] | Vectors, *, normalize: bool = True) -> Vectors:
        """Preprocessed images [n h w 3] -> [n d]. Raises `EngineError` for vectors that are not finite.

        normalize: False leaves them at the length that the tower gives them, as other libraries' `encode_image` does.
        """
        options = {} if normalize else {"normalize": False}  # engines of others may know unit vectors only
        return self._finite(self.engine.encode_images(pixels, **options))

    def begin_pixels(self, pixels: NDArray[np.uint8] | Vectors) -> Callable[[], Vectors]:
        """`encode_pixels`, in two steps: what this returns waits for the vectors, and raises what encoding raises.

        Where the engine overlaps batches, the next one can be begun before this one's vectors are asked for; see
        `finished`. Where it does not, they are computed when they are asked for.
        """
        if not self.overlaps:
            return partial(self.encode_pixels, pixels)
        assert isinstance(self.engine, OverlappingEngine)
        finish = self.engine.begin_images(pixels)
        return lambda: self._finite(finish())

    @property
    def overlaps(self) -> bool:
        """Whether the engine takes the next batch while it computes this one: on CUDA."""
        return isinstance(self.engine, OverlappingEngine) and self.engine.overlaps

    def finished(self, begun: Iterable[Callable[[], _Result]]) -> Iterator[_Result]:
        """The result of each batch that is begun, in order: a batch behind where the engine overlaps them."""
        waiting: deque[Callable[[], _Result]] = deque()
        for finish in begun:
            waiting.append(finish)
            if len(waiting) > self.overlaps:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()

    def encode_token_ids(self, token_ids: NDArray[np.int32], *, normalize: bool = True) -> Vectors:
        """Tokenized texts [n t] -> [n d]; `normalize` as above. Equal texts are encoded once.

        Raises `EngineError` for vectors that are not finite.
        """
        options = {} if normalize else {"normalize": False}
        distinct = _distinct(token_ids)
        if distinct is None:
            return self._finite(self.engine.encode_texts(token_ids, **options))
        rows, places = distinct
        try:
            vectors = self.engine.encode_texts(token_ids[rows], **options)
        except EngineError:  # which may name a row: of those that were given
            vectors = self.engine.encode_texts(token_ids, **options)
            return self._finite(vectors)
        return self._finite(vectors)[places]

    def encode_dense(self, pixels: NDArray[np.uint8] | Vectors) -> Vectors:
        """Preprocessed images [n h w 3] -> a unit vector for each patch or position, row by row, [n p d].

        Patches by NACLIP (Hajimiri et al. 2024), a ResNet's positions by its attention pool. Raises `EngineError` for
        image towers that give their patches no vectors of their own.
        """
        return self._finite(self.engine.encode_dense(pixels))

    def _finite(self, vectors: Vectors) -> Vectors:
        """Raise `EngineError` for vectors that are not finite; every vector passes through here."""
        if not np.isfinite(vectors).all():
            raise EngineError(
                f"{self.name}: its vectors are not finite; the weights are damaged, or overflow in "
                f"{self.engine.precision}: try precision float32"
            )
        return vectors


def _distinct(token_ids: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """The first row of each different text, and for every text which of these it is; None where no text is repeated."""
    if not isinstance(token_ids, np.ndarray) or token_ids.ndim != 2 or len(token_ids) < 2 or not token_ids.shape[1]:
        return None
    whole = np.ascontiguousarray(token_ids)
    as_bytes = whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1])))[:, 0]
    _, first, place = np.unique(as_bytes, return_index=True, return_inverse=True)
    if len(first) == len(whole):
        return None
    order = np.argsort(first)  # the texts stay in the order in which they came
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[place]
