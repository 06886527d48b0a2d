"""The ledger is locked, full, damaged or something else: nothing is lost, nothing is overwritten, and the words are clear."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.engine import Report
from dbupkeep.errors import LedgerError
from dbupkeep.jobs import JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.ledgers import sqlite
from dbupkeep.ledgers.sqlite import SqliteLedger, _Pending
from dbupkeep.operations import parse
from dbupkeep.plans import PlanItem
from dbupkeep.queues import embedded
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession

PATIENCE = 30.0


class Held:
    """An engine whose first operation waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.engine = ScriptedEngine(act=self.act)

    def act(self, session: ScriptedSession, item: PlanItem, report: Report) -> None:
        self.begun.set()
        assert self.go.wait(PATIENCE)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def app(tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setattr(sqlite, "BUSY_MS", 50)  # an outage begins after this, not after a minute
    opened = App(str(tmp_path / "ledger.db"), load_engine=lambda _: held.engine, lease=PATIENCE)
    yield opened
    opened.close()


def submit(app: App, *urls: str) -> None:
    for url in urls:
        step = Step(name="step", targets=(Target(name=url, url=url),), operations=parse(["vacuum", "analyze"]))
        app.databases.create_parent_job(step, JobDefinition(name="job", steps=(step,)))


def statuses(app: App) -> set[JobStatus]:
    return {job.status for job in app.reader.jobs(JobQuery(), limit=1000).jobs}


def warned(caplog: pytest.LogCaptureFixture, text: str) -> Callable[[], bool]:
    return lambda: any(text in record.message for record in list(caplog.records))


def eventually(is_so: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if is_so():
            return
        pause.wait(0.01)
    pytest.fail("it did not come to pass")


def test_a_ledger_that_is_locked_for_a_while_loses_nothing(
    app: App, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    submit(app, "scripted:///a", "scripted:///b")
    stop = threading.Event()
    serving = threading.Thread(target=app.processor.serve, kwargs={"slots": 2, "stop": stop})
    serving.start()
    try:
        assert held.begun.wait(PATIENCE)
        other = apsw.Connection(app.location)
        other.set_busy_timeout(1000 * int(PATIENCE))
        other.execute("begin immediate")
        began = len(app.reader.events())
        held.go.set()  # the work is finished, and its result cannot be written
        eventually(warned(caplog, "the result waits"))
        assert len(app.reader.events()) == began, "something was written to a locked ledger"
        other.execute("rollback")
        other.close()
        eventually(lambda: statuses(app) == {JobStatus.COMPLETED})
    finally:
        held.go.set()
        stop.set()
        serving.join(PATIENCE)
    assert not serving.is_alive()
    assert {job.attempt for job in app.reader.jobs(JobQuery(), limit=100).jobs} == {0, 1}, (
        "finished work was done again"
    )
    assert len(held.engine.effects) == 8


def test_a_ledger_without_space_stops_the_work_and_goes_on_by_itself(
    app: App, held: Held, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedded, "LAZY", 0.01)
    held.go.set()
    submit(app, *(f"scripted:///{n}" for n in range(40)))
    writer = app.ledger._writer  # type: ignore[attr-defined]
    writer.pragma("max_page_count", int(writer.pragma("page_count")) + 1)
    stop = threading.Event()
    serving = threading.Thread(target=app.processor.serve, kwargs={"slots": 2, "stop": stop})
    serving.start()
    try:
        eventually(lambda: any("full" in str(record.__dict__) for record in list(caplog.records)))
        writer.pragma("max_page_count", 1 << 30)
        eventually(lambda: statuses(app) == {JobStatus.COMPLETED})
    finally:
        stop.set()
        serving.join(PATIENCE)
    assert not serving.is_alive(), "a full ledger has ended the slots"
    assert app.reader.health().ok


def test_a_full_disk(tmp_path: Path) -> None:
    """The same on a real file system, where one can be made."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", place], check=False).returncode:
        pytest.skip("no small file system can be mounted here; the test before this one has a full ledger without")
    try:
        app = App(str(place / "ledger.db"), load_engine=lambda _: ScriptedEngine())
        with pytest.raises(LedgerError) as caught:
            submit(app, *(f"scripted:///{n}" for n in range(10_000)))
        assert "full" in caught.value.why
        before = len(app.reader.jobs(JobQuery(), limit=100_000).jobs)
        assert before % 3 == 0, "half of a submission is there"
        assert app.reader.health().ok
        app.close()
        app = App(str(place / "ledger.db"), load_engine=lambda _: ScriptedEngine())
        assert len(app.reader.jobs(JobQuery(), limit=100_000).jobs) == before
        app.close()
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_broken_commit_is_told_to_all_who_waited_for_it(app: App) -> None:
    """Writers that share a commit may not believe in it when it fails, whoever broke it."""
    ledger = app.ledger

    def broken() -> None:
        ledger._writer.execute("rollback")  # type: ignore[attr-defined] # as SQLite does by itself when a disk fails
        raise apsw.IOError("disk I/O error")

    batch = [_Pending(work=lambda tx: ledger.put(tx, "k", "1", {})), _Pending(work=lambda tx: broken())]
    ledger._commit(batch)  # type: ignore[attr-defined]
    assert [type(one.error) for one in batch] == [LedgerError, LedgerError]
    assert app.reader.get("k", "1") is None


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table precious (x)")
        connection.execute("insert into precious values (1)")
    connection.close()


def other_wal_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode = wal")
    connection.execute("create table precious (x)")
    connection.commit()
    shutil.copy(path, f"{path}.copy")
    shutil.copy(f"{path}-wal", f"{path}.copy-wal")
    connection.close()
    Path(f"{path}.copy").rename(path)
    Path(f"{path}.copy-wal").rename(f"{path}-wal")


def newer(path: Path) -> None:
    SqliteLedger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("pragma user_version = 9999")
    connection.close()


def cut_off(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("this is no database\n" * 100)


def short(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def bad_header(path: Path) -> None:
    SqliteLedger(path).close()
    data = bytearray(path.read_bytes())
    data[:16] = os.urandom(16)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (other_database, "not a ledger"),
        (other_wal_database, "not a ledger"),
        (newer, "newer version"),
        (cut_off, "is empty"),
        (text, "not a database"),
        (short, "not a ledger"),
        (bad_header, "not a database"),
    ],
)
def test_what_is_no_ledger_is_refused_untouched(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    make(folder / "ledger.db")
    before = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    with pytest.raises(LedgerError) as caught:
        App(str(folder / "ledger.db"))
    assert words in caught.value.message
    assert caught.value.hint
    assert str(folder / "ledger.db") in caught.value.what
    del caught
    assert {entry.name: entry.read_bytes() for entry in folder.iterdir()} == before


def test_a_damaged_ledger_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SqliteLedger(path).close()
    with sqlite3.connect(path) as connection:
        (root,) = connection.execute("select rootpage from sqlite_schema where name = 'jobs'").fetchone()
        (size,) = connection.execute("pragma page_size").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(data)
    app = App(str(path), load_engine=lambda _: ScriptedEngine())
    try:
        for use in (lambda: app.reader.jobs(JobQuery()), lambda: submit(app, "scripted:///a")):
            with pytest.raises(LedgerError) as caught:
                use()
            assert "malformed" in caught.value.why
            assert "damaged" in caught.value.hint
        assert not app.reader.health().ok
    finally:
        app.close()
    assert path.read_bytes() == bytes(data)


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="file/ledger"):
        App(str(tmp_path / "file" / "ledger.db"))
    with pytest.raises(LedgerError, match="cannot"):
        App(str(tmp_path))


def test_many_processes_make_one_ledger(tmp_path: Path) -> None:
    """The ledger appears whole: whoever comes second finds a ledger, not half of one."""
    barrier, faults = threading.Barrier(8), list[BaseException]()

    def open_it() -> None:
        barrier.wait(PATIENCE)
        try:
            SqliteLedger(tmp_path / "ledger.db").close()
        except BaseException as error:  # noqa: BLE001 - shown below
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not faults
    assert {entry.name for entry in tmp_path.iterdir()} == {"ledger.db"}
    assert (tmp_path / "ledger.db").stat().st_mode & 0o777 == 0o600
