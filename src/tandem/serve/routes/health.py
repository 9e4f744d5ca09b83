"""GET /healthz, /readyz and /metrics: whether the process lives, whether it answers, and how it fares."""

import asyncio
import time
from typing import Any

import numpy as np
from fastapi.responses import JSONResponse, Response

from tandem import __version__
from tandem.errors import TandemError
from tandem.serve import metrics
from tandem.serve.http import problems
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError
from tandem.serve.service import Service

_PROBE = "a photo"


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["server"])

    @routes.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @routes.get("/readyz", summary="Whether it answers: a real inference and a real search, within a deadline")
    async def readyz() -> JSONResponse:
        began = time.monotonic()
        deadline_s = service.settings.ready_deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                checked = await _probe(service)
        except TimeoutError:
            raise ProblemError(503, "Not ready", f"no answer within {deadline_s:g} s") from None
        except ProblemError as problem:
            raise ProblemError(503, "Not ready", problem.detail) from None
        except TandemError as error:
            raise ProblemError(503, "Not ready", problems.from_error(error).detail) from None
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


async def _probe(service: Service) -> dict[str, Any]:
    """Both towers of each encoder, past its cache of texts, and each collection; all but the first may fail."""
    encoders = await service.registry.encoders()
    for encoder in encoders:
        shape = encoder.model.config.preprocessing.pixel_shape
        await asyncio.gather(
            encoder.embed_pixels([np.zeros(shape, np.uint8)]),
            encoder.texts.map(encoder.rows([_PROBE], ["probe"]), deadline_s=service.settings.ready_deadline_s),
        )
    unavailable: dict[str, str] = {}
    for index, name in enumerate(service.registry.collections):
        try:
            await service.registry.run(name, lambda leased: len(leased.collection.search(_PROBE, k=1)))
        except (ProblemError, TandemError) as error:
            if not index:
                raise  # without the default one, requests that name none fail
            problem = error if isinstance(error, ProblemError) else problems.from_error(error)
            unavailable[name] = problem.detail
    answering = len(service.registry.collections) - len(unavailable)
    return {"models": len(encoders), "collections": answering, "unavailable": unavailable}
