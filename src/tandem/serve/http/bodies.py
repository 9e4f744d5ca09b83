"""Parses the body of a request, JSON or multipart, into a `RequestBody`. Files of a form are kept beside it as bytes.

JSON must have the right types ("10" is no number); a form has text only, which is converted to the type of its field.
How much there is of everything is known before anything is made of it: a value costs a hundred times its bytes, and an
error about it a thousand times. Large bodies are parsed beside the event loop. Knows forms and JSON; no routes.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tandem.errors import did_you_mean
from tandem.serve.http import text_limits
from tandem.serve.http.problems import ProblemError
from tandem.serve.http.schemas import RequestBody
from tandem.serve.settings import Settings

_Params = TypeVar("_Params", bound=RequestBody)
_UPLOAD = "multipart file "
MAX_VALUES = 20_000  # of a body in JSON; more where a request may have more items
MAX_NESTED = 16  # values of a list or an object inside a field
MAX_SHOWN = 10  # errors of a request that are told
MAX_PARTS = 1000  # of a form
SMALL_BYTES = 2**20  # JSON that is parsed at once: mostly an image, which takes few milliseconds


@dataclass(frozen=True)
class Body(Generic[_Params]):
    """The parsed body; `image` returns the bytes of a field that was sent as a file."""

    params: _Params
    files: dict[str, bytes]

    def image(self, value: str) -> str | bytes:
        return self.files.get(value, value)


async def read(request: Request, shape: type[_Params], settings: Settings, threads: Executor) -> Body[_Params]:
    """The body of a request; what is large is parsed in `threads`. Raises `ProblemError` 400, 413, 415 or 422."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = kind == "multipart/form-data"
    if not is_form and kind not in ("application/json", "") and not kind.endswith("+json"):
        raise ProblemError(
            415, "Unsupported Media Type", f"expected application/json or multipart/form-data, got {kind[:80]!r}"
        )
    content = await request.body()

    def parsed() -> Body[_Params]:
        files: dict[str, bytes] = {}
        try:
            if is_form:  # the parser is written for an event loop, and gets one of its own: it blocks for long
                plain = asyncio.run(_form(request, shape, files))
                check_plain(plain, shape, settings)
                return Body(shape.model_validate(plain), files)
            check_plain(_from_json(content, max(MAX_VALUES, settings.max_texts)), shape, settings)
            return Body(shape.model_validate_json(content, strict=True), files)
        except ValidationError as error:
            raise invalid(error.errors(include_url=False, include_context=False, include_input=False), shape) from None

    is_large = is_form or len(content) > SMALL_BYTES
    body = await asyncio.get_running_loop().run_in_executor(threads, parsed) if is_large else parsed()
    _check_limits(body.params, settings)
    return body


def _from_json(content: bytes, most: int) -> Any:
    """The document, once it is known not to have too many values. Raises `ProblemError` 400 and 413."""
    check_number_of_values(content, most)
    try:
        return from_json(content)
    except ValueError as error:
        raise ProblemError(400, "Body is not JSON", str(error)[:200]) from None


def check_number_of_values(content: bytes, most: int = MAX_VALUES) -> None:
    """Raises `ProblemError` 413 for a document of too many values. Commas and brackets of texts are not counted."""
    count = _separators(content)
    if count > most and content.count(b'"') <= 4 * most:
        bare = content.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in content else content
        count = sum(map(_separators, bare.split(b'"')[::2]))
    if count > most:
        raise ProblemError(413, "Request too large", f"expected a body of at most {most:,} values, got {count:,}")


def _separators(content: bytes) -> int:
    return sum(content.count(each) for each in (b",", b"[", b"{"))


