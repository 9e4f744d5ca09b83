"""GET /v1/collections: the collections that are served."""

from typing import Any

from tandem.serve.http.openapi import BodyRouter
from tandem.serve.service import Service


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["server"])

    @routes.get("/v1/collections", summary="The collections that are served, the default one first")
    async def collections() -> dict[str, Any]:
        data = [await service.registry.listed(name) for name in service.registry.collections]
        return {"object": "list", "data": data}

    return routes
