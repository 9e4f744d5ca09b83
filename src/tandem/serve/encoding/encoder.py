"""A model behind its image reader and its two batchers: the only access of a server to an engine.

`Encoder` has async methods for routes, whose vectors are then used to query collections. `model` is for
threads that may wait, such as those that index: the same model, with the batchers as its engine. `background_model` is
for what nobody waits for, such as a map: people come first.
Knows models, batches and the images of requests; no routes, no stores.

Shapes: n images or texts, h height, w width, t tokens, d shared dimension.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem import prompts
from tandem.arrays import Vectors
from tandem.class_vectors import averaged
from tandem.defaults import LongTexts
from tandem.errors import ImageError
from tandem.model import Model
from tandem.serve.encoding.batching import Batcher
from tandem.serve.encoding.fetching import Fetcher
from tandem.serve.encoding.images import ImageReader
from tandem.serve.encoding.text_reader import Row, TextReader
from tandem.serve.metrics import Metrics
from tandem.serve.settings import Settings

CACHED_CHARACTERS = 1000  # of a text; longer ones are hardly sent twice
CACHED_TEXTS = 4096  # for a page that searches while the user types: 8 MB at 512 dimensions
BACKGROUND_DEADLINE_S = 3600.0
DECODED_BYTES_A_PIXEL = 6.0  # of memory while an image of the most pixels is decoded; smaller ones may take more
DECODE_QUEUE_BATCHES = 4  # the decoding queue holds this many requests of the largest size

Pixels = NDArray[np.uint8] | NDArray[np.float32]


class Encoder:
    """Vectors for the texts and images of many requests at once."""

    reader: ImageReader

    def __init__(self, model: Model, settings: Settings, metrics: Metrics, fetcher: Fetcher | None = None) -> None:
        """`model` belongs to the encoder from now on: nobody else may compute with its engine."""
        self.engine = model.engine
        self._direct = model  # whose engine computes at once, in the batchers' threads alone
        self.tokenizer = model.tokenizer
        self.pad_id = model.tokenizer.pad_id
        self.context_length = model.config.text.context_length
        self.deadline_s = settings.deadline_s
        batches = partial(
            Batcher,
            max_size=settings.batch_size,
            max_wait_s=settings.batch_wait_s,
            max_queue_s=settings.queue_wait_s,
        )
        self.texts: Batcher[Row, Vectors] = batches(
            "texts", self._encode_texts, max_queue=settings.text_queue, observe=metrics.observe_batch("text")
        )
        self.images: Batcher[Pixels, Vectors] = batches(
            "images",
            self._encode_images,
            max_queue=settings.image_queue,
            observe=metrics.observe_batch("image"),
            on_their_way=lambda: self.reader.pending,
        )
        self.text_reader = TextReader(model.tokenizer, self.context_length, settings)
        limits = replace(
            model.limits,
            max_pixels=settings.max_pixels,
            max_decoded_bytes=int(settings.max_pixels * DECODED_BYTES_A_PIXEL),
            max_bytes=settings.max_body_bytes,
            slow_formats=settings.slow_formats,
        )
        self.reader = ImageReader(
            model.config.preprocessing,
            limits=limits,
            orient=model.orient,
            queue=DECODE_QUEUE_BATCHES * settings.max_batch,
            fetcher=fetcher,
        )
        self._cache: OrderedDict[tuple[str, LongTexts], Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self.model = _for_threads(model, self)
        self.background_model = _for_threads(model, self, background=True)
        self.model.limits = self.background_model.limits = self.reader.limits

    async def embed_texts(self, texts: Sequence[str], names: Sequence[str], long: LongTexts = "error") -> Vectors:
        """[n d] of texts of a request, called `names` in errors.

        Raises `ProblemError` 422 for one that is too long, and 413 for more than the server takes at once.
        """
        self.text_reader.check(texts, names, long)
        cached = self._cached(texts, long)
        missing: dict[str, str] = {}
        for text, name in zip(texts, names, strict=True):
            if text not in cached:
                missing.setdefault(text, name)
        if missing:
            cached |= self._add_to_cache(list(missing), long, await self._embed(missing, long))
        return np.stack([cached[text] for text in texts])

    async def _embed(self, texts: Mapping[str, str], long: LongTexts) -> Sequence[Vectors]:
        """A vector [d] for each text; the values are their names in errors."""
        if long == "split":
            parts = await self.text_reader.parts(list(texts), list(texts.values()))
            rows = [self.tokenizer.rows([ids])[0] for ids in parts.ids]
            vectors = await self.texts.map(rows, deadline_s=self.deadline_s)
            return list(parts.average(np.stack(vectors)))
        rows = await self.text_reader.rows(list(texts), list(texts.values()), truncate=long == "truncate")
        return await self.texts.map(rows, deadline_s=self.deadline_s)

    async def embed_image(self, value: str | bytes, name: str = "image") -> Vectors:
        """[d] of an image of a request, called `name` in errors. Raises `ImageError`."""
        pixels = await self.reader.read_image(value, name)
        vectors = await self.embed_pixels([pixels])
        return np.asarray(vectors[0])

    async def embed_images(self, values: Sequence[str | bytes], names: Sequence[str]) -> list[Vectors | ImageError]:
        """In order; an image that cannot be read has its error in its place."""
        read = await self.reader.read_images(values, names)
        good = [pixels for pixels in read if not isinstance(pixels, ImageError)]
        vectors = iter(await self.embed_pixels(good) if good else ())
        return [each if isinstance(each, ImageError) else next(vectors) for each in read]

    async def class_vectors(
        self, labels: Sequence[str], templates: Sequence[str], long: LongTexts = "error"
    ) -> Vectors:
        """A vector for each label [c d], as `Model.class_vectors`, whose own cache would block the caller."""
        texts = [text for label in labels for text in prompts.fill(label, templates)]
        many = len(templates) > 1
        names = [
            f"labels[{i}]" + (f" in templates[{j}]" if many else "")
            for i in range(len(labels))
            for j in range(len(templates))
        ]
        return averaged((await self.embed_texts(texts, names, long)).reshape(len(labels), len(templates), -1))

    async def embed_pixels(self, pixels: Sequence[Pixels]) -> Vectors:
        """Images of the model's size, each [h w 3] -> [n d]."""
        return np.stack(await self.images.map(pixels, deadline_s=self.deadline_s))

    def _cached(self, texts: Iterable[str], long: LongTexts) -> dict[str, Vectors]:
        with self._lock:
            found = {text: self._cache[text, long] for text in texts if (text, long) in self._cache}
            for text in found:
                self._cache.move_to_end((text, long))
        return found

    def _add_to_cache(self, texts: Sequence[str], long: LongTexts, vectors: Sequence[Vectors]) -> dict[str, Vectors]:
        computed = dict(zip(texts, vectors, strict=True))
        with self._lock:
            short = {text: vector for text, vector in computed.items() if len(text) <= CACHED_CHARACTERS}
            self._cache.update({(text, long): vector for text, vector in short.items()})
            while len(self._cache) > CACHED_TEXTS:
                self._cache.popitem(last=False)
        return computed

    def close(self) -> None:
        """Finish the batches that have begun; waiting items get `ClosedError`."""
        self.reader.close()
        self.text_reader.close()
        self.texts.close()
        self.images.close()

    def _encode_texts(self, rows: list[Row]) -> Sequence[Vectors]:
        padded = np.full((len(rows), max(len(row) for row in rows)), self.pad_id, np.int32)  # [n t]
        for index, row in enumerate(rows):
            padded[index, : len(row)] = row
        return _rows(self._direct.encode_token_ids(padded))

    def _encode_images(self, pixels: list[Pixels]) -> Sequence[Vectors]:
        together: Pixels = np.stack(pixels)  # type: ignore[assignment]  # all of one type: readers give uint8
        return _rows(self._direct.encode_pixels(together))


