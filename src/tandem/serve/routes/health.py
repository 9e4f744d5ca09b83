"""GET /healthz, /readyz and /metrics: whether the process lives, whether it answers, and how it fares."""

import asyncio
import logging
import time
from typing import Any

import numpy as np
from fastapi.responses import JSONResponse, Response

from tandem import __version__
from tandem.errors import TandemError
from tandem.search.query import SearchQuery
from tandem.serve import metrics, searching
from tandem.serve.encoding.batching import ClosedError, QueueFullError
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.http import problems
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError
from tandem.serve.service import Service

_PROBE = "a photo"
PROBED_EVERY_S = 0.2  # health checks need no key: however many there are, they are answered by that many probes

_log = logging.getLogger(__name__)


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["server"])

    @routes.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    probes = _Probes(service)

    @routes.get("/readyz", summary="Whether it answers: a real inference and a real search, within a deadline")
    async def readyz() -> JSONResponse:
        began = time.monotonic()
        checked = await probes.result()
        return JSONResponse({"status": "ready", "seconds": round(time.monotonic() - began, 4), **checked})

    @routes.get("/metrics", summary="Prometheus' text format", response_class=Response)
    async def the_metrics() -> Response:
        service.measure()
        for name in service.registry.collections:
            try:
                service.metrics.images.labels(name).set((await service.registry.describe(name))["count"])
            except (ProblemError, TandemError):
                continue  # a collection that cannot be read has no size now
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    return routes


class _Probes:
    """One probe at a time, whose result all who ask meanwhile share."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._running: asyncio.Task[dict[str, Any]] | None = None
        self._began = float("-inf")

    async def result(self) -> dict[str, Any]:
        """What was found of a probe that began when this was called, or shortly before. Raises `ProblemError` 503."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._probe())
        return await asyncio.shield(self._running)

    async def _probe(self) -> dict[str, Any]:
        wait_s = self._began + PROBED_EVERY_S - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._began = time.monotonic()
        deadline_s = self._service.settings.ready_deadline_s
        if self._service.keys is not None and self._service.keys.is_broken():
            raise ProblemError(503, "Not ready", "the file of API keys cannot be read; see the server's log")
        try:
            async with asyncio.timeout(deadline_s):
                return await _probe(self._service)
        except TimeoutError:
            raise ProblemError(503, "Not ready", f"no answer within {deadline_s:g} s") from None
        except (ProblemError, TandemError, QueueFullError, ClosedError) as error:
            raise ProblemError(503, "Not ready", _detail(error)) from None
        except Exception as error:  # whatever it is, a request would have met it too
            _log.error("the server is not ready", exc_info=error)
            raise ProblemError(503, "Not ready", _detail(error)) from None


async def _probe(service: Service) -> dict[str, Any]:
    """Both towers of each encoder, past its cache of texts, and each collection; all but the first may fail."""
    encoders = await service.registry.encoders()
    for encoder in encoders:
        shape = encoder.model.config.preprocessing.pixel_shape
        pixels = encoder.embed_pixels([np.zeros(shape, np.uint8)])
        vectors = await asyncio.gather(pixels, _encode(encoder, service.settings.ready_deadline_s))
        if not all(np.isfinite(each).all() for each in vectors):
            raise ProblemError(503, "Not ready", f"{encoder.model.name} gives vectors that are not finite")
    unavailable: dict[str, str] = {}
    for index, name in enumerate(service.registry.collections):
        try:
            found = await searching.answer(service, SearchQuery(text=_PROBE), name, {})
            JSONResponse(found)  # what cannot be written is no answer
        except Exception as error:  # whatever it is, people meet it too
            if not index:
                raise  # without the default one, requests that name none fail
            unavailable[name] = _detail(error)
    answering = len(service.registry.collections) - len(unavailable)
    return {"models": len(encoders), "collections": answering, "unavailable": unavailable}


async def _encode(encoder: Encoder, deadline_s: float) -> Any:
    rows = await encoder.text_reader.rows([_PROBE], ["probe"])
    return np.stack(await encoder.texts.map(rows, deadline_s=deadline_s))


def _detail(error: Exception) -> str:
    if isinstance(error, ProblemError):
        return error.detail
    if isinstance(error, TandemError):
        return problems.from_error(error).detail
    if isinstance(error, QueueFullError):
        return str(error)
    return "a search cannot be answered; see the server's log"
