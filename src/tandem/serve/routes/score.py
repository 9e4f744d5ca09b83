"""POST /v1/score: how well each image of a request fits its own prompt, as CLIPScore."""

import asyncio
from typing import Annotated

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tandem.clip_score import formulas
from tandem.clip_score.results import figures_of, plain
from tandem.errors import ImageError
from tandem.serve.http.openapi import BodyRouter
from tandem.serve.http.problems import ProblemError, for_image
from tandem.serve.http.schemas import PIXEL, AtMost, EncodedImage, ImageFailure, Long, ModelName, RequestBody, Text
from tandem.serve.service import Service


class ScoreRequest(RequestBody):
    """Several `images`, and a prompt for each, in the same order."""

    images: Annotated[Annotated[list[EncodedImage], Field(min_length=1)], AtMost("max_batch")]
    prompts: Annotated[Annotated[list[Text], Field(min_length=1)], AtMost("max_batch")]
    prefix: Annotated[str, Field(description='words before every prompt, such as "A photo depicts"')] = ""
    long: Long = "truncate"
    model: str | None = None

    image_fields = ("images",)
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"images": [PIXEL], "prompts": ["a bird on a railing"]}]}
    )


class ScoreFigure(BaseModel):
    value: float
    interval: tuple[float, float]
    n: int
    chance: Annotated[float | None, Field(description="what guessing gives: of a CLIPScore, with other prompts")]
    unit: str


class ScoredImage(BaseModel):
    image: str
    prompt: str
    cosine: float
    clip_score: Annotated[float, Field(description="2.5 max(cos, 0) (Hessel et al. 2021)")]
    cut_tokens: Annotated[int, Field(description="of the prompt: tokens past what the model reads")]


class ScoreAnswer(BaseModel):
    model: ModelName
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
        if len(params.prompts) != len(params.images):
            detail = f"prompts: expected one for each of the {len(params.images)} images, got {len(params.prompts)}"
            raise ProblemError(422, "Request cannot be answered", detail)
        encoder = await service.registry.encoder_named(params.model)
        prefix = f"{params.prefix.rstrip()} " if params.prefix.strip() else ""
        texts = [prefix + prompt for prompt in params.prompts]
        service.check_texts(texts, "prompts")
        names = [f"images[{i}]" for i in range(len(params.images))]
        vectors = await encoder.embed_texts(texts, [f"prompts[{i}]" for i in range(len(texts))], params.long)
        found = await encoder.embed_images([body.image(value) for value in params.images], names)
        if len(found) == 1 and isinstance(found[0], ImageError):
            raise for_image(found[0])
        good = [index for index, each in enumerate(found) if not isinstance(each, ImageError)]
        images = [each for each in found if not isinstance(each, ImageError)]
        cosine = formulas.cosines(np.stack(images), vectors[good]) if images else np.empty(0, np.float32)
        values = {"cosine": cosine, "clip_score": formulas.clip_score(cosine)}
        ids = await asyncio.to_thread(encoder.tokenizer.encode, texts) if params.long == "truncate" else []
        room = encoder.tokenizer.room(encoder.context_length)
        cut = [max(0, len(row) - room) for row in ids] or [0] * len(texts)
        figures = await asyncio.to_thread(figures_of, ("clip_score",), values) if good else {}
        return JSONResponse(
            {
                "model": {"name": encoder.model.name, "fingerprint": encoder.model.fingerprint},
                "figures": {name: figure.as_dict() for name, figure in figures.items()},
                "results": [
                    {
                        "image": names[index],
                        "prompt": params.prompts[index],
                        **{name: plain(column[row]) for name, column in values.items()},
                        "cut_tokens": cut[index],
                    }
                    for row, index in enumerate(good)
                ],
                "failures": [each.as_dict() for each in found if isinstance(each, ImageError)],
            }
        )

    return routes
