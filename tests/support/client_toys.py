"""Answers that `tandem.Client` is given without a server."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np

import tandem

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, waits: list[float] | None = None, **options: Any) -> tandem.Client:
    sleep = (waits if waits is not None else []).append
    return tandem.Client("http://there:8000/", transport=httpx.MockTransport(handler), sleep=sleep, **options)


def embeddings(request: httpx.Request) -> httpx.Response:
    """Vectors that say which input they are of, in an order that is not the inputs'."""
    texts = json.loads(request.content)["input"]
    texts = [texts] if isinstance(texts, str) else texts
    vectors = [np.array([np.cos(len(text)), np.sin(len(text))], dtype="<f4").tobytes() for text in texts]
    rows = [{"index": i, "embedding": base64.b64encode(vector).decode()} for i, vector in enumerate(vectors)]
    return httpx.Response(200, json={"object": "list", "data": rows[::-1], "model": "toy"})


def problem(
    status: int, title: str = "Title", detail: str = "what came", retry_after: str = "", **extra: str
) -> httpx.Response:
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, **extra}
    headers = {"content-type": "application/problem+json"} | ({"retry-after": retry_after} if retry_after else {})
    return httpx.Response(status, json=document, headers=headers)


def in_turn(*answers: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    requests: list[httpx.Request] = []
    left: Iterator[httpx.Response | Exception] = iter(answers)

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler, requests


def ok() -> httpx.Response:
    return httpx.Response(200, json={"data": []})
