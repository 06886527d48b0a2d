"""What a check finds is known to the next plan, also where the check worked in another process."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dbupkeep import engines
from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Policy, Step
from dbupkeep.jobs import JobStatus
from dbupkeep.operations import parse


def lacking_a_row(path: Path) -> None:
    """Make a database whose index misses a row: the row is written while the schema does not name the index."""
    with sqlite3.connect(path) as db:
        db.executescript("CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1), (2);")
        index = db.execute("SELECT * FROM sqlite_master WHERE name = 'i'").fetchone()
    db.close()
    for sql, values in (
        ("DELETE FROM sqlite_master WHERE name = 'i'", ()),
        ("INSERT INTO t VALUES (3)", ()),
        ("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", index),
    ):
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute(sql, values)
        db.close()


@pytest.mark.parametrize("isolate", [False, True], ids=["in this process", "in another"])
def test_the_next_plan_repairs_what_a_check_found(tmp_path: Path, *, isolate: bool) -> None:
    path = tmp_path / "app.db"
    lacking_a_row(path)
    target = engines.load("sqlite").target_of(str(path))  # type: ignore[attr-defined] # an engine of files has it
    policy = Policy(thresholds={"check": {"method": "integrity_check"}})
    app = App(str(tmp_path / "ledger.db"), isolate=isolate)

    def statuses(*operations: str) -> list[JobStatus]:
        step = Step(name="step", targets=(target,), operations=parse(operations), policy=policy)
        parent_id = app.databases.create_parent_job(step, JobDefinition(name="job", steps=(step,)))
        app.drain()
        return [job.status for job in app.reader.children(parent_id)]

    try:
        assert statuses("reindex") == [JobStatus.SKIPPED]
        assert statuses("check") == [JobStatus.FAILED]
        assert statuses("reindex") == [JobStatus.COMPLETED]
        assert statuses("check", "reindex") == [JobStatus.COMPLETED, JobStatus.SKIPPED]
    finally:
        app.close()
