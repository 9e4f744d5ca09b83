"""GET /v1/map: every image's coordinates on a map of the collection, and named clusters."""

from typing import Annotated

from fastapi import Query
from fastapi.responses import JSONResponse, Response

from tandem.serve.collections.handle import OpenCollection
from tandem.serve.collections.map_documents import map_document
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.service import Service


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["server"])

    @routes.get("/v1/map", summary="Every image's coordinates on a map, and named clusters; 202 while it is computed")
    async def the_map(collection: Annotated[str | None, Query(max_length=256)] = None) -> Response:
        name = service.registry.get(collection).name

        def work(leased: OpenCollection) -> bytes | None:
            state = (leased.encoder.model.fingerprint, leased.collection.count())
            store, model = leased.collection.store, leased.encoder.background_model
            return service.maps.get(name, state, lambda: map_document(store, model))

        document = await service.registry.run(name, work)
        if document is None:
            return JSONResponse({"status": "computing"}, 202, headers={"Retry-After": "1"})
        return Response(document, media_type="application/json")

    return routes
