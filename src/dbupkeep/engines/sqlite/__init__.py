"""SQLite, through apsw. This module fulfils `dbupkeep.engine.Engine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from dbupkeep.definitions import Setting, Target
from dbupkeep.engine import Finding, Purpose, Scope, Session
from dbupkeep.engines.sqlite import analyze, check, optimize, reindex, vacuum
from dbupkeep.engines.sqlite.assess import assess
from dbupkeep.engines.sqlite.discover import discover
from dbupkeep.engines.sqlite.doctor import doctor as doctor_of
from dbupkeep.engines.sqlite.drift import drift
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.inquiry import DEFAULTS, RENUMBER_CONSENT, STALL_CONSENT
from dbupkeep.engines.sqlite.paths import target_of
from dbupkeep.engines.sqlite.session import SqliteSession
from dbupkeep.engines.sqlite.why import why as why_of
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation

__all__ = [
    "CONSENTS",
    "assess",
    "connect",
    "defaults",
    "discover",
    "doctor",
    "drift",
    "operations",
    "survey",
    "target_of",
    "why",
]

operations: Mapping[Operation, str] = {
    Operation.CHECK: check.SUMMARY,
    Operation.VACUUM: vacuum.SUMMARY,
    Operation.REINDEX: reindex.SUMMARY,
    Operation.OPTIMIZE: optimize.SUMMARY,
    Operation.ANALYZE: analyze.SUMMARY,
}

defaults: Mapping[Operation, Mapping[str, Setting]] = DEFAULTS

CONSENTS = frozenset({RENUMBER_CONSENT, STALL_CONSENT})
"""The effects that a policy may agree to."""


def connect(target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> Session:
    """Open one file: read-only for a survey, `mode=rw` for work; never creates one."""
    return SqliteSession(target, tag=tag, purpose=purpose)


def survey(session: Session, scope: Scope) -> DatabaseFacts:
    """Read what a plan needs to know."""
    return cast("SqliteSession", session).survey(scope)


def why(session: Session, object: str) -> Sequence[Finding]:
    """Say what keeps maintenance from helping, for the database or, where one is named, a table or index of it."""
    return why_of(_handle(session), object)


def doctor(session: Session) -> Sequence[Finding]:
    """Check the library and the surroundings of the file."""
    return doctor_of(_handle(session))


def _handle(session: Session) -> Handle:
    return cast("SqliteSession", session).handle
