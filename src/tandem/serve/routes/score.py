"""POST /v1/score: how well each image of a request, or of a collection, fits its own prompt, as CLIPScore."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tandem.answer import Failure, ModelIdentity
from tandem.arrays import Vectors
from tandem.clip_score.formulas import Metric
from tandem.clip_score.metrics import Encoded
from tandem.clip_score.results import Scores
from tandem.clip_score.rows import ScoreRow
from tandem.clip_score.scoring import scored_rows
from tandem.clip_score.texts import KnownTexts, Tokens, before_texts, cut_to
from tandem.errors import ImageError
from tandem.model import Model
from tandem.serve.collections.handle import OpenCollection
from tandem.serve.collections.stored_vectors import stored_vectors
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.http import text_limits
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, for_image
from tandem.serve.http.schemas import (
    PIXEL,
    AtMost,
    CollectionName,
    EncodedImage,
    ImageFailure,
    Long,
    ModelName,
    RequestBody,
    Text,
    one_of,
)
from tandem.serve.service import Service

METRIC: tuple[Metric, ...] = ("clip_score",)


class ScoreRequest(RequestBody):
    """Several `images`, or the `ids` of some in a collection, and a prompt for each, in the same order."""

    images: Annotated[Annotated[list[EncodedImage], Field(min_length=1)] | None, AtMost("max_batch")] = None
    ids: Annotated[
        Annotated[list[Text], Field(min_length=1)] | None,
        Field(description="of images in the collection, by their vectors: no file is read; one may be there again"),
        AtMost("max_batch"),
    ] = None
    prompts: Annotated[Annotated[list[Text], Field(min_length=1)], AtMost("max_batch")]
    prefix: Annotated[str, Field(description='words before every prompt, such as "A photo depicts"')] = ""
    long: Long = "truncate"
    model: Annotated[str | None, Field(description="of images; ids are scored by the model of their collection")] = None
    collection: CollectionName = None

    image_fields = ("images",)
    either = ("images", "ids")
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"images": [PIXEL], "prompts": ["a bird on a railing"]}],
            **one_of("oneOf", "images", "ids", others_null=True),
        },
    )


class ScoreFigure(BaseModel):
    value: float
    interval: tuple[float, float]
    n: int
    chance: Annotated[
        float | None,
        Field(description="what guessing gives: of a CLIPScore, with other prompts; null with one prompt alone"),
    ]
    unit: str


class ScoredImage(BaseModel):
    row: Annotated[int, Field(description="the image's place in the request, from 0")]
    image: Annotated[str, Field(description="the field it came in, such as images[2]; of ids, the id")]
    prompt: str
    cosine: float
    clip_score: Annotated[float, Field(description="2.5 max(cos, 0) (Hessel et al. 2021)")]
    cut_tokens: Annotated[int, Field(description="of the prompt: tokens past what the model reads")]


class ScoreAnswer(BaseModel):
    model: ModelName
    prefix: str
    figures: Annotated[
        dict[str, ScoreFigure], Field(description="means with 95% intervals; clip_score_100 is 100 max(cos, 0)")
    ]
    results: list[ScoredImage]
    failures: list[ImageFailure]


def router(service: Service) -> BodyRouter:
    routes = BodyRouter(tags=["model"])

    @routes.with_body(
        "POST",
        "/v1/score",
        ScoreRequest,
        summary="How well each image fits its prompt (CLIPScore)",
        response_model=ScoreAnswer,
    )
    async def score(request: Request) -> JSONResponse:
        body = await service.read(request, ScoreRequest)
        params = body.params
        names = params.ids or [f"images[{i}]" for i in range(len(params.images or []))]
        if len(params.prompts) != len(names):
            detail = f"prompts: expected one for each of the {len(names)} images, got {len(params.prompts)}"
            raise ProblemError(422, "Request cannot be answered", detail)
        if params.ids is not None and params.model is not None:
            detail = "model: ids are scored by the model of their collection; leave it out"
            raise ProblemError(422, "Request cannot be answered", detail)
        texts = [before_texts(params.prefix) + prompt for prompt in params.prompts]
        text_limits.check_lengths(texts, "prompts", service.settings)

        async def known(encoder: Encoder) -> KnownTexts:
            vectors = await encoder.embed_texts(texts, [f"prompts[{i}]" for i in range(len(texts))], params.long)
            tokens: list[Tokens | None] = [None] * len(texts)
            if params.long == "truncate":
                room = encoder.tokenizer.room(encoder.context_length)
                _, tokens = await encoder.text_reader.run(texts, lambda: cut_to(room, encoder.tokenizer, texts))
            return KnownTexts(
                dict(zip(params.prompts, vectors, strict=True)), dict(zip(params.prompts, tokens, strict=True))
            )

        def scores(model: Model, found: Sequence[Vectors | ImageError], texts: KnownTexts) -> dict[str, Any]:
            rows = zip(names, params.prompts, found, strict=True)
            encoded = [
                Encoded(index, ScoreRow(name, prompt), each, each[:0])
                for index, (name, prompt, each) in enumerate(rows)
                if not isinstance(each, ImageError)
            ]
            failures = [Failure(index, each) for index, each in enumerate(found) if isinstance(each, ImageError)]
            part = scored_rows(encoded, METRIC, texts, failures)
            identity = ModelIdentity(model.name, model.fingerprint)
            return Scores.join(identity, METRIC, params.prefix, [part]).as_dict()

        if params.ids is not None:
            ids = params.ids

            def work(leased: OpenCollection, texts: KnownTexts) -> dict[str, Any]:
                vectors = stored_vectors(leased.collection.store, ids).vectors
                return scores(leased.encoder.model, list(vectors), texts)

            name = service.registry.get(params.collection).name
            return JSONResponse(await service.ask_with_encoder(name, known, work))
        encoder = await service.registry.encoder_named(params.model)
        prompts = await known(encoder)
        found = await encoder.embed_images([body.image(value) for value in params.images or []], names)
        if len(found) == 1 and isinstance(found[0], ImageError):
            raise for_image(found[0])
        return JSONResponse(await asyncio.to_thread(scores, encoder.model, found, prompts))

    return routes
