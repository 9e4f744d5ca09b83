"""GET /v1/heads: the heads that classify and label take by name."""

from typing import Any

from tandem.serve.http.openapi import BodyRouter
from tandem.serve.service import Service


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["model"])

    @routes.get("/v1/heads", summary="The heads that classify and label take by name")
    async def heads() -> dict[str, Any]:
        return {"object": "list", "data": service.heads.described()}

    return routes
