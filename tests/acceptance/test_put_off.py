"""What is deferred run after run is said in the verdict: nobody looks at a deferral that is there every night."""

from pathlib import Path

import pytest

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.engine import Report, Scope
from dbupkeep.errors import Busy, Damaged
from dbupkeep.facts import DatabaseFacts
from dbupkeep.jobs import JobStatus, JobType
from dbupkeep.ledger import JobQuery
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession
from dbupkeep.views.cli.job_text import verdict

A, B = (Target(name=name, url=f"scripted:///{name}") for name in "ab")


def locked(session: ScriptedSession, item: PlanItem, report: Report) -> None:
    if item.operation is Operation.VACUUM and session.target == A:
        raise Busy("the table is locked", why="by pid 7")


def run(app: App, *targets: Target) -> str:
    steps = tuple(Step(name=target.name, targets=(target,)) for target in targets)
    root = app.runs.create_run(JobDefinition(name="nightly", steps=steps))
    app.drain()
    done = app.reader.job(root)
    assert done is not None
    return verdict(done, app.reader.children)


def test_the_third_run_says_what_never_gets_its_turn(tmp_path: Path) -> None:
    engine = ScriptedEngine(act=locked)
    app = App(str(tmp_path / "ledger.db"), load_engine=lambda _: engine)
    assert "in a row" not in run(app, A, B)
    assert "in a row" not in run(app, A, B)
    assert "1 put off 3 runs in a row" in run(app, A, B)
    assert "1 put off 4 runs in a row" in run(app, A)
    engine.act = lambda session, item, report: None
    assert "in a row" not in run(app, A)
    engine.act = locked
    assert "in a row" not in run(app, A)
    app.close()


def test_a_database_that_cannot_be_surveyed_now_is_put_off_and_one_that_cannot_at_all_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ScriptedEngine()
    app = App(str(tmp_path / "ledger.db"), load_engine=lambda _: engine)
    whole = engine.survey

    def survey(session: ScriptedSession, scope: Scope) -> DatabaseFacts:
        if session.target == A:
            raise Busy("an interrupted transaction must be rolled back first", hint="open it once")
        if session.target == B:
            raise Damaged("it is no database")
        return whole(session, scope)

    monkeypatch.setattr(engine, "survey", survey)
    assert "1 deferred, 1 maintained" in run(app, A, Target(name="c", url="scripted:///c"))
    (put_off,) = app.reader.jobs(JobQuery(roots=True)).jobs
    parent = next(job for job in app.reader.children(put_off.id) if job.name == "a")
    operations = app.reader.children(parent.id)
    assert {job.status for job in operations} == {JobStatus.DEFERRED}
    assert {job.reason for job in operations} == {"an interrupted transaction must be rolled back first"}
    assert {(job.result or {}).get("hint") for job in operations} == {"open it once"}
    found = [job for job in app.reader.children(put_off.id) if job.type == JobType.DATABASE_DISCOVERY]
    assert [(job.result or {})["reason"] for job in found] == ["1 database: 1 put off", "1 database: 1 due"]
    assert "1 failed" in run(app, B)
    app.close()
