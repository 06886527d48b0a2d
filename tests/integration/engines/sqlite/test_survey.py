"""What a survey sees, and that it changes nothing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.engine import Purpose
from dbupkeep.engines import sqlite as engine
from dbupkeep.engines.sqlite import target_of
from dbupkeep.engines.sqlite.handle import View
from dbupkeep.engines.sqlite.session import SqliteSession
from dbupkeep.errors import Kind, OperationError, Refused
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision


def codes(facts: Any) -> set[str]:
    return {notice.code for notice in facts.notices}


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
def test_survey_of_a_closed_file_changes_no_byte_and_makes_no_file(lab: Any, journal: str) -> None:
    path = lab.make(journal=journal)
    before = lab.fingerprint()
    facts = lab.surveyed(path)
    assert lab.fingerprint() == before
    assert facts.values["journal_mode"] == ("wal" if journal == "wal" else "delete")
    assert facts.values["free_share"] > 0.5


def test_survey_does_not_checkpoint_what_a_crash_left(lab: Any) -> None:
    path = lab.make(journal="wal")
    one = lab.other(path)
    one.does("PRAGMA wal_autocheckpoint = 0")
    one.does("UPDATE t SET a = a || 'y'")
    one.dies()
    before = lab.fingerprint()
    assert f"{path.name}-wal" in before
    facts = lab.surveyed(path)
    assert lab.fingerprint() == before
    assert facts.number("wal_bytes") > 0


def test_wal_without_its_index_is_read_and_no_index_is_made(lab: Any) -> None:
    path = lab.make(journal="wal", free=0)
    one = lab.other(path)
    one.does("PRAGMA wal_autocheckpoint = 0")
    one.does("DELETE FROM t WHERE id < 6000")
    one.dies()
    path.with_name(f"{path.name}-shm").unlink()  # as a copy made without it
    before = lab.fingerprint()
    facts = lab.surveyed(path)
    assert lab.fingerprint() == before
    assert facts.number("free_share") > 0.5  # which only the -wal says


def test_survey_beside_an_open_wal_leaves_it_alone_and_names_who_has_it(lab: Any) -> None:
    path = lab.make(journal="wal")
    one = lab.other(path)
    one.does("INSERT INTO t VALUES (1000000, 'x', 'y')")
    before = lab.fingerprint()
    facts = lab.surveyed(path)
    assert lab.fingerprint() == before
    assert facts.values["openers"] == 1
    assert str(one.pid) in facts.values["openers_named"]


def test_immutable_view_is_given_up_when_somebody_opens_the_file(lab: Any) -> None:
    path = lab.make(journal="wal")
    session = engine.connect(target_of(str(path)), purpose=Purpose.SURVEY)
    assert isinstance(session, SqliteSession)
    before: str = session.handle.view
    one = lab.other(path)
    one.does("INSERT INTO t SELECT id + 1000000, a, b FROM t LIMIT 100")
    facts = engine.survey(session, lab.scope())
    assert (before, session.handle.view) == (View.STILL, View.READ)
    assert facts.number("wal_bytes") > 0
    session.close()


def test_hot_journal_is_named_and_not_recovered(lab: Any) -> None:
    path = lab.make()
    rows = lab.rows_of(path)
    lab.crash(path)
    assert f"{path.name}-journal" in lab.own_files(path)
    before = lab.fingerprint()
    facts = lab.surveyed(path)
    assert "hot_journal" in codes(facts)
    assert facts.values["hot_journal"] is True
    assert lab.fingerprint() == before
    lab.done(path, lab.planned(path, Operation.CHECK))
    assert lab.own_files(path) == [path.name]
    assert lab.rows_of(path) == rows


def test_open_write_transaction_is_named(lab: Any) -> None:
    path = lab.make()
    one = lab.other(path)
    one.does("BEGIN IMMEDIATE")
    facts = lab.surveyed(path)
    assert "open_transaction" in codes(facts)
    assert str(one.pid) in next(notice.message for notice in facts.notices if notice.code == "open_transaction")
    one.does("ROLLBACK")
    assert "open_transaction" not in codes(lab.surveyed(path))


def test_long_reader_of_a_wal_database_is_named(lab: Any) -> None:
    path = lab.make(journal="wal")
    one = lab.other(path)
    one.does("BEGIN")
    one.does("SELECT count(*) FROM t")
    facts = lab.surveyed(path)
    assert "long_reader" in codes(facts)
    one.does("ROLLBACK")
    assert "long_reader" not in codes(lab.surveyed(path))


def test_idle_opener_is_found_though_it_holds_no_lock(lab: Any) -> None:
    path = lab.make()
    one = lab.other(path)
    one.does("SELECT count(*) FROM t")
    facts = lab.surveyed(path)
    assert facts.values["openers"] == 1
    assert codes(facts) == set()


# --- statistics ---


def test_missing_statistics_are_due_and_fresh_ones_are_not(lab: Any) -> None:
    assert lab.proposed(lab.make(), Operation.ANALYZE).decision is Decision.RUN
    fresh = lab.proposed(lab.make("ANALYZE"), Operation.ANALYZE)
    assert fresh.decision is Decision.SKIP
    assert "up to date (1 table)" in fresh.reason


@pytest.mark.parametrize(
    ("change", "due"),
    [
        ("DELETE FROM t WHERE id >= 700", True),  # a twelfth of 8,000
        ("DELETE FROM t WHERE id >= 2000", False),
        (
            "INSERT INTO t SELECT n.id + 1000000 * (m.id + 1), '', '' FROM t n, t m WHERE m.id < 12",
            True,
        ),
        (
            "INSERT INTO t SELECT n.id + 1000000 * (m.id + 1), '', '' FROM t n, t m WHERE m.id < 4",
            False,
        ),
        ("UPDATE t SET id = id * 1000000", False),  # far apart, but no more rows
    ],
    ids=["a twelfth", "a quarter", "thirteen times", "five times", "sparse"],
)
def test_statistics_are_stale_when_the_size_moved_tenfold(lab: Any, change: str, due: bool) -> None:
    path = lab.make("ANALYZE", change, free=0)
    assert (lab.proposed(path, Operation.ANALYZE).decision is Decision.RUN) is due


@pytest.mark.parametrize("count", [3_000, 60_000])
def test_rows_of_big_tables_are_estimated_well_enough(lab: Any, count: int) -> None:
    path = lab.make("ANALYZE", f"DELETE FROM t WHERE id >= {count // 100}", rows=count, free=0)
    assert lab.proposed(path, Operation.ANALYZE).decision is Decision.RUN


def test_what_never_gets_a_row_in_stat1_is_not_due_for_ever(lab: Any) -> None:
    path = lab.make(
        "CREATE TABLE empty (a PRIMARY KEY)", "CREATE INDEX part ON t (a) WHERE b IS NULL", "CREATE TABLE plain (a)",
        "INSERT INTO plain VALUES (1)", "CREATE VIRTUAL TABLE f USING fts5 (x)", "INSERT INTO f VALUES ('x')",
    )  # fmt: skip
    done = lab.done(path, lab.planned(path, Operation.ANALYZE))
    assert done[1].effective == "yes"
    assert lab.proposed(path, Operation.ANALYZE).decision is Decision.SKIP


def test_tables_without_rowids_are_judged_too(lab: Any) -> None:
    grow = "INSERT INTO w WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 300) SELECT x FROM n"
    path = lab.make("CREATE TABLE w (a INT PRIMARY KEY) WITHOUT ROWID", "INSERT INTO w VALUES (-1), (-2)", "ANALYZE")
    assert lab.proposed(path, Operation.ANALYZE).decision is Decision.SKIP
    with sqlite3.connect(path) as connection:
        connection.execute(grow)
    connection.close()
    assert "w" in lab.proposed(path, Operation.ANALYZE).reason


# --- rowids ---


def test_renumbering_is_told_and_needs_no_consent_when_nothing_depends_on_it(lab: Any) -> None:
    path = lab.make("CREATE TABLE loose (a)", "CREATE TABLE odd (a INTEGER PRIMARY KEY DESC)")
    proposal = lab.proposed(path, Operation.VACUUM)
    assert proposal.decision is Decision.RUN
    (notice,) = proposal.notices
    assert notice.code == "rowids_renumbered"
    assert notice.severity == "info"
    assert "loose" in notice.message
    assert "odd" in notice.message
    assert " t " not in notice.message


@pytest.mark.parametrize(
    "dependent",
    [
        "CREATE VIRTUAL TABLE dep USING fts5 (a, content='loose')",
        "CREATE VIRTUAL TABLE dep USING fts5 (a, content='')",
        'CREATE VIRTUAL TABLE dep USING fts4 (content="loose", a)',
        "CREATE VIEW dep AS SELECT rowid FROM loose",
        "CREATE TRIGGER dep AFTER INSERT ON loose BEGIN DELETE FROM loose WHERE _rowid_ = new.rowid - 100; END",
    ],
    ids=["external content", "contentless", "fts4", "view", "trigger"],
)
def test_renumbering_needs_consent_when_the_schema_may_depend_on_it(lab: Any, dependent: str) -> None:
    path = lab.make("CREATE TABLE loose (a)", dependent)
    refused = lab.proposed(path, Operation.VACUUM)
    assert refused.decision is Decision.SKIP
    assert "renumber_rowids" in refused.reason
    assert "dep" in refused.reason
    agreed = lab.proposed(path, Operation.VACUUM, Policy(consents=frozenset({"renumber_rowids"})))
    assert agreed.decision is Decision.RUN


def test_tables_with_numbers_of_their_own_need_no_consent(lab: Any) -> None:
    path = lab.make("CREATE VIRTUAL TABLE f USING fts5 (a, content='t', content_rowid='id')")
    proposal = lab.proposed(path, Operation.VACUUM)
    assert proposal.decision is Decision.RUN
    assert not proposal.notices


def test_slices_renumber_nothing_and_are_taken_instead(lab: Any) -> None:
    path = lab.make("CREATE TABLE loose (a)", "CREATE VIEW dep AS SELECT rowid FROM loose", auto_vacuum=2)
    proposal = lab.proposed(path, Operation.VACUUM)
    assert (proposal.decision, proposal.method) == (Decision.RUN, "incremental")


# --- what the schema needs ---


@pytest.fixture
def odd(lab: Any) -> Path:
    """A database with an index by a collation and one by a function that only its own program has."""
    path: Path = lab.make()
    connection = sqlite3.connect(path)
    connection.create_collation("swedish", lambda left, right: (left > right) - (left < right))
    connection.create_function("soundex2", 1, lambda text: str(text)[:2], deterministic=True)
    connection.execute("CREATE INDEX by_collation ON t (a COLLATE swedish)")
    connection.execute("CREATE INDEX by_function ON t (soundex2(b))")
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize("operation", [Operation.VACUUM, Operation.ANALYZE, Operation.CHECK])
def test_missing_collation_and_function_are_named_before_the_work(lab: Any, odd: Path, operation: Operation) -> None:
    proposal = lab.proposed(odd, operation)
    assert proposal.decision is Decision.DEFER
    assert "collation swedish" in proposal.reason
    assert "soundex2()" in proposal.reason
    assert "missing_capability" in codes(lab.surveyed(odd))


def test_missing_collation_is_refused_at_work_with_the_way_out(lab: Any, odd: Path) -> None:
    item = lab.planned(odd, Operation.VACUUM)
    with pytest.raises(Refused) as raised:
        lab.done(odd, item)
    assert raised.value.kind is Kind.CAPABILITY
    assert "DBUPKEEP_SQLITE_HOOK" in raised.value.hint


HOOK = """
import apsw

