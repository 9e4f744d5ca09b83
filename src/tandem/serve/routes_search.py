"""POST /v1/search and /v1/label: what a collection has."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tandem import prompts
from tandem.answer import softmax
from tandem.model import Vectors
from tandem.search.labelling import best_labels, best_pictures
from tandem.search.query import SearchQuery
from tandem.serve import bodies, openapi
from tandem.serve.encoder import Encoder
from tandem.serve.links import thumbnail_link
from tandem.serve.problems import ProblemError, not_found
from tandem.serve.routes_embeddings import class_vectors
from tandem.serve.schemas import LabelRequest, SearchAnswer, SearchRequest
from tandem.serve.service import Service
from tandem.serve.shelf import Opened

PATHS_AT_ONCE = 1000


def router(service: Service) -> APIRouter:
    """The routes of one server."""
    routes = APIRouter(tags=["collections"])

    @routes.post(
        "/v1/search",
        summary="The images nearest to a text, to an image, or to both",
        response_model=SearchAnswer,
        openapi_extra=openapi.described(SearchRequest),
    )
    async def search(request: Request) -> JSONResponse:
        body = await bodies.read(request, SearchRequest)
        asked = body.asked
        _check_page(service, asked)
        query = _query(service, asked)
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
            hit["thumbnail"] = thumbnail_link(hit["id"], asked.collection and name)
        return JSONResponse(answer | {"collection": name})

    @routes.post(
        "/v1/label",
        summary="The best pictures of every label, or the best labels of every picture",
        openapi_extra=openapi.described(LabelRequest),
    )
    async def label(request: Request) -> JSONResponse:
        asked = (await bodies.read(request, LabelRequest)).asked
        if (asked.k or 1) > service.settings.max_hits or asked.limit > service.settings.max_hits:
            raise _too_far(f"k and limit: expected at most {service.settings.max_hits:,}")
        if asked.ids is not None:
            service.check_batch(len(asked.ids), "ids")
        name = service.shelf.named(asked.collection).name
        labels = prompts.check_labels(asked.labels)
        encoder = await service.shelf.encoder_of(name)
        vectors = await class_vectors(service, encoder, labels, asked.templates)

        def question(used: Opened) -> dict[str, Any]:
            if used.encoder is not encoder:
                raise ProblemError(503, "Collection is being moved", f"{name} is being moved to another model")
            if asked.ids is not None:
                return {"results": _of_pictures(used, asked.ids, labels, vectors)}
            if asked.by == "label":
                return {"labels": _by_label(used, asked, labels, vectors)}
            return _by_picture(used, asked, labels, vectors)

        answer = await service.shelf.ask_of(name, question, scan=asked.ids is None)
        model = encoder.model
        head = {"collection": name, "model": {"name": model.name, "fingerprint": model.fingerprint}, "by": asked.by}
        return JSONResponse(head | answer)

    return routes


def _check_page(service: Service, asked: SearchRequest) -> None:
    settings = service.settings
    if asked.k > settings.max_hits:
        raise _too_far(f"k: expected at most {settings.max_hits:,}")
    if asked.offset > settings.max_offset:
        raise _too_far(f"offset: expected at most {settings.max_offset:,}")
    if asked.where is not None and len(asked.where) > settings.max_text_letters:
        raise _too_far(f"where: expected at most {settings.max_text_letters:,} letters")


def _query(service: Service, asked: SearchRequest) -> SearchQuery:
    """What is searched for, within the server's limits. Images are called by their fields: they have no other names."""
    plain = asked.model_dump(exclude={"collection"}, exclude_none=True)
    query = SearchQuery.from_dict(plain | {name: name for name in ("image", "minus_image") if name in plain})
    service.check_texts(list(query.texts.values()), "text")
    return query


async def _vectors(
    service: Service, encoder: Encoder, query: SearchQuery, body: bodies.Body[SearchRequest]
) -> dict[str, Vectors]:
    """The vector of each text and image, by the name of its field."""
    vectors: dict[str, Vectors] = {}
    if query.texts:
        vectors |= dict(zip(query.texts, await encoder.embed_texts(list(query.texts.values())), strict=True))
    for name in query.images:
        vectors[name] = await service.embed_picture(encoder, body.picture(getattr(body.asked, name)), name)
    return vectors


def _stored(used: Opened, identifier: str) -> Vectors:
    """The vector of a picture of the collection. Raises `ProblemError` 404."""
    found = used.collection.store.get([identifier], columns=())
    if not len(found) or found.vectors is None:
        raise not_found(f"no picture {identifier[:64]!r} in {used.name}")
    return np.asarray(found.vectors[0], dtype=np.float32)


def _too_far(detail: str) -> ProblemError:
    return ProblemError(422, "Request cannot be answered", detail)


def _of_pictures(used: Opened, ids: list[str], labels: list[str], vectors: Vectors) -> list[dict[str, Any]]:
    """Some pictures with the probabilities of all labels."""
    found = used.collection.store.get(ids, columns=())
    if found.vectors is None or not len(found):
        return []
    scores = np.asarray(found.vectors) @ vectors.T  # [n d] [d c] -> [n c]
    shares = softmax(np.asarray(scores * used.encoder.model.logit_scale, dtype=np.float32))
    return [
        {
            "id": identifier,
            "best": labels[int(row.argmax())],
            "probabilities": {each: round(float(share), 6) for each, share in zip(labels, row, strict=True)},
        }
        for identifier, row in zip(found.ids, shares, strict=True)
    ]


def _by_label(used: Opened, asked: LabelRequest, labels: list[str], vectors: Vectors) -> list[dict[str, Any]]:
    scale = used.encoder.model.logit_scale
    best = best_pictures(used.collection.store, vectors, asked.k or 10, logit_scale=scale, where=asked.where)
    ids = list(dict.fromkeys(each.id for row in best for each in row))
    paths: dict[str, str] = {}
    for start in range(0, len(ids), PATHS_AT_ONCE):
        some = used.collection.store.get(ids[start : start + PATHS_AT_ONCE], columns=["path"], vectors=False)
        paths |= {each: str(path or "") for each, path in zip(some.ids, some.columns["path"], strict=True)}
    return [
        {
            "label": label,
            "pictures": [
                {
                    "id": each.id,
                    "path": paths.get(each.id, ""),
                    "probability": round(each.probability, 6),
                    "score": round(each.score, 6),
                    "thumbnail": thumbnail_link(each.id, asked.collection),
                }
                for each in row
            ],
        }
        for label, row in zip(labels, best, strict=True)
    ]


def _by_picture(used: Opened, asked: LabelRequest, labels: list[str], vectors: Vectors) -> dict[str, Any]:
    """A page of pictures with their labels, in the store's own order."""
    pictures: list[dict[str, Any]] = []
    seen = 0
    scale = used.encoder.model.logit_scale
    parts = best_labels(
        used.collection.store, vectors, asked.k or 3, logit_scale=scale, where=asked.where, columns=("path",)
    )
    for part in parts:
        first = max(asked.offset - seen, 0)
        seen += len(part)
        for place in range(first, len(part)):
            if len(pictures) == asked.limit:
                break
            rows = zip(part.labels[place], part.probabilities[place], part.scores[place], strict=True)
            pictures.append(
                {
                    "id": part.ids[place],
                    "path": str(part.columns["path"][place] or ""),
                    "labels": [
                        {"label": labels[at], "probability": round(float(share), 6), "score": round(float(score), 6)}
                        for at, share, score in rows
                    ],
                }
            )
        if len(pictures) == asked.limit:
            break
    return {"offset": asked.offset, "total": used.collection.count(asked.where), "pictures": pictures}
