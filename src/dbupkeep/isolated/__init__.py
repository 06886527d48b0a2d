"""An engine whose sessions live in child processes of ours, for programs that may hold the database open themselves.

SQLite's locks belong to the process: when one part of a program closes a file, every lock that another part holds on
it is gone, and with it the protection of its writes. So a program that uses dbupkeep as a library, and every process
that lives long, works on SQLite files through a pool of children: a session takes one and gives it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from dbupkeep.definitions import Policy, Setting, Target
from dbupkeep.engine import Candidate, Engine, Finding, Purpose, Scope, Session
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.isolated.pool import Pool
from dbupkeep.isolated.session import IsolatedSession
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem, Proposal

ISOLATED = frozenset({"sqlite"})
"""The engines whose product works inside the calling process."""


class Isolation:
    """Finds engines, and gives those of `ISOLATED` with sessions in child processes."""

    def __init__(self, load: Callable[[str], Engine]) -> None:
        """`load` finds an engine by its scheme."""
        self._load = load
        self._engines: dict[str, IsolatedEngine] = {}

    def load(self, scheme: str) -> Engine:
        """Find an engine. Raises `UnknownName`."""
        if scheme not in ISOLATED:
            return self._load(scheme)
        if scheme not in self._engines:
            self._engines[scheme] = IsolatedEngine(self._load(scheme), Pool(scheme))
        return self._engines[scheme]

    def close(self) -> None:
        """End all idle children; safe to repeat."""
        for engine in self._engines.values():
            engine.pool.close()


class IsolatedEngine:
    """Fulfils `dbupkeep.engine.Engine`: what is pure stays here, what touches a database goes to a child."""

    def __init__(self, engine: Engine, pool: Pool) -> None:
        """Stand before an engine."""
        self._engine = engine
        self.pool = pool

    @property
    def operations(self) -> Mapping[Operation, str]:
        """What the engine can do."""
        return self._engine.operations

    @property
    def defaults(self) -> Mapping[Operation, Mapping[str, Setting]]:
        """Its thresholds."""
        return self._engine.defaults

    def discover(self, place: Target, scope: Scope) -> Iterable[Candidate]:
        """Find databases; an engine does that in a process of its own already."""
        return self._engine.discover(place, scope)

    def connect(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> Session:
        """Open a session in a child."""
        return IsolatedSession(self.pool, target, tag=tag, purpose=purpose)

    def survey(self, session: Session, scope: Scope) -> DatabaseFacts:
        """Read what a plan needs, in the session's child."""
        return _own(session).survey(scope)

    def assess(self, facts: DatabaseFacts, policy: Policy, history: History, scope: Scope) -> Sequence[Proposal]:
        """Propose what to do. Pure."""
        return self._engine.assess(facts, policy, history, scope)

    def drift(self, item: PlanItem, facts: DatabaseFacts) -> str:
        """Say what changed since the plan. Pure."""
        return self._engine.drift(item, facts)

    def why(self, session: Session, object: str) -> Sequence[Finding]:
        """Say what keeps maintenance from helping, in the session's child."""
        return _own(session).why(object)

    def doctor(self, session: Session) -> Sequence[Finding]:
        """Check versions, rights and surroundings, in the session's child."""
        return _own(session).doctor()


def _own(session: Session) -> IsolatedSession:
    if not isinstance(session, IsolatedSession):
        raise TypeError("a session of another engine")
    return session
