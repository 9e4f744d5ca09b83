"""/v1/corrections: images with the label that a person gave them, kept for `tandem learn`."""

import asyncio
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from tandem.defaults import MAX_IMAGE_BYTES
from tandem.errors import ImageError
from tandem.search import indexed_files
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.collections.quotas import QuotaError
from tandem.serve.corrections import MAX_LABEL_BYTES, Corrections, CorrectionsFullError, check_label
from tandem.serve.http import clients
from tandem.serve.http.bodies import Body
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, for_image, not_found
from tandem.serve.http.schemas import PIXEL, CollectionName, EncodedImage, RequestBody, Text, one_of
from tandem.serve.service import Service


class CorrectionRequest(RequestBody):
    """An `image`, or the `id` of one in a collection, and what it shows. An image has one label: the last one."""

    image: EncodedImage | None = None
    id: Annotated[Text | None, Field(description="of an image in the collection")] = None
    label: Annotated[Text, Field(description="a plain name, such as golden retriever", max_length=MAX_LABEL_BYTES)]
    collection: CollectionName = None

    image_fields = ("image",)
    either = ("image", "id")
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"image": PIXEL, "label": "golden retriever"}],
            **one_of("oneOf", "image", "id", others_null=True),
        },
    )


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["model"])

    @routes.get("/v1/corrections", summary="Whether corrections are kept, and how many there are of each label")
    async def corrections() -> dict[str, Any]:
        kept = service.corrections
        labels = {} if kept is None else await asyncio.to_thread(kept.counts)
        return {"accepted": kept is not None, "max_label_bytes": MAX_LABEL_BYTES, "labels": labels}

    @routes.with_body(
        "POST", "/v1/corrections", CorrectionRequest, summary="Keep an image with its right label", status_code=201
    )
    async def correct(request: Request) -> JSONResponse:
        kept = service.corrections
        if kept is None:
            detail = "this server keeps no corrections: start tandem serve with --corrections FOLDER"
            raise ProblemError(403, "Forbidden", detail)
        body = await service.read(request, CorrectionRequest)
        check_label(body.params.label)  # before the image is read
        content, kind = await _image(service, body)
        # Shielded: once begun it is finished, even if the client has left.
        client = clients.current.get()
        key = None if client is None else client.key
        keeping = asyncio.to_thread(_keep, kept, content, kind, body.params.label, key)
        return JSONResponse(await asyncio.shield(keeping), 201)

    return routes


def _keep(kept: Corrections, content: bytes, kind: str, label: str, key: str | None) -> dict[str, Any]:
    try:
        found = kept.keep(content, kind, label, key)
    except QuotaError as error:
        raise ProblemError(403, "Quota used up", str(error)) from None
    except CorrectionsFullError as error:
        raise ProblemError(507, "Insufficient Storage", str(error)) from None
    return {"label": found.label, "replaced": found.replaced, "labels": found.counts}


async def _image(service: Service, body: Body[CorrectionRequest]) -> tuple[bytes, str]:
    """The bytes of the image and its format. Raises `ProblemError`."""
    params = body.params
    try:
        if params.image is not None:
            reader = (await service.registry.encoder_of(params.collection)).reader
            return await reader.read_encoded(body.image(params.image), "image")
        identifier = params.id or ""

        def work(leased: OpenCollection) -> bytes | None:
            found = leased.collection.store.get([identifier], columns=("path", "paths", "format"), vectors=False)
            if not len(found):
                raise not_found(f"no image {identifier[:100]!r}")
            return indexed_files.image(identifier, found.row(0), MAX_IMAGE_BYTES)

        content = await service.registry.run(params.collection, work)
        if content is None:
            raise not_found(f"the file of {identifier[:100]!r} is gone or has changed since it was indexed")
        return await (await service.registry.encoder_of(params.collection)).reader.read_encoded(content, "id")
    except ImageError as error:
        raise for_image(error) from None
