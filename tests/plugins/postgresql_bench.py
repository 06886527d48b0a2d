"""What the tests of the PostgreSQL engine share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from dbupkeep.definitions import Policy, Setting, Target
from dbupkeep.engine import Engine, Evidence, Purpose, Scope, Session, Work
from dbupkeep.engines import load
from dbupkeep.engines.postgresql.urls import target_of
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, PlanItem, Proposal
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """One database, planned for and worked on through the engine alone."""

    database: Database
    exclude: tuple[str, ...] = (
        "pg_catalog.*",
        "information_schema.*",
    )  # those that all databases share are due by what other tests do

    @property
    def engine(self) -> Engine:
        return load("postgresql")

    @property
    def target(self) -> Target:
        return target_of(self.database.url, exclude=self.exclude)

    @contextmanager
    def session(
        self, *, tag: str = "dbupkeep:test:1", purpose: Purpose = Purpose.WORK, user: str = ""
    ) -> Iterator[Session]:
        url = self.database.server.url(self.database.name, user=user) if user else self.database.url
        opened = self.engine.connect(target_of(url, exclude=self.exclude), tag=tag, purpose=purpose)
        try:
            yield opened
        finally:
            opened.close()

    def facts(
        self,
        *operations: Operation,
        user: str = "",
        force: bool = False,
        policy: Policy | None = None,
        **config: Setting,
    ) -> DatabaseFacts:
        scope = self._scope(operations, config, policy or Policy(force=force))
        with self.session(purpose=Purpose.SURVEY, user=user) as session:
            return self.engine.survey(session, scope)

    def drift(self, item: PlanItem) -> str:
        scope = replace(self._scope((item.operation,), {}, Policy()), planned=(item,))
        with self.session(purpose=Purpose.SURVEY) as session:
            return self.engine.drift(item, self.engine.survey(session, scope))

    def plan(
        self, operation: Operation, *, policy: Policy | None = None, history: History | None = None, user: str = "",
        **config: Setting,
    ) -> list[Proposal]:  # fmt: skip
        policy = policy or Policy()
        facts = self.facts(operation, user=user, force=policy.force, policy=policy, **config)
        scope = self._scope((operation,), config, policy)
        return list(self.engine.assess(facts, policy, history or History(), scope))

    def due(self, operation: Operation, **more: Any) -> list[Proposal]:
        return [each for each in self.plan(operation, **more) if each.decision is Decision.RUN]

    def item(self, operation: Operation, **more: Any) -> PlanItem:
        """The only item that is due."""
        (proposal,) = self.due(operation, **more)
        return item_of(proposal)

    def perform(self, item: PlanItem, recorder: Recorder | None = None, *, user: str = "") -> tuple[Work, Evidence]:
        recorder = recorder or Recorder()
        with self.session(user=user) as session:
            with recorder.sampling():
                work = session.run(item, recorder)
            return work, session.verify(item, work)

    def bloat(self, name: str = "t", *, rows: int = 20_000, dead: int = 10_000) -> None:
        self.database.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY, a text)",
            f"INSERT INTO {name} SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) n",
            f"VACUUM ANALYZE {name}",
            f"DELETE FROM {name} WHERE id <= {dead}",
        )

    def slowly(self, delay: str = "100ms") -> None:
        """Have every VACUUM in this database take its time."""
        self.database.execute(
            f"ALTER DATABASE {self.database.name} SET vacuum_cost_delay = '{delay}'",
            f"ALTER DATABASE {self.database.name} SET vacuum_cost_limit = 20",
        )

    @staticmethod
    def _scope(operations: tuple[Operation, ...], config: Mapping[str, Setting], policy: Policy) -> Scope:
        return Scope(operations=operations, now=datetime.now(UTC), config=config, policy=policy)


@dataclass(slots=True)
class Running:
    """A call in a thread of its own."""

    thread: threading.Thread
    result: list[Any]
    error: list[BaseException]

    def outcome(self) -> Any:
        self.thread.join(30)
        assert not self.thread.is_alive(), "it hangs"
        if self.error:
            raise self.error[0]
        return self.result[0]


def in_thread(call: Callable[[], Any]) -> Running:
    running = Running(threading.Thread(daemon=True), [], [])

    def go() -> None:
        try:
            running.result.append(call())
        except BaseException as error:  # noqa: BLE001 - handed on by `outcome`
            running.error.append(error)

    running.thread = threading.Thread(target=go, daemon=True)
    running.thread.start()
    return running


@contextmanager
def holding(database: Database, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that has executed something, and is open."""
    connection = database.connect(application_name="the application")
    connection.autocommit = False
    try:
        connection.execute(statement)
        yield connection
    finally:
        connection.rollback()
        connection.close()


def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait for something that the server is about to show."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen")


@pytest.fixture
def bench(database: Database) -> Workbench:
    """On each server in turn."""
    return Workbench(database=database)


@pytest.fixture
def newest(newest_database: Database) -> Workbench:
    return Workbench(database=newest_database)
