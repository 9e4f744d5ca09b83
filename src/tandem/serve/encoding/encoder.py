"""A model behind its two batchers: the only way in which a server reaches an encoder.

`Encoder` has async verbs for routes; collections are asked with the vectors that these give. `model` is for threads
that may wait, as those that index or lay out a map: the same model, whose engine is the batchers. Knows models and
batches; no HTTP, no stores.

Shapes: n pictures or sentences, h height, w width, t tokens, d shared dimension.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tandem import prompts
from tandem.arrays import Vectors
from tandem.model import Model, averaged
from tandem.serve.encoding.batching import Batcher
from tandem.serve.metrics import Metrics
from tandem.serve.settings import Settings

REMEMBERED_SENTENCES = 4096  # of a page that searches while its reader types: 8 MB at 512 dimensions

Row = NDArray[np.int32]
Pixels = NDArray[np.uint8] | NDArray[np.float32]


class Encoder:
    """Vectors for sentences and pictures of many requests at once."""

    def __init__(self, model: Model, settings: Settings, metrics: Metrics) -> None:
        """`model` is the encoder's from now on: nobody else may compute with its engine."""
        self.engine = model.engine
        self.tokenizer = model.tokenizer
        self.pad_id = model.tokenizer.pad_id
        self.context_length = model.config.text.context_length
        self.deadline_s = settings.deadline_s
        self.texts: Batcher[Row, Vectors] = Batcher(
            "texts",
            self._encode_texts,
            max_size=settings.batch_size,
            max_wait_s=settings.batch_wait_s,
            max_queue=settings.text_queue,
            max_queue_s=settings.queue_wait_s,
            observe=metrics.observe_batch("text"),
        )
        self.pictures: Batcher[Pixels, Vectors] = Batcher(
            "pictures",
            self._encode_pictures,
            max_size=settings.batch_size,
            max_wait_s=settings.batch_wait_s,
            max_queue=settings.picture_queue,
            max_queue_s=settings.queue_wait_s,
            observe=metrics.observe_batch("picture"),
        )
        self._known: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self.model = _for_threads(model, self)

    async def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """[n d]; raises `TextError` for a sentence that is too long."""
        known = self.known(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            vectors = await self.texts.map(self.rows(missing), deadline_s=self.deadline_s)
            known |= self.remember(missing, vectors)
        return np.stack([known[text] for text in texts])

    async def class_vectors(self, labels: Sequence[str], templates: Sequence[str]) -> Vectors:
        """A vector for each label [c d], as `Model.class_vectors`; the model's cache would keep the caller waiting."""
        sentences = [sentence for label in labels for sentence in prompts.fill(label, templates)]
        return averaged((await self.embed_texts(sentences)).reshape(len(labels), len(templates), -1))

    async def embed_pixels(self, pixels: Sequence[Pixels]) -> Vectors:
        """Pictures of the model's size, each [h w 3] -> [n d]."""
        return np.stack(await self.pictures.map(pixels, deadline_s=self.deadline_s))

    def rows(self, texts: Sequence[str]) -> list[Row]:
        """Token ids of each sentence [t], start and end included."""
        ids = self.tokenizer(texts, self.context_length)
        return list(ids)

    def token_count(self, texts: Sequence[str]) -> int:
        """Of all sentences together, start and end included."""
        return sum(len(ids) + 2 for ids in self.tokenizer.encode(texts))

    def known(self, texts: Iterable[str]) -> dict[str, Vectors]:
        """Vectors of sentences that were asked for lately."""
        with self._lock:
            found = {text: self._known[text] for text in texts if text in self._known}
            for text in found:
                self._known.move_to_end(text)
        return found

    def remember(self, texts: Sequence[str], vectors: Sequence[Vectors]) -> dict[str, Vectors]:
        made = dict(zip(texts, vectors, strict=True))
        with self._lock:
            self._known.update(made)
            while len(self._known) > REMEMBERED_SENTENCES:
                self._known.popitem(last=False)
        return made

    def close(self) -> None:
        self.texts.close()
        self.pictures.close()

    def _encode_texts(self, rows: list[Row]) -> Sequence[Vectors]:
        padded = np.full((len(rows), max(len(row) for row in rows)), self.pad_id, np.int32)  # [n t]
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row
        return _checked(self.engine.encode_texts(padded))

    def _encode_pictures(self, pixels: list[Pixels]) -> Sequence[Vectors]:
        together: Pixels = np.stack(pixels)  # type: ignore[assignment]  # all of one type: readers give uint8
        return _checked(self.engine.encode_images(together))


def _checked(vectors: Vectors) -> Sequence[Vectors]:
    if not np.isfinite(vectors).all():
        raise ArithmeticError("vectors that are not finite")
    return [row.copy() for row in vectors]  # a row that is kept must not keep its whole batch


def _for_threads(model: Model, encoder: Encoder) -> Model:
    """The same model, with all that was computed of it, whose engine waits in the batchers' queues."""
    waiting = copy.copy(model)
    waiting.engine = _BatchedEngine(encoder)
    return waiting


class _BatchedEngine:
    """An engine whose two verbs are the batchers'. For threads that may wait."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.config = encoder.engine.config
        self.name = encoder.engine.name
        self.device = encoder.engine.device
        self.precision = encoder.engine.precision

    def encode_images(self, pixels: Pixels) -> Vectors:
        return np.stack(self._encoder.pictures.map_from_thread(list(pixels), deadline_s=self._encoder.deadline_s))

    def encode_texts(self, token_ids: NDArray[np.int32]) -> Vectors:
        return np.stack(self._encoder.texts.map_from_thread(list(token_ids), deadline_s=self._encoder.deadline_s))

    def text_states(self, token_ids: NDArray[np.int32], layer: int = -1) -> Vectors:
        raise NotImplementedError("a server does not give the states of tokens")

    def release(self) -> None:
        """Nothing: the batchers' engine stays ready."""
