"""What stands before every route of the site, found or not: reads, files and event streams alike.

In this order: does the request name this site; is it another site's doing; who is calling, and not too often; the body,
bounded in size and time; and for a change that came with a cookie, that the page of this session wanted it. A path that
is not public is refused without a caller even where a route forgets to ask for one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.responses import RedirectResponse, Response

from dbupkeep.audit import Act, acting
from dbupkeep.errors import LedgerError
from dbupkeep.views.web import forgery
from dbupkeep.views.web.denials import Denials
from dbupkeep.views.web.gate import Gate
from dbupkeep.views.web.headers import protected
from dbupkeep.views.web.hosts import Hosts
from dbupkeep.views.web.limits import BODY, BODY_SECONDS, HEAD, Limits
from dbupkeep.views.web.problems import Problem, problem
from dbupkeep.views.web.roles import Caller, unauthorized

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)

LOG_IN = "/login"

PUBLIC = frozenset({"/healthz", LOG_IN, "/favicon.ico"})
"""Paths that need no token; all below `/static/` needs none either."""

LONGEST_PATH = 2048

LONGEST_NOTED = 200

FORM = "application/x-www-form-urlencoded"


class _Full(OSError):
    """There are as many event streams as there may be; the client was told."""


@dataclass(slots=True, kw_only=True)
class Guard:
    """An ASGI application around the site."""

    site: App
    hosts: Hosts
    gate: Gate
    limits: Limits
    denials: Denials
    https: bool = False  # a proxy before us speaks TLS, and says who is calling
    body_seconds: float = BODY_SECONDS
    _scheme: str = field(init=False)

    def __post_init__(self) -> None:
        """Know what our own origin begins with."""
        self._scheme = "https" if self.https else "http"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(scope, send, self.limits, secure=self.https)
        try:
            body = await self._admit(scope, receive)
        except Problem as error:
            await _respond(error.response(), scope, answer.send)
        except LedgerError as error:
            await _respond(problem(503, error.kind.value, error.message, hint=error.hint), scope, answer.send)
        except _Elsewhere as there:
            await _respond(there.response, scope, answer.send)
        else:
            await self._pass_on(scope, _replayed(body, receive), answer)
        if act := self._denied(scope, answer.status):
            self.denials.note(act)

    def _denied(self, scope: Scope, status: int) -> Act | None:
        """What the audit trail says of an attempt that was refused: a log-in, or what a role or another site may not."""
        path = path_of(scope)
        what = {401: "log_in" if path == LOG_IN else "", 403: "request"}.get(status, "")
        if not what:
            return None
        caller: Caller | None = scope.get("state", {}).get("caller")
        who = caller.name if caller else f"address {self.address(scope, dict(_decoded(scope)))}"
        on = f"{scope['method']} {path}"[:LONGEST_NOTED]
        return Act(who=who, what=what, on=on, outcome=f"refused: {status}")

    async def _pass_on(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        caller: Caller | None = scope["state"]["caller"]
        try:
            with acting(caller.name if caller else ""):
                await self.site(scope, receive, answer.send)
        except Exception:
            if not answer.turned_away:
                log.exception(
                    "a request failed", extra={"method": scope["method"], "path": path_of(scope)[:LONGEST_NOTED]}
                )
            if not answer.status:
                await _respond(problem(500, "bug", "the request failed; the log says why"), scope, answer.send)
        finally:
            answer.end()

    async def _admit(self, scope: Scope, receive: Receive) -> bytes:
        """The body of a request that may pass; who is calling is noted in its state. Raises what refuses it."""
        headers, path = _headers(scope), path_of(scope)
        self._check_place(headers, scope)
        if reason := forgery.foreign(headers, method=scope["method"], scheme=self._scheme):
            raise Problem(403, "forbidden", f"refused: {reason}")
        caller = await self._known(scope, headers, path)
        scope.setdefault("state", {})["caller"] = caller
        if caller is None and not _is_public(path):
            raise _stranger(scope, headers, path)
        body = await self._body(headers, receive)
        if scope["method"] not in forgery.SAFE:
            self._check_wanted(headers, caller, body, path)
        return body

    def _check_place(self, headers: Mapping[str, str], scope: Scope) -> None:
        path = scope["path"]
        if not path.startswith("/") or len(path) > LONGEST_PATH or len(scope["query_string"]) > LONGEST_PATH:
            raise Problem(400, "bad_request", "the path is none, or too long")
        if not self.hosts.answers(headers.get("host", "")):
            raise Problem(
                421, "misdirected_request", "the Host header does not name this service",
                hint="use http://127.0.0.1 or http://localhost; other names are listed under `allowed_hosts` in [server]",
            )  # fmt: skip

    async def _known(self, scope: Scope, headers: Mapping[str, str], path: str) -> Caller | None:
        """Who is calling, if they have not called too often."""
        address = self.address(scope, headers)
        caller = await self.gate.caller(headers)
        wait = self.limits.request(caller.id) if caller else self.limits.stranger(address)
        if not wait and path == LOG_IN and scope["method"] not in forgery.SAFE:
            wait = self.limits.log_in(address)
        if wait:
            raise too_many(wait)
        return caller

    def address(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """Where a request comes from: what the trusted proxy added last, else who is connected."""
        if self.https and (forwarded := headers.get("x-forwarded-for", "")):
            return forwarded.rpartition(",")[2].strip()[:64]
        return str((scope.get("client") or ("unknown",))[0])

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The whole body, bounded: no route waits for a slow one."""
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:12]) > BODY:
            raise _too_big()
        if length == "0" and "transfer-encoding" not in headers:
            return b""
        try:
            async with asyncio.timeout(self.body_seconds):
                return await _read(receive)
        except TimeoutError:
            raise Problem(
                408, "request_timeout", f"the body did not arrive within {self.body_seconds:g} s",
                headers={"Connection": "close"},
            ) from None  # fmt: skip

    def _check_wanted(self, headers: Mapping[str, str], caller: Caller | None, body: bytes, path: str) -> None:
        """See that a change that a browser could have been made to send was wanted."""
        if caller is None:  # only public paths come here
            if path == LOG_IN and "origin" not in headers:
                raise Problem(403, "forbidden", "refused: it has no Origin", hint="log in with the page of this site")
            return
        if not caller.session:
            return
        given = headers.get(forgery.HEADER, "") or _field(headers, body, forgery.FIELD)
        if reason := forgery.unproven(headers, session=caller.session, given=given):
            raise Problem(403, "forbidden", f"refused: {reason}", hint="load the page again, and try once more")


