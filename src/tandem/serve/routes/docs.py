"""GET /docs: the OpenAPI document as a page for people, without scripts and without requests to other servers."""

import json
from html import escape
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from tandem.serve.http.openapi import BodyRouter
from tandem.serve.service import Service

STYLE_PATH = "/docs.css"
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .4rem 0; }
summary code { font-weight: 600; }
details { border-top: 1px solid #8884; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
""".strip()


def router(_: Service) -> BodyRouter:
    routes = BodyRouter()

    @routes.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(docs_page(request.app.openapi(), str(request.base_url).rstrip("/")))

    @routes.get(STYLE_PATH, include_in_schema=False)
    async def style() -> Response:
        return Response(STYLE, media_type="text/css", headers={"cache-control": "max-age=3600"})

    return routes


def docs_page(document: dict[str, Any], url: str) -> str:
    """HTML. Each operation with its fields, an example and a line for curl, which asks the server at `url`."""
    schemas = document.get("components", {}).get("schemas", {})
    parts = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(path, method.upper(), operation, schemas, url))
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width">'
        f'<link rel="stylesheet" href="{STYLE_PATH}"></head><body><main>'
        f"<h1>{title} {escape(document['info']['version'])}</h1>"
        f"<p>{escape(document['info'].get('description', ''))}</p>"
        f'<p><a href="/openapi.json">The OpenAPI document</a></p>{"".join(parts)}</main></body></html>'
    )


def _operation(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any], url: str) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    shape = _resolved(body.get("application/json", {}).get("schema", {}), schemas)
    rows = [_row(each["name"], each["schema"], each.get("description")) for each in operation.get("parameters", ())]
    rows += [_row(name, value, value.get("description")) for name, value in shape.get("properties", {}).items()]
    table = f"<table><tr><th>field</th><th>type</th><th></th></tr>{''.join(rows)}</table>" if rows else ""
    example = ""
    if shape.get("examples"):
        written = json.dumps(shape["examples"][0], indent=2, ensure_ascii=False)
        call = f"curl -X {method} {url}{path} -H 'content-type: application/json' -d '{written}'"
        example = f"<pre>{escape(call)}</pre>"
    described = escape(shape.get("description", ""))
    also = "<p>Also as multipart/form-data.</p>" if "multipart/form-data" in body else ""
    return (
        f"<details><summary><code>{method} {escape(path)}</code> {escape(operation.get('summary', ''))}</summary>"
        f"<p>{described}</p>{table}{also}{example}</details>"
    )


def _row(name: str, schema: dict[str, Any], description: str | None) -> str:
    cells = (f"<code>{escape(name)}</code>", escape(_kind(schema)), escape(description or ""))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return " | ".join(schema["enum"]) if "enum" in schema else str(schema.get("type", "any"))


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schemas.get(schema["$ref"].rsplit("/", 1)[-1], {}) if "$ref" in schema else schema
    return found
