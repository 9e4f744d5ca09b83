"""The OpenAPI document, as strict as the checks: what it allows is answered, as far as a schema can say it.

It cannot say what is a picture, what a filter's grammar is, or that two labels differ only in case.
Knows the shapes of requests and a server's limits; no routes.
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from tandem.serve import schemas
from tandem.serve.settings import Settings

REFERENCE = "#/components/schemas/{model}"
_SHAPES: tuple[type[BaseModel], ...] = (
    schemas.EmbeddingsRequest,
    schemas.ClassifyRequest,
    schemas.SearchRequest,
    schemas.LabelRequest,
    schemas.AddRequest,
    schemas.DeleteRequest,
    schemas.Problem,
)
# Fields of forms that may be files.
_FILES = {
    "EmbeddingsRequest": ("input",),
    "ClassifyRequest": ("image", "images"),
    "SearchRequest": ("image", "minus_image"),
    "AddRequest": ("images",),
}


def document_bodies(app: FastAPI, settings: Settings) -> None:
    """Bodies are read by `bodies`, JSON or forms; so FastAPI does not know their shapes by itself."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        known = document.setdefault("components", {}).setdefault("schemas", {})
        for shape in _SHAPES:
            written = shape.model_json_schema(ref_template=REFERENCE)
            known.update(written.pop("$defs", {}))
            bounds = _bounds(settings).get(shape.__name__, {})
            for name, bound in bounds.items():
                written["properties"][name] = _bounded(written["properties"][name], bound)
            known[shape.__name__] = written
            if shape.__name__ in _FILES:
                known[f"{shape.__name__}Form"] = _form(written, _FILES[shape.__name__])
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def described(shape: type[BaseModel]) -> dict[str, Any]:
    """What a route says of a body that `bodies.read` takes: JSON, and a form where there are pictures in it."""
    content = {"application/json": {"schema": reference(shape.__name__)}}
    if shape.__name__ in _FILES:
        content["multipart/form-data"] = {"schema": reference(f"{shape.__name__}Form")}
    return {"requestBody": {"required": True, "content": content}}


def reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=name)}


def _bounds(settings: Settings) -> dict[str, dict[str, int]]:
    """The most of each field: letters, items, or the number itself."""
    letters, items, hits = settings.max_text_letters, settings.max_batch, settings.max_hits
    asked = {"labels": items, "templates": items}
    return {
        "EmbeddingsRequest": {"input": items},
        "ClassifyRequest": {"images": items, **asked},
        "SearchRequest": {
            "text": letters, "minus": letters, "where": letters, "k": hits, "offset": settings.max_offset,
        },
        "LabelRequest": {"k": hits, "limit": hits, "ids": items, "where": letters, **asked},
        "AddRequest": {"images": items},
        "DeleteRequest": {"ids": items},
    }  # fmt: skip


_MOST = {"string": "maxLength", "array": "maxItems", "integer": "maximum"}


def _bounded(schema: dict[str, Any], most: int) -> dict[str, Any]:
    """Of several kinds that are possible, lists are what is bounded."""
    if "anyOf" in schema:
        lists = any(each.get("type") == "array" for each in schema["anyOf"])
        chosen = [
            _bounded(each, most) if not lists or each.get("type") == "array" else each for each in schema["anyOf"]
        ]
        return {**schema, "anyOf": chosen}
    word = _MOST.get(schema.get("type", ""))
    return schema if word is None else {**schema, word: most}


def _form(schema: dict[str, Any], files: tuple[str, ...]) -> dict[str, Any]:
    """The same as fields of a form: texts, and files for pictures. A form has no null: what is none is left out."""
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
    made: dict[str, Any] = {**rest, "type": "object", "properties": properties, "required": schema.get("required", [])}
    for name in ("anyOf", "oneOf"):
        if name in schema:  # which of the fields must be there
            made[name] = [{"required": each["required"]} for each in schema[name]]
    return made
