"""A ledger of an earlier schema is opened by this program: what was in it is there, and goes on."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from dbupkeep.app import open_pair
from dbupkeep.clock import SystemClock
from dbupkeep.events import JobCompleted
from dbupkeep.jobs import Delivery, JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.ledgers.sqlite import APPLICATION_ID
from dbupkeep.sql import migrations
from dbupkeep.testing.pair_kit import Handles, family
from dbupkeep.worker import Ended

FIRST = 2
"""The schema that was there before anything was added to it."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run of three operations on one database, one of them at work, as the first schema kept it."""
    new, path = tmp_path / "new.db", tmp_path / "ledger.db"
    handles = _open(new)
    made = family("a", "b", "c", slots=2)
    handles.life.submit(made.submission)
    handles.begin(made.children[0])
    handles.close()
    connection = apsw.Connection(str(path))
    for number, _, text in migrations("sqlite"):
        if number <= FIRST:
            connection.execute(text).fetchall()
    connection.execute("attach ? as new", (str(new),))
    tables = connection.execute("select name from main.sqlite_schema where type = 'table'").fetchall()
    for table in (str(name) for (name,) in tables):
        if not table.startswith("sqlite_"):
            columns = ", ".join(str(row[1]) for row in connection.execute(f"pragma main.table_info({table})"))
            connection.execute(f"insert into main.{table} ({columns}) select {columns} from new.{table}")
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", FIRST)
    connection.close()
    return path


def test_what_was_there_goes_on(old: Path) -> None:
    handles = _open(old)
    running, waiting, last = handles.everything(JobQuery(types=("database_maintenance_operation",), newest_first=False))
    assert [job.status for job in (running, waiting, last)] == [JobStatus.RUNNING, JobStatus.PENDING, JobStatus.PENDING]
    root = handles.job(running.parent_id)
    assert (root.stop_requested, root.at_a_time, root.until, root.stats.often) == (False, 0, None, 0)
    handles.life.limit(root.id, at_a_time=1)
    assert handles.released() == {running.id}, "what was at work before the upgrade is not counted"
    assert handles.life.begin(Delivery(job_id=waiting.id, attempt=1), "w") is None
    handles.life.end(running, Ended(event=JobCompleted(result={"effective": "yes"})))
    assert handles.released() == {waiting.id}
    handles.life.stop(root.id)
    assert handles.job(root.id).outcome == "stopped"
    handles.close()


def _open(path: Path) -> Handles:
    return Handles(lambda: open_pair(str(path), SystemClock(), 30.0))
