"""POST /v1/label: the best images of a collection for every label, or the best labels of its images."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from tandem.arrays import Vectors
from tandem.defaults import HITS, LABELS
from tandem.scores.scoring import Scoring, digits
from tandem.search.labelling import top_images, top_labels, with_paths
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.http import answers
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError
from tandem.serve.http.schemas import (
    WHOLE,
    AtMost,
    CollectionName,
    HeadName,
    Independent,
    Labels,
    Language,
    Long,
    RequestBody,
    Templates,
    Text,
    Where,
    labels_or_head,
)
from tandem.serve.image_links import image_link
from tandem.serve.service import Service

MAX_ROWS = 50_000  # of an answer: images of all labels, or labels of all images


class LabelRequest(RequestBody):
    """The best images of every label, or the best labels of every image (`by`); of a `head` instead of labels, its
    classes, and `score` is a logit.
    """

    labels: Labels | None = None
    head: HeadName = None
    templates: Templates = None
    language: Language = None
    long: Long = "error"
    independent: Independent = False
    by: Literal["label", "image"] = "label"
    k: Annotated[
        int | None,
        Field(ge=1, description=f"images per label ({HITS}), or labels per image ({LABELS})"),
        WHOLE,
        AtMost("max_hits"),
    ] = None
    ids: Annotated[
        list[Text] | None, Field(description="only these images, with all labels of each"), AtMost("max_batch")
    ] = None
    where: Where = None
    offset: Annotated[int, Field(ge=0, description="with by=image: how many images to skip"), WHOLE] = 0
    limit: Annotated[int, Field(ge=1, description="with by=image: how many images"), WHOLE, AtMost("max_hits")] = 100
    collection: CollectionName = None

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"labels": ["cat", "dog", "beach"], "k": 5}], **labels_or_head()},
    )
    or_else = ("labels", "head")


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["collections"])

    @routes.with_body(
        "POST",
        "/v1/label",
        LabelRequest,
        summary="The best images of every label, or the best labels of every image",
    )
    async def label(request: Request) -> Response:
        params = (await service.read(request, LabelRequest)).params
        name = service.registry.get(params.collection).name
        head = service.head_of(params)
        labels = list(head.classes) if head else service.checked_labels(params.labels)
        _check_size(params, len(labels))

        async def vectors_of(encoder: Encoder) -> Vectors:
            if head:
                return head.weights
            return await service.class_vectors(
                encoder, labels, params.templates, language=params.language, long=params.long
            )

        def work(leased: OpenCollection, vectors: Vectors) -> dict[str, Any]:
            model = leased.encoder.model
            described = {"collection": name, "model": {"name": model.name, "fingerprint": model.fingerprint}}
            if head:
                scoring = model.head_scoring(head)[1]
            else:
                scoring = model.scoring(
                    vectors,
                    independent=params.independent,
                    templates=params.templates,
                    language=params.language,
                    long=params.long,
                )
            if params.ids is not None:
                found: dict[str, Any] = {"results": _of_images(leased, params.ids, labels, vectors, scoring)}
            elif params.by == "label":
                found = {"labels": _by_label(leased, params, labels, vectors, scoring)}
            else:
                found = _by_image(leased, params, labels, vectors, scoring)
            return described | {"by": params.by, "scoring": scoring.kind} | found

        found = await service.ask_with_encoder(name, vectors_of, work, scan=params.ids is None)
        rows = "results" if params.ids is not None else "labels" if params.by == "label" else "images"
        return await answers.in_rows(lambda: found, rows)

    return routes


def _check_size(params: LabelRequest, labels: int) -> None:
    """Raises `ProblemError` 413 for an answer of more rows than anybody reads."""
    if params.ids is not None:
        return
    if params.by == "label":
        count, what = labels * (params.k or HITS), "labels times k"
    else:
        count, what = params.limit * min(labels, params.k or LABELS), "limit times labels"
    if count > MAX_ROWS:
        raise ProblemError(413, "Too many at once", f"{what}: expected at most {MAX_ROWS:,}, got {count:,}")


def _of_images(
    leased: OpenCollection, ids: list[str], labels: list[str], vectors: Vectors, scoring: Scoring
) -> list[dict[str, Any]]:
    """Some images with the probabilities of all labels."""
    found = leased.collection.store.get(ids, columns=())
    if found.vectors is None or not len(found):
        return []
    scores = np.asarray(found.vectors @ vectors.T, dtype=np.float32)  # [n d] [d c] -> [n c]
    probabilities = scoring.probabilities(scores)
    return [
        {
            "id": identifier,
            "best": labels[int(row.argmax())],
            "probabilities": {each: float(digits(share)) for each, share in zip(labels, row, strict=True)},
        }
        for identifier, row in zip(found.ids, probabilities, strict=True)
    ]


def _by_label(
    leased: OpenCollection, params: LabelRequest, labels: list[str], vectors: Vectors, scoring: Scoring
) -> list[dict[str, Any]]:
    store = leased.collection.store
    best = with_paths(store, top_images(store, vectors, params.k or HITS, scoring=scoring, where=params.where))
    return [
        {
            "label": label,
            "images": [
                {
                    "id": each.id,
                    "path": each.path,
                    "probability": float(digits(each.probability)),
                    "score": round(each.score, 6),
                    "thumbnail": image_link(each.id, "/thumbnail", params.collection),
                }
                for each in row
            ],
        }
        for label, row in zip(labels, best, strict=True)
    ]


def _by_image(
    leased: OpenCollection, params: LabelRequest, labels: list[str], vectors: Vectors, scoring: Scoring
) -> dict[str, Any]:
    """A page of images with their labels, in the store's own order."""
    images: list[dict[str, Any]] = []
    seen = 0
    store = leased.collection.store
    total = leased.collection.count(params.where)
    if params.offset >= total:  # else all of it would be looked through for nothing
        return {"offset": params.offset, "total": total, "images": []}
    parts = top_labels(store, vectors, params.k or LABELS, scoring=scoring, where=params.where, columns=("path",))
    for part in parts:
        first = max(params.offset - seen, 0)
        seen += len(part)
        for row in range(first, len(part)):
            if len(images) == params.limit:
                break
            rows = zip(part.labels[row], part.probabilities[row], part.scores[row], strict=True)
            images.append(
                {
                    "id": part.ids[row],
                    "path": str(part.columns["path"][row] or ""),
                    "labels": [
                        {"label": labels[at], "probability": float(digits(share)), "score": round(float(score), 6)}
                        for at, share, score in rows
                    ],
                }
            )
        if len(images) == params.limit:
            break
    return {"offset": params.offset, "total": total, "images": images}
