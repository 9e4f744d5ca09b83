"""The HTTP reference (docs/http.md), from the server's OpenAPI document. `make docs` writes it."""

import json
import re
from typing import Any

Schema = dict[str, Any]
METHODS = ("get", "post", "put", "delete")
SECTIONS = {
    "model": "Model",
    "collections": "Collections",
    "pictures": "Images of a collection",
    "images": "Images of a collection",
    "server": "Server",
}
INTRODUCTION = """# HTTP reference

<!-- Generated: make docs. A test compares it with the server's OpenAPI document. -->

What `tandem serve` answers, with the default limits. The same description is served at `/docs`, and as OpenAPI at
`/openapi.json`. The [guide](serve.md) explains keys, limits and security.

- Bodies are JSON. Requests with images also take `multipart/form-data`, with the same fields and images as files.
- An image in JSON is a data URI (`data:image/jpeg;base64,...`), or an http(s) URL if the server allows its host.
- Errors are problem documents (RFC 9457, `application/problem+json`): [Problem](#problem).
- Where the server has keys, send `Authorization: Bearer KEY` or `X-API-Key: KEY`."""


def document() -> Schema:
    """The OpenAPI document of a server with the default settings and the model that ships."""
    from tandem.serve.app import build_app
    from tandem.serve.service import open_service
    from tandem.serve.settings import Settings

    service = open_service(Settings(), [])
    try:
        return build_app(service).openapi()
    finally:
        service.close()


def markdown(openapi: Schema) -> str:
    schemas: dict[str, Schema] = openapi["components"]["schemas"]
    by_section: dict[str, list[str]] = {}
    shown: list[str] = []
    for path, operations in openapi["paths"].items():
        for method in METHODS:
            if method in operations:
                tag = operations[method]["tags"][0]
                section = SECTIONS.get(tag, tag.capitalize())
                by_section.setdefault(section, []).append(_operation(method, path, operations[method], schemas, shown))
    parts = [INTRODUCTION]
    for section, operations_of in by_section.items():
        parts += [f"## {section}", *operations_of]
    parts.append("## Objects")
    shown.append("Problem")
    for name in shown:  # grows while it is read: an object may have others in it
        parts += [f"### {name}", *_described(schemas[name]), _fields(schemas[name], shown)]
    return "\n\n".join(parts) + "\n"


def _operation(method: str, path: str, operation: Schema, schemas: dict[str, Schema], shown: list[str]) -> str:
    parts = [f"### {method.upper()} {path}", f"{operation['summary'].rstrip('.')}."]
    if operation.get("description"):
        parts.append(operation["description"])
    if operation.get("parameters"):
        rows = ["| parameter | in | type | |", "|---|---|---|---|"]
        for each in operation["parameters"]:
            kind = _type(each["schema"], shown)
            meaning = _cell(each.get("description") or each["schema"].get("description") or "")
            rows.append(f"| `{each['name']}` | {each['in']} | {kind} | {meaning} |")
        parts.append("\n".join(rows))
    body = operation.get("requestBody", {}).get("content", {})
    if "application/json" in body:
        schema = _resolved(body["application/json"]["schema"], schemas)
        forms = ", or as a form" if "multipart/form-data" in body else ""
        parts += [f"**Request** (JSON{forms}).", *_described(schema), _fields(schema, shown)]
        parts += [f"```json\n{_example(example)}\n```" for example in schema.get("examples", [])]
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            parts.append(f"**Answer** {status}{_answer(response, shown)}.")
    return "\n\n".join(parts)


def _example(example: Schema) -> str:
    return re.sub(r"base64,[\w+/=]{20,}", "base64,...", json.dumps(example, ensure_ascii=False))


def _answer(response: Schema, shown: list[str]) -> str:
    for media, content in response.get("content", {}).items():
        kind = _type(content.get("schema", {}), shown)
        return f": {kind}" if kind != "any" else f": `{media}`"
    return ""


def _described(schema: Schema) -> list[str]:
    text = schema.get("description", "").strip()
    return [text] if text else []


def _fields(schema: Schema, shown: list[str]) -> str:
    rows = ["| field | type | default | |", "|---|---|---|---|"]
    for name, value in schema.get("properties", {}).items():
        kind, default = _type(value, shown), value.get("default")
        if name in schema.get("required", []):
            written = "required"
            kind += " or null" if {"type": "null"} in value.get("anyOf", []) else ""
        else:
            written = "" if default is None else f"`{json.dumps(default)}`"
        rows.append(f"| `{name}` | {kind} | {written} | {_cell(_meaning(value))} |")
    return "\n".join(rows)


def _meaning(value: Schema) -> str:
    """A field's description, or that of one of its kinds."""
    if "description" in value:
        return str(value["description"])
    inside = [*value.get("anyOf", []), *([value["items"]] if isinstance(value.get("items"), dict) else [])]
    return next((text for each in inside if (text := _meaning(each))), "")


def _type(schema: Schema, shown: list[str]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in shown:
            shown.append(name)
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        kinds = [_type(each, shown) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array":
        most = f", at most {schema['maxItems']:,}" if "maxItems" in schema else ""
        return f"list of {_type(schema.get('items', {}), shown)}{most}"
    if kind == "object":
        inside = schema.get("additionalProperties")
        return f"object of {_type(inside, shown)}" if isinstance(inside, dict) and inside else "object"
    if kind in ("integer", "number") and "maximum" in schema:
        return f"{kind}, {schema.get('minimum', 0):,} to {schema['maximum']:,}"
    return str(kind)


def _resolved(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
