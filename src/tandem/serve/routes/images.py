"""/v1/pictures: what is known of a picture, its thumbnail and its original; putting pictures in and taking them out."""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict, Field

from tandem.search.indexing.picture import paths_of
from tandem.serve.collections import originals
from tandem.serve.collections.registry import Opened
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, not_found
from tandem.serve.http.schemas import PIXEL, AtMost, CollectionName, EncodedImage, RequestBody, Text
from tandem.serve.service import Service

MAX_ORIGINAL_BYTES = 128 * 2**20
_FOR_EVER = "private, max-age=31536000, immutable"  # an id is a hash of its picture
_AN_HOUR = "private, max-age=3600"  # another reader may make other thumbnails

Identifier = Annotated[str, Path(max_length=64, pattern="^[0-9A-Za-z_-]+$", description="the id of a hit")]
Named = Annotated[str | None, Query(description="which collection; the first one if left out", max_length=256)]


class AddRequest(RequestBody):
    """EncodedImages to put into a collection, which keeps their bytes."""

    images: Annotated[list[EncodedImage], Field(min_length=1), AtMost("max_batch")]
    collection: CollectionName = None

    image_fields = ("images",)
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"images": [PIXEL]}]})


class DeleteRequest(RequestBody):
    ids: Annotated[list[Text], Field(min_length=1), AtMost("max_batch")]
    collection: CollectionName = None

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ids": ["0123456789abcdef0123456789abcdef"]}]}
    )


def image_link(identifier: str, part: str = "", collection: str | None = None) -> str:
    """Where an image of a collection is found; `collection` only where it is not the default one."""
    named = f"?collection={quote(collection, safe='')}" if collection else ""
    return f"/v1/pictures/{quote(identifier, safe='')}{part}{named}"


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["pictures"])

    @routes.get("/v1/pictures/{id}", summary="What is known of a picture")
    async def picture(id: Identifier, collection: Named = None) -> JSONResponse:
        values = await _values(service, collection, id)
        plain = {name: value for name, value in values.items() if value is not None and not isinstance(value, bytes)}
        paths = {"paths": paths_of(values)}
        links = {
            "thumbnail": image_link(id, "/thumbnail", collection),
            "original": image_link(id, "/original", collection),
        }
        return JSONResponse({"id": id, **plain, **paths, **links})

    @routes.get("/v1/pictures/{id}/thumbnail", summary="Its thumbnail, a JPEG", response_class=Response)
    async def thumbnail(request: Request, id: Identifier, collection: Named = None) -> Response:
        content = await service.shelf.ask_of(collection, lambda used: used.collection.thumbnail(id))
        if content is None:
            raise not_found(f"no thumbnail of {id!r}")
        return _cached(request, Response(content, media_type="image/jpeg"), f'"{id}-thumbnail"', _AN_HOUR)

    @routes.get("/v1/pictures/{id}/original", summary="The picture itself, as it was indexed", response_class=Response)
    async def original(request: Request, id: Identifier, collection: Named = None) -> Response:
        def question(used: Opened) -> tuple[bytes, str] | None:
            found = used.collection.store.get([id], columns=("path", "paths", "format"), vectors=False)
            if not len(found):
                raise not_found(f"no picture {id!r}")
            return originals.read(id, found.row(0), MAX_ORIGINAL_BYTES)

        read = await service.shelf.ask_of(collection, question)
        if read is None:
            raise not_found(f"the file of {id!r} is no longer there as it was indexed")
        content, kind = read
        answer = Response(content, media_type=kind)
        if kind not in originals.TYPES.values():
            answer.headers["content-disposition"] = "attachment"
        return _cached(request, answer, f'"{id}"', _FOR_EVER)

    @routes.with_body(
        "POST", "/v1/pictures", AddRequest, summary="Put pictures in; their files are kept", status_code=201
    )
    async def add(request: Request) -> JSONResponse:
        _may_write(service)
        body = await service.read(request, AddRequest)
        values = body.asked.images
        shared = service.shelf.named(body.asked.collection)
        folder = originals.folder_for(shared.url, service.settings.uploads, shared.name)
        if folder is None:
            detail = f"{shared.name} is on a server: start tandem serve with --uploads FOLDER, where files are kept"
            raise ProblemError(409, "No place for originals", detail)
        encoder = await service.shelf.encoder_of(shared.name)
        reader = service.reader(encoder)
        names = [f"images[{place}]" for place in range(len(values))]
        contents: list[bytes | ProblemError] = []
        for value, name in zip(values, names, strict=True):
            try:
                contents.append(await reader.read_bytes(body.image(value), name))
            except ProblemError as problem:
                if problem.status == 503:
                    raise
                contents.append(problem)
        failures = [
            {"image": name, "error": each.detail.removeprefix(f"{name}: ")}
            for name, each in zip(names, contents, strict=True)
            if isinstance(each, ProblemError)
        ]
        good = [(name, each) for name, each in zip(names, contents, strict=True) if isinstance(each, bytes)]

        def change(used: Opened) -> list[dict[str, Any]]:
            kept = [(name, *originals.keep(content, folder)) for name, content in good]
            ids = list(dict.fromkeys(identifier for _, identifier, _, _ in kept))
            there = set(used.collection.store.get(ids, columns=(), vectors=False).ids)
            fresh = [path for _, identifier, path, _ in kept if identifier not in there]
            if fresh:
                used.collection.add(list(dict.fromkeys(fresh)))
            now = set(used.collection.store.get(ids, columns=(), vectors=False).ids)
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

        # Shielded: what was begun is finished and then true, also where the one who asked has left.
        added = await asyncio.shield(service.shelf.write_to(shared.name, change)) if good else []
        for each in added:
            each["thumbnail"] = image_link(each["id"], "/thumbnail", body.asked.collection)
        if not added:
            raise _none_added(contents, failures)
        return JSONResponse({"collection": shared.name, "added": added, "failures": failures}, 201)

    @routes.with_body("DELETE", "/v1/pictures", DeleteRequest, summary="Take pictures out; files elsewhere stay")
    async def delete_several(request: Request) -> JSONResponse:
        asked = (await service.read(request, DeleteRequest)).asked
        return JSONResponse({"deleted": await _delete(service, asked.collection, asked.ids)})

    @routes.delete("/v1/pictures/{id}", summary="Take a picture out; files elsewhere stay")
    async def delete(id: Identifier, collection: Named = None) -> JSONResponse:
        deleted = await _delete(service, collection, [id])
        if not deleted:
            raise not_found(f"no picture {id!r}")
        return JSONResponse({"deleted": deleted})

    return routes


