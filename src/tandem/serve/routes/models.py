"""GET /v1/models and /v1/models/{id}: the models that answer."""

from typing import Any

from tandem.serve.encoding.encoder import Encoder
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.service import Service


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["server"])

    @routes.get("/v1/models", summary="The models that answer, the default one first")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_described(encoder) for encoder in await service.registry.encoders()]}

    @routes.get("/v1/models/{id:path}", summary="One of them, by its name or fingerprint")
    async def model(id: str) -> dict[str, Any]:
        return _described(await service.registry.encoder_named(id))

    return routes


def _described(encoder: Encoder) -> dict[str, Any]:
    model = encoder.model
    return {
        "id": model.name,
        "object": "model",
        "created": 0,  # unknown; clients of OpenAI's interface expect the field
        "owned_by": "tandem",
        "fingerprint": model.fingerprint,
        "dimensions": model.config.embed_dim,
        "image_size": model.config.vision.image_size,
        "context_length": encoder.context_length,
        "precision": encoder.engine.precision,
        "device": encoder.engine.device,
    }
