"""Requests and answers as the server hands them over (ASGI), as far as the guard reads and writes them itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import Response

from dbupkeep.views.web.limits import BODY
from dbupkeep.views.web.problems import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

FORM = "application/x-www-form-urlencoded"


def decoded(scope: Scope) -> Iterator[tuple[str, str]]:
    """The headers of a request in their order; names in lower case."""
    return ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises `Problem` when it is too big, or was cut off."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "bad_request", "the body was cut off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY:
            raise too_big()
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then whatever comes: the end of the connection."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def field_of(headers: Mapping[str, str], body: bytes, name: str) -> str:
    """A field of a form; nothing where there is none, or another kind of body."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return ""
    try:
        return parse_qs(body.decode("ascii"), max_num_fields=100).get(name, [""])[0]
    except ValueError:
        return ""


async def respond(response: Response, scope: Scope, send: Send) -> None:
    """Answer without asking the site."""

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    await response(scope, nothing, send)


def too_big() -> Problem:
    """The refusal of a body that is too big."""
    return Problem(413, "content_too_large", f"the body is bigger than {BODY} bytes", headers={"Connection": "close"})
