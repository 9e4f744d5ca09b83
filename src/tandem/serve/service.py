"""What the routes of one server share: settings, collections, encoders, and pictures of requests -> vectors.

Knows what is joined, and no routes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request

from tandem import prompts
from tandem.arrays import Vectors
from tandem.model import Model
from tandem.serve.collections.map_documents import MapDocuments
from tandem.serve.collections.registry import Shelf
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.encoding.fetching import Fetcher
from tandem.serve.encoding.images import PictureReader
from tandem.serve.http import bodies
from tandem.serve.http.problems import ProblemError
from tandem.serve.http.schemas import RequestBody
from tandem.serve.metrics import Metrics
from tandem.serve.settings import Settings

_Asked = TypeVar("_Asked", bound=RequestBody)
DECODE_QUEUE_OF_BATCHES = 4  # a queue of decoding holds this many requests of the largest size


@dataclass
class Service:
    """Made by `open_service`, closed by whoever serves."""

    settings: Settings
    metrics: Metrics
    shelf: Shelf
    maps: MapDocuments = field(default_factory=MapDocuments)
    fetcher: Fetcher | None = None
    _readers: dict[int, PictureReader] = field(default_factory=dict)

    async def read(self, request: Request, shape: type[_Asked]) -> bodies.Body[_Asked]:
        """The body of a request, within this server's limits. Raises `ProblemError`."""
        return await bodies.read(request, shape, self.settings)

    def reader(self, encoder: Encoder) -> PictureReader:
        """Of pictures as this encoder's model wants them."""
        found = self._readers.get(id(encoder))
        if found is None:
            model = encoder.model
            limits = replace(model.limits, max_pixels=self.settings.max_pixels, max_bytes=self.settings.max_body_bytes)
            found = self._readers[id(encoder)] = PictureReader(
                model.config.preprocessing,
                limits=limits,
                orient=model.orient,
                queue=DECODE_QUEUE_OF_BATCHES * self.settings.max_batch,
                fetcher=self.fetcher,
            )
        return found

    async def embed_image(self, encoder: Encoder, value: str | bytes, name: str = "image") -> Vectors:
        """[d]. Raises `ProblemError`."""
        pixels = await self.reader(encoder).read_picture(value, name)
        vectors = await encoder.embed_pixels([pixels])
        return np.asarray(vectors[0])

    async def embed_images(
        self, encoder: Encoder, values: Sequence[str | bytes], names: Sequence[str]
    ) -> list[Vectors | ProblemError]:
        """In order; what is wrong with one stands in its place."""
        read = await self.reader(encoder).read_pictures(values, names)
        good = [pixels for pixels in read if not isinstance(pixels, ProblemError)]
        vectors = iter(await encoder.embed_pixels(good) if good else ())
        return [each if isinstance(each, ProblemError) else next(vectors) for each in read]

    async def class_vectors(self, encoder: Encoder, labels: list[str], templates: str | list[str] | None) -> Vectors:
        """A vector for each label [c d]. Raises `ProblemError` for more than the server takes at once."""
        chosen = prompts.check_templates(prompts.DEFAULT_TEMPLATE if templates is None else templates)
        self.check_texts([*labels, *chosen], "labels and templates")
        if len(labels) * len(chosen) > 16 * self.settings.max_batch:
            detail = f"labels times templates: expected at most {16 * self.settings.max_batch:,} sentences"
            raise ProblemError(413, "Too many at once", detail)
        return await encoder.class_vectors(labels, chosen)

    def check_texts(self, texts: Sequence[str], what: str) -> None:
        """Raises `ProblemError` 413 for one that is too long."""
        for text in texts:
            bodies.check_length(text, what, self.settings.max_text_letters)

    def measure(self) -> None:
        """Write down what changes by itself, for those who read the metrics now."""
        queues = {
            "text": sum(len(encoder.texts) for encoder in self.shelf.encoders),
            "picture": sum(len(encoder.pictures) for encoder in self.shelf.encoders),
            "decoding": sum(reader.pending for reader in self._readers.values()),
            "store": self.shelf.pending,
        }
        for name, length in queues.items():
            self.metrics.queue.labels(name).set(length)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self.shelf.close()


def open_service(
    settings: Settings,
    collections: Sequence[str],
    *,
    model: str | Path | Model | None = None,
    loading: dict[str, Any] | None = None,
) -> Service:
    """Load what is to be served. Raises `TandemError` for what cannot be."""
    metrics = Metrics()
    fetcher = Fetcher.of(settings.allow_fetch, max_bytes=settings.max_body_bytes) if settings.allow_fetch else None
    shelf = Shelf(
        [str(url) for url in collections],
        lambda loaded: Encoder(loaded, settings, metrics),
        model=model,
        loading=loading,
        threads=settings.store_threads,
        scan_threads=settings.scan_threads,
        server_threads=settings.server_threads,
        queue=settings.store_queue,
    )
    service = Service(settings, metrics, shelf, fetcher=fetcher)
    try:
        shelf.open_all()
    except BaseException:
        service.close()
        raise
    return service
