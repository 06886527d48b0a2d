"""Recognises callers by a bearer token or by the session of a browser. What the ledger knows is read at most once a second."""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from http.cookies import CookieError, SimpleCookie

from msgspec import Struct

from dbupkeep.access import Access, Roll, Token, digest
from dbupkeep.clock import Clock
from dbupkeep.errors import LedgerError
from dbupkeep.views.web.roles import Caller

COOKIE = "dbupkeep_session"

BEARER = "bearer "

FRESH = 1.0
"""Seconds for which what was read of the ledger is believed: so late a revoked token is refused at most."""

USED_EVERY = timedelta(minutes=1)
"""How exactly the last use of a token is kept."""

LONGEST = 512
"""Characters of what may be a secret; nothing longer is hashed."""


class Given(Struct, frozen=True, kw_only=True):
    """A token that the environment gave, which the ledger does not keep. Its `hash` is only for its sessions."""

    token: Token
    digest: str  # of its text; stays in this process


class Gate:
    """Who is calling. It runs on one event loop; what reads or writes the ledger, on a thread."""

    def __init__(self, access: Access, clock: Clock, *, given: Given | None = None) -> None:
        """Recognise the tokens of the ledger, and the one given."""
        self._access = access
        self._clock = clock
        self._given = given
        self._roll = Roll(tokens={}, sessions={})
        self._read_at = -math.inf
        self._changed_at = -math.inf  # what was read before does not count
        self._reading = asyncio.Lock()
        self._used: dict[str, datetime] = {}
        self._keeping: asyncio.Task[None] | None = None

    async def caller(self, headers: Mapping[str, str]) -> Caller | None:
        """Who is calling; None when nobody says or it cannot be believed. Raises `LedgerError`."""
        text, session = bearer_of(headers), session_of(headers)
        if not text and not session:
            return None
        await self._refresh()
        now = self._clock.now()
        token = self._token(text, now) if text else self._roll.session(session, now)
        if token is None:
            return None
        self._note_use(token, now)
        return Caller(name=f"token {token.name}", role=token.rank, id=token.hash, session="" if text else session)

    async def log_in(self, text: str) -> str | None:
        """Open a session for who knows a token; None for who does not."""
        await self._refresh()
        token = self._token(text, self._clock.now()) if 0 < len(text) <= LONGEST else None
        if token is None:
            return None
        secret = await asyncio.to_thread(self._access.open_session, token)
        self.forget()
        return secret

    async def log_out(self, session: str) -> None:
        """Close a session."""
        await asyncio.to_thread(self._access.close_session, session)
        self.forget()

    def forget(self) -> None:
        """Read the ledger anew before the next answer: something was changed here, maybe while it was being read."""
        self._changed_at = self._clock.monotonic()

    def _token(self, text: str, now: datetime) -> Token | None:
        if self._given is not None and hmac.compare_digest(digest(text), self._given.digest):
            return self._given.token
        return self._roll.token(text, now)

    async def _refresh(self) -> None:
        """Read tokens and sessions anew if they may have changed; several callers wait for one read."""
        if self._is_fresh():
            return
        async with self._reading:
            if not self._is_fresh():
                began = self._clock.monotonic()
                roll = await asyncio.to_thread(self._access.roll)
                given = {self._given.token.name: self._given.token} if self._given else {}
                self._roll = Roll(tokens={**roll.tokens, **given}, sessions=roll.sessions)
                self._read_at = began

    def _is_fresh(self) -> bool:
        return self._read_at >= self._changed_at and self._clock.monotonic() - self._read_at < FRESH

    def _note_use(self, token: Token, now: datetime) -> None:
        """Have the ledger keep that a token was used, beside the request; nobody waits for it."""
        last = self._used.get(token.hash) or token.used_at
        if last is not None and now - last < USED_EVERY:
            return
        self._used[token.hash] = now
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.get_running_loop().create_task(self._keep_use())

    async def _keep_use(self) -> None:
        try:
            await asyncio.to_thread(self._access.use, dict(self._used))
        except LedgerError:  # it is only to the minute, and the next use says it again
            self._used.clear()


def bearer_of(headers: Mapping[str, str]) -> str:
    """The token of an Authorization header, or nothing."""
    said = headers.get("authorization", "")
    text = said[len(BEARER) :].strip() if said[: len(BEARER)].lower() == BEARER else ""
    return text if len(text) <= LONGEST else ""


def session_of(headers: Mapping[str, str]) -> str:
    """The secret of a browser's session, or nothing."""
    cookies = SimpleCookie()
    try:
        cookies.load(headers.get("cookie", "")[:8192])
    except CookieError:
        return ""
    found = cookies[COOKIE].value if COOKIE in cookies else ""
    return found if len(found) <= LONGEST else ""
