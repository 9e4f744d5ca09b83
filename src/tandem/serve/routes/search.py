"""POST /v1/search: the images of a collection nearest to a text, to an image, or to both."""

from typing import Annotated, Any

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tandem.arrays import Vectors
from tandem.search.query import SearchQuery
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.http.bodies import Body
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import not_found
from tandem.serve.http.schemas import (
    WHOLE,
    AtMost,
    CollectionName,
    EncodedImage,
    Long,
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

    text: Annotated[Text | None, AtMost("max_text_characters")] = None
    image: EncodedImage | None = None
    like: Annotated[Text | None, Field(description="the id of an image in the collection")] = None
    minus: Annotated[Text | None, Field(description="less of what this text says"), AtMost("max_text_characters")] = (
        None
    )
    minus_image: EncodedImage | None = None
    weight: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="of the text where there is an image too")
    ] = SearchQuery.weight
    k: Annotated[int, Field(ge=1), WHOLE, AtMost("max_hits")] = SearchQuery.k
    offset: Annotated[int, Field(ge=0), WHOLE, AtMost("max_offset")] = SearchQuery.offset
    moments: Annotated[
        int, Field(ge=0, description="of one film, before everything else that was found; 0 for all"), WHOLE
    ] = SearchQuery.moments
    where: Where = None
    threshold: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    long: Long = "error"
    collection: CollectionName = None

    image_fields = ("image", "minus_image")
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"text": "a black cat sleeping on a red sofa", "k": 10, "where": "width > 100"}],
            **one_of("anyOf", "text", "image", "like"),
        },
    )


class SearchHit(BaseModel):
    id: str
    path: str
    score: float
    relevance: Annotated[
        float | None,
        Field(description="the calibrated probability that it matches; null where that means nothing"),
    ]
    missing: Annotated[bool, Field(description="none of its files exists any more; left out if false")] = False
    metadata: dict[str, Any]
    thumbnail: str


class SearchAnswer(BaseModel):
    query: dict[str, str]
    model: ModelName
    nothing_matches: bool
    threshold: float | None
    relevance_reason: Annotated[str | None, Field(description="why no hit has a relevance; null where they have one")]
    offset: int
    hits: list[SearchHit]
    collection: str
    total: Annotated[int, Field(description="images in the collection, or of those that pass the filter")]


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
        return JSONResponse(await answer(service, await service.read(request, SearchRequest)))

    return routes


async def answer(service: Service, body: Body[SearchRequest]) -> dict[str, Any]:
    """The document that answers a search. Raises `ProblemError` and `TandemError`."""
    params = body.params
    query = _query(params)
    name = service.registry.get(params.collection).name

    async def vectors_of(encoder: Encoder) -> dict[str, Vectors]:
        return await _vectors(encoder, query, body)

    def work(leased: OpenCollection, vectors: dict[str, Vectors]) -> dict[str, Any]:
        with leased.collection.store.reading():
            if query.like is not None:
                vectors["like"] = _stored(leased, query.like)
            total = leased.collection.count(query.where)
            return leased.collection.search(query, vectors=vectors).as_dict() | {"total": total}

    found = await service.ask_with_encoder(name, vectors_of, work)
    for hit in found["hits"]:
        hit["thumbnail"] = image_link(hit["id"], "/thumbnail", params.collection and name)
    return found | {"collection": name}


def _query(params: SearchRequest) -> SearchQuery:
    """What is searched for. Images are called by their fields: they have no other names."""
    plain = params.model_dump(exclude={"collection"}, exclude_none=True)
    return SearchQuery.from_dict(plain | {name: name for name in ("image", "minus_image") if name in plain})


async def _vectors(encoder: Encoder, query: SearchQuery, body: Body[SearchRequest]) -> dict[str, Vectors]:
    """The vector of each text and image, by the name of its field."""
    vectors: dict[str, Vectors] = {}
    if query.texts:
        found = await encoder.embed_texts(list(query.texts.values()), list(query.texts), query.long)
        vectors |= dict(zip(query.texts, found, strict=True))
    for name in query.images:
        vectors[name] = await encoder.embed_image(body.image(getattr(body.params, name)), name)
    return vectors


def _stored(leased: OpenCollection, identifier: str) -> Vectors:
    """The vector of an image of the collection. Raises `ProblemError` 404."""
    found = leased.collection.store.get([identifier], columns=())
    if not len(found) or found.vectors is None:
        raise not_found(f"no image {identifier[:64]!r} in {leased.name}")
    return np.asarray(found.vectors[0], dtype=np.float32)
