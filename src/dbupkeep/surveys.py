"""The look at one database that a plan is made from. It needs no ledger, so that it can begin before that is open."""

from __future__ import annotations

import threading
from datetime import datetime

from msgspec import Struct

from dbupkeep import logs
from dbupkeep.definitions import Step, Target
from dbupkeep.engine import Engine, Purpose, Scope
from dbupkeep.errors import UsageError
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import CATALOGUE, in_order


class Survey(Struct, frozen=True, kw_only=True):
    """What was looked for, and found."""

    target: Target
    scope: Scope
    facts: DatabaseFacts


def of_step(engine: Engine, step: Step, *, now: datetime, fleet: bool = False) -> Survey:
    """Look at a step's one target. Raises `TargetError` and `UsageError`."""
    target = only_target(step)
    operations = in_order(step.operations)
    if not operations:
        raise UsageError("no operation was asked for", hint=f"choose from {', '.join(CATALOGUE)}")
    lacking = [str(operation) for operation in operations if operation not in engine.operations]
    if lacking:
        raise UsageError(f"{target.engine} has no {', '.join(lacking)}", hint="leave it out of --operations")
    scope = Scope(operations=operations, fleet=fleet, now=now, policy=step.policy, config=step.config)
    return Survey(target=target, scope=scope, facts=look(engine, target, scope))


def look(engine: Engine, target: Target, scope: Scope) -> DatabaseFacts:
    """Read what a plan needs to know, in a session of its own."""
    session = engine.connect(target, purpose=Purpose.SURVEY)
    try:
        return engine.survey(session, scope)
    finally:
        session.close()


def only_target(step: Step) -> Target:
    """The one target of a step. Raises `UsageError`."""
    if len(step.targets) != 1:
        raise UsageError(
            f"step {step.name} has {len(step.targets)} targets, where one is wanted",
            hint="several databases are a run: use the action maintenance_run",
        )
    return step.targets[0]


class Ahead:
    """A survey in a thread of its own, while its caller does something else. It holds up no end of the process."""

    def __init__(self, engine: Engine, step: Step, *, now: datetime) -> None:
        """Begin."""
        self._found: Survey | BaseException | None = None
        self._thread = threading.Thread(
            target=logs.carry(self._look), args=(engine, step, now), name="dbupkeep-survey", daemon=True
        )
        self._thread.start()

    def result(self) -> Survey:
        """What was found, once it is. Raises what the survey raised."""
        self._thread.join()
        if not isinstance(self._found, Survey):
            raise self._found or RuntimeError("the survey has ended without a word")
        return self._found

    def _look(self, engine: Engine, step: Step, now: datetime) -> None:
        try:
            self._found = of_step(engine, step, now=now)
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is wanted
            self._found = error
