"""What is served and how it fares: /v1/models, /v1/collections, /v1/map, /healthz, /readyz, /metrics, /docs."""

import asyncio
import time
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response

from tandem import __version__
from tandem.errors import TandemError
from tandem.serve import metrics, problems
from tandem.serve.docs_page import docs_page
from tandem.serve.map_documents import map_document
from tandem.serve.problems import ProblemError
from tandem.serve.service import Service
from tandem.serve.shelf import Opened

_PROBE = "a photo"


def router(service: Service, application: FastAPI) -> APIRouter:
    """The routes of one server."""
    routes = APIRouter(tags=["server"])

    @routes.get("/v1/models", summary="The models that answer here")
    async def models() -> dict[str, Any]:
        data = [
            {
                "id": encoder.model.name,
                "object": "model",
                "owned_by": "tandem",
                "fingerprint": encoder.model.fingerprint,
                "dimensions": encoder.model.config.embed_dim,
                "image_size": encoder.model.config.vision.image_size,
                "context_length": encoder.context_length,
                "precision": encoder.engine.precision,
                "device": encoder.engine.device,
            }
            for encoder in service.shelf.encoders
        ]
        return {"object": "list", "data": data}

    @routes.get("/v1/collections", summary="The collections that are served, the default one first")
    async def collections() -> dict[str, Any]:
        data = [await _collection(service, name) for name in service.shelf.collections]
        return {"object": "list", "data": data}

    @routes.get("/v1/map", summary="Every picture's place on a map, and named clusters; 202 while it is computed")
    async def the_map(collection: Annotated[str | None, Query(max_length=256)] = None) -> Response:
        name = service.shelf.named(collection).name

        def question(used: Opened) -> bytes | None:
            state = (used.encoder.model.fingerprint, used.collection.count())
            store, model = used.collection.store, used.encoder.model
            return service.maps.get(name, state, lambda: map_document(store, model))

        document = await service.shelf.ask_of(name, question)
        if document is None:
            return JSONResponse({"status": "computing"}, 202, headers={"Retry-After": "1"})
        return Response(document, media_type="application/json")

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
        for name in service.shelf.collections:
            try:
                service.metrics.pictures.labels(name).set((await _collection(service, name))["count"])
            except (ProblemError, TandemError):
                continue  # a collection that cannot be asked has no size now
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(application.openapi()))

    return routes


async def _collection(service: Service, name: str) -> dict[str, Any]:
    def question(used: Opened) -> dict[str, Any]:
        model = used.encoder.model
        return {
            "name": name,
            "count": used.collection.count(),
            "model": model.name,
            "fingerprint": model.fingerprint,
            "calibrated": used.collection.fit is not None,
        }

    return await service.shelf.ask_of(name, question)


async def _probe(service: Service) -> dict[str, Any]:
    """Each encoder's both towers, past the memory of sentences, and each collection."""
    for encoder in service.shelf.encoders:
        size = encoder.model.config.vision.image_size
        await asyncio.gather(
            encoder.embed_pixels([np.zeros((size, size, 3), np.uint8)]),
            encoder.texts.map(encoder.rows([_PROBE]), deadline_s=service.settings.ready_deadline_s),
        )
    for name in service.shelf.collections:
        await service.shelf.ask_of(name, lambda used: len(used.collection.search(_PROBE, k=1)))
    return {"models": len(service.shelf.encoders), "collections": len(service.shelf.collections)}
