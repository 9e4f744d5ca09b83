"""/v1/images: an image's metadata, thumbnail and original; adding and deleting images."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from tandem.defaults import MAX_IMAGE_BYTES
from tandem.errors import ImageError, TandemError
from tandem.search import indexed_files
from tandem.search.indexing.entries import is_missing
from tandem.search.indexing.image_record import image_id, paths_of
from tandem.serve.collections import originals
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.collections.quotas import QuotaError, Uploads
from tandem.serve.http import clients, ranges
from tandem.serve.http.bodies import Body
from tandem.serve.http.links import LINK_S, SignedLinks
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, for_image, not_found
from tandem.serve.http.schemas import PIXEL, AtMost, CollectionName, EncodedImage, RequestBody, Text, one_of
from tandem.serve.image_links import image_link
from tandem.serve.service import Service

_IMMUTABLE = "private, max-age=31536000, immutable"  # an id is a hash of the image
_ONE_HOUR = "private, max-age=3600"  # a later version may make other thumbnails

Identifier = Annotated[str, Path(description="the id of a hit, percent-encoded")]  # of images in memory, any text
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


class OriginalLink(BaseModel):
    url: Annotated[str, Field(description="of this server; it holds no key")]
    expires_in_s: Annotated[int | None, Field(description="null where the server wants no key: it does not expire")]


class DeleteRequest(RequestBody):
    ids: Annotated[list[Text], Field(min_length=1), AtMost("max_batch")]
    collection: CollectionName = None

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ids": ["0123456789abcdef0123456789abcdef"]}]}
    )


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["images"])

    async def described(identifier: str, collection: str | None) -> JSONResponse:
        values = await _values(service, collection, identifier)
        plain = {name: value for name, value in values.items() if value is not None and not isinstance(value, bytes)}
        links = {part: image_link(identifier, f"/{part}", collection) for part in ("thumbnail", "original")}
        return JSONResponse({"id": identifier, **plain, **links})

    # The routes of parts come first: an id may have slashes in it.
    @routes.get("/v1/images/{id:path}/thumbnail", summary="Its thumbnail, a JPEG", response_class=Response)
    async def thumbnail(request: Request, id: Identifier, collection: Named = None) -> Response:
        if not _asks_for(request, "/thumbnail"):
            return await described(f"{id}/thumbnail", collection)
        content = await service.registry.run(collection, lambda leased: leased.collection.thumbnail(id))
        if content is None:
            raise not_found(f"no thumbnail of {id!r}")
        return _cached(request, Response(content, media_type="image/jpeg"), f'"{quote(id)}-thumbnail"', _ONE_HOUR)

    @routes.get(
        "/v1/images/{id:path}/original",
        summary="The image itself, as it was indexed; of a moment, its film",
        response_class=Response,
    )
    async def original(request: Request, id: Identifier, collection: Named = None) -> Response:
        def work(leased: OpenCollection) -> tuple[bytes, str] | Response | None:
            found = leased.collection.store.get([id], columns=("path", "paths", "format"), vectors=False)
            if not len(found):
                raise not_found(f"no image {id!r}")
            if indexed_files.is_of_film(found.row(0)):
                return _film(request, id, found.row(0))
            return originals.read(id, found.row(0), MAX_IMAGE_BYTES)

        if not _asks_for(request, "/original"):
            return await described(f"{id}/original", collection)
        read = await service.registry.run(collection, work)
        if read is None:
            raise not_found(f"the file of {id!r} is gone or has changed since it was indexed")
        if isinstance(read, Response):
            return read
        content, kind = read
        answer = Response(content, media_type=kind)
        if kind not in originals.TYPES.values():
            answer.headers["content-disposition"] = "attachment"
        return _cached(request, answer, f'"{quote(id)}"', _IMMUTABLE)

    @routes.get(
        "/v1/images/{id:path}/link",
        summary="A link to its original for players, which send no key: good for ten minutes",
        response_model=OriginalLink,
    )
    async def link(request: Request, id: Identifier, collection: Named = None) -> Response:
        if not _asks_for(request, "/link"):
            return await described(f"{id}/link", collection)
        await _values(service, collection, id)
        signing: SignedLinks | None = request.app.state.links
        if signing is None:
            return JSONResponse({"url": image_link(id, "/original", collection), "expires_in_s": None})
        try:
            brought = (request.headers.get("authorization"), request.headers.get("x-api-key"))
            url = signing.signed(image_link(id, "/original"), collection, *brought)
        except ValueError:  # the key was taken out of the file since the guard looked
            raise ProblemError(401, "API key missing or wrong", "the key has been revoked") from None
        return JSONResponse({"url": url, "expires_in_s": LINK_S})

    @routes.get("/v1/images/{id:path}", summary="An image's metadata")
    async def image(id: Identifier, collection: Named = None) -> JSONResponse:
        return await described(id, collection)

    @routes.with_body("POST", "/v1/images", AddRequest, summary="Add images; their files are stored", status_code=201)
    async def add(request: Request) -> JSONResponse:
        _may_write(service)
        body = await service.read(request, AddRequest)
        return JSONResponse(await _add(service, body), 201)

    @routes.with_body(
        "DELETE", "/v1/images", DeleteRequest, summary="Delete images from the collection; files elsewhere stay"
    )
    async def delete_several(request: Request) -> JSONResponse:
        params = (await service.read(request, DeleteRequest)).params
        return JSONResponse({"deleted": await _delete(service, params.collection, params.ids)})

    @routes.delete("/v1/images/{id:path}", summary="Delete an image from the collection; files elsewhere stay")
    async def delete(id: Identifier, collection: Named = None) -> JSONResponse:
        deleted = await _delete(service, collection, [id])
        if not deleted:
            raise not_found(f"no image {id!r}")
        return JSONResponse({"deleted": deleted})

    return routes


def _asks_for(request: Request, part: str) -> bool:
    """Whether the path ends in this part as it was sent: in an id, the slash is percent-encoded."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.partition(b"?")[0].endswith(part.encode())


