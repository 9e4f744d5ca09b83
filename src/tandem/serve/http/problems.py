"""Errors as problem documents (RFC 9457), with a one-line detail and no traceback.

Knows status codes, and which of Tandem's errors the client has caused. Knows nothing of routes.
"""

import errno
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from tandem.errors import (
    ConfigError,
    EngineError,
    FilterError,
    ImageError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    TandemError,
    TextError,
    WeightsError,
)

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1  # how long clients should wait when the server is full
MAX_DETAIL = 500  # characters of a detail: requests are quoted in it

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


class ProblemError(Exception):
    """A refused request: `status`, `title` (the same for all cases of a kind), `detail` (of this case).

    `extra` are further members of the document, such as the position of a mistake.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        retry_after_s: int | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after_s = RETRY_AFTER_S if retry_after_s is None and status == 503 else retry_after_s
        self.extra = dict(extra or {})
        self._headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The members of RFC 9457, section 3.1, and `error` for clients of OpenAI's interface, which look for it.

        `type` remains about:blank: the title says what happened.
        """
        detail = self.detail if len(self.detail) <= MAX_DETAIL else f"{self.detail[: MAX_DETAIL - 3]}..."
        kind = "server_error" if self.status >= 500 else _OPENAI_TYPES.get(self.status, "invalid_request_error")
        error = {"message": f"{self.title}: {detail}", "type": kind, "param": None, "code": None}
        plain = {"type": "about:blank", "title": self.title, "status": self.status, "detail": detail}
        return {**plain, **self.extra, "error": error}

    def headers(self) -> dict[str, str]:
        wait = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return self._headers | wait


def full(what: str) -> ProblemError:
    return ProblemError(503, "Server is full", f"{what}; try again in a moment")


def too_late(deadline_s: float) -> ProblemError:
    return ProblemError(503, "Deadline passed", f"no answer within {deadline_s:g} s; try again in a moment")


def not_found(what: str) -> ProblemError:
    return ProblemError(404, "Not found", what)


def for_image(error: ImageError) -> ProblemError:
    """An image of a request that cannot be read; its source is the name of a field."""
    status, title = (413, "Image too large") if error.kind == "too_large" else (422, "Image cannot be read")
    return ProblemError(status, title, str(error), extra={"kind": error.kind, "failures": [error.as_dict()]})


def too_many_tokens(field: str, count: int, limit: int) -> ProblemError:
    """A text that does not fit the model's context; its members are for clients that shorten it themselves."""
    detail = (
        f"{field}: expected at most {limit} tokens (not characters), start and end included, got {count:,}; "
        '"long": "split" averages the parts of such texts'
    )
    return ProblemError(422, "Text too long", detail, extra={"field": field, "tokens": count, "limit": limit})


def for_status(status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> ProblemError:
    """A problem whose title is the status's own phrase."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    return ProblemError(status, title, detail, headers=headers)


def from_error(error: TandemError) -> ProblemError:
    """The problem that corresponds to an exception. Internal errors reveal nothing of the server."""
    if isinstance(error, FilterError):
        extra = {} if error.position is None else {"position": error.position}
        return ProblemError(422, "Filter cannot be understood", str(error), extra=extra)
    if isinstance(error, ImageError):
        return for_image(error)
    if isinstance(error, StoreBusyError):
        return ProblemError(503, "Collection is being written to", "another process writes to it; try again later")
    if isinstance(error, StoreFullError):
        return no_room("the disk of the server is full; nothing that was stored is lost")
    if isinstance(error, StoreError):
        return ProblemError(503, "Collection unavailable", "the collection cannot be read now; try again later")
    if isinstance(error, EngineError | WeightsError | ConfigError):
        return internal()
    return ProblemError(422, "Request cannot be answered", error.reason if isinstance(error, TextError) else str(error))


def no_room(why: str) -> ProblemError:
    return ProblemError(507, "Insufficient Storage", why)


def from_os_error(error: OSError) -> ProblemError:
    """A full disk is the server's state; everything else is an accident."""
    if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return no_room("the disk of the server is full; nothing that was stored is lost")
    _log.error("a request failed", exc_info=error)
    return internal()


def internal() -> ProblemError:
    return ProblemError(500, "Internal error", "something went wrong in the server; see its log")
