"""PostgreSQL 13 to 19, through psycopg. This module fulfils `dbupkeep.engine.Engine`.

The driver is imported on connecting, and the modules of operations when they are asked for: starting is most of what a
small run takes. Modules that share their name with a function here come first, so that the function has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from dbupkeep.definitions import Policy, Setting, Target
from dbupkeep.engine import Candidate, Finding, Purpose, Scope, Session
from dbupkeep.engines.postgresql import assess as _assess
from dbupkeep.engines.postgresql import drift as _drift
from dbupkeep.engines.postgresql import survey as _survey
from dbupkeep.engines.postgresql import why as _why
from dbupkeep.engines.postgresql.doctor import examine
from dbupkeep.engines.postgresql.inquiry import CONSENT_DROP, CONSENT_LOCK, DEFAULTS
from dbupkeep.engines.postgresql.performers import PERFORMERS
from dbupkeep.engines.postgresql.selection import FLAGS
from dbupkeep.engines.postgresql.session import PostgresqlSession
from dbupkeep.engines.postgresql.urls import expected_key, target_of
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem, Proposal

__all__ = [
    "CONSENTS",
    "FLAGS",
    "LASTING",
    "SERVES_MANY",
    "assess",
    "connect",
    "defaults",
    "discover",
    "doctor",
    "drift",
    "key_of",
    "operations",
    "survey",
    "target_of",
    "why",
]

operations: Mapping[Operation, str] = {operation: how for operation, (_, how) in PERFORMERS.items()}

SERVES_MANY = True
"""One URL names a server, which may have many databases."""

LASTING = True
"""A session takes some milliseconds to open, and serves one job after another."""

defaults: Mapping[Operation, Mapping[str, Setting]] = DEFAULTS

CONSENTS = frozenset({CONSENT_LOCK, CONSENT_DROP})
"""The effects that a policy may agree to."""


def discover(place: Target, scope: Scope) -> Iterable[Candidate]:
    """Find the databases of a server."""
    from dbupkeep.engines.postgresql import databases

    return databases.of_server(place)


def connect(target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> Session:
    """Open a session, read-only for a survey; `tag` is its name on the server."""
    return PostgresqlSession(target, tag=tag, purpose=purpose)


def key_of(target: Target) -> str:
    """What the ledger calls a target, as far as it can be known without connecting."""
    return expected_key(target)


def survey(session: Session, scope: Scope) -> DatabaseFacts:
    """Read what a plan needs to know."""
    return _survey.look(cast("PostgresqlSession", session).handle, scope)


def assess(facts: DatabaseFacts, policy: Policy, history: History, scope: Scope) -> Sequence[Proposal]:
    """Propose what to do. Pure."""
    return _assess.assess(facts, policy, history, scope)


def drift(item: PlanItem, facts: DatabaseFacts) -> str:
    """Say what changed since the plan. Pure."""
    return _drift.drift(item, facts)


def why(session: Session, object: str) -> Sequence[Finding]:
    """Say what keeps maintenance from helping."""
    return _why.why(cast("PostgresqlSession", session).handle, object)


def doctor(session: Session) -> Sequence[Finding]:
    """Check version, rights and settings."""
    return examine(cast("PostgresqlSession", session).handle)
