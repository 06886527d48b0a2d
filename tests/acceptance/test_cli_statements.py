"""C17: the log of a job has what was sent to the database, word for word, also where it failed; the audit trail names the job."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.engine import Statements
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql_bench import Workbench


def statements(cli: Any, job_id: str) -> list[str]:
    lines = [line.partition(": statement: ")[2] for line in cli("logs", job_id).out.splitlines()]
    return [line for line in lines if line]


def test_what_a_person_asked_for_leads_to_what_was_sent(cli: Any, bloated: Path, tmp_path: Path) -> None:
    cli.environ["DBUPKEEP_LEDGER"] = str(tmp_path / "ledger.db")
    done = cli("run", bloated, "--operations", "check,vacuum,reindex,analyze", "--force")
    assert done.code == 0
    assert "statement" not in done.err + done.out, "who watches is told what it is for"
    (act,) = cli("audit", "list", "--what", "run", "--json").json["acts"]
    sent = statements(cli, act["on"])
    assert sent[0].startswith("PRAGMA quick_check")
    assert {'REINDEX main."t_a"', 'ANALYZE main."t"'} <= set(sent)
    assert [text for text in sent if text.startswith("VACUUM")]


def test_what_failed_was_told_before_it_was_sent(cli: Any, tmp_path: Path) -> None:
    path, ledger = tmp_path / "app.db", tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE t (a); CREATE UNIQUE INDEX t_a ON t (a); INSERT INTO t VALUES (1), (2)")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX t_a ON t (abs(0))' WHERE name = 't_a'")
    connection.commit()
    connection.close()
    cli.environ["DBUPKEEP_LEDGER"] = str(ledger)
    assert cli("run", path, "--operations", "reindex", "--force").code != 0
    assert 'REINDEX main."t_a"' in statements(cli, "last")


@pytest.mark.engine("postgresql")
def test_what_a_server_was_sent_is_told(newest: Workbench) -> None:
    newest.database.execute(
        'CREATE TABLE "a;b" (id int PRIMARY KEY)',
        'INSERT INTO "a;b" SELECT generate_series(1, 5000)',
        'DELETE FROM "a;b"',
    )
    recorder = Recorder()
    (due,) = newest.due(Operation.VACUUM)
    newest.perform(item_of(due), recorder)
    told = [stage for stage in recorder.stages if stage.startswith("statement: ")]
    assert len(told) == 1
    assert told[0].startswith("statement: VACUUM (")
    assert told[0].endswith('"public"."a;b"')


def test_what_is_tried_again_is_told_once_and_there_is_an_end_to_it() -> None:
    recorder = Recorder()
    tell = Statements(recorder)
    for text in ("VACUUM", "VACUUM", "REINDEX", "VACUUM", "x" * 5000):
        tell(text)
    assert [len(stage) for stage in recorder.stages] == [17, 18, 17, len("statement: ") + 2001]
    for number in range(1000):
        tell(str(number))
    assert len(recorder.stages) == Statements.MOST + 1
    assert recorder.stages[-1] == "statement: … and more of them"
