"""Real files, and real other processes that use them; what they do is steered over pipes, without any sleeping."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from dbupkeep.codec import to_json
from dbupkeep.definitions import Policy, Target
from dbupkeep.engine import Evidence, Purpose, Scope, Work
from dbupkeep.engines import sqlite as engine
from dbupkeep.engines.sqlite import target_of
from dbupkeep.engines.sqlite.session import SqliteSession
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem, Proposal
from dbupkeep.testing.engine_suite import Recorder, item_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)

# Executes SQL line by line, or dies without closing anything.
OTHER = """
import json, os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
print('"ready"', flush=True)
for line in sys.stdin:
    if line == "die\\n":
        os._exit(9)
    try:
        answer = connection.execute(json.loads(line)).fetchall()
    except sqlite3.OperationalError as error:
        answer = str(error)
    print(json.dumps(answer), flush=True)
"""

HASH = """
import hashlib, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    if path.is_file() and not path.name.endswith("-shm"):
        print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    else:
        print(path.name)
"""


class Other:
    """Another program with the database open."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    @property
    def pid(self) -> int:
        return self.process.pid

    def does(self, sql: str) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(sql) + "\n")
        self.process.stdin.flush()
        return self._line()

    def dies(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("die\n")
        self.process.stdin.flush()
        self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    def _line(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def other() -> Iterator[Callable[[Path], Other]]:
    started: list[Other] = []

    def start(path: Path) -> Other:
        started.append(Other(path))
        return started[-1]

    yield start
    for one in started:
        one.close()


@dataclass
class Make:
    """Makes databases with another library than the product's."""

    folder: Path
    made: list[Path] = field(default_factory=list)

    def __call__(
        self, *statements: str, rows: int = 8_000, free: float = 0.6, journal: str = "delete", auto_vacuum: int = 0
    ) -> Path:
        path = self.folder / f"app{len(self.made)}.db"
        self.made.append(path)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(f"PRAGMA auto_vacuum = {auto_vacuum}")
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT)")
        connection.execute("CREATE INDEX t_a ON t (a)")
        connection.execute("CREATE INDEX t_b ON t (b)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", ((n, f"{n:060}", f"{n:0300}") for n in range(rows)))
        connection.execute("DELETE FROM t WHERE id < ?", (int(rows * free),))
        connection.execute("COMMIT")
        for statement in statements:
            connection.execute(statement).fetchall()
        connection.close()
        return path


@pytest.fixture
def make(tmp_path: Path) -> Make:
    folder = tmp_path / "data"
    folder.mkdir()
    return Make(folder)


def fingerprint(folder: Path) -> str:
    """Every file of a folder with its content (of `-shm` the name: readers mark themselves in it), from another process."""
    return subprocess.run([sys.executable, "-c", HASH, str(folder)], capture_output=True, check=True, text=True).stdout


def scope(*operations: Operation, fleet: bool = False, policy: Policy | None = None) -> Scope:
    return Scope(operations=operations or tuple(Operation), now=NOW, fleet=fleet, policy=policy or Policy())


def surveyed(target: Target | Path, *operations: Operation, fleet: bool = False) -> DatabaseFacts:
    target = target_of(str(target)) if isinstance(target, Path) else target
    session = engine.connect(target, purpose=Purpose.SURVEY)
    try:
        return engine.survey(session, scope(*operations, fleet=fleet))
    finally:
        session.close()


def proposed(
    path: Path, operation: Operation, policy: Policy | None = None, history: History | None = None
) -> Proposal:
    facts = surveyed(path, operation)
    return engine.assess(facts, policy or Policy(), history or History(), scope(operation))[0]


def planned(path: Path, operation: Operation, policy: Policy | None = None, **options: Any) -> PlanItem:
    proposal = proposed(path, operation, policy)
    item = item_of(proposal)
    return item if not options else _with(item, options)


def opened(path: Path, tag: str = "test") -> SqliteSession:
    session = engine.connect(target_of(str(path)), tag=tag)
    assert isinstance(session, SqliteSession)
    return session


def done(path: Path, item: PlanItem, recorder: Recorder | None = None) -> tuple[Work, Evidence]:
    session = opened(path)
    try:
        work = session.run(item, recorder or Recorder())
        return work, session.verify(item, work)
    finally:
        session.close()


def sound(path: Path) -> bool:
    connection = sqlite3.connect(path)
    found: list[tuple[str]] = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return found == [("ok",)]


def rows_of(path: Path, table: str = "t") -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    found: list[tuple[Any, ...]] = connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
    connection.close()
    return found


def crash_in_transaction(path: Path, other: Callable[[Path], Other]) -> None:
    """Leave a hot journal or a `-wal` behind, as a power cut would."""
    one = other(path)
    one.does("PRAGMA cache_size = 5")
    one.does("BEGIN")
    one.does("UPDATE t SET a = a || 'x'")
    one.dies()


def _with(item: PlanItem, options: dict[str, Any]) -> PlanItem:
    return replace(item, options={**item.options, **options})


# Runs one item, and is killed at a stage of it.
WORKER = """
import json, os, signal, sys, threading
from dbupkeep.codec import from_json
from dbupkeep.engines import sqlite
from dbupkeep.plans import PlanItem

before = os.stat(sys.argv[1]).st_mtime_ns

def kill_when_written():
    # A journal is only hot once it was synced, which is before the first page of the database is overwritten.
    path, wal = sys.argv[1], sys.argv[1] + "-wal"
    while os.stat(path).st_mtime_ns == before and not (os.path.exists(wal) and os.stat(wal).st_size > 1_000_000):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

class Report:
    def stage(self, name, message=""):
        if name == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        if (name, sys.argv[2]) == ("writing back", "half written"):
            threading.Thread(target=kill_when_written, daemon=True).start()
    def progress(self, progress): pass
    def follow(self, sample): pass
    def note(self, text): pass

sqlite.connect(sqlite.target_of(sys.argv[1]), tag="lost").run(from_json(PlanItem, json.loads(sys.argv[3])), Report())
"""


def kill_at(path: Path, stage: str, item: PlanItem) -> None:
    """Have a worker process do an item, and die at a stage of it."""
    command = [sys.executable, "-c", WORKER, str(path), stage, json.dumps(to_json(item))]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def own_files(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if entry.name.startswith(path.name))


@pytest.fixture
def lab(make: Make, other: Callable[[Path], Other]) -> SimpleNamespace:
    """All of the above: test modules do not import each other."""
    return SimpleNamespace(
        make=make,
        other=other,
        folder=make.folder,
        fingerprint=lambda: fingerprint(make.folder),
        scope=scope,
        surveyed=surveyed,
        proposed=proposed,
        planned=planned,
        opened=opened,
        done=done,
        sound=sound,
        rows_of=rows_of,
        crash=lambda path: crash_in_transaction(path, other),
        own_files=own_files,
        item_of=lambda proposal, **changes: replace(item_of(proposal), **changes),
        kill_at=kill_at,
    )