def _rows(vectors: Vectors) -> Sequence[Vectors]:
    return [row.copy() for row in vectors]  # a cached row must not keep its whole batch in memory


def _for_threads(model: Model, encoder: Encoder, *, background: bool = False) -> Model:
    """The same model and its caches, with an engine that waits in the batchers' queues."""
    waiting = copy.copy(model)
    waiting.engine = _BatchedEngine(encoder, background=background)
    waiting.hides_source = True
    return waiting


class _BatchedEngine:
    """An engine that computes through the batchers. For threads that may wait."""

    def __init__(self, encoder: Encoder, *, background: bool) -> None:
        self._encoder = encoder
        self._background = background
        self.config = encoder.engine.config
        self.name = encoder.engine.name
        self.device = encoder.engine.device
        self.precision = encoder.engine.precision

    def encode_images(self, pixels: Pixels, *, normalize: bool = True) -> Vectors:
        if not normalize:
            raise NotImplementedError("a server returns vectors of unit length")
        return self._through(self._encoder.images, pixels)

    def encode_texts(self, token_ids: NDArray[np.int32], *, normalize: bool = True) -> Vectors:
        if not normalize:
            raise NotImplementedError("a server returns vectors of unit length")
        return self._through(self._encoder.texts, token_ids)

    def text_states(self, token_ids: NDArray[np.int32], layer: int = -1, *, norm: bool | None = None) -> Vectors:
        raise NotImplementedError("a server does not return the states of tokens")

    def image_states(
        self, pixels: Pixels, layer: int = -2, *, norm: bool | None = None, projection: bool = False
    ) -> Vectors:
        raise NotImplementedError("a server does not return the states of tokens")

    def encode_dense(self, pixels: Pixels) -> Vectors:
        return self._encoder.engine.encode_dense(pixels)  # one image's windows, which are a batch already

    def _through(self, batcher: Batcher[Any, Vectors], items: NDArray[Any]) -> Vectors:
        deadline_s = BACKGROUND_DEADLINE_S if self._background else self._encoder.deadline_s
        return np.stack(batcher.map_from_thread(list(items), deadline_s=deadline_s, background=self._background))

    def release(self) -> None:
        """Does nothing: the batchers' engine stays ready."""
