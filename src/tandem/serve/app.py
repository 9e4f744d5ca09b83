"""Joins routes, errors, the web page and the guard into one application, made by `build_app`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount, Route
from starlette.types import ASGIApp, Scope

from tandem import __version__
from tandem.errors import TandemError
from tandem.serve import routes
from tandem.serve.encoding.batching import ClosedError, QueueFullError
from tandem.serve.http import bodies, loop_lag, openapi, problems
from tandem.serve.http.guard import RequestGuard
from tandem.serve.http.links import SignedLinks
from tandem.serve.http.problems import ProblemError
from tandem.serve.image_links import is_original
from tandem.serve.service import Service

PAGE = Path(__file__).parent / "page"
_TITLES = {400: "Bad request", 404: "Not found", 422: "Request does not fit", 503: "Server is full"}


def build_app(service: Service) -> FastAPI:
    """The application; it closes the service when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(loop_lag.watch(service.metrics))
        yield
        watching.cancel()
        service.close()

    problem: dict[int | str, dict[str, Any]] = {
        status: {"description": title, "content": {problems.MEDIA_TYPE: {"schema": openapi.reference("Problem")}}}
        for status, title in _TITLES.items()
    }
    app = FastAPI(
        title="Tandem",
        version=__version__,
        description="Images and texts in one vector space: embed, classify, search, label.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
        responses=problem,
        redirect_slashes=False,
    )
    links = app.state.links = None if service.keys is None else SignedLinks(service.keys, is_original)
    known, with_bodies = routes.include_all(app, service)
    for error, answer in _ANSWERS.items():
        app.add_exception_handler(error, _handler(answer, known))
    if PAGE.is_dir():
        app.router.routes.append(_PageMount("/", _Page(directory=PAGE, html=True), known))
    settings = service.settings

    def takes_body(method: str, path: str) -> bool:
        return any(method in (each.methods or ()) and each.path_regex.match(path) for each in with_bodies)

    app.add_middleware(
        RequestGuard,
        settings=settings,
        metrics=service.metrics,
        keys=service.keys,
        takes_body=takes_body,
        links=links,
    )
    return app


class _Page(StaticFiles):
    """The page's files. Browsers ask each time whether they have changed, and mostly get 304."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        answer = super().file_response(*arguments, **options)
        answer.headers["cache-control"] = "no-cache"
        return answer


class _PageMount(Mount):
    """The page at every path that is not one of the interface: there a method that is not allowed is 405, not 404."""

    def __init__(self, path: str, app: ASGIApp, routes: Sequence[Route]) -> None:
        super().__init__(path, app)
        self._others = routes

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if _allowed_methods(self._others, scope):
            return Match.NONE, {}
        return super().matches(scope)


def _allowed_methods(routes: Sequence[Route], scope: Scope) -> set[str]:
    """The methods of all routes at a path; the guard answers HEAD wherever there is GET."""
    methods = {each for route in routes if route.path_regex.match(scope["path"]) for each in route.methods or ()}
    return methods | ({"HEAD"} if "GET" in methods else set())


def _handler(
    answer: Callable[[Any], ProblemError], routes: Sequence[Route]
) -> Callable[[Request, Exception], JSONResponse]:
    def handle(request: Request, error: Exception) -> JSONResponse:
        problem = answer(error)
        if problem.status == 405:  # the framework names the methods of one route only
            allowed = ", ".join(sorted(_allowed_methods(routes, request.scope) or ("GET", "HEAD")))
            problem = problems.for_status(
                405, f"{request.method} is not allowed here; use {allowed}", headers={"Allow": allowed}
            )
        return JSONResponse(
            problem.document(), problem.status, headers=problem.headers(), media_type=problems.MEDIA_TYPE
        )

    return handle


def _from_http(error: HTTPException) -> ProblemError:
    return problems.for_status(error.status_code, str(error.detail), headers=error.headers)


_ANSWERS: dict[type[Exception], Callable[[Any], ProblemError]] = {
    ProblemError: lambda error: error,
    TandemError: problems.from_error,
    HTTPException: _from_http,
    RequestValidationError: lambda error: bodies.invalid(error.errors()),
    QueueFullError: lambda error: problems.full(str(error)),
    ClosedError: lambda error: problems.full("the server is being stopped"),
    OSError: problems.from_os_error,
    MemoryError: lambda error: problems.full("the server has no memory left for this request"),
    TimeoutError: lambda error: problems.full("the encoder has more to do than it can in time"),
    Exception: lambda error: problems.internal(),
}
