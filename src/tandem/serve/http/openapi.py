"""The OpenAPI document, as strict as the server: requests that conform to it are valid, as far as a schema can say.

A schema cannot express what an image is, the grammar of filters, or that two labels differ only in case.
Knows shapes and a server's limits; no routes.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from tandem.serve.http.schemas import Problem, RequestBody
from tandem.serve.settings import Settings

REFERENCE = "#/components/schemas/{model}"


class BodyRouter(APIRouter):
    """A router that knows the bodies which `bodies.read` parses for its routes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shapes: list[type[RequestBody]] = []

    def with_body(
        self, method: str, path: str, shape: type[RequestBody], **options: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorate a route that reads a body of this shape: JSON, or a form where there are images in it."""
        self.shapes.append(shape)
        content = {"application/json": {"schema": reference(shape.__name__)}}
        if shape.image_fields:
            content["multipart/form-data"] = {"schema": reference(f"{shape.__name__}Form")}
        extra = {"requestBody": {"required": True, "content": content}}
        return self.api_route(path, methods=[method], openapi_extra=extra, **options)


def document_bodies(app: FastAPI, shapes: Sequence[type[RequestBody]], settings: Settings) -> None:
    """Add the bodies to the document: `bodies` reads them, JSON or forms, so FastAPI does not know their schemas."""
    generate = app.openapi

    @cache  # it takes a tenth of a second, and cannot change
    def openapi() -> dict[str, Any]:
        document = generate()
        known = document.setdefault("components", {}).setdefault("schemas", {})
        described: list[type[BaseModel]] = [Problem, *shapes]
        for model in described:
            written = model.model_json_schema(ref_template=REFERENCE)
            known.update(written.pop("$defs", {}))
            known[model.__name__] = written
        for shape in shapes:
            written = known[shape.__name__]
            for name, setting in shape.limits().items():
                written["properties"][name] = _bounded(written["properties"][name], getattr(settings, setting))
            if shape.image_fields:
                known[f"{shape.__name__}Form"] = _form(written, shape.image_fields)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=name)}


_MOST = {"string": "maxLength", "array": "maxItems", "integer": "maximum"}


def _bounded(schema: dict[str, Any], most: int) -> dict[str, Any]:
    """Bound a schema; of several types that are possible, the list."""
    if "anyOf" in schema:
        lists = any(each.get("type") == "array" for each in schema["anyOf"])
        chosen = [
            _bounded(each, most) if not lists or each.get("type") == "array" else each for each in schema["anyOf"]
        ]
        return {**schema, "anyOf": chosen}
    word = _MOST.get(schema.get("type", ""))
    return schema if word is None else {**schema, word: most}


def _form(schema: dict[str, Any], files: tuple[str, ...]) -> dict[str, Any]:
    """The schema of the same fields in a form: text, and files for images. A form has no null."""
    properties: dict[str, Any] = {}
    for name, value in schema["properties"].items():
        kinds = [each for each in value.get("anyOf", [value]) if each.get("type") != "null"]
        several = any(each.get("type") == "array" for each in kinds)
        one: dict[str, Any] = {"type": "string", "format": "binary"}
        if name in files and several:
            bounds = {word: each[word] for each in kinds for word in ("minItems", "maxItems") if word in each}
            properties[name] = bounds | {"type": "array", "items": one}
        elif name in files:
            properties[name] = one
        else:
            properties[name] = {**value, "anyOf": kinds} if "anyOf" in value else value
    rest: dict[str, Any] = {
        name: schema[name] for name in ("title", "description", "additionalProperties") if name in schema
    }
    form: dict[str, Any] = {**rest, "type": "object", "properties": properties, "required": schema.get("required", [])}
    return form | _required(schema)


def _required(schema: dict[str, Any]) -> dict[str, Any]:
    """Which fields must be there, without what is said of null."""
    found: dict[str, Any] = {}
    for name in ("anyOf", "oneOf"):
        if name in schema:
            found[name] = [{"required": each["required"]} for each in schema[name]]
    return found | ({"allOf": [_required(each) for each in schema["allOf"]]} if "allOf" in schema else {})