def _film(request: Request, identifier: str, values: Mapping[str, Any]) -> Response | None:
    """The film of a moment, or a part of it; None if it is gone. Its name goes along, not its folder."""
    found = originals.film(identifier, values)
    if found is None:
        return None
    path, kind = found
    tag = f'"{quote(identifier)}"'
    if _has(request, tag):
        return _cached(request, Response(), tag, _ONE_HOUR)
    # A part of another film is of no use to who has the beginning of this one: RFC 9110, section 13.1.5.
    wanted = request.headers.get("range") if request.headers.get("if-range", tag).strip() == tag else None
    try:
        answer = ranges.answer(path, kind, wanted)
    except OSError:
        return None
    shown = "inline" if kind in originals.FILM_TYPES.values() else "attachment"
    answer.headers["content-disposition"] = f"{shown}; filename*=UTF-8''{quote(path.name, errors='replace')}"
    return _cached(request, answer, tag, _ONE_HOUR)


async def _values(service: Service, collection: str | None, identifier: str) -> dict[str, Any]:
    def work(leased: OpenCollection) -> dict[str, Any] | None:
        found = leased.collection.store.get([identifier], vectors=False)
        if not len(found):
            return None
        values = found.row(0)
        paths = paths_of(values)
        return {**values, "paths": paths} | ({"missing": True} if is_missing(paths) else {})

    values = await service.registry.run(collection, work)
    if values is None:
        raise not_found(f"no image {identifier!r}")
    return values


async def _add(service: Service, body: Body[AddRequest]) -> dict[str, Any]:
    """What was added and what failed. Raises `ProblemError` where nothing was."""
    params = body.params
    handle = service.registry.get(params.collection)
    folder = originals.folder_for(handle.url, service.settings.uploads, handle.name)
    if folder is None:
        detail = f"{handle.name} has no folder for originals: start tandem serve with --uploads FOLDER"
        raise ProblemError(409, "No folder for originals", detail)
    values = params.images or [] if params.image is None else [params.image]
    names = [f"images[{index}]" for index in range(len(values))] if params.image is None else ["image"]
    reader = (await service.registry.encoder_of(handle.name)).reader
    encoded: dict[str, tuple[bytes, str]] = {}
    failures: list[ImageError] = []
    for name, value in zip(names, values, strict=True):
        try:
            encoded[name] = await reader.read_encoded(body.image(value), name)
        except ImageError as error:
            if len(values) == 1:
                raise for_image(error) from None
            failures.append(error)
    added: list[dict[str, Any]] = []
    if encoded:  # shielded: once begun it is finished, even if the client has left
        client = clients.current.get()
        key = None if client is None else client.key

        def store(leased: OpenCollection) -> tuple[list[dict[str, Any]], list[ImageError]]:
            return _store(leased, encoded, folder, service.uploads(folder), key)

        try:
            added, not_indexed = await asyncio.shield(service.registry.write(handle.name, store))
        except QuotaError as error:
            raise ProblemError(403, "Quota used up", str(error)) from None
        failures += not_indexed
    for each in added:
        each["thumbnail"] = image_link(each["id"], "/thumbnail", params.collection)
    described = [error.as_dict() for error in failures]
    if not added:
        detail = f"none of {len(values):,} images could be added; {failures[0]}"
        raise ProblemError(422, "No image was added", detail, extra={"failures": described})
    return {"collection": handle.name, "added": added, "failures": described}


