"""/v1/images: an image's metadata, thumbnail and original; adding and deleting images."""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict, Field

from tandem.search.indexing.entries import is_missing
from tandem.search.indexing.image_record import paths_of
from tandem.serve.collections import originals
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, not_found
from tandem.serve.http.schemas import PIXEL, AtMost, CollectionName, EncodedImage, RequestBody, Text, one_of
from tandem.serve.service import Service

MAX_ORIGINAL_BYTES = 128 * 2**20
_IMMUTABLE = "private, max-age=31536000, immutable"  # an id is a hash of the image
_ONE_HOUR = "private, max-age=3600"  # a later version may make other thumbnails

Identifier = Annotated[str, Path(max_length=64, pattern="^[0-9A-Za-z_-]+$", description="the id of a hit")]
Named = Annotated[str | None, Query(description="which collection; the first one if left out", max_length=256)]


class AddRequest(RequestBody):
    """One `image` or several `images` to add to a collection, which stores their bytes."""

    image: EncodedImage | None = None
    images: Annotated[Annotated[list[EncodedImage], Field(min_length=1)] | None, AtMost("max_batch")] = None
    collection: CollectionName = None

    image_fields = either = ("image", "images")
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"images": [PIXEL]}],
            **one_of("oneOf", "image", "images", others_null=True),
        },
    )


class DeleteRequest(RequestBody):
    ids: Annotated[list[Text], Field(min_length=1), AtMost("max_batch")]
    collection: CollectionName = None

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ids": ["0123456789abcdef0123456789abcdef"]}]}
    )


def image_link(identifier: str, part: str = "", collection: str | None = None) -> str:
    """Where an image of a collection is found; `collection` only where it is not the default one."""
    named = f"?collection={quote(collection, safe='')}" if collection else ""
    return f"/v1/images/{quote(identifier, safe='')}{part}{named}"


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["images"])

    @routes.get("/v1/images/{id}", summary="An image's metadata")
    async def image(id: Identifier, collection: Named = None) -> JSONResponse:
        values = await _values(service, collection, id)
        plain = {name: value for name, value in values.items() if value is not None and not isinstance(value, bytes)}
        links = {
            "thumbnail": image_link(id, "/thumbnail", collection),
            "original": image_link(id, "/original", collection),
        }
        return JSONResponse({"id": id, **plain, **links})

    @routes.get("/v1/images/{id}/thumbnail", summary="Its thumbnail, a JPEG", response_class=Response)
    async def thumbnail(request: Request, id: Identifier, collection: Named = None) -> Response:
        content = await service.registry.run(collection, lambda leased: leased.collection.thumbnail(id))
        if content is None:
            raise not_found(f"no thumbnail of {id!r}")
        return _cached(request, Response(content, media_type="image/jpeg"), f'"{id}-thumbnail"', _ONE_HOUR)

    @routes.get("/v1/images/{id}/original", summary="The image itself, as it was indexed", response_class=Response)
    async def original(request: Request, id: Identifier, collection: Named = None) -> Response:
        def question(leased: OpenCollection) -> tuple[bytes, str] | None:
            found = leased.collection.store.get([id], columns=("path", "paths", "format"), vectors=False)
            if not len(found):
                raise not_found(f"no image {id!r}")
            return originals.read(id, found.row(0), MAX_ORIGINAL_BYTES)

        read = await service.registry.run(collection, question)
        if read is None:
            raise not_found(f"the file of {id!r} is gone or has changed since it was indexed")
        content, kind = read
        answer = Response(content, media_type=kind)
        if kind not in originals.TYPES.values():
            answer.headers["content-disposition"] = "attachment"
        return _cached(request, answer, f'"{id}"', _IMMUTABLE)

    @routes.with_body("POST", "/v1/images", AddRequest, summary="Add images; their files are stored", status_code=201)
    async def add(request: Request) -> JSONResponse:
        _may_write(service)
        body = await service.read(request, AddRequest)
        values = [body.asked.image] if body.asked.image is not None else body.asked.images or []
        handle = service.registry.get(body.asked.collection)
        folder = originals.folder_for(handle.url, service.settings.uploads, handle.name)
        if folder is None:
            detail = f"{handle.name} is on a server: start tandem serve with --uploads FOLDER, where files are stored"
            raise ProblemError(409, "No folder for originals", detail)
        reader = (await service.registry.encoder_of(handle.name)).reader
        names = ["image"] if body.asked.image is not None else [f"images[{place}]" for place in range(len(values))]
        contents: list[tuple[bytes, str] | ProblemError] = []
        for value, name in zip(values, names, strict=True):
            try:
                contents.append(await reader.read_encoded(body.image(value), name))
            except ProblemError as problem:
                if problem.status == 503:
                    raise
                contents.append(problem)
        failures = [
            {"image": name, "error": each.detail.removeprefix(f"{name}: ")}
            for name, each in zip(names, contents, strict=True)
            if isinstance(each, ProblemError)
        ]
        good = [(name, each) for name, each in zip(names, contents, strict=True) if not isinstance(each, ProblemError)]

        def change(leased: OpenCollection) -> list[dict[str, Any]]:
            kept = [(name, *originals.keep(*content, folder)) for name, content in good]
            ids = list(dict.fromkeys(identifier for _, identifier, _, _ in kept))
            there = set(leased.collection.store.get(ids, columns=(), vectors=False).ids)
            fresh = [path for _, identifier, path, _ in kept if identifier not in there]
            if fresh:
                leased.collection.add(list(dict.fromkeys(fresh)))
            now = set(leased.collection.store.get(ids, columns=(), vectors=False).ids)
            added = []
            for name, identifier, path, is_new in kept:
                if identifier in now:
                    added.append({"image": name, "id": identifier, "new": identifier not in there})
                    there.add(identifier)
                else:
                    failures.append({"image": name, "error": "could not be indexed"})
                    if is_new:
                        path.unlink(missing_ok=True)
            return added

        # Shielded: once begun it is finished, even if the client has left.
        added = await asyncio.shield(service.registry.write(handle.name, change)) if good else []
        for each in added:
            each["thumbnail"] = image_link(each["id"], "/thumbnail", body.asked.collection)
        if not added:
            raise _none_added(contents, failures)
        return JSONResponse({"collection": handle.name, "added": added, "failures": failures}, 201)

    @routes.with_body(
        "DELETE", "/v1/images", DeleteRequest, summary="Delete images from the collection; files elsewhere stay"
    )
    async def delete_several(request: Request) -> JSONResponse:
        asked = (await service.read(request, DeleteRequest)).asked
        return JSONResponse({"deleted": await _delete(service, asked.collection, asked.ids)})

    @routes.delete("/v1/images/{id}", summary="Delete an image from the collection; files elsewhere stay")
    async def delete(id: Identifier, collection: Named = None) -> JSONResponse:
        deleted = await _delete(service, collection, [id])
        if not deleted:
            raise not_found(f"no image {id!r}")
        return JSONResponse({"deleted": deleted})

    return routes


