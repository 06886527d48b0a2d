"""Requests that are carried out once, however often they are sent (`Idempotency-Key`).

The key of a caller is kept in the transaction of what it made, with a hash of the request: so of several that come at
once one makes something, and a key that comes again with another request is told so.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from msgspec import Struct
from pydantic import BaseModel

from dbupkeep.ledger import Reader
from dbupkeep.lifecycle import Submission, Turn
from dbupkeep.views.web.problems import Problem

KIND = "idempotency"
"""The kind of document that keeps what was asked for with a key."""

ONCE = "api:"
"""How the key begins by which the ledger makes a run once."""

LONGEST = 255
"""Characters of a key."""

NO_RUN = Submission(jobs=())


class Once(Struct, frozen=True, kw_only=True):
    """One request, and by which key it is known; without a key it is made as often as it comes."""

    key: str = ""
    asked: str = ""  # a hash of the request

    @classmethod
    def of(cls, key: str | None, caller: str, verb: str, body: BaseModel) -> Once:
        """A caller's request: `verb` tells one route from another."""
        if key is None:
            return cls()
        said = f"{verb}\n{body.model_dump_json()}"
        return cls(key=_hash(f"{caller}\n{key}"), asked=_hash(said))

    def earlier(self, reader: Reader) -> str:
        """The id of what was made with this key before; empty: nothing. Raises `Problem` 422 for another request."""
        document = reader.get(KIND, self.key) if self.key else None
        if document is None:
            return ""
        if document["asked"] != self.asked:
            raise Problem(
                422, "idempotency_key_reused", "this Idempotency-Key was used for another request",
                hint="take a new key for each new request; only a repetition has the same one",
            )  # fmt: skip
        return str(document["made"] or (reader.get("once", ONCE + self.key) or {})["job_id"])

    def along(self) -> Submission:
        """What is written with a run that it makes."""
        if not self.key:
            return NO_RUN
        return Submission(jobs=(), once=ONCE + self.key, documents=[(KIND, self.key, self._document(""))])

    def turn(self, made: str) -> Turn | None:
        """What is written with something else that it makes, of that id."""
        return Turn(kind=KIND, key=self.key, version=0, document=self._document(made)) if self.key else None

    def _document(self, made: str) -> Mapping[str, Any]:
        return {"asked": self.asked, "made": made}


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