async def _values(service: Service, collection: str | None, identifier: str) -> dict[str, Any]:
    def question(used: Opened) -> dict[str, Any] | None:
        found = used.collection.store.get([identifier], vectors=False)
        return dict(found.row(0)) if len(found) else None

    values = await service.shelf.ask_of(collection, question)
    if values is None:
        raise not_found(f"no picture {identifier!r}")
    return values


async def _delete(service: Service, collection: str | None, ids: list[str]) -> int:
    """Files that are ours go with their pictures; those of other folders stay."""
    _may_write(service)
    shared = service.shelf.named(collection)
    folder = originals.folder_for(shared.url, service.settings.uploads, shared.name)

    def change(used: Opened) -> int:
        found = used.collection.store.get(ids, columns=("path", "paths"), vectors=False)
        deleted = used.collection.delete(ids)
        if folder is not None:
            for place in range(len(found)):
                originals.remove_kept(paths_of(found.row(place)), folder)
        return deleted

    return await asyncio.shield(service.shelf.write_to(shared.name, change))


def _none_added(contents: list[bytes | ProblemError], failures: list[dict[str, str]]) -> ProblemError:
    """What is wrong with each, as a member of the problem; of a picture that came alone it is the problem itself."""
    only = contents[0]
    if len(contents) == 1 and isinstance(only, ProblemError):
        return ProblemError(only.status, only.title, only.detail, extra={"failures": failures})
    first = failures[0]
    detail = f"none of {len(contents):,} pictures could be added; {first['image']}: {first['error']}"
    return ProblemError(422, "No picture was added", detail, extra={"failures": failures})


def _may_write(service: Service) -> None:
    if service.settings.read_only:
        raise ProblemError(403, "Forbidden", "this server only reads: it was started with --read-only")


def _cached(request: Request, answer: Response, tag: str, control: str) -> Response:
    """Browsers that have it already are told so."""
    headers = {"etag": tag, "cache-control": control}
    if tag in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer
