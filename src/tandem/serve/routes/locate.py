"""POST /v1/locate: where texts are in an image, and whether they are there."""

import asyncio
import base64
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tandem import prompts
from tandem.defaults import LOCATED_TEXTS, MAX_IMAGE_BYTES
from tandem.errors import ImageError
from tandem.localization.location import Location, Locations
from tandem.localization.methods import HEAT_SIZE, MOST_HEAT_SIZE, Method
from tandem.search.indexed_files import IndexedImage, image_or_thumbnail
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.http import text_limits
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, for_image, not_found
from tandem.serve.http.schemas import (
    PIXEL,
    WHOLE,
    CollectionName,
    EncodedImage,
    ModelName,
    RequestBody,
    Templates,
    Text,
    one_of,
)
from tandem.serve.service import Service

AT_ONCE = 2  # images: each is a hundred windows or more
MOST_PLACES = 2**22  # of all heat maps of an answer: some 200 MB while they are computed


class LocateRequest(RequestBody):
    """An `image`, or the `id` of one in a collection, and the texts, which compete for each place."""

    image: EncodedImage | None = None
    id: Annotated[Text | None, Field(description="of an image in the collection")] = None
    texts: Annotated[list[Text], Field(min_length=1, max_length=LOCATED_TEXTS, json_schema_extra={"uniqueItems": True})]
    templates: Templates = None
    method: Annotated[
        Method | None,
        Field(
            description="how to look: what was measured to be best for the model, or its architecture's, if left out"
        ),
    ] = None
    heat: Annotated[bool, Field(description="with a heat map for each text")] = False
    heat_size: Annotated[
        int, Field(ge=1, le=MOST_HEAT_SIZE, description="of a heat map's longer side; fewer for many texts"), WHOLE
    ] = HEAT_SIZE
    collection: CollectionName = None

    image_fields = ("image",)
    either = ("image", "id")
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"image": PIXEL, "texts": ["a red cup"]}],
            **one_of("oneOf", "image", "id", others_null=True),
        },
    )


class LocatedBox(BaseModel):
    box: Annotated[list[int], Field(description="left, top, right, bottom, in pixels of the upright image")]
    heat: Annotated[float, Field(description="the highest in it, 0 to 1")]


class HeatMap(BaseModel):
    width: int
    height: int
    values: Annotated[str, Field(description="base64 of width * height bytes, row by row: 255 is a share of 1")]


class Located(BaseModel):
    text: str
    present: bool
    score: Annotated[float, Field(description="0 is a draw with words for backgrounds; see Where in a photo")]
    whole_score: Annotated[float, Field(description="the same for the image as a whole")]
    probability: Annotated[float | None, Field(description="that it is there; null where that was not measured")]
    point: Annotated[list[int], Field(description="x, y of the best place, in pixels of the upright image")]
    boxes: list[LocatedBox]
    heat: HeatMap | None = None


class LocateAnswer(BaseModel):
    model: ModelName
    width: Annotated[int, Field(description="of the upright image, in pixels")]
    height: int
    method: str
    of_thumbnail: Annotated[
        bool, Field(description="the file of the `id` is gone: looked for in its thumbnail, whose pixels are meant")
    ]
    locations: list[Located]


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["model"])
    turns = asyncio.Semaphore(AT_ONCE)

    @routes.with_body(
        "POST",
        "/v1/locate",
        LocateRequest,
        summary="Where in an image texts are, or that they are not there",
        response_model=LocateAnswer,
    )
    async def locate(request: Request) -> JSONResponse:
        body = await service.read(request, LocateRequest)
        params = body.params
        templates = None if params.templates is None else prompts.check_templates(params.templates)
        text_limits.check_lengths([*params.texts, *(templates or ())], "texts and templates", service.settings)
        if len(params.texts) * params.heat_size**2 > MOST_PLACES:
            most = int((MOST_PLACES / len(params.texts)) ** 0.5)
            detail = f"heat_size: expected at most {most} for {len(params.texts)} texts, got {params.heat_size}"
            raise ProblemError(413, "Too many at once", detail)
        names = [f"texts[{i}]" for i in range(len(params.texts))]
        of_thumbnail = False
        if params.id is not None:
            encoder, stored = await _stored(service, params.collection, params.id)
            content, of_thumbnail = stored.content, stored.of_thumbnail
        else:
            encoder = await service.registry.encoder_of(params.collection)
            try:
                content, _ = await encoder.reader.read_encoded(body.image(params.image or ""), "image")
            except ImageError as error:
                raise for_image(error) from None
        encoder.text_reader.check(params.texts, names)
        try:
            async with turns:
                found = await asyncio.to_thread(
                    encoder.model.locate,
                    content,
                    params.texts,
                    templates=templates,
                    method=params.method,
                    heat_size=params.heat_size,
                )
        except ImageError as error:
            raise for_image(error.renewed("image")) from None
        return JSONResponse({**_document(found, heat=params.heat), "of_thumbnail": of_thumbnail})

    return routes


async def _stored(service: Service, collection: str | None, identifier: str) -> tuple[Encoder, IndexedImage]:
    """The encoder of a collection, and an image of it: its file, else its thumbnail. Raises `ProblemError`."""

    def work(leased: OpenCollection) -> IndexedImage:
        found = leased.collection.store.get([identifier], columns=("path", "paths", "format"), vectors=False)
        if not len(found):
            raise not_found(f"no image {identifier!r}")
        stored = image_or_thumbnail(identifier, found.row(0), leased.collection.thumbnail, MAX_IMAGE_BYTES)
        if stored is None:
            raise not_found(f"the file of {identifier!r} is gone, and it has no thumbnail")
        return stored

    return await service.registry.encoder_of(collection), await service.registry.run(collection, work)


def _document(found: Locations, *, heat: bool) -> dict[str, Any]:
    plain = found.as_dict()
    if heat:
        for location, each in zip(found, plain["locations"], strict=True):
            each["heat"] = _heat(location)
    del plain["image"]
    return {"model": {"name": found.model.name, "fingerprint": found.model.fingerprint}, **plain}


def _heat(location: Location) -> dict[str, Any]:
    rows, columns = location.heat.shape
    values = np.round(np.clip(location.heat, 0, 1) * 255).astype(np.uint8)
    return {"width": columns, "height": rows, "values": base64.b64encode(values.tobytes()).decode("ascii")}