def check_plain(plain: Any, shape: type[RequestBody], settings: Settings) -> None:
    """Raises `ProblemError` for unknown fields, 422, and for longer lists than there may be, 413.

    Validation would make an error of each of them.
    """
    if not isinstance(plain, Mapping):
        return
    unknown = [name for name in plain if name not in shape.model_fields]
    if unknown:
        first = {"type": "extra_forbidden", "loc": (unknown[0],), "msg": ""}
        shown = [{**first, "loc": (name,)} for name in unknown[:MAX_SHOWN]]
        raise invalid(shown, shape, more=len(unknown) - len(shown))
    limits = shape.limits()
    for name, value in plain.items():
        if not isinstance(value, list | Mapping):
            continue
        most = getattr(settings, limits.get(name, "max_batch"))
        if len(value) > most:
            raise _too_many(name, most, len(value))
        for each in value if isinstance(value, list) else value.values():
            if isinstance(each, list | Mapping) and len(each) > MAX_NESTED:
                raise _too_many(f"{name}: an item", MAX_NESTED, len(each))


def _too_many(name: str, most: int, count: int) -> ProblemError:
    return ProblemError(413, "Too many at once", f"{name}: expected at most {most:,}, got {count:,}")


def _check_limits(params: RequestBody, settings: Settings) -> None:
    """What has a limit and is no list: those were counted before."""
    for name, setting in type(params).limits().items():
        value, most = getattr(params, name), getattr(settings, setting)
        if isinstance(value, list) and len(value) > most:
            raise _too_many(name, most, len(value))
        if isinstance(value, str) and setting == "max_text_characters":
            text_limits.check_length(value, name, most)
        if isinstance(value, int) and value > most:
            raise ProblemError(422, "Request cannot be answered", f"{name}: expected at most {most:,}")


def invalid(errors: Any, shape: type[BaseModel] | None = None, *, more: int = 0) -> ProblemError:
    """The errors that pydantic found, reworded; never quotes the input. `more`: further ones that are not told."""
    found = [
        {"field": ".".join(str(part)[:60] for part in each["loc"][:6]), "expected": _expected(each, shape)}
        for each in errors[:MAX_SHOWN]
    ]
    if any(each["type"] == "json_invalid" for each in errors[:MAX_SHOWN]):
        return ProblemError(400, "Body is not JSON", found[0]["expected"])
    first = found[0] if found else {"field": "", "expected": "another request"}
    where = f"{first['field']}: " if first["field"] else ""
    also = f", and so for {more:,} more" if more else ""
    return ProblemError(422, "Request does not fit", f"{where}{first['expected']}{also}", extra={"errors": found})


def _expected(error: Any, shape: type[BaseModel] | None) -> str:
    if error["type"] == "extra_forbidden" and shape is not None and len(error["loc"]) == 1:
        return f"no such field{did_you_mean(str(error['loc'][0])[:60], shape.model_fields)}"
    return str(error["msg"])[:200]


async def _form(request: Request, shape: type[RequestBody], files: dict[str, bytes]) -> dict[str, Any]:
    """The fields by name. Only list fields may be repeated, and only image fields may be files."""
    try:
        form = await request.form(max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=2**20)
    except HTTPException as error:
        raise ProblemError(400, "Body is not a form", str(error.detail)) from None
    except ProblemError:
        raise
    except Exception as error:  # the parser's messages quote the bytes of the request
        raise ProblemError(400, "Body is not a form", type(error).__name__) from None
    plain: dict[str, Any] = {}
    try:
        for field in form:
            values: list[str] = []
            for value in form.getlist(field):
                if isinstance(value, UploadFile):
                    if field in shape.model_fields and field not in shape.image_fields:
                        raise ProblemError(422, "Request does not fit", f"{field[:60]}: expected text, got a file")
                    token = f"{_UPLOAD}{len(files)}"
                    files[token] = await value.read()
                    values.append(token)
                else:
                    values.append(value)
            if not _is_list(shape, field) and len(values) > 1:
                detail = f"{field[:60]}: expected once, got {len(values):,} times"
                raise ProblemError(422, "Request does not fit", detail)
            plain[field] = values if _is_list(shape, field) else values[0]
    finally:
        await form.close()
    return plain


def _is_list(shape: type[BaseModel], field: str) -> bool:
    described = shape.model_fields.get(field)
    return described is not None and _takes_list(described.annotation)


def _takes_list(annotation: Any) -> bool:
    """`list[str]`, and `str | list[str]`: a form's repeated field."""
    return get_origin(annotation) is list or any(_takes_list(part) for part in get_args(annotation))
