"""A run whose VACUUM puts a new file in the place of the planned one: the rest of the plan is about that one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from typing_extensions import override

from dbupkeep import engines
from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Step, Target
from dbupkeep.engine import Engine, Purpose, Report, Scope, Session, Work
from dbupkeep.engines.sqlite import rewrite
from dbupkeep.errors import Interrupted, LedgerError, Lost
from dbupkeep.estimates import History
from dbupkeep.isolated import Isolation
from dbupkeep.jobs import Job
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder, item_of

ALWAYS = Policy(force=True, thresholds={"vacuum": {"new_file_min_bytes": 0}})
BOTH = (Operation.VACUUM, Operation.ANALYZE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
        connection.execute("CREATE INDEX t_a ON t (a)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, f"{n:0200}") for n in range(4_000)))
        connection.execute("DELETE FROM t WHERE id < 3000")
        connection.execute("COMMIT")
    return path


class Once:
    """The engine, whose first session to come so far loses its answer, as one does whose process was killed."""

    def __init__(self) -> None:
        self._engine = engines.load("sqlite")
        self.lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def connect(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> Session:
        session: Any = self._engine.connect(target, tag=tag, purpose=purpose)
        run = session.run

        def answered(item: PlanItem, report: Report) -> Work:
            work: Work = run(item, report)
            if self.lost:
                return work
            self.lost = True
            raise Lost("the worker went away right after it was done")

        session.run = answered
        return cast("Session", session)


@pytest.fixture
def run(tmp_path: Path, path: Path) -> Iterator[Callable[..., list[Job]]]:
    apps: list[App] = []

    def run(**more: Any) -> list[Job]:
        app = App(str(tmp_path / "ledger.db"), **more)
        apps.append(app)
        target = Target(name="app", url=f"sqlite://{path}")
        step = Step(name="s", targets=(target,), operations=BOTH, policy=ALWAYS)
        parent_id = app.databases.create_parent_job(step, JobDefinition(name="d", steps=(step,)))
        app.drain()
        return list(app.reader.children(parent_id))

    yield run
    for app in apps:
        app.close()


@pytest.mark.parametrize("isolate", [True, False])
def test_what_follows_works_on_the_new_file(run: Callable[..., list[Job]], path: Path, *, isolate: bool) -> None:
    old = path.stat().st_ino
    vacuum, analyze = run(isolate=isolate)
    assert path.stat().st_ino != old
    assert (vacuum.status, analyze.status) == ("completed", "completed")
    assert vacuum.result
    assert vacuum.result["values"]["method"] == rewrite.METHOD
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_stat1").fetchone()[0] > 0


def test_an_attempt_that_was_lost_after_the_exchange_is_found_done(run: Callable[..., list[Job]], path: Path) -> None:
    old, once = path.stat().st_ino, Once()
    vacuum, analyze = run(isolate=False, load_engine=lambda _: cast("Engine", once))
    assert once.lost
    assert (vacuum.status, vacuum.attempt, analyze.status) == ("completed", 2, "completed")
    assert vacuum.result
    assert vacuum.result["recovered"] is True
    assert vacuum.result["values"]["replaced_inode"] == old
    assert vacuum.result["values"]["inode"] == path.stat().st_ino


class Refusing(Recorder):
    """A record that does not take notes."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    @override
    def note(self, text: str) -> None:
        super().note(text)
        raise self.error


@pytest.mark.parametrize("error", [LedgerError("the ledger is full"), Interrupted("another attempt has taken over")])
def test_without_its_note_in_the_record_nothing_is_exchanged(path: Path, error: Exception) -> None:
    target, recorder = Target(name="app", url=f"sqlite://{path}"), Refusing(error)
    with closing(Isolation(engines.load)) as isolation:
        isolated = isolation.load("sqlite")
        item, before = _planned(isolated, target), path.read_bytes()
        with closing(isolated.connect(target, tag="t")) as session, pytest.raises(type(error), match=str(error)):
            session.run(item, recorder)
    assert len(recorder.notes) == 1
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def _planned(engine: Engine, target: Target) -> PlanItem:
    scope = Scope(operations=(Operation.VACUUM,), now=datetime(2026, 1, 1, tzinfo=UTC), policy=ALWAYS)
    with closing(engine.connect(target, purpose=Purpose.SURVEY)) as session:
        return item_of(engine.assess(engine.survey(session, scope), ALWAYS, History(), scope)[0])