def _store(
    leased: OpenCollection,
    encoded: Mapping[str, tuple[bytes, str]],
    folder: FilePath,
    uploads: Uploads,
    key: str | None,
) -> tuple[list[dict[str, Any]], list[ImageError]]:
    """Keep the files of images, given by the names of their fields, and index those that are new.

    Whatever fails, no file stays that is not in the collection. Raises `QuotaError` before anything is kept.
    """
    store = leased.collection.store
    sizes = {image_id(content): len(content) for content, _ in encoded.values()}
    uploads.check(key, sizes)
    kept: list[tuple[str, str, FilePath, bool]] = []
    try:
        for name, content in encoded.items():
            kept.append((name, *originals.keep(*content, folder)))
        found = store.get(list(sizes), columns=("path", "paths"), vectors=False)
        before = {identifier: paths_of(found.row(index)) for index, identifier in enumerate(found.ids)}
        fresh = [path for _, identifier, path, _ in kept if identifier not in before]
        if fresh:
            leased.collection.add(list(dict.fromkeys(fresh)))
        indexed = set(leased.collection.store.get(list(sizes), columns=(), vectors=False).ids)
    except BaseException:
        _remove_unindexed(leased, kept)
        raise
    added: list[dict[str, Any]] = []
    failures: list[ImageError] = []
    counted: dict[str, int] = {}
    for name, identifier, path, is_new in kept:
        if identifier in indexed:
            added.append(
                {"image": name, "id": identifier, "new": identifier not in before and identifier not in counted}
            )
            if identifier not in before:
                counted[identifier] = sizes[identifier]
            elif is_new and str(path) not in before[identifier]:  # its record names other files
                path.unlink(missing_ok=True)
        else:
            failures.append(ImageError(name, "could not be indexed", "invalid"))
            if is_new:
                path.unlink(missing_ok=True)
    uploads.add(key, counted)
    return added, failures


def _remove_unindexed(leased: OpenCollection, kept: list[tuple[str, str, FilePath, bool]]) -> None:
    """Remove new files that were not indexed. Where that cannot be told now, they stay: nothing is lost."""
    with contextlib.suppress(TandemError, OSError):
        ids = [identifier for _, identifier, _, _ in kept]
        indexed = set(leased.collection.store.get(ids, columns=(), vectors=False).ids)
        for _, identifier, path, is_new in kept:
            if is_new and identifier not in indexed:
                path.unlink(missing_ok=True)


async def _delete(service: Service, collection: str | None, ids: list[str]) -> int:
    """Stored originals go with their images; files in other folders stay."""
    _may_write(service)
    handle = service.registry.get(collection)
    folder = originals.folder_for(handle.url, service.settings.uploads, handle.name)

    def change(leased: OpenCollection) -> int:
        found = leased.collection.store.get(ids, columns=("path", "paths"), vectors=False)
        deleted = leased.collection.delete(ids)
        if folder is not None:
            rows = [(found.ids[index], paths_of(found.row(index))) for index in range(len(found))]
            removed = [identifier for identifier, paths in rows if originals.remove_kept(paths, folder)]
            if removed:
                service.uploads(folder).remove(removed)
        return deleted

    return await asyncio.shield(service.registry.write(handle.name, change))


def _may_write(service: Service) -> None:
    if service.settings.read_only:
        raise ProblemError(403, "Forbidden", "this server only reads: it was started with --read-only")


def _has(request: Request, tag: str) -> bool:
    """Whether the client has the version of this tag."""
    return tag in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]


def _cached(request: Request, answer: Response, tag: str, control: str) -> Response:
    """304 for a browser that has it already."""
    headers = {"etag": tag, "cache-control": control}
    if _has(request, tag):
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer
