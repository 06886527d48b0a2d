"""The page of the HTTP API and its OpenAPI document, as `docs/generate.py` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

METHODS = ("get", "post")

TAGS = {
    "definitions": "Definitions and schedule", "plans": "Plans", "runs": "Runs", "jobs": "Jobs", "verbs": "Verbs",
    "events": "Events", "targets": "Targets and history", "service": "The service", "audit": "Audit trail",
    "metrics": "Metrics",
}  # fmt: skip


def document() -> dict[str, Any]:
    """The OpenAPI document of a site that nobody asks anything."""
    from types import SimpleNamespace

    from dbupkeep.views.site import make_site

    nobody: Any = SimpleNamespace(app=SimpleNamespace(reader=None, clock=None))
    return make_site(nobody, nobody).openapi()


def openapi() -> Iterator[str]:
    yield json.dumps(document(), indent=1, ensure_ascii=False)


def api_page() -> Iterator[str]:
    told = document()
    yield "# HTTP API\n"
    yield "How to use it, with examples: [how-to](../how-to/api.md). The whole contract for programs, as OpenAPI 3.1, is"
    yield "[openapi.json](openapi.json), and a service gives it at `/api/v1/openapi.json`. Jobs, plans and events are the documents of"
    yield "[json](json.md).\n"
    yield "Routes and fields are only ever added. Every answer to a GET has an `ETag` (`If-None-Match` → 304), every refusal is a"
    yield "[problem document](#problems).\n"
    for tag, title in TAGS.items():
        yield from _routes(told, tag, title)
    yield from _problems(told)
    yield "\n## What is taken\n"
    yield "A field that is not listed is refused: it would do nothing."
    for name in ("OfDefinition", "OfTargets", "OfPlan", "Limits"):
        yield from _table(told, name)


def _routes(told: Mapping[str, Any], tag: str, title: str) -> Iterator[str]:
    yield f"\n## {title}\n\n| route | role | what | takes | gives |\n|---|---|---|---|---|"
    for path, operations in told["paths"].items():
        for method in METHODS:
            operation = operations.get(method)
            if operation and operation["tags"][0] == tag:
                yield f"| `{method.upper()} {path}` | {_role(operation)} | {_what(operation)} | {_takes(operation)} | {_gives(operation)} |"


def _role(operation: Mapping[str, Any]) -> str:
    found = operation.get("description", "").rpartition("Role: ")[2].rstrip(".")
    return found if operation["security"] else "none"


def _what(operation: Mapping[str, Any]) -> str:
    return " ".join(operation.get("description", "").partition("\n\n")[0].split()).replace("|", "\\|")


def _takes(operation: Mapping[str, Any]) -> str:
    queries = [f"`{each['name']}`" for each in operation.get("parameters", ()) if each["in"] == "query"]
    headers = [
        f"`{each['name']}`"
        for each in operation.get("parameters", ())
        if each["in"] == "header" and each["name"] != "If-None-Match"
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return ", ".join([*([_name(body)] if body else []), *queries, *headers]) or "–"


def _gives(operation: Mapping[str, Any]) -> str:
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            kind, content = next(iter(response.get("content", {"text": {}}).items()))
            name = _name(content["schema"]) if kind == "application/json" else kind
            return f"{status}: {name}"
    raise AssertionError(operation)


def _name(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_name(each) for each in schema["anyOf"] if each != {"type": "null"})
    if schema.get("type") == "array":
        return f"list of {_name(schema['items'])}"
    found = schema.get("$ref", schema.get("format", schema.get("type", "any"))).rpartition("/")[2]
    return f"`{found}`"


def _problems(told: Mapping[str, Any]) -> Iterator[str]:
    yield "\n## Problems\n"
    yield "`application/problem+json` (RFC 9457): `type`, `title`, `status`, `kind`, `detail`, and where there is something to say `hint`"
    yield "and `errors` (each `at`, `detail`). `kind` is one of the [kinds of error](errors.md#kinds), or of HTTP itself.\n"
    yield "| status | when |\n|---|---|"
    for name, response in told["components"]["responses"].items():
        yield f"| {name.removeprefix('Problem')} | {response['description']} |"


def _table(told: Mapping[str, Any], name: str) -> Iterator[str]:
    schema = told["components"]["schemas"][name]
    yield f"\n### {name}\n\n{schema['description']}\n\n| field | type | | what it is |\n|---|---|---|---|"
    for field, about in schema["properties"].items():
        needed = "needed" if field in schema.get("required", ()) else ""
        yield f"| `{field}` | {_name(about)} | {needed} | {about.get('description', '')} |"
