"""POST /v1/classify: how well each label fits each image of a request."""

import asyncio
from typing import Annotated

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from tandem.answer import Answer, Failure
from tandem.errors import ImageError
from tandem.serve.http import answers
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, for_image
from tandem.serve.http.schemas import (
    PIXEL,
    AtMost,
    EncodedImage,
    HeadName,
    ImageFailure,
    Independent,
    Labels,
    Language,
    Long,
    ModelName,
    RequestBody,
    Scored,
    Templates,
    labels_or_head,
    one_of,
)
from tandem.serve.service import Service


class ClassifyRequest(RequestBody):
    """One `image` or several `images`, and the labels, which compete unless they are `independent`, or a `head`."""

    image: EncodedImage | None = None
    images: Annotated[Annotated[list[EncodedImage], Field(min_length=1)] | None, AtMost("max_batch")] = None
    labels: Labels | None = None
    head: HeadName = None
    templates: Annotated[Templates, Field(description='texts with {} for the label; default "a photo of a {}."')] = None
    language: Language = None
    long: Long = "error"
    independent: Independent = False
    model: str | None = None

    image_fields = either = ("image", "images")
    or_else = ("labels", "head")
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"image": PIXEL, "labels": ["cat", "dog", "zebra"]}],
            **labels_or_head(**one_of("oneOf", "image", "images", others_null=True)),
        },
    )


class Classified(BaseModel):
    image: str
    best: str
    probabilities: dict[str, float]
    logits: dict[str, float]


class ClassifyAnswer(BaseModel):
    model: ModelName
    labels: list[str]
    scoring: Scored
    results: list[Classified]
    failures: list[ImageFailure]


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["model"])

    @routes.with_body(
        "POST",
        "/v1/classify",
        ClassifyRequest,
        summary="How well each label fits each image",
        response_model=ClassifyAnswer,
    )
    async def classify(request: Request) -> Response:
        body = await service.read(request, ClassifyRequest)
        params = body.params
        head = service.head_of(params)
        encoder = await service.registry.encoder_named(params.model or (head.fingerprint if head else None))
        values = [params.image] if params.image is not None else params.images or []
        names = ["image"] if params.image is not None else [f"images[{i}]" for i in range(len(values))]
        if not values:
            raise ProblemError(422, "Request cannot be answered", "images: expected an image or several, got none")
        if head:
            labels, vectors, scoring = list(head.classes), head.weights, encoder.model.head_scoring(head)[1]
        else:
            labels = service.checked_labels(params.labels)
            vectors = await service.class_vectors(
                encoder, labels, params.templates, language=params.language, long=params.long
            )
            # The first time it reads a file.
            scoring = await asyncio.to_thread(
                encoder.model.scoring,
                vectors,
                independent=params.independent,
                templates=params.templates,
                language=params.language,
                long=params.long,
            )
        found = await encoder.embed_images([body.image(value) for value in values], names)
        if len(found) == 1 and isinstance(found[0], ImageError):
            raise for_image(found[0])
        good = [(index, each) for index, each in enumerate(found) if not isinstance(each, ImageError)]
        logits = np.empty((0, len(labels)), dtype=np.float32)
        if good:
            logits = scoring.logits(encoder.model.similarity(np.stack([each for _, each in good]), vectors))
        failures = tuple(Failure(index, each) for index, each in enumerate(found) if isinstance(each, ImageError))
        sources = tuple(names[index] for index, _ in good)
        answer = Answer(encoder.model, tuple(labels), sources, logits, failures, scoring=scoring.kind)
        return await answers.in_rows(answer.as_dict, "results")

    return routes
