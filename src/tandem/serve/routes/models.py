"""GET /v1/models: the models that answer."""

from typing import Any

from tandem.serve.http.openapi import BodyRouter
from tandem.serve.service import Service


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["server"])

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

    return routes
