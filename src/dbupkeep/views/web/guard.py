"""What stands before every route of the site, found or not: reads, files and event streams alike.

In this order: does the request name this site; is it another site's doing; who is calling, and not too often; the body,
bounded in size and time; and for a change that came with a cookie, that the page of this session wanted it. A path that
is not public is refused without a caller even where a route forgets to ask for one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from urllib.parse import quote

from msgspec import Struct
from starlette.responses import RedirectResponse, Response

from dbupkeep.audit import Act, acting
from dbupkeep.errors import LedgerError
from dbupkeep.views.web import forgery
from dbupkeep.views.web.denials import Denials
from dbupkeep.views.web.gate import Gate
from dbupkeep.views.web.hosts import Hosts
from dbupkeep.views.web.limits import BODY, BODY_SECONDS, HEAD, Limits
from dbupkeep.views.web.outgoing import Outgoing, too_many
from dbupkeep.views.web.paths import LOG_IN, is_for_people, is_public, path_of
from dbupkeep.views.web.problems import Problem, problem
from dbupkeep.views.web.roles import Caller, unauthorized
from dbupkeep.views.web.wire import (
    Application,
    Receive,
    Scope,
    Send,
    decoded,
    field_of,
    read_body,
    replayed,
    respond,
    too_big,
)

log = logging.getLogger(__name__)

LONGEST_PATH = 2048

LONGEST_NOTED = 200


class Guard(Struct, kw_only=True):
    """An ASGI application around the site."""

    site: Application
    hosts: Hosts
    gate: Gate
    limits: Limits
    denials: Denials
    https: bool = False  # a proxy before us speaks TLS, and says who is calling
    body_seconds: float = BODY_SECONDS

    @property
    def _scheme(self) -> str:
        """What our own origin begins with."""
        return "https" if self.https else "http"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        answer = Outgoing(scope, send, self.limits, self.gate, secure=self.https)
        try:
            body = await self._admit(scope, receive)
        except Problem as error:
            await respond(error.response(), scope, answer.send)
        except LedgerError as error:
            await respond(problem(503, error.kind.value, error.message, hint=error.hint), scope, answer.send)
        except _Elsewhere as there:
            await respond(there.response, scope, answer.send)
        else:
            await self._pass_on(scope, replayed(body, receive), answer)
        if act := self._denied(scope, answer.status):
            self.denials.note(act)

    def _denied(self, scope: Scope, status: int) -> Act | None:
        """What the audit trail says of an attempt that was refused: a log-in, or what a role or another site may not."""
        path = path_of(scope)
        what = {401: "log_in" if path == LOG_IN else "", 403: "request"}.get(status, "")
        if not what:
            return None
        caller: Caller | None = scope.get("state", {}).get("caller")
        who = caller.name if caller else f"address {self.address(scope, dict(decoded(scope)))}"
        on = f"{scope['method']} {path}"[:LONGEST_NOTED]
        return Act(who=who, what=what, on=on, outcome=f"refused: {status}")

    async def _pass_on(self, scope: Scope, receive: Receive, answer: Outgoing) -> None:
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
                await respond(problem(500, "bug", "the request failed; the log says why"), scope, answer.send)
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
        if caller is None and not is_public(path):
            raise _stranger(scope, headers, path)
        body = await self._body(headers, receive)
        if scope["method"] not in forgery.SAFE:
            self._check_wanted(headers, caller, body, path)
        return body

    def _check_place(self, headers: Mapping[str, str], scope: Scope) -> None:
        path = scope["path"]
        if not path.startswith("/") or len(path) > LONGEST_PATH or len(scope["query_string"]) > LONGEST_PATH:
            raise Problem(400, "bad_request", "the path is none, or too long")
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy before us might see another end of the body than we do, and so another request behind it.
            raise Problem(400, "bad_request", "the body has two lengths", headers={"Connection": "close"})
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
            raise too_big()
        if length == "0" and "transfer-encoding" not in headers:
            return b""
        try:
            async with asyncio.timeout(self.body_seconds):
                return await read_body(receive)
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
        given = headers.get(forgery.HEADER, "") or field_of(headers, body, forgery.FIELD)
        if reason := forgery.unproven(headers, session=caller.session, given=given):
            raise Problem(403, "forbidden", f"refused: {reason}", hint="load the page again, and try once more")


class _Elsewhere(Exception):
    """The browser is to go somewhere else."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def _stranger(scope: Scope, headers: Mapping[str, str], path: str) -> Exception:
    """What who is not known gets: a problem for programs, the form to log in for people."""
    if not is_for_people(path, headers.get("accept", "")):
        return unauthorized()
    root = scope.get("root_path", "")
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    # A button of a page whose session has ended: nothing is done, and the page behind it is no place to go to.
    there = quote(f"{path}{query}" if scope["method"] == "GET" else "/", safe="")
    return _Elsewhere(RedirectResponse(f"{root}{LOG_IN}?next={there}", status_code=303))


def _headers(scope: Scope) -> dict[str, str]:
    """The headers of a request by name. One that comes twice is none: two readers might believe different ones."""
    if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD:
        raise Problem(431, "request_header_fields_too_large", f"the headers are bigger than {HEAD} bytes")
    found: dict[str, str] = {}
    twice: set[str] = set()
    for name, value in decoded(scope):
        if name in found:
            twice.add(name)
        found[name] = value
    for name in twice & {"host", "origin", "authorization", "sec-fetch-site", "content-length", forgery.HEADER}:
        raise Problem(400, "bad_request", f"the header {name} came twice")
    return found
