"""The OpenAPI document of the API: what FastAPI reads from the routes, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic.json_schema import models_json_schema

from dbupkeep.views.api.models.words import Problem
from dbupkeep.views.web.problems import PROBLEM

Node = dict[str, Any]

ABOUT = """\
Maintenance of databases as durable jobs: the same verbs and the same documents as the command line.

- Times are RFC 3339 in UTC, sizes are bytes, durations are seconds, fractions are 0 to 1; what is not known is null.
- Later versions of this API add routes, fields, events and kinds of error; they remove and rename none. Ignore what you do not know.
- Databases are named as the configuration names them; no request can name a path or a url.
- Everything that is refused is told as a problem document (RFC 9457) with a `kind` for programs.
- A list is read by following the `next` link; it stays whole while jobs are added.
- A POST that creates something takes an `Idempotency-Key`: however often it is sent, one thing is made.
"""


Responses = dict[int | str, Node]

PROBLEMS: Mapping[str, str] = {
    "400": "The request cannot be read.",
    "401": "No valid token came with it.",
    "403": "The token does not allow that.",
    "404": "There is nothing of that name.",
    "408": "The body did not arrive in time.",
    "409": "What it is now does not allow that.",
    "412": "It is not any more as you have seen it (`If-Match`).",
    "413": "The body is too big.",
    "421": "The Host header names another site.",
    "422": "The request is not what this route takes; `errors` lists what is wrong.",
    "429": "Too many requests; `Retry-After` says when to come again.",
    "500": "A fault of this program; it is in its log.",
    "503": "The ledger cannot be used now, or too many ask for what takes long.",
}
"""What each refusal means; all are problem documents."""

EVERYWHERE = frozenset(["400", "401", "403", "421", "422", "429", "500", "503"])
WITH_BODY = frozenset(["408", "413"])
WITH_TOKEN = frozenset(["401", "403"])

NOT_FOUND: Responses = {404: {}}
CONFLICT: Responses = {409: {}}
CHANGED: Responses = {412: {}}
UNCHANGED: Responses = {304: {"description": "As you have it already (`If-None-Match`)."}}

_TAG: Node = {
    "description": "The tag of this content, for `If-None-Match` and `If-Match`.",
    "schema": {"type": "string"},
}

STREAM: Responses = {
    200: {
        "description": "Messages, for as long as the connection lasts.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def created(status: int, description: str, thing: str, *, links: Mapping[str, Node]) -> Responses:
    """A response that says where the new thing is, and what can be done with its id."""
    place = {"description": f"Where the {thing} is found.", "schema": {"type": "string"}}
    return {status: {"description": description, "headers": {"Location": place, "ETag": _TAG}, "links": dict(links)}}


def with_id(operation: str, parameter: str) -> Node:
    """A link: the id of what was made is a parameter of another operation."""
    return {"operationId": operation, "parameters": {parameter: "$response.body#/id"}}


_SECURITY: Mapping[str, Node] = {
    "token": {"type": "http", "scheme": "bearer", "description": "`dbupkeep token create` makes one."},
    "session": {"type": "apiKey", "in": "cookie", "name": "dbupkeep_session", "description": "Of a browser; changes want the token of its page, too."},
}  # fmt: skip


def describe(site: FastAPI) -> None:
    """Have a site give this document, which is made when it is first asked for."""
    site.openapi = cache(partial(contract, site))  # type: ignore[method-assign] # how FastAPI lets it be changed


def contract(site: FastAPI) -> Node:
    """The document."""
    document = get_openapi(title=site.title, version=site.version, description=ABOUT, routes=site.routes)
    components = document["components"]
    components["schemas"] = _schemas(components["schemas"])
    components["responses"] = {f"Problem{status}": _refused(said) for status, said in PROBLEMS.items()}
    components["securitySchemes"] = dict(_SECURITY)
    roles = dict(_roles(site))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, role=roles.get((path, method), ""))
    return document


def _schemas(found: Node) -> Node:
    """Those of the routes, and those of problems in place of the framework's own."""
    _, shared = models_json_schema([(Problem, "validation")], ref_template="#/components/schemas/{model}")
    unused = ("HTTPValidationError", "ValidationError")
    return dict(
        sorted({**{name: each for name, each in found.items() if name not in unused}, **shared["$defs"]}.items())
    )


def _refused(description: str) -> Node:
    return {"description": description, "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _complete(operation: Node, *, role: str) -> None:
    """Add to an operation what holds for all."""
    declared = operation["responses"]
    refusals = {*EVERYWHERE, *(WITH_BODY if "requestBody" in operation else ()), *(declared.keys() & PROBLEMS.keys())}
    if not role:
        refusals -= WITH_TOKEN
    named = {each: {"$ref": f"#/components/responses/Problem{each}"} for each in refusals}
    operation["responses"] = dict(sorted({**declared, **named}.items()))
    operation["security"] = [{"token": []}, {"session": []}] if role else []
    if role:
        operation["description"] = f"{operation.get('description', '')}\n\nRole: {role}.".strip()
    for parameter in operation.get("parameters", ()):
        _without_null(parameter)
    if "304" in declared:
        declared["200"].setdefault("headers", {})["ETag"] = _TAG
        operation.setdefault("parameters", []).append(_header("If-None-Match", "Tags that you have."))
    if "412" in declared:
        operation.setdefault("parameters", []).append(_header("If-Match", "The tag of the job as you have seen it."))


def _without_null(parameter: Node) -> None:
    """A parameter that may be left out cannot be sent as null."""
    schema = parameter["schema"]
    options = [each for each in schema.pop("anyOf", ()) if each != {"type": "null"}]
    if options:
        schema.update(options[0] if len(options) == 1 else {"anyOf": options})


def _header(name: str, description: str) -> Node:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": description}  # fmt: skip


def _roles(site: FastAPI) -> Iterator[tuple[tuple[str, str], str]]:
    """The role that each operation wants."""
    for route in iter_route_contexts(site.routes):
        wanted = getattr(getattr(route, "dependant", None), "dependencies", ())
        found = [role.word for each in wanted if (role := getattr(each.call, "role", None)) is not None]
        for method in route.methods or ():
            yield (str(route.path_format), method.lower()), found[0] if found else ""
