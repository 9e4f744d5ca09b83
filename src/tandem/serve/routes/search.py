"""POST /v1/search: the images of a collection nearest to a text, to an image, or to both."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tandem.arrays import Vectors
from tandem.search.query import SearchQuery
from tandem.serve.collections.registry import Opened
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.http.bodies import Body
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, not_found
from tandem.serve.http.schemas import (
    WHOLE,
    AtMost,
    CollectionName,
    EncodedImage,
    ModelName,
    RequestBody,
    Text,
    Where,
    one_of,
)
from tandem.serve.routes.images import image_link
from tandem.serve.service import Service


class SearchRequest(RequestBody):
    """A text, an image (`image`, or the id of one in the collection as `like`), or both."""

    text: Annotated[Text | None, AtMost("max_text_letters")] = None
    image: EncodedImage | None = None
    like: Annotated[Text | None, Field(description="the id of a picture in the collection")] = None
    minus: Annotated[Text | None, Field(description="less of what this text says"), AtMost("max_text_letters")] = None
    minus_image: EncodedImage | None = None
    weight: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="of the text where there is an image too")
    ] = SearchQuery.weight
    k: Annotated[int, Field(ge=1), WHOLE, AtMost("max_hits")] = SearchQuery.k
    offset: Annotated[int, Field(ge=0), WHOLE, AtMost("max_offset")] = SearchQuery.offset
    where: Where = None
    threshold: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    collection: CollectionName = None

    image_fields = ("image", "minus_image")
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"text": "a black cat sleeping on a red sofa", "k": 10, "where": "width > 100"}],
            **one_of("anyOf", "text", "image", "like"),
        },
    )


class Hit(BaseModel):
    id: str
    path: str
    score: float
    relevance: float | None
    metadata: dict[str, Any]
    thumbnail: str


class SearchAnswer(BaseModel):
    query: dict[str, str]
    model: ModelName
    nothing_matches: bool
    threshold: float | None
    offset: int
    hits: list[Hit]
    collection: str
    total: Annotated[int, Field(description="pictures in the collection, or of those that pass the filter")]


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["collections"])

    @routes.with_body(
        "POST",
        "/v1/search",
        SearchRequest,
        summary="The images nearest to a text, to an image, or to both",
        response_model=SearchAnswer,
    )
    async def search(request: Request) -> JSONResponse:
        body = await service.read(request, SearchRequest)
        asked = body.asked
        query = _query(asked)
        name = service.shelf.named(asked.collection).name
        for _ in range(2):  # once more where the collection was moved to another model in between
            encoder = await service.shelf.encoder_of(name)
            vectors = await _vectors(service, encoder, query, body)

            def answered(
                used: Opened, encoder: Encoder = encoder, vectors: Mapping[str, Vectors] = vectors
            ) -> dict[str, Any] | None:
                if used.encoder is not encoder:
                    return None
                ready = dict(vectors)
                with used.collection.store.reading():
                    if query.like is not None:
                        ready["like"] = _stored(used, query.like)
                    total = used.collection.count(query.where)
                    return used.collection.search(query, vectors=ready).as_dict() | {"total": total}

            answer = await service.shelf.ask_of(name, answered)
            if answer is not None:
                break
        else:
            raise ProblemError(503, "Collection is being moved", f"{name} is being moved to another model")
        for hit in answer["hits"]:
            hit["thumbnail"] = image_link(hit["id"], "/thumbnail", asked.collection and name)
        return JSONResponse(answer | {"collection": name})

    return routes


def _query(asked: SearchRequest) -> SearchQuery:
    """What is searched for. Images are called by their fields: they have no other names."""
    plain = asked.model_dump(exclude={"collection"}, exclude_none=True)
    return SearchQuery.from_dict(plain | {name: name for name in ("image", "minus_image") if name in plain})


async def _vectors(
    service: Service, encoder: Encoder, query: SearchQuery, body: Body[SearchRequest]
) -> dict[str, Vectors]:
    """The vector of each text and image, by the name of its field."""
    vectors: dict[str, Vectors] = {}
    if query.texts:
        vectors |= dict(zip(query.texts, await encoder.embed_texts(list(query.texts.values())), strict=True))
    for name in query.images:
        vectors[name] = await service.embed_image(encoder, body.image(getattr(body.asked, name)), name)
    return vectors


def _stored(used: Opened, identifier: str) -> Vectors:
    """The vector of a picture of the collection. Raises `ProblemError` 404."""
    found = used.collection.store.get([identifier], columns=())
    if not len(found) or found.vectors is None:
        raise not_found(f"no picture {identifier[:64]!r} in {used.name}")
    return np.asarray(found.vectors[0], dtype=np.float32)
