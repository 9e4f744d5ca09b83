"""What the routes of a server share: settings, collections, encoders, and checks of requests. Knows no routes."""

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from starlette.requests import Request

from tandem import prompts
from tandem.arrays import Vectors
from tandem.defaults import LongTexts
from tandem.heads.head import Head
from tandem.model import Model
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.collections.map_documents import MapDocuments
from tandem.serve.collections.quotas import Quota, Uploads
from tandem.serve.collections.registry import CollectionRegistry
from tandem.serve.corrections import Corrections
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.encoding.fetching import Fetcher
from tandem.serve.heads import ServedHeads
from tandem.serve.http import bodies, text_limits
from tandem.serve.http.keys import KeyFile
from tandem.serve.http.problems import ProblemError
from tandem.serve.http.schemas import RequestBody
from tandem.serve.metrics import Metrics
from tandem.serve.policies import ServedPolicies
from tandem.serve.settings import Settings

_Params = TypeVar("_Params", bound=RequestBody)
_Prepared = TypeVar("_Prepared")
_Result = TypeVar("_Result")


class LabelsOrHead(Protocol):
    """The fields of requests that take labels or the name of a head."""

    labels: list[str] | None
    head: str | None
    templates: list[str] | str | None
    language: str | None
    long: LongTexts
    independent: bool


@dataclass
class Service:
    """Made by `open_service`; closed by its caller."""

    settings: Settings
    metrics: Metrics
    registry: CollectionRegistry
    maps: MapDocuments = field(default_factory=MapDocuments)
    heads: ServedHeads = field(default_factory=ServedHeads)
    policies: ServedPolicies = field(default_factory=ServedPolicies)
    corrections: Corrections | None = None
    keys: KeyFile | None = None
    parsers: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 2, "tandem-parse"))
    _uploads: dict[Path, Uploads] = field(default_factory=dict)

    def uploads(self, folder: Path) -> Uploads:
        """What a folder of originals holds, and of whom. For the thread that writes; the first time it looks at all."""
        if folder not in self._uploads:
            limits = self.settings
            quota = Quota(limits.upload_images, limits.upload_bytes, limits.uploads_bytes)
            self._uploads[folder] = Uploads(folder, quota)
        return self._uploads[folder]

    async def read(self, request: Request, shape: type[_Params]) -> bodies.Body[_Params]:
        """The body of a request, within this server's limits. Raises `ProblemError`."""
        return await bodies.read(request, shape, self.settings, self.parsers)

    async def ask_with_encoder(
        self,
        name: str,
        prepare: Callable[[Encoder], Awaitable[_Prepared]],
        work: Callable[[OpenCollection, _Prepared], _Result],
        *,
        scan: bool = False,
    ) -> _Result:
        """Query a collection with what its encoder prepares, such as vectors. `scan`: see `CollectionRegistry.run`.

        Repeats both steps once if the collection was migrated to another model in between.
        """
        for _ in range(2):
            encoder = await self.registry.encoder_of(name)
            prepared = await prepare(encoder)

            def ask(
                leased: OpenCollection, encoder: Encoder = encoder, prepared: _Prepared = prepared
            ) -> tuple[_Result] | None:
                return (work(leased, prepared),) if leased.encoder is encoder else None

            answer = await self.registry.run(name, ask, scan=scan)
            if answer is not None:
                return answer[0]
        raise ProblemError(503, "Collection is being migrated", f"{name} is being migrated to another model")

    async def class_vectors(
        self,
        encoder: Encoder,
        labels: list[str],
        templates: str | list[str] | None,
        *,
        language: str | None = None,
        long: LongTexts = "error",
    ) -> Vectors:
        """A vector for each label [c d]. Raises `ProblemError` for more than the server takes at once."""
        chosen = prompts.check_templates(prompts.default_templates(language) if templates is None else templates)
        text_limits.check_filled(labels, chosen, self.settings)
        return await encoder.class_vectors(labels, chosen, long)

    def checked_labels(self, labels: list[str] | None) -> list[str]:
        """The labels of a request, stripped, and counted before they are compared: megabytes of them hold others up.

        Raises `ProblemError` 413 for more than the server takes at once, and `TextError` as `prompts.check_labels`.
        """
        text_limits.check_together(sum(map(len, labels or ())), "labels", self.settings)
        return prompts.check_labels(labels or [])

    def head_of(self, params: LabelsOrHead) -> Head | None:
        """The head that a request names; None for one with labels. Raises `TextError` and `ProblemError`."""
        if params.head is None:
            return None
        prompts.check_labels_or_head(
            params.labels,
            params.head,
            templates=params.templates,
            language=params.language,
            long=params.long,
            independent=params.independent,
        )
        return self.heads.get(params.head)

    def measure(self) -> None:
        """Update the gauges, before the metrics are read."""
        encoders = self.registry.pool.encoders
        self.metrics.encoders.set(len(encoders))
        queues = {
            "text": sum(len(encoder.texts) for encoder in encoders),
            "image": sum(len(encoder.images) for encoder in encoders),
            "decoding": sum(encoder.reader.pending for encoder in encoders),
            "store": self.registry.pending,
        }
        for name, length in queues.items():
            self.metrics.queue.labels(name).set(length)

    def close(self) -> None:
        self.parsers.shutdown(cancel_futures=True)
        self.registry.close()


def open_service(
    settings: Settings,
    collections: Sequence[str],
    *,
    model: str | Path | Model | None = None,
    loading: dict[str, Any] | None = None,
) -> Service:
    """Load the models and open the collections to serve. Raises `TandemError` if one cannot be."""
    keys = None if settings.keys_file is None else KeyFile(settings.keys_file, allow_shared=settings.allow_shared_keys)
    metrics = Metrics()
    fetcher = Fetcher.of(settings.allow_fetch, max_bytes=settings.max_body_bytes) if settings.allow_fetch else None
    registry = CollectionRegistry(
        [str(url) for url in collections],
        lambda loaded: Encoder(loaded, settings, metrics, fetcher),
        settings,
        model=model,
        loading=loading,
    )
    service = Service(settings, metrics, registry, keys=keys)
    try:
        registry.open_all()
        service.heads = ServedHeads.open(settings.heads, (each.model for each in registry.pool.encoders))
        service.policies = ServedPolicies.open(settings.policies, (each.model for each in registry.pool.encoders))
        service.corrections = None if settings.corrections is None else Corrections(settings.corrections)
    except BaseException:
        service.close()
        raise
    return service
