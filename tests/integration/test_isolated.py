"""A program that holds a database open itself can have it maintained by the library in the same process."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dbupkeep import engines
from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.engine import Purpose
from dbupkeep.errors import Lost, Missing
from dbupkeep.events import StageReached
from dbupkeep.isolated import Isolation
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, PlanItem
from dbupkeep.progress import Progress

OTHER_WRITER = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0).execute("insert into t values (1)").connection.commit()
except sqlite3.OperationalError as error:
    print(error)
else:
    print("written")
"""


def bloated(path: Path, rows: int = 20_000) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("create table t (a)")
    connection.executemany("insert into t values (?)", (("x" * 200,) for _ in range(rows)))
    connection.commit()
    connection.execute("delete from t where rowid % 4 <> 0")
    connection.commit()
    connection.close()
    return path


def of(path: Path) -> Target:
    return Target(name=path.name, url=f"sqlite://{path}")


def write_from_outside(path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", OTHER_WRITER, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_lock_that_the_program_holds_survives_a_survey(tmp_path: Path) -> None:
    path = bloated(tmp_path / "app.db")
    mine = sqlite3.connect(path, isolation_level=None)
    mine.execute("begin immediate")
    app = App(str(tmp_path / "ledger.db"))
    step = Step(name="s", targets=(of(path),), operations=(Operation.VACUUM,))
    try:
        app.databases.plan(step, JobDefinition(name="d", steps=(step,)))
    finally:
        app.close()
    assert write_from_outside(path) == "database is locked"
    mine.execute("rollback")
    mine.close()
    assert write_from_outside(path) == "written"


def test_a_run_through_children_does_the_work(tmp_path: Path) -> None:
    path = bloated(tmp_path / "app.db")
    before = path.stat().st_size
    app = App(str(tmp_path / "ledger.db"))
    step = Step(name="s", targets=(of(path),), operations=(Operation.VACUUM,))
    try:
        parent_id = app.databases.create_parent_job(step, JobDefinition(name="d", steps=(step,)))
        app.drain()
        [child] = app.reader.children(parent_id)
        stages = [event.event for event in app.orchestrator.follow(parent_id) if isinstance(event.event, StageReached)]
    finally:
        app.close()
    assert child.status == "completed", child.error
    assert child.result is not None
    assert child.result["effective"] == "yes"
    assert stages
    assert path.stat().st_size < before / 2


def test_an_error_of_the_engine_arrives_as_itself(tmp_path: Path) -> None:
    isolation = Isolation(engines.load)
    with pytest.raises(Missing) as caught:
        isolation.load("sqlite").connect(of(tmp_path / "none.db"), purpose=Purpose.SURVEY)
    isolation.close()
    assert "none.db" in caught.value.what
    assert caught.value.kind == "missing"
    assert not (tmp_path / "none.db").exists()


def test_a_child_that_goes_away_is_a_lost_attempt(tmp_path: Path) -> None:
    isolation = Isolation(engines.load)
    session = isolation.load("sqlite").connect(of(bloated(tmp_path / "app.db")))
    child = session._child  # type: ignore[attr-defined]
    child._process.kill()
    child._process.wait()
    with pytest.raises(Lost) as caught:
        session.leftovers()
    session.close()
    isolation.close()
    assert "-9" in caught.value.message


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    isolation = Isolation(engines.load)
    session = isolation.load("sqlite").connect(of(bloated(tmp_path / "app.db")))
    process = session._child._process  # type: ignore[attr-defined]
    process.stdin.close()
    ended = threading.Event()

    def wait() -> None:
        process.wait()
        ended.set()

    threading.Thread(target=wait).start()
    assert ended.wait(10)
    process.stdout.close()


def test_a_child_that_does_not_answer_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbupkeep.isolated.session.UNANSWERED", 3)
    isolation = Isolation(engines.load)
    session = isolation.load("sqlite").connect(of(bloated(tmp_path / "app.db")))
    process = session._child._process  # type: ignore[attr-defined]
    os.kill(process.pid, signal.SIGSTOP)
    failure: list[Lost] = []

    def work() -> None:
        try:
            session.run(ITEM, Silent())
        except Lost as error:
            failure.append(error)

    running = threading.Thread(target=work)
    running.start()
    assert session._running.wait(10)  # type: ignore[attr-defined]
    for _ in range(4):
        session.interrupt()
    running.join(10)
    session.close()
    isolation.close()
    assert [error.kind for error in failure] == ["lost"]
    assert process.wait(10) == -signal.SIGKILL


def test_a_child_whose_news_could_not_be_taken_is_not_used_again(tmp_path: Path) -> None:
    isolation = Isolation(engines.load)
    engine = isolation.load("sqlite")
    session = engine.connect(of(bloated(tmp_path / "app.db")))
    process = session._child._process  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        session.run(ITEM, Failing())
    session.close()
    assert process.wait(10) == -signal.SIGKILL
    again = engine.connect(of(tmp_path / "app.db"))
    assert again.leftovers() == []
    again.close()
    isolation.close()


ITEM = PlanItem(operation=Operation.VACUUM, decision=Decision.RUN, reason="a test", method="in place", place=0)


class Silent:
    def progress(self, progress: Progress) -> None:
        pass

    def stage(self, name: str, message: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def blocking(self, seconds: float) -> float:
        return seconds

    def follow(self, sample: object) -> None:
        pass


class Failing(Silent):
    def stage(self, name: str, message: str = "") -> None:  # type: ignore[explicit-override]
        raise ZeroDivisionError
