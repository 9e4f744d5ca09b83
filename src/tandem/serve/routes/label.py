"""POST /v1/label: the best images of a collection for every label, or the best labels of its images."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from tandem import prompts
from tandem.answer import softmax
from tandem.arrays import Vectors
from tandem.search.labelling import best_labels, best_pictures
from tandem.serve.collections.registry import Opened
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError
from tandem.serve.http.schemas import WHOLE, AtMost, CollectionName, Labels, RequestBody, Templates, Text, Where
from tandem.serve.routes.images import image_link
from tandem.serve.service import Service

PATHS_AT_ONCE = 1000


class LabelRequest(RequestBody):
    """The best pictures of every label, or the best labels of every picture (`by`)."""

    labels: Labels
    templates: Templates = None
    by: Literal["label", "picture"] = "label"
    k: Annotated[
        int | None, Field(ge=1, description="pictures a label (10), or labels a picture (3)"), WHOLE, AtMost("max_hits")
    ] = None
    ids: Annotated[
        list[Text] | None, Field(description="only these pictures, with all labels of each"), AtMost("max_batch")
    ] = None
    where: Where = None
    offset: Annotated[int, Field(ge=0, description="with by=picture: after how many pictures"), WHOLE] = 0
    limit: Annotated[int, Field(ge=1, description="with by=picture: how many pictures"), WHOLE, AtMost("max_hits")] = (
        100
    )
    collection: CollectionName = None

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"labels": ["cat", "dog", "beach"], "k": 5}]}
    )


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["collections"])

    @routes.with_body(
        "POST",
        "/v1/label",
        LabelRequest,
        summary="The best pictures of every label, or the best labels of every picture",
    )
    async def label(request: Request) -> JSONResponse:
        asked = (await service.read(request, LabelRequest)).asked
        name = service.shelf.named(asked.collection).name
        labels = prompts.check_labels(asked.labels)
        encoder = await service.shelf.encoder_of(name)
        vectors = await service.class_vectors(encoder, labels, asked.templates)

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
                    "thumbnail": image_link(each.id, "/thumbnail", asked.collection),
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
