"""The routes of a server: a module for each resource, with a `router(service)`. A new one is a line in `_RESOURCES`.

A module declares the bodies that its requests bring (`http.schemas.RequestBody`) and answers them through the service.
"""

from fastapi import FastAPI
from starlette.routing import Route

from tandem.serve.http import openapi
from tandem.serve.routes import (
    classify,
    collections,
    corrections,
    docs,
    embeddings,
    heads,
    health,
    image_map,
    images,
    label,
    locate,
    models,
    moderate,
    score,
    search,
)
from tandem.serve.service import Service

# In the order in which the documentation lists them.
_RESOURCES = (
    *(embeddings, classify, locate, heads, corrections, moderate, score, search, label),
    *(images, image_map, models, collections, health, docs),
)


def include_all(app: FastAPI, service: Service) -> tuple[list[Route], list[Route]]:
    """Add every resource's routes to the application, and the bodies of their requests to its OpenAPI document.

    Gives all routes of the interface, and those that read a body.
    """
    shapes = []
    known = [route for route in app.routes if isinstance(route, Route)]  # /openapi.json
    for resource in _RESOURCES:
        router = resource.router(service)
        app.include_router(router)
        shapes += router.shapes
        known += [route for route in router.routes if isinstance(route, Route)]
    openapi.document_bodies(app, shapes, service.settings)
    return known, [route for route in known if _reads_body(route)]


def _reads_body(route: Route) -> bool:
    return "requestBody" in (getattr(route, "openapi_extra", None) or {})