def register(connection):
    connection.create_collation("swedish", lambda left, right: (left > right) - (left < right))
    flags = apsw.SQLITE_INNOCUOUS
    connection.create_scalar_function("soundex2", lambda text: str(text)[:2], 1, deterministic=True, flags=flags)
"""


@pytest.mark.parametrize("operation", [Operation.VACUUM, Operation.REINDEX, Operation.ANALYZE])
def test_hook_registers_what_is_missing(
    lab: Any, odd: Path, operation: Operation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "swedish_hook.py").write_text(HOOK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DBUPKEEP_SQLITE_HOOK", "swedish_hook:register")
    assert lab.done(odd, lab.planned(odd, operation, Policy(force=True)))[1].effective == "yes"


def test_hook_that_is_not_there_is_a_definition_error(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab.make()
    monkeypatch.setenv("DBUPKEEP_SQLITE_HOOK", "no_such_module:register")
    with pytest.raises(Exception, match="DBUPKEEP_SQLITE_HOOK names no function"):
        lab.surveyed(path)


def test_schema_is_not_trusted_and_no_extension_is_loaded(lab: Any) -> None:
    session = lab.opened(lab.make("CREATE VIEW bad AS SELECT load_extension('/tmp/evil.so')"))
    assert session.handle.pragma("trusted_schema") == 0
    with pytest.raises(Refused):
        session.handle.rows("SELECT * FROM bad")
    session.handle.rows("PRAGMA writable_schema = ON")
    with pytest.raises(OperationError) as raised:
        session.handle.rows("DELETE FROM sqlite_schema")
    assert "may not be modified" in raised.value.why
    session.close()


# --- links ---


def test_symbolic_link_is_resolved_and_told(lab: Any, tmp_path: Path) -> None:
    path = lab.make()
    link = tmp_path / "link.db"
    link.symlink_to(path)
    target = target_of(str(link))
    assert target.url == f"sqlite://{path}"
    facts = lab.surveyed(target)
    (notice,) = [notice for notice in facts.notices if notice.code == "symlink"]
    assert str(link) in notice.message
    assert str(path) in notice.message
    assert facts.identity["inode"] == path.stat().st_ino


def test_names_in_facts_are_json(lab: Any) -> None:
    facts = lab.surveyed(lab.make('CREATE TABLE "a,b""c" (x)'), Operation.VACUUM)
    assert json.loads(str(facts.values["rowid_tables"])) == ['a,b"c']
