"""POST /v1/embeddings: vectors of texts and images, in the shape of OpenAI's request and answer."""

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from tandem.errors import ImageError
from tandem.serve.http import answers, text_limits
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, for_image
from tandem.serve.http.schemas import PIXEL, WHOLE, AtMost, EncodedImage, Long, RequestBody, Text, one_of
from tandem.serve.service import Service

Item = Annotated[dict[Literal["text", "image"], Text], Field(min_length=1, max_length=1)]


class EmbeddingsRequest(RequestBody):
    """OpenAI's request. An item is a text, or an image as a data URI or as {"image": ...}; or one `image` alone."""

    input: Annotated[
        Text | Annotated[list[Text | Item], Field(min_length=1)] | None,
        Field(description="a text or an image, or a list of them"),
        AtMost("max_batch"),
    ] = None
    image: EncodedImage | None = None
    model: Annotated[str | None, Field(description="a name of /v1/models; any that is served if left out")] = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(description="only the model's own number is possible"), WHOLE] = None
    long: Long = "error"
    user: Annotated[str | None, Field(description="ignored; clients of OpenAI send it")] = None

    image_fields = either = ("input", "image")
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"input": ["a bird on a railing", PIXEL]}],
            **one_of("oneOf", "input", "image", others_null=True),
        },
    )


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class TokenUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    fingerprint: str
    usage: TokenUsage


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["model"])

    @routes.with_body(
        "POST",
        "/v1/embeddings",
        EmbeddingsRequest,
        summary="Vectors of texts and images (OpenAI's request and answer)",
        response_model=EmbeddingsAnswer,
    )
    async def embeddings(request: Request) -> Response:
        body = await service.read(request, EmbeddingsRequest)
        params = body.params
        encoder = await service.registry.encoder_named(params.model)
        texts, images = _split({"image": params.image} if params.input is None else params.input, body.files)
        text_limits.check_lengths(list(texts.values()), "input", service.settings)
        model = encoder.model
        if params.dimensions not in (None, model.config.embed_dim):
            detail = f"dimensions: {model.name} has {model.config.embed_dim}, got {params.dimensions}"
            raise ProblemError(422, "Request cannot be answered", detail)
        rows: dict[int, np.ndarray[Any, Any]] = {}
        if texts:
            names = [f"input[{index}]" if isinstance(params.input, list) else "input" for index in texts]
            rows |= dict(zip(texts, await encoder.embed_texts(list(texts.values()), names, params.long), strict=True))
        if images:
            names = ["image"] if params.input is None else [f"input[{index}]" for index in images]
            found = await encoder.embed_images(list(images.values()), names)
            for index, each in zip(images, found, strict=True):
                if isinstance(each, ImageError):
                    raise for_image(each)
                rows[index] = each
        tokens = await encoder.text_reader.token_count(list(texts.values()), params.long)

        def document() -> dict[str, Any]:
            data = [
                {"object": "embedding", "index": index, "embedding": _written(rows[index], params.encoding_format)}
                for index in range(len(rows))
            ]
            return {
                "object": "list",
                "data": data,
                "model": model.name,
                "fingerprint": model.fingerprint,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }

        return await answers.in_rows(document, "data")

    return routes


def _split(content: Any, files: dict[str, bytes]) -> tuple[dict[int, str], dict[int, str | bytes]]:
    """Texts and images of `input`, each by its place."""
    items = content if isinstance(content, list) else [content]
    texts: dict[int, str] = {}
    images: dict[int, str] = {}
    if not items:
        raise ProblemError(422, "Request cannot be answered", "input: expected a text or several, got none")
    for index, item in enumerate(items):
        if isinstance(item, dict):
            if len(item) != 1:
                raise ProblemError(422, "Request does not fit", f"input[{index}]: expected either text or image")
            ((kind, value),) = item.items()
            (texts if kind == "text" else images)[index] = value
        elif item in files or (item[:5].lower() == "data:" and "," in item):
            images[index] = item
        else:
            texts[index] = item
    return texts, {index: files.get(item, item) for index, item in images.items()}


def _written(vector: Any, encoding: str) -> list[float] | str:
    if encoding == "base64":  # what OpenAI's own client asks for: float32, little-endian
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")
    values: list[float] = vector.tolist()
    return values
