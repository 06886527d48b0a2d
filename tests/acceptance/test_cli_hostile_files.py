"""C2: files whose schema was made to hurt who opens them; nothing of it is carried out, and nothing beside it is touched."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

MADE = "made-by-a-schema"
"""What some of the schemas would make, below the folder of the files."""

STATEMENTS = {
    "a view without end": "CREATE VIEW v AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
    "triggers on everything": "CREATE TRIGGER a AFTER DELETE ON t BEGIN DELETE FROM victim; END;"
    "CREATE TRIGGER b AFTER UPDATE ON t BEGIN DELETE FROM victim; END;"
    "CREATE TRIGGER c AFTER INSERT ON t BEGIN DELETE FROM victim; END",
    "a view of files": "CREATE VIEW v AS SELECT load_extension('{made}'), writefile('{made}', 'x'), readfile('/etc/passwd')",
    "a check that loads": "CREATE TABLE c (a CHECK (load_extension('{made}') IS NULL))",
    "a default that loads": "CREATE TABLE d (a DEFAULT (load_extension('{made}')))",
    "an index of something big": "CREATE TABLE e (a); INSERT INTO e VALUES (1), (2);"
    "CREATE INDEX e_i ON e (length(hex(zeroblob(a * 1000))))",
    "a column that is computed": "CREATE TABLE g (a, b GENERATED ALWAYS AS (printf('%.1000c', a)) VIRTUAL);"
    "INSERT INTO g VALUES (1); CREATE INDEX g_b ON g (b)",
}
SCHEMAS = {
    "two statements in one": "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a); DROP TABLE victim'"
    " WHERE name = 't'",
    "no SQL": "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (((' WHERE name = 't'",
    "an index that loads": "UPDATE sqlite_schema SET sql = 'CREATE INDEX t_a ON t (load_extension(a))' WHERE name = 't_a'",
    "an index that writes": "UPDATE sqlite_schema SET sql = 'CREATE INDEX t_a ON t (writefile(''{made}'', a))'"
    " WHERE name = 't_a'",
    "one root for two": "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'victim')"
    " WHERE name = 't'",
    "a root beyond the end": "UPDATE sqlite_schema SET rootpage = 999999 WHERE name = 't'",
    "a module of files": "INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 0, 'CREATE VIRTUAL TABLE x USING fsdir')",
    "a table in place of dbstat": "INSERT INTO sqlite_schema VALUES ('table', 'dbstat', 'dbstat', 0,"
    " 'CREATE TABLE dbstat (name, path)')",
    "statistics that lie": "INSERT INTO sqlite_schema VALUES ('view', 'sqlite_stat1', 'sqlite_stat1', 0,"
    " 'CREATE VIEW sqlite_stat1 AS SELECT ''t'' AS tbl, ''t_a'' AS idx, ''1 1'' AS stat')",
    "a very long statement": "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (id, a'"
    " || replace(hex(zeroblob(50000)), '0', ',') || ')' WHERE name = 't'",
}  # fmt: skip


def make(path: Path, statement: str, *, in_schema: bool) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE victim (a); CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE INDEX t_a ON t (a)"
    )
    connection.executemany("INSERT INTO victim VALUES (?)", [(number,) for number in range(10)])
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(number, f"{number:0200}") for number in range(2000)])
    connection.execute("DELETE FROM t WHERE id > 1000")
    connection.commit()
    if in_schema:
        connection.execute("PRAGMA writable_schema = ON")
    connection.executescript(statement.replace("{made}", str(path.parent / MADE)))
    connection.commit()
    connection.close()


def victims(path: Path) -> int:
    """Rows of the table that stands beside; -1 where nobody can read the schema."""
    connection = sqlite3.connect(path)
    try:
        rows: int = connection.execute("SELECT count(*) FROM victim").fetchone()[0]
    except sqlite3.DatabaseError:
        rows = -1
    connection.close()
    return rows


def test_no_schema_makes_the_program_do_what_it_says(cli: Any, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for statements, in_schema in ((STATEMENTS, False), (SCHEMAS, True)):
        for name, statement in statements.items():
            make(folder / f"{name}.db", statement, in_schema=in_schema)
    before = {path.name: victims(path) for path in folder.iterdir()}
    bytes_before = {path.name: path.read_bytes() for path in folder.iterdir()}
    operations = "check,vacuum,reindex,optimize,analyze"
    done = cli(
        "run",
        folder,
        "--recursive",
        "--force",
        "--operations",
        operations,
        "--json",
        DBUPKEEP_LEDGER=str(tmp_path / "l"),
    )
    assert done.code == 1, done
    run = json.loads(done.out)
    assert {path.name for path in folder.iterdir()} == set(before), "nothing was made beside the files"
    after = {path.name: victims(path) for path in folder.iterdir()}
    assert after == before, "no row of another table is gone"
    assert list(before.values()).count(10) >= 10
    unreadable = {name for name, rows in before.items() if rows < 0}
    assert unreadable
    assert {name for name in unreadable if (folder / name).read_bytes() != bytes_before[name]} == set()
    jobs = [job for parent in run["jobs"] for job in parent.get("jobs", ())]
    statuses = Counter(job["status"] for job in jobs)
    assert statuses["completed"] >= 5 * (len(STATEMENTS) - 1), statuses
    assert "bug" not in {(job["error"] or {}).get("kind") for job in jobs}


def test_an_extension_is_never_loaded_because_a_file_asks_for_it(cli: Any, tmp_path: Path) -> None:
    make(tmp_path / "app.db", STATEMENTS["a check that loads"], in_schema=False)
    done = cli("run", "app.db", "--force", "--operations", "check", "--json", DBUPKEEP_LEDGER=str(tmp_path / "l"))
    (job,) = json.loads(done.out)["jobs"]
    assert job["status"] == "failed"
    assert "unsafe use of load_extension()" in job["error"]["message"]


HOOK = """
from pathlib import Path

def register(connection):
    connection.create_scalar_function("made", lambda *_: Path({made!r}).touch(), deterministic=True)
"""


def test_a_function_of_an_application_is_not_lent_to_schemas_unless_it_says_that_it_is_harmless(
    cli: Any, tmp_path: Path
) -> None:
    made = tmp_path / MADE
    (tmp_path / "lent.py").write_text(HOOK.format(made=str(made)))
    connection = sqlite3.connect(tmp_path / "app.db")
    connection.create_function("made", -1, lambda *_: None, deterministic=True)
    connection.executescript(
        "CREATE TABLE t (a CHECK (made() IS NULL)); INSERT INTO t VALUES (1); CREATE INDEX t_a ON t (made(a))"
    )
    connection.close()
    environ = {
        "DBUPKEEP_SQLITE_HOOK": "lent:register",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "DBUPKEEP_LEDGER": str(tmp_path / "l"),
    }
    done = cli("run", "app.db", "--force", "--operations", "check,vacuum,reindex", "--json", **environ)
    assert done.code != 0
    assert "unsafe use of made()" in done.out
    assert not made.exists()
