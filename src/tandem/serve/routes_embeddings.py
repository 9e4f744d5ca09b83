"""POST /v1/embeddings and /v1/classify: what the model says of pictures and sentences that a request brings."""

import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tandem import prompts
from tandem.answer import Answer, Failure
from tandem.errors import ImageError
from tandem.model import Vectors
from tandem.serve import bodies, openapi
from tandem.serve.encoder import Encoder
from tandem.serve.problems import ProblemError
from tandem.serve.schemas import ClassifyAnswer, ClassifyRequest, EmbeddingsAnswer, EmbeddingsRequest
from tandem.serve.service import Service


def router(service: Service) -> APIRouter:
    """The routes of one server."""
    routes = APIRouter(tags=["model"])

    @routes.post(
        "/v1/embeddings",
        summary="Vectors of sentences and pictures (OpenAI's request and answer)",
        response_model=EmbeddingsAnswer,
        openapi_extra=openapi.described(EmbeddingsRequest),
    )
    async def embeddings(request: Request) -> JSONResponse:
        body = await bodies.read(request, EmbeddingsRequest)
        asked = body.asked
        encoder = service.shelf.encoder_named(asked.model)
        texts, pictures = _split(asked.input, body.files)
        service.check_batch(len(texts) + len(pictures), "input")
        service.check_texts(list(texts.values()), "input")
        model = encoder.model
        if asked.dimensions not in (None, model.config.embed_dim):
            detail = f"dimensions: {model.name} has {model.config.embed_dim}, got {asked.dimensions}"
            raise ProblemError(422, "Request cannot be answered", detail)
        rows: dict[int, np.ndarray[Any, Any]] = {}
        if texts:
            rows |= dict(zip(texts, await encoder.embed_texts(list(texts.values())), strict=True))
        if pictures:
            named = [f"input[{place}]" for place in pictures]
            found = await service.embed_pictures(encoder, list(pictures.values()), named)
            for place, each in zip(pictures, found, strict=True):
                if isinstance(each, ProblemError):
                    raise each
                rows[place] = each
        tokens = encoder.token_count(list(texts.values()))
        data = [
            {"object": "embedding", "index": place, "embedding": _written(rows[place], asked.encoding_format)}
            for place in range(len(rows))
        ]
        return JSONResponse(
            {
                "object": "list",
                "data": data,
                "model": model.name,
                "fingerprint": model.fingerprint,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    @routes.post(
        "/v1/classify",
        summary="How well each label fits each picture",
        response_model=ClassifyAnswer,
        openapi_extra=openapi.described(ClassifyRequest),
    )
    async def classify(request: Request) -> JSONResponse:
        body = await bodies.read(request, ClassifyRequest)
        asked = body.asked
        encoder = service.shelf.encoder_named(asked.model)
        values = [asked.image] if asked.image is not None else asked.images or []
        names = ["image"] if asked.image is not None else [f"images[{i}]" for i in range(len(values))]
        if not values:
            raise ProblemError(422, "Request cannot be answered", "images: expected a picture or several, got none")
        service.check_batch(len(values), "images")
        labels = prompts.check_labels(asked.labels)
        vectors = await class_vectors(service, encoder, labels, asked.templates)
        found = await service.embed_pictures(encoder, [body.picture(value) for value in values], names)
        if len(found) == 1 and isinstance(found[0], ProblemError):
            raise found[0]
        good = [(place, each) for place, each in enumerate(found) if not isinstance(each, ProblemError)]
        logits = np.empty((0, len(labels)), dtype=np.float32)
        if good:
            logits = encoder.model.logits(np.stack([each for _, each in good]), vectors)
        failures = tuple(
            Failure(place, ImageError(names[place], each.detail.removeprefix(f"{names[place]}: "), "invalid"))
            for place, each in enumerate(found)
            if isinstance(each, ProblemError)
        )
        answer = Answer(encoder.model, tuple(labels), tuple(names[place] for place, _ in good), logits, failures)
        return JSONResponse(answer.as_dict())

    return routes


async def class_vectors(
    service: Service, encoder: Encoder, labels: list[str], templates: str | list[str] | None
) -> Vectors:
    """A vector for each label [c d]. Raises `ProblemError` for more than the server takes at once."""
    chosen = prompts.check_templates(prompts.DEFAULT_TEMPLATE if templates is None else templates)
    service.check_batch(len(labels), "labels")
    service.check_batch(len(chosen), "templates")
    service.check_texts([*labels, *chosen], "labels and templates")
    if len(labels) * len(chosen) > 16 * service.settings.max_batch:
        detail = f"labels times templates: expected at most {16 * service.settings.max_batch:,} sentences"
        raise ProblemError(413, "Too many at once", detail)
    return await encoder.class_vectors(labels, chosen)


def _split(given: Any, files: dict[str, bytes]) -> tuple[dict[int, str], dict[int, str | bytes]]:
    """Sentences and pictures of `input`, each by its place."""
    items = given if isinstance(given, list) else [given]
    texts: dict[int, str] = {}
    pictures: dict[int, str | bytes] = {}
    if not items:
        raise ProblemError(422, "Request cannot be answered", "input: expected a sentence or several, got none")
    for place, item in enumerate(items):
        if isinstance(item, dict):
            if len(item) != 1:
                raise ProblemError(422, "Request does not fit", f"input[{place}]: expected either text or image")
            ((kind, value),) = item.items()
            if kind == "image":
                pictures[place] = _file_or(value, files)
            else:
                texts[place] = value
        elif item in files:
            pictures[place] = files[item]
        elif item[:5].lower() == "data:" and "," in item:
            pictures[place] = item
        else:
            texts[place] = item
    return texts, pictures


def _file_or(value: str, files: dict[str, bytes]) -> str | bytes:
    return files.get(value, value)


def _written(vector: Any, encoding: str) -> list[float] | str:
    if encoding == "base64":  # as OpenAI's own client asks for: float32, little-endian
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")
    values: list[float] = vector.tolist()
    return values
