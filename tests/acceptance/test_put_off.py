"""What is deferred run after run is said in the verdict: nobody looks at a deferral that is there every night."""

from pathlib import Path

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.engine import Report
from dbupkeep.errors import Busy
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