class _Elsewhere(Exception):
    """The browser is to go somewhere else."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class _Answer:
    """Sends an answer with our headers; an event stream only while there are not too many."""

    def __init__(self, scope: Scope, send: Send, limits: Limits, *, secure: bool) -> None:
        self._scope = scope
        self._send = send
        self._limits = limits
        self._secure = secure
        self._stream: str | None = None
        self.turned_away = False
        self.status = 0

    async def send(self, message: Message) -> None:
        if self.turned_away:
            raise _Full
        if message["type"] == "http.response.start":
            self.status = message["status"]
            public = _is_public(path_of(self._scope))
            message["headers"] = protected(message.get("headers", []), public=public, secure=self._secure)
            if _is_stream(message) and not self._open_stream():
                await _respond(too_many(5.0).response(), self._scope, self._send)
                self.turned_away = True
                raise _Full
        await self._send(message)

    def end(self) -> None:
        if self._stream is not None:
            self._limits.close_stream(self._stream)

    def _open_stream(self) -> bool:
        caller = self._scope["state"].get("caller")
        key = caller.id if caller else ""
        if not self._limits.open_stream(key):
            return False
        self._stream = key
        return True


def too_many(seconds: float) -> Problem:
    """The refusal of who asks too much."""
    return Problem(
        429, "too_many_requests", "too many requests", hint=f"wait {math.ceil(seconds)} s, and ask less often",
        headers={"Retry-After": str(math.ceil(seconds))},
    )  # fmt: skip


def _too_big() -> Problem:
    return Problem(413, "content_too_large", f"the body is bigger than {BODY} bytes", headers={"Connection": "close"})


def _stranger(scope: Scope, headers: Mapping[str, str], path: str) -> Exception:
    """What who is not known gets: a problem for programs, the form to log in for people."""
    if scope["method"] != "GET" or path.startswith("/api/") or "text/html" not in headers.get("accept", ""):
        return unauthorized()
    root = scope.get("root_path", "")
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    there = quote(f"{path}{query}", safe="")
    return _Elsewhere(RedirectResponse(f"{root}{LOG_IN}?next={there}", status_code=303))


def path_of(scope: Scope) -> str:
    """The path within the site, as the routes know it: without what a proxy puts before it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith("/static/")


def _is_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
    )


def _headers(scope: Scope) -> dict[str, str]:
    """The headers of a request by name. One that comes twice is none: two readers might believe different ones."""
    if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD:
        raise Problem(431, "request_header_fields_too_large", f"the headers are bigger than {HEAD} bytes")
    found: dict[str, str] = {}
    twice: set[str] = set()
    for name, value in _decoded(scope):
        if name in found:
            twice.add(name)
        found[name] = value
    for name in twice & {"host", "origin", "authorization", "sec-fetch-site", "content-length", forgery.HEADER}:
        raise Problem(400, "bad_request", f"the header {name} came twice")
    return found


def _decoded(scope: Scope) -> Iterator[tuple[str, str]]:
    return ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "bad_request", "the body was cut off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY:
            raise _too_big()
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then whatever comes: the end of the connection."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _field(headers: Mapping[str, str], body: bytes, name: str) -> str:
    """A field of a form; nothing where there is none, or another kind of body."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return ""
    try:
        return parse_qs(body.decode("ascii"), max_num_fields=100).get(name, [""])[0]
    except ValueError:
        return ""


async def _respond(response: Response, scope: Scope, send: Send) -> None:
    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    await response(scope, nothing, send)
