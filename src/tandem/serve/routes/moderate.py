"""POST /v1/moderate: what a policy says of images of a request, or of a collection. GET /v1/policies: which there are.

Nothing is kept: who needs a log of decisions keeps the answers.
"""

import asyncio
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tandem.errors import ImageError
from tandem.moderation.decisions import Band, Decision
from tandem.moderation.fit_file import ScoreKind
from tandem.moderation.moderator import Moderator
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.collections.stored_vectors import stored_vectors
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, for_image
from tandem.serve.http.schemas import (
    PIXEL,
    AtMost,
    CollectionName,
    EncodedImage,
    ImageFailure,
    ModelName,
    RequestBody,
    Text,
    one_of,
)
from tandem.serve.service import Service


class ModerateRequest(RequestBody):
    """One `image`, several `images`, or the `ids` of some in a collection; and the name of a policy."""

    image: EncodedImage | None = None
    images: Annotated[Annotated[list[EncodedImage], Field(min_length=1)] | None, AtMost("max_batch")] = None
    ids: Annotated[
        Annotated[list[Text], Field(min_length=1)] | None,
        Field(description="of images in the collection: judged by their vectors, no file is read"),
        AtMost("max_batch"),
    ] = None
    policy: Annotated[str, Field(min_length=1, description="a policy's name, as /v1/policies lists them")]
    collection: CollectionName = None

    image_fields = ("image", "images")
    either = ("image", "images", "ids")
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"image": PIXEL, "policy": "people"}],
            **one_of("oneOf", "image", "images", "ids", others_null=True),
        },
    )


class NearestSide(BaseModel):
    text: str
    text_cosine: float
    example: str | None = None
    example_cosine: float | None = None


class CategorySaid(BaseModel):
    band: Band
    probability: Annotated[float | None, Field(description="null without a fit, and where the fit cannot tell")]
    interval: Annotated[tuple[float, float] | None, Field(description="of the probability, 95%")]
    score: Annotated[float, Field(description="orders images; means nothing by itself")]
    score_kind: Annotated[
        ScoreKind, Field(description="what the score is of: texts, examples, or the fit's labelled images")
    ]
    nearest: Annotated[dict[str, NearestSide], Field(description="the text and example nearest, for and against")]


class Moderated(BaseModel):
    image: Annotated[str, Field(description="the field it came in, such as images[2]; of ids, its path")]
    id: Annotated[str | None, Field(description="left out, unless ids were asked for")] = None
    band: Annotated[Band, Field(description="the most severe one of all categories")]
    categories: dict[str, CategorySaid]


class PolicyName(BaseModel):
    name: str
    fingerprint: str


class FitName(BaseModel):
    fingerprint: str
    date: str


class ModerateAnswer(BaseModel):
    model: ModelName
    policy: PolicyName
    fit: FitName | None
    results: list[Moderated]
    failures: list[ImageFailure]


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["model"])

    @routes.with_body(
        "POST",
        "/v1/moderate",
        ModerateRequest,
        summary="What a policy says of each image",
        response_model=ModerateAnswer,
    )
    async def moderate(request: Request) -> JSONResponse:
        body = await service.read(request, ModerateRequest)
        params = body.params
        moderator = service.policies.get(params.policy)
        if params.ids is not None:
            results = await _of_collection(service, moderator, params.collection, params.ids)
            return JSONResponse({**moderator.about(), "results": results, "failures": []})
        encoder = await service.registry.encoder_named(moderator.model.fingerprint)
        values = [params.image] if params.image is not None else params.images or []
        names = ["image"] if params.image is not None else [f"images[{i}]" for i in range(len(values))]
        if not values:
            raise ProblemError(422, "Request cannot be answered", "images: expected an image or several, got none")
        found = await encoder.embed_images([body.image(value) for value in values], names)
        if len(found) == 1 and isinstance(found[0], ImageError):
            raise for_image(found[0])
        good = [(index, each) for index, each in enumerate(found) if not isinstance(each, ImageError)]
        decided = []
        if good:
            decided = await asyncio.to_thread(moderator.decide, np.stack([each for _, each in good]))
        results = [Decision(names[index], said).as_dict() for (index, _), said in zip(good, decided, strict=True)]
        failures = [each.as_dict() for each in found if isinstance(each, ImageError)]
        return JSONResponse({**moderator.about(), "results": results, "failures": failures})

    @routes.get("/v1/policies", summary="The policies that moderate takes by name")
    async def policies() -> dict[str, Any]:
        return {"object": "list", "data": service.policies.described()}

    return routes


async def _of_collection(
    service: Service, moderator: Moderator, collection: str | None, ids: list[str]
) -> list[dict[str, Any]]:
    """What is said of images of a collection, by their vectors. Raises `ProblemError` 409 for one of another model."""

    def work(leased: OpenCollection) -> list[dict[str, Any]]:
        mine = leased.encoder.model
        if mine.fingerprint != moderator.model.fingerprint:
            detail = (
                f"the collection has vectors of {mine.name}, and the policy judges those of {moderator.model.name}; "
                "send the images themselves"
            )
            raise ProblemError(409, "Another model", detail)
        found = stored_vectors(leased.collection.store, ids)
        decided = moderator.decide(found.vectors)
        return [
            Decision(path, said, id=identifier).as_dict()
            for identifier, path, said in zip(found.ids, found.paths, decided, strict=True)
        ]

    return await service.registry.run(collection, work)
