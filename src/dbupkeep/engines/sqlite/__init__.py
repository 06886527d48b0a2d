"""SQLite, through apsw. This module fulfils `dbupkeep.engine.Engine`; its rooms are loaded when they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from dbupkeep.definitions import Policy, Setting, Target
from dbupkeep.engine import Candidate, Finding, Purpose, Scope, Session
from dbupkeep.engines.sqlite import analyze, check, optimize, reindex, vacuum
from dbupkeep.engines.sqlite import assess as _assess
from dbupkeep.engines.sqlite import discover as _discover
from dbupkeep.engines.sqlite import doctor as _doctor
from dbupkeep.engines.sqlite import drift as _drift
from dbupkeep.engines.sqlite import why as _why
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.inquiry import DEFAULTS
from dbupkeep.engines.sqlite.paths import target_of
from dbupkeep.engines.sqlite.session import SqliteSession
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem, Proposal

__all__ = ["assess", "connect", "defaults", "discover", "doctor", "drift", "operations", "survey", "target_of", "why"]

operations: Mapping[Operation, str] = {
    Operation.CHECK: check.SUMMARY,
    Operation.VACUUM: vacuum.SUMMARY,
    Operation.REINDEX: reindex.SUMMARY,
    Operation.OPTIMIZE: optimize.SUMMARY,
    Operation.ANALYZE: analyze.SUMMARY,
}

defaults: Mapping[Operation, Mapping[str, Setting]] = DEFAULTS


def discover(place: Target, scope: Scope) -> Iterable[Candidate]:
    """Find the databases in a folder by their headers, in a process of its own."""
    return _discover.discover(place, scope)


def connect(target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> Session:
    """Open one file: read-only for a survey, `mode=rw` for work; never creates one."""
    return SqliteSession(target, tag=tag, purpose=purpose)


def survey(session: Session, scope: Scope) -> DatabaseFacts:
    """Read what a plan needs to know."""
    return cast("SqliteSession", session).survey(scope)


def assess(facts: DatabaseFacts, policy: Policy, history: History, scope: Scope) -> Sequence[Proposal]:
    """Propose what to do. Pure."""
    return _assess.assess(facts, policy, history, scope)


def drift(item: PlanItem, facts: DatabaseFacts) -> str:
    """Say what changed since the plan. Pure."""
    return _drift.drift(item, facts)


def why(session: Session, object: str) -> Sequence[Finding]:
    """Say what keeps maintenance from helping, for the database or, where one is named, a table or index of it."""
    return _why.why(_handle(session), object)


def doctor(session: Session) -> Sequence[Finding]:
    """Check the library and the surroundings of the file."""
    return _doctor.doctor(_handle(session))


def _handle(session: Session) -> Handle:
    return cast("SqliteSession", session).handle