async def _values(service: Service, collection: str | None, identifier: str) -> dict[str, Any]:
    def question(leased: OpenCollection) -> dict[str, Any] | None:
        found = leased.collection.store.get([identifier], vectors=False)
        if not len(found):
            return None
        values = found.row(0)
        paths = paths_of(values)
        return {**values, "paths": paths} | ({"missing": True} if is_missing(paths) else {})

    values = await service.registry.run(collection, question)
    if values is None:
        raise not_found(f"no image {identifier!r}")
    return values


async def _delete(service: Service, collection: str | None, ids: list[str]) -> int:
    """Stored originals go with their images; files in other folders stay."""
    _may_write(service)
    handle = service.registry.get(collection)
    folder = originals.folder_for(handle.url, service.settings.uploads, handle.name)

    def change(leased: OpenCollection) -> int:
        found = leased.collection.store.get(ids, columns=("path", "paths"), vectors=False)
        deleted = leased.collection.delete(ids)
        if folder is not None:
            for place in range(len(found)):
                originals.remove_kept(paths_of(found.row(place)), folder)
        return deleted

    return await asyncio.shield(service.registry.write(handle.name, change))


def _none_added(contents: list[tuple[bytes, str] | ProblemError], failures: list[dict[str, str]]) -> ProblemError:
    """The failure of each as a member of the problem; a single image's is the problem itself."""
    only = contents[0]
    if len(contents) == 1 and isinstance(only, ProblemError):
        return ProblemError(only.status, only.title, only.detail, extra={"failures": failures})
    first = failures[0]
    detail = f"none of {len(contents):,} images could be added; {first['image']}: {first['error']}"
    return ProblemError(422, "No image was added", detail, extra={"failures": failures})


def _may_write(service: Service) -> None:
    if service.settings.read_only:
        raise ProblemError(403, "Forbidden", "this server only reads: it was started with --read-only")


def _cached(request: Request, answer: Response, tag: str, control: str) -> Response:
    """304 for a browser that has it already."""
    headers = {"etag": tag, "cache-control": control}
    if tag in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer
