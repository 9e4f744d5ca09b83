"""Parses the body of a request, JSON or multipart, into a `RequestBody`. Files of a form are kept beside it as bytes.

JSON must have the right types ("10" is no number); a form has text only, which is converted to the type of its field.
Knows forms and JSON; no routes.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tandem.errors import did_you_mean
from tandem.serve.http.problems import ProblemError
from tandem.serve.http.schemas import RequestBody
from tandem.serve.settings import Settings

_Params = TypeVar("_Params", bound=RequestBody)
_UPLOAD = "multipart file "


@dataclass(frozen=True)
class Body(Generic[_Params]):
    """The parsed body; `image` returns the bytes of a field that was sent as a file."""

    params: _Params
    files: dict[str, bytes]

    def image(self, value: str) -> str | bytes:
        return self.files.get(value, value)


async def read(request: Request, shape: type[_Params], settings: Settings) -> Body[_Params]:
    """Raises `ProblemError` 400, 413, 415 or 422."""
    body = await _read(request, shape)
    _check_limits(body.params, settings)
    return body


async def _read(request: Request, shape: type[_Params], *, most_parts: int = 1000) -> Body[_Params]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    files: dict[str, bytes] = {}
    try:
        if kind == "multipart/form-data":
            plain = await _form(request, shape, files, most_parts)
            return Body(shape.model_validate(plain), files)
        if kind in ("application/json", "") or kind.endswith("+json"):
            return Body(shape.model_validate_json(await request.body(), strict=True), files)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False, include_input=False), shape) from None
    raise ProblemError(
        415, "Unsupported Media Type", f"expected application/json or multipart/form-data, got {kind[:80]!r}"
    )


def _check_limits(params: RequestBody, settings: Settings) -> None:
    for name, setting in type(params).limits().items():
        value, most = getattr(params, name), getattr(settings, setting)
        if isinstance(value, list) and len(value) > most:
            raise ProblemError(413, "Too many at once", f"{name}: expected at most {most:,}, got {len(value):,}")
        if isinstance(value, str) and setting == "max_text_characters":
            check_length(value, name, most)
        if isinstance(value, int) and value > most:
            raise ProblemError(422, "Request cannot be answered", f"{name}: expected at most {most:,}")


def check_length(text: str, name: str, most: int) -> None:
    """Raises `ProblemError` 413 for a text of more characters."""
    if len(text) > most:
        raise ProblemError(413, "Text too long", f"{name}: expected at most {most:,} characters, got {len(text):,}")


def invalid(errors: Any, shape: type[BaseModel] | None = None) -> ProblemError:
    """The errors that pydantic found, reworded; never quotes the input."""
    found = [
        {"field": ".".join(str(part)[:60] for part in each["loc"][:6]), "expected": _expected(each, shape)}
        for each in errors[:10]
    ]
    if any(each["type"] == "json_invalid" for each in errors):
        return ProblemError(400, "Body is not JSON", found[0]["expected"])
    first = found[0] if found else {"field": "", "expected": "another request"}
    where = f"{first['field']}: " if first["field"] else ""
    return ProblemError(422, "Request does not fit", f"{where}{first['expected']}", extra={"errors": found})


def _expected(error: Any, shape: type[BaseModel] | None) -> str:
    if error["type"] == "extra_forbidden" and shape is not None and len(error["loc"]) == 1:
        return f"no such field{did_you_mean(str(error['loc'][0])[:60], shape.model_fields)}"
    return str(error["msg"])[:200]


async def _form(request: Request, shape: type[RequestBody], files: dict[str, bytes], most_parts: int) -> dict[str, Any]:
    """The fields by name. Only list fields may be repeated, and only image fields may be files."""
    try:
        form = await request.form(max_files=most_parts, max_fields=most_parts, max_part_size=2**20)
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
