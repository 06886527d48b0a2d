"""An engine that does nothing to any database: what it finds, proposes and does is said by the test.

Public, and for whoever tests a manager, a worker or a program that uses dbupkeep: everything above the engine port is
real. What was done is kept in `effects`, and with `record` also in a file that many processes append to.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from dbupkeep.definitions import Policy, Setting, Target
from dbupkeep.engine import (
    Candidate,
    Evidence,
    Finding,
    Leftover,
    Purpose,
    Report,
    Scope,
    Session,
    Stop,
    Work,
)
from dbupkeep.errors import Interrupted, UpkeepError
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.jobs import Effective
from dbupkeep.operations import CATALOGUE, Operation
from dbupkeep.plans import Decision, PlanItem, Proposal

Act = Callable[["ScriptedSession", PlanItem, Report], None]
"""What happens in place of an operation; it may raise, wait, or end the process."""


class Effect(Struct, frozen=True, kw_only=True):
    """That an attempt did something."""

    tag: str  # of the attempt
    url: str
    operation: str
    object: str
    when: str  # `began` or `done`
    pid: int = field(default_factory=os.getpid)


class ScriptedEngine:
    """Fulfils `dbupkeep.engine.Engine`."""

    operations: Mapping[Operation, str] = {operation: trait.summary for operation, trait in CATALOGUE.items()}
    defaults: Mapping[Operation, Mapping[str, Setting]] = {}

    def __init__(
        self,
        *,
        act: Act | None = None,
        proposals: Callable[[DatabaseFacts, Scope], Sequence[Proposal]] | None = None,
        found: Callable[[Target], Iterable[Candidate]] | None = None,
        unreachable: Mapping[str, UpkeepError] | None = None,
        record: Path | None = None,
    ) -> None:
        """`unreachable` has by url what `connect` raises; `record` is a file for effects, one JSON object a line."""
        self.act: Act = act or (lambda session, item, report: None)
        self._proposals = proposals or run_all
        self._found = found or (lambda place: [])
        self.unreachable = dict(unreachable or {})
        self._record = record
        self.effects: list[Effect] = []

    def discover(self, place: Target, scope: Scope) -> Iterable[Candidate]:
        """Find what the test says."""
        return self._found(place)

    def connect(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> Session:
        """Open a session, or raise what the test says."""
        if target.url in self.unreachable:
            raise self.unreachable[target.url]
        return ScriptedSession(self, target, tag)

    def survey(self, session: Session, scope: Scope) -> DatabaseFacts:
        """Find a database of a megabyte."""
        url = session.target.url if isinstance(session, ScriptedSession) else ""
        return DatabaseFacts(target=url, engine="scripted", version="1", surveyed_at=scope.now, bytes=1 << 20)

    def assess(self, facts: DatabaseFacts, policy: Policy, history: History, scope: Scope) -> Sequence[Proposal]:
        """Propose what the test says."""
        return self._proposals(facts, scope)

    def drift(self, item: PlanItem, facts: DatabaseFacts) -> str:
        """Nothing ever drifts."""
        return ""

    def why(self, session: Session, object: str) -> Sequence[Finding]:
        """Nothing is ever in the way."""
        return []

    def doctor(self, session: Session) -> Sequence[Finding]:
        """Nothing is ever wrong."""
        return []

    def note(self, effect: Effect) -> None:
        """Keep an effect, in one write so that other processes' effects are not mixed in."""
        self.effects.append(effect)
        if self._record is not None:
            line = json.dumps({name: getattr(effect, name) for name in Effect.__struct_fields__}) + "\n"
            descriptor = os.open(self._record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)


class ScriptedSession:
    """Fulfils `dbupkeep.engine.Session`."""

    def __init__(self, engine: ScriptedEngine, target: Target, tag: str) -> None:
        self.target = target
        self.tag = tag
        self._engine = engine
        self._stop = threading.Event()

    def work(self, seconds: float) -> None:
        """Be busy for so long, unless interrupted. Raises `Interrupted`."""
        if self._stop.wait(seconds):
            raise Interrupted("stopped as asked")

    def run(self, item: PlanItem, report: Report) -> Work:
        """Do what the test says, and note that it was done."""
        self._note(item, "began")
        self._engine.act(self, item, report)
        self._note(item, "done")
        return Work(seconds=0.0)

    def interrupt(self) -> Stop:
        """End `work`."""
        self._stop.set()
        return Stop.STOPPED

    def verify(self, item: PlanItem, work: Work) -> Evidence:
        """Everything had its effect."""
        return Evidence(effective=Effective.YES, reason="as scripted", before={"bytes": 2}, after={"bytes": 1})

    def recover(self, item: PlanItem, tag: str, notes: Sequence[str] = ()) -> Evidence | None:
        """Nothing is left to recover."""
        return None

    def leftovers(self) -> Sequence[Leftover]:
        """Nothing is left behind."""
        return []

    def clean(self, leftover: Leftover) -> None:
        """Nothing is left to clean."""

    def close(self) -> None:
        """End the session."""

    def _note(self, item: PlanItem, when: str) -> None:
        self._engine.note(
            Effect(tag=self.tag, url=self.target.url, operation=item.operation.value, object=item.object, when=when)
        )


def run_all(facts: DatabaseFacts, scope: Scope) -> Sequence[Proposal]:
    """Propose to run every operation that was asked for, on the whole database."""
    return [
        Proposal(operation=operation, decision=Decision.RUN, reason="as scripted") for operation in scope.operations
    ]
