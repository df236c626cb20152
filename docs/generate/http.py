"""The page of HTTP endpoints, from the gateway's OpenAPI document."""

import inspect
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast, get_args

from fastapi import FastAPI
from fastapi.routing import APIRoute

from docs.generate.json_values import Schema, allowed
from docs.generate.markdown import code, document, fenced, sentence, table
from shopfit.registry.grant import Scope
from shopfit.serve.app import make_app
from shopfit.serve.endpoints.asking import USER
from shopfit.serve.options import ServeOptions

_OPENING = """
Here is every endpoint of the gateway: what it does, the key that it needs, the body that it takes, and its answer. A
gateway has the same at `/docs`, to try out, and as OpenAPI at `/openapi.json`.

- A key is sent as `Authorization: Bearer sf_…`. Its scopes say what it may do; `admin` includes the others.
- `model` is an adapter: `merchant/recipe`, which is `@production`, or with `@alias` or `@number`. An unknown name is
  a 404.
- Bodies and answers are JSON. An unknown field is an error.
- An answer of an adapter has the headers `x-shopfit-version`, `x-shopfit-digest` and `x-shopfit-answer-id`.
- `user` in a body, or the header `x-shopfit-user`, names the shopper. Canaries are sticky by it.
- Whatever fails has the body that [errors](errors.md) describes.
"""
_KEYLESS, _PLATFORM = "none", "any, of the platform"


def application() -> FastAPI:
    """The gateway's application, which is only looked at."""
    return make_app(cast("Any", SimpleNamespace(options=ServeOptions())))


def endpoints() -> list[tuple[str, str]]:
    """Method and path of every endpoint, in the API's order."""
    paths = application().openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def page() -> str:
    """The page."""
    app = application()
    api = app.openapi()
    schemas = api["components"]["schemas"]
    needed = scopes(app)
    parts = ["## Endpoints", _overview(api, needed)]
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            parts += _endpoint(method.upper(), path, operation, needed[method.upper(), path])
    parts.append("## Bodies and answers")
    used = [name for name in schemas if name != "JsonValue"]
    links = {name: f"#{name.lower()}" for name in used}
    for name in used:
        parts += _schema(name, schemas[name], links)
    return document("HTTP", "the gateway's OpenAPI document", _OPENING, *parts)


def scopes(app: FastAPI) -> dict[tuple[str, str], str]:
    """The scope that a key needs at each endpoint, as its module asks for it; `infer` where an adapter answers."""
    found: dict[tuple[str, str], str] = {}
    for route in app.routes:
        if not isinstance(route, APIRoute):
            continue
        source = inspect.getsource(sys.modules[route.endpoint.__module__])
        asked = sorted({name for name in re.findall(r'"([a-z]+)"', source) if name in get_args(Scope)})
        scope = " or ".join(map(code, asked)) or code("infer")
        if "asks" not in inspect.signature(route.endpoint).parameters:
            scope = _KEYLESS
        elif "asks.grant.merchant is not None" in source:
            scope = _PLATFORM
        for method in route.methods:
            found[method, route.path_format.replace(":path", "")] = scope
    return found


def _overview(api: Mapping[str, Any], needed: Mapping[tuple[str, str], str]) -> str:
    rows = [
        (
            f"[{method.upper()} {path}](#{_anchor(method, path)})",
            needed[method.upper(), path],
            _first_sentence(operation.get("description", "")),
        )
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    return table(("endpoint", "scope of the key", "what it does"), rows)


def _anchor(method: str, path: str) -> str:
    """As GitHub and the site make it of the endpoint's heading."""
    return re.sub(r"[^a-z0-9_ -]", "", f"{method} {path}".lower()).replace(" ", "-")


def _first_sentence(text: str) -> str:
    return sentence(re.split(r"(?<=\.)\s", " ".join(text.split()))[0])


def _endpoint(method: str, path: str, operation: Mapping[str, Any], scope: str) -> Iterator[str]:
    yield f"### {method} {path}"
    yield operation.get("description", "")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
    lines = [f"- Scope of the key: {scope}."]
    if name := _named(body.get("schema", {})):
        lines.append(f"- Body: [{name}](#{name.lower()}).")
    if name := _named(answer):
        lines.append(f"- Answer: [{name}](#{name.lower()}).")
    if "text/event-stream" in operation["responses"].get("200", {}).get("content", {}):
        lines.append(
            "- With `stream`, the answer is server-sent events (`text/event-stream`); the last one is `[DONE]`."
        )
    yield "\n".join(lines)
    others = [one for one in operation.get("parameters", []) if one["in"] != "path" and one["name"] != USER]
    rows = [
        (code(one["name"]), one["in"], allowed(one["schema"]), sentence(one.get("description", ""))) for one in others
    ]
    yield table(("parameter", "where", "allowed", "what it is"), rows)
    if "example" in body:
        yield fenced(json.dumps(body["example"], indent=2, ensure_ascii=False), "json")


def _named(schema: Schema) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _schema(name: str, schema: Schema, links: Mapping[str, str]) -> Iterator[str]:
    yield f"### {name}"
    yield sentence(schema.get("description", "").partition("\n\nArgs:")[0])
    if "properties" not in schema:
        yield f"Allowed: {allowed(schema, links)}."
        return
    rows = list(_fields(schema, links))
    said = any(what for _, _, what in rows)
    yield (
        table(("field", "allowed", "what it is"), rows)
        if said
        else table(("field", "allowed"), [row[:2] for row in rows])
    )


def _fields(schema: Schema, links: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    needed: Collection[str] = schema.get("required", ())
    said = _arguments(schema.get("description", ""))
    for field, entry in schema["properties"].items():
        values = allowed(entry, links)
        if field in needed:
            values += "; **needed**" if _is_body(schema) else ""
        yield code(field), values, sentence(entry.get("description", "") or said.get(field, ""))


def _is_body(schema: Schema) -> bool:
    """Whether clients send it: bodies refuse unknown fields, answers do not need to."""
    return schema.get("additionalProperties") is False


def _arguments(description: str) -> dict[str, str]:
    return dict(re.findall(r"^\s*([a-z_]+): (.+)$", description.partition("Args:")[2], re.MULTILINE))
