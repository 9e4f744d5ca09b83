"""POST /v1/search: the images of a collection nearest to a text, to an image, or to both."""

from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tandem.search.query import SearchQuery
from tandem.serve import searching
from tandem.serve.http.bodies import Body
from tandem.serve.http.openapi import BodyRouter
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
        return JSONResponse(await _answer(service, await service.read(request, SearchRequest)))

    return routes


async def _answer(service: Service, body: Body[SearchRequest]) -> dict[str, Any]:
    images = {name: body.image(value) for name in SearchRequest.image_fields if (value := getattr(body.params, name))}
    return await searching.answer(service, _query(body.params), body.params.collection, images)


def _query(params: SearchRequest) -> SearchQuery:
    """What is searched for. Images are called by their fields: they have no other names."""
    plain = params.model_dump(exclude={"collection"}, exclude_none=True)
    return SearchQuery.from_dict(plain | {name: name for name in ("image", "minus_image") if name in plain})
