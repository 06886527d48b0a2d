"""Disk faults at every write, sync and truncate of VACUUM and REINDEX: each is one of our errors, and the rows survive."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
from typing_extensions import override

from dbupkeep.definitions import Policy
from dbupkeep.engine import Purpose, Scope
from dbupkeep.engines import sqlite as engine
from dbupkeep.engines.sqlite import rewrite, target_of
from dbupkeep.errors import Kind, UpkeepError
from dbupkeep.estimates import History
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder, item_of

pytestmark = pytest.mark.fault

NEVER = 10**9
CODES = {apsw.FullError: apsw.SQLITE_FULL, apsw.IOError: apsw.SQLITE_IOERR_WRITE}


class Faults:
    """Counts the calls that change a disk, and makes the n-th fail, or all from the n-th on."""

    def __init__(self) -> None:
        self.arm(NEVER, apsw.FullError, stays=False)

    def arm(self, at: int, error: type[apsw.Error], *, stays: bool) -> None:
        self.at, self.error, self.stays, self.calls, self.struck = at, error, stays, 0, False

    def disarm(self) -> None:
        self.at, self.stays = NEVER, False

    def call(self) -> None:
        self.calls += 1
        if self.calls == self.at or (self.stays and self.calls > self.at):
            self.struck = True
            error: Any = self.error("injected")
            error.result = error.extendedresult = CODES[self.error]
            raise error


class FaultyFile(apsw.VFSFile):
    def __init__(self, faults: Faults, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._faults = faults
        super().__init__("unix", name, flags)

    @override
    def xWrite(self, data: Any, offset: int) -> None:
        self._faults.call()
        super().xWrite(data, offset)

    @override
    def xSync(self, flags: int) -> None:
        self._faults.call()
        super().xSync(flags)

    @override
    def xTruncate(self, newsize: int) -> None:
        self._faults.call()
        super().xTruncate(newsize)


class FaultyVFS(apsw.VFS):
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        super().__init__("faulty", "unix", makedefault=True)

    @override
    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return FaultyFile(self._faults, name, flags)


@pytest.fixture
def faults() -> Iterator[Faults]:
    usual = apsw.vfs_names()[0]
    faults = Faults()
    vfs = FaultyVFS(faults)
    yield faults
    vfs.unregister()
    assert apsw.vfs_names()[0] == usual


def bloated(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("""
        PRAGMA page_size = 1024;
        CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT);
        CREATE INDEX t_a ON t (a);
    """)
    connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, f"{n:0200}") for n in range(150)))
    connection.execute("DELETE FROM t WHERE id < 90")
    connection.commit()
    connection.close()


def plan(path: Path, operation: Operation, policy: Policy | None = None) -> PlanItem:
    scope = Scope(operations=(operation,), now=datetime(2026, 1, 1, tzinfo=UTC))
    session = engine.connect(target_of(str(path)), purpose=Purpose.SURVEY)
    facts = engine.survey(session, scope)
    session.close()
    return item_of(engine.assess(facts, policy or Policy(force=True), History(), scope)[0])


def rows_of(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = connection.execute("SELECT * FROM t ORDER BY id").fetchall()
    connection.close()
    return rows


def attempt(path: Path, item: PlanItem, faults: Faults) -> UpkeepError | None:
    """One attempt with the fault armed; what it raised, if anything."""
    session = engine.connect(target_of(str(path)), tag="faults")
    try:
        session.run(item, Recorder())
    except UpkeepError as error:
        return error
    finally:
        session.close()
        faults.disarm()
    return None


@pytest.mark.parametrize("stays", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(
    ("error", "kind"), [(apsw.FullError, Kind.SPACE), (apsw.IOError, Kind.ENGINE)], ids=["full", "broken"]
)
@pytest.mark.parametrize("operation", [Operation.VACUUM, Operation.REINDEX])
def test_every_disk_fault_surfaces_and_the_rows_survive(
    tmp_path: Path, faults: Faults, operation: Operation, error: type[apsw.Error], kind: Kind, stays: bool
) -> None:
    original = tmp_path / "original.db"
    bloated(original)
    rows, content = rows_of(original), original.read_bytes()
    struck = 0
    for at in range(1, 2_000):
        path = tmp_path / f"{at}.db"
        path.write_bytes(content)
        item = plan(path, operation)
        faults.arm(at, error, stays=stays)
        raised = attempt(path, item, faults)
        if not faults.struck:
            assert raised is None
            break
        struck += 1
        assert raised is not None, f"the fault at call {at} went unnoticed"
        assert raised.kind is kind, f"call {at}: {raised!r}"
        assert raised.hint
        assert raised.__cause__ is not None
        assert rows_of(path) == rows, f"call {at} changed the rows"
        path.unlink()
    assert struck > 20


@pytest.mark.parametrize("stays", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError], ids=["full", "broken"])
def test_a_disk_fault_while_a_new_file_is_made_leaves_the_old_one(
    tmp_path: Path, faults: Faults, error: type[apsw.Error], journal: str, stays: bool
) -> None:
    policy = Policy(force=True, thresholds={"vacuum": {"new_file_min_bytes": 0}})
    original = tmp_path / "original.db"
    bloated(original)
    rows, content = rows_of(original), original.read_bytes()
    struck = 0
    for at in range(1, 2_000):
        path = tmp_path / f"{at}.db"
        path.write_bytes(content)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA journal_mode = {journal}")
        old, item = path.stat().st_ino, plan(path, Operation.VACUUM, policy)
        assert item.method == rewrite.METHOD
        faults.arm(at, error, stays=stays)
        raised = attempt(path, item, faults)
        if not faults.struck:
            assert raised is None
            assert path.stat().st_ino != old
            break
        struck += 1
        assert raised is None or raised.hint
        assert (path.stat().st_ino == old) or raised is None, f"call {at}: {raised!r}"
        assert rows_of(path) == rows, f"call {at} changed the rows"
        assert not list(tmp_path.glob("*dbupkeep*")), f"call {at} left a file behind"
        with closing(sqlite3.connect(path)) as connection:
            [mode] = connection.execute("PRAGMA journal_mode").fetchone()
        assert mode == journal or (stays and raised and "out of WAL mode" in raised.what), f"call {at}: {raised!r}"
        path.unlink()
    assert struck > 20


def test_fault_does_not_keep_the_next_attempt_from_working(tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "app.db"
    bloated(path)
    rows, item = rows_of(path), plan(path, Operation.VACUUM)
    faults.arm(15, apsw.FullError, stays=True)
    assert attempt(path, item, faults) is not None
    assert attempt(path, item, faults) is None
    assert rows_of(path) == rows
