"""A survey may go on while its caller does something else."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

import pytest

from dbupkeep.definitions import Policy, Step, Target
from dbupkeep.engine import Engine, Purpose, Scope
from dbupkeep.errors import Missing, UsageError
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.surveys import Ahead, of_step

NOW = datetime(2026, 11, 24, tzinfo=UTC)
STEP = Step(
    name="maintenance", targets=(Target(name="app", url="slow://app"),), operations=(Operation.VACUUM,),
    policy=Policy(force=True), config={"tables": "a"},
)  # fmt: skip


class SlowEngine:
    """Answers when it is let."""

    operations: ClassVar = {Operation.VACUUM: "", Operation.ANALYZE: ""}

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.open = 0
        self.fault: Exception | None = None

    def connect(self, target: Target, *, purpose: Purpose) -> SlowEngine:
        assert purpose is Purpose.SURVEY
        self.open += 1
        return self

    def survey(self, session: object, scope: Scope) -> DatabaseFacts:
        assert self.answer.wait(10)
        if self.fault:
            raise self.fault
        values: dict[str, Any] = {"force": scope.policy.force, **scope.config}
        return DatabaseFacts(target="app", engine="slow", version="1", surveyed_at=scope.now, bytes=1, values=values)

    def close(self) -> None:
        self.open -= 1


def ahead(engine: SlowEngine, step: Step = STEP) -> Ahead:
    return Ahead(cast("Engine", engine), step, now=NOW)


def test_the_caller_goes_on_while_the_server_has_not_answered() -> None:
    engine = SlowEngine()
    begun = ahead(engine)
    engine.answer.set()  # would never be reached if beginning waited for the answer
    seen = begun.result()
    assert (seen.target, seen.scope.operations) == (STEP.targets[0], (Operation.VACUUM,))
    assert (seen.facts.surveyed_at, seen.facts.values) == (NOW, {"force": True, "tables": "a"})
    assert engine.open == 0


def test_what_is_found_ahead_is_what_is_found_at_once() -> None:
    engine = SlowEngine()
    engine.answer.set()
    assert ahead(engine).result() == of_step(cast("Engine", engine), STEP, now=NOW)


def test_a_fault_is_raised_where_the_answer_is_wanted() -> None:
    engine = SlowEngine()
    engine.fault = Missing("app is gone", hint="look")
    begun = ahead(engine)
    engine.answer.set()
    with pytest.raises(Missing, match="app is gone"):
        begun.result()
    assert engine.open == 0


def test_a_step_that_asks_for_the_wrong_thing_is_refused_without_a_session() -> None:
    engine = SlowEngine()
    wrong = Step(name="maintenance", targets=STEP.targets, operations=(Operation.REINDEX,))
    with pytest.raises(UsageError, match="has no reindex"):
        ahead(engine, wrong).result()
    several = Step(name="maintenance", targets=STEP.targets * 2, operations=STEP.operations)
    with pytest.raises(UsageError, match="2 targets"):
        ahead(engine, several).result()
    assert engine.open == 0
