"""Who may call: tokens with their roles, and the sessions of browsers. The ledger keeps hashes, never a secret itself.

All tokens are one document, all sessions another: they are few, are read as a whole, and change in one transaction.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep.audit import Act
from dbupkeep.clock import Clock
from dbupkeep.codec import from_json, rfc3339, to_json
from dbupkeep.errors import LedgerError, UnknownName, UsageError
from dbupkeep.ledger import Reader
from dbupkeep.lifecycle import Lifecycle
from dbupkeep.logs import printable

KIND = "access"
"""The kind of the two documents; their keys are `tokens` and `sessions`."""

SESSION_LASTS = timedelta(hours=12)
"""How long a browser stays logged in, whatever it does."""

MOST_TOKENS = 200
MOST_SESSIONS = 20
"""Sessions of one token at a time; the oldest one gives way."""

LONGEST_NAME = 64

SECRET_BYTES = 32
"""256 bits: nobody guesses them, so a fast hash of them is enough."""


class Role(IntEnum):
    """What a caller may do; each includes the ones before."""

    VIEWER = 1  # look
    OPERATOR = 2  # plan, run, pause, resume, skip, cancel, retry
    ADMIN = 3  # tokens, configuration, audit trail

    @property
    def word(self) -> str:
        """As people write it."""
        return self.name.lower()


class Token(Struct, frozen=True, kw_only=True):
    """A token as the ledger knows it."""

    name: str
    role: str
    hash: str  # SHA-256 of its text, in hex
    created_at: datetime
    created_by: str = ""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None  # to the minute

    def valid(self, now: datetime) -> bool:
        """Whether it opens anything at that moment."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def rank(self) -> Role:
        """Its role; an unknown one is the smallest."""
        return next((role for role in Role if role.word == self.role), Role.VIEWER)


class Session(Struct, frozen=True, kw_only=True):
    """A browser that is logged in."""

    token: str  # the hash of the token that it was opened with: revoked, the session ends too
    created_at: datetime
    expires_at: datetime


class Roll(Struct, frozen=True, kw_only=True):
    """All tokens and sessions as they were at one moment."""

    tokens: Mapping[str, Token]  # by name
    sessions: Mapping[str, Session]  # by the hash of their secret

    def token(self, text: str, now: datetime) -> Token | None:
        """The valid token with this text."""
        return self._of_hash(digest(text), now)

    def session(self, secret: str, now: datetime) -> Token | None:
        """The valid token of a session that has not expired."""
        session = self.sessions.get(digest(secret))
        return self._of_hash(session.token, now) if session and now < session.expires_at else None

    def _of_hash(self, wanted: str, now: datetime) -> Token | None:
        found = [token for token in self.tokens.values() if hmac.compare_digest(token.hash, wanted)]
        return found[0] if found and found[0].valid(now) else None


class Access:
    """Makes, lists and revokes tokens; opens and closes sessions."""

    def __init__(self, *, reader: Reader, lifecycle: Lifecycle, clock: Clock) -> None:
        """Stand on a ledger."""
        self._reader = reader
        self._lifecycle = lifecycle
        self._clock = clock

    def roll(self) -> Roll:
        """All tokens and sessions now."""
        return Roll(
            tokens=_read(Token, self._reader.get(KIND, "tokens")),
            sessions=_read(Session, self._reader.get(KIND, "sessions")),
        )

    def create(self, name: str, role: Role, *, by: str, lasts: timedelta | None = None, text: str = "") -> str:
        """Make a token; returns its text, which nothing keeps. Raises `UsageError` for a name that is taken or no name."""
        _check_name(name)
        now = self._clock.now()
        text = text or secrets.token_urlsafe(SECRET_BYTES)
        token = Token(
            name=name, role=role.word, hash=digest(text), created_at=now, created_by=by,
            expires_at=None if lasts is None else now + lasts,
        )  # fmt: skip

        def change(tokens: dict[str, Token]) -> None:
            known = tokens.get(name)
            if known is not None and known.valid(now):
                raise UsageError(
                    f"there is a token {name} already", hint="choose another name, or revoke that one first"
                )
            if len(tokens) >= MOST_TOKENS and known is None:
                ended = [each for each in tokens.values() if not each.valid(now)]
                if not ended:
                    raise UsageError(f"there are {MOST_TOKENS} tokens already", hint="revoke one that nobody uses")
                del tokens[min(ended, key=lambda each: each.created_at).name]
            tokens[name] = token

        detail = {"role": role.word, "expires_at": token.expires_at and rfc3339(token.expires_at)}
        self._change("tokens", Token, change, Act(who=by, what="token_create", on=name, detail=detail))
        return text

    def revoke(self, name: str, *, by: str) -> Token:
        """End a token and its sessions, from the next request on. Raises `UnknownName`; safe to repeat."""
        now = self._clock.now()
        revoked: list[Token] = []

        def change(tokens: dict[str, Token]) -> None:
            if name not in tokens:
                raise UnknownName(f"there is no token {printable(name)}", hint="`dbupkeep token list` names them")
            if tokens[name].revoked_at is None:
                tokens[name] = replace(tokens[name], revoked_at=now)
            revoked[:] = [tokens[name]]

        self._change("tokens", Token, change, Act(who=by, what="token_revoke", on=name))
        return revoked[0]

    def use(self, used: Mapping[str, datetime]) -> None:
        """Keep when tokens were last used, by the hash of each."""

        def change(tokens: dict[str, Token]) -> None:
            for name, token in tokens.items():
                if token.hash in used:
                    tokens[name] = replace(token, used_at=used[token.hash])

        self._change("tokens", Token, change)

    def open_session(self, token: Token) -> str:
        """Log a browser in; returns the session's secret, which nothing keeps."""
        now = self._clock.now()
        secret = secrets.token_urlsafe(SECRET_BYTES)
        session = Session(token=token.hash, created_at=now, expires_at=now + SESSION_LASTS)

        def change(sessions: dict[str, Session]) -> None:
            for key in [key for key, each in sessions.items() if each.expires_at <= now]:
                del sessions[key]
            own = sorted((each.created_at, key) for key, each in sessions.items() if each.token == token.hash)
            for _, key in own[: max(0, len(own) - MOST_SESSIONS + 1)]:
                del sessions[key]
            sessions[digest(secret)] = session

        self._change("sessions", Session, change, Act(who=f"token {token.name}", what="log_in"))
        return secret

    def close_session(self, secret: str) -> None:
        """Log a browser out; safe to repeat."""
        self._change("sessions", Session, lambda sessions: sessions.pop(digest(secret), None))

    def _change(
        self, key: str, cls: type[Any], change: Callable[[dict[str, Any]], object], act: Act | None = None
    ) -> None:
        def changed(document: Mapping[str, Any]) -> Mapping[str, Any]:
            entries = _read(cls, document)
            change(entries)
            return {name: to_json(entry) for name, entry in entries.items()}

        self._lifecycle.amend(KIND, key, changed, act)


def digest(text: str) -> str:
    """The hash under which a secret is known."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _read(cls: type[Any], document: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return {name: from_json(cls, entry) for name, entry in (document or {}).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise LedgerError(
            "the tokens in the ledger cannot be read", why="they are not as this program writes them",
            hint="nobody is let in until they are; restore the ledger from a copy",
        ) from error  # fmt: skip


def _check_name(name: str) -> None:
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise UsageError(
            f"{printable(name[:LONGEST_NAME])!r} is no name for a token",
            hint=f"give 1 to {LONGEST_NAME} letters that say who or what uses it, such as grafana",
        )
