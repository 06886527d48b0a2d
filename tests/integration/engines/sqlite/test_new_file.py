"""VACUUM by a new file that takes the place of the old one: what it keeps, when it is refused, and what nobody loses."""

from __future__ import annotations

import json
import os
import select
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dbupkeep.definitions import Policy
from dbupkeep.engine import Leftover, Stop, Work
from dbupkeep.engines.sqlite import alone, in_place, rewrite, twin
from dbupkeep.engines.sqlite.inquiry import STALL_CONSENT
from dbupkeep.errors import Busy, Interrupted, OperationError, Refused, UsageError
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder

ALWAYS = Policy(force=True, thresholds={"vacuum": {"new_file_min_bytes": 0}})

JOURNALS = pytest.mark.parametrize("journal", ["delete", "wal"])

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and giving files away want root")


def planned(lab: Any, path: Path) -> PlanItem:
    item: PlanItem = lab.planned(path, Operation.VACUUM, ALWAYS)
    return item


def asked(path: Path, sql: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def inode(path: Path) -> int:
    return path.stat().st_ino


# --- what it does ---


@JOURNALS
def test_a_new_file_takes_the_place(lab: Any, journal: str) -> None:
    path = lab.make(journal=journal)
    rows, size, old = lab.rows_of(path), path.stat().st_size, inode(path)
    recorder = Recorder()
    item = planned(lab, path)
    assert item.method == rewrite.METHOD
    work, evidence = lab.done(path, item, recorder)
    assert inode(path) != old
    assert evidence.effective == "yes"
    assert evidence.before["bytes"] == size
    assert evidence.after["bytes"] == path.stat().st_size < size / 2
    assert evidence.after["free_pages"] == 0
    assert evidence.values["inode"] == inode(path)
    assert evidence.values["replaced_inode"] == old
    assert 0 < work.stall_seconds <= work.seconds
    assert recorder.stages[-1].startswith(rewrite.PLACING)
    assert lab.rows_of(path) == rows
    assert lab.sound(path)
    assert asked(path, "PRAGMA journal_mode") == [(journal,)]
    assert lab.own_files(path) == [path.name]


@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
def test_the_settings_of_the_database_survive(lab: Any, auto_vacuum: int) -> None:
    path = lab.folder / "set.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (
            f"auto_vacuum = {auto_vacuum}",
            "page_size = 8192",
            "encoding = 'UTF-16be'",
            "user_version = 77",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA application_id = 4242")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT)")
        connection.execute("CREATE VIEW v AS SELECT a FROM t")
        connection.execute("CREATE TRIGGER tr AFTER DELETE ON t BEGIN SELECT 1; END")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t (a) VALUES (?)", [("é" * 200,) for _ in range(2_000)])
        connection.execute("DELETE FROM t WHERE id > 500")
        connection.execute("COMMIT")
        connection.execute("ANALYZE")
    wanted = "auto_vacuum page_size encoding user_version application_id".split()
    before = [asked(path, f"PRAGMA {name}") for name in wanted]
    tables = [asked(path, f"SELECT * FROM {name}") for name in ("t", "sqlite_sequence", "sqlite_stat1", "v")]
    counter = path.read_bytes()[24:28]
    work, _ = lab.done(path, planned(lab, path))
    assert work.values["method"] == rewrite.METHOD
    assert [asked(path, f"PRAGMA {name}") for name in wanted] == before
    assert [asked(path, f"SELECT * FROM {name}") for name in ("t", "sqlite_sequence", "sqlite_stat1", "v")] == tables
    assert path.read_bytes()[24:28] > counter
    assert path.read_bytes()[24:28] == path.read_bytes()[92:96]
    assert lab.sound(path)


@needs_root
def test_owner_mode_access_list_and_attributes_survive(lab: Any) -> None:
    path = lab.make()
    os.chown(path, 1234, 4321)
    path.chmod(0o640)
    os.setxattr(path, "user.kept", b"yes")
    entries = [
        (0x01, 6, 0xFFFFFFFF),
        (0x02, 4, 1000),
        (0x04, 4, 0xFFFFFFFF),
        (0x10, 4, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    ]
    acl = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, rights, who in entries
    )
    os.setxattr(path, "system.posix_acl_access", acl)
    before = path.stat()
    work, _ = lab.done(path, planned(lab, path))
    after = path.stat()
    assert work.values["method"] == rewrite.METHOD
    assert (after.st_uid, after.st_gid, after.st_mode) == (1234, 4321, before.st_mode)
    assert os.getxattr(path, "user.kept") == b"yes"
    assert os.getxattr(path, "system.posix_acl_access") == acl


def test_a_symbolic_link_stays_and_what_it_leads_to_is_rewritten(lab: Any) -> None:
    path = lab.make()
    link = path.with_name("link.db")
    link.symlink_to(path.name)
    old = inode(path)
    work, _ = lab.done(link, planned(lab, link))
    assert work.values["method"] == rewrite.METHOD
    assert link.is_symlink()
    assert inode(path) != old


def test_a_backup_is_kept_until_the_new_file_has_passed(lab: Any) -> None:
    path = lab.make()
    rows = lab.rows_of(path)
    item = lab.planned(path, Operation.VACUUM, Policy(force=True, backup_first=True, thresholds=ALWAYS.thresholds))
    session = lab.opened(path)
    work = session.run(item, Recorder())
    copy = Path(work.values["backup"])
    assert copy.exists()
    assert work.values["method"] == rewrite.METHOD
    session.verify(item, work)
    session.close()
    assert not copy.exists()
    assert lab.rows_of(path) == rows


@JOURNALS
def test_it_is_measured_all_the_way(lab: Any, journal: str) -> None:
    path = lab.make(journal=journal, rows=60_000, free=0.3)
    recorder = Recorder()
    with recorder.sampling():
        work, _ = lab.done(path, planned(lab, path), recorder)
    assert work.values["method"] == rewrite.METHOD
    seen = [p for p in recorder.seen if p.fraction is not None]
    assert {p.stage for p in seen} >= {rewrite.COPYING, rewrite.CHECKING}
    fractions = [p.fraction or 0 for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.4
    assert fractions[-1] > 0.8


# --- who is in the way ---


@JOURNALS
@pytest.mark.parametrize("does", ["SELECT 1", "SELECT count(*) FROM t", "PRAGMA journal_mode = memory"])
def test_a_program_that_has_it_open_is_seen_by_the_plan(lab: Any, journal: str, does: str) -> None:
    path = lab.make(journal=journal)
    one = lab.other(path)
    one.does(does)
    item = planned(lab, path)
    assert item.method == in_place.METHOD
    assert str(one.pid) in str(item.evidence["why_in_place"])
    assert str(one.pid) in item.locks


@JOURNALS
@pytest.mark.parametrize("does", ["SELECT 1", "SELECT count(*) FROM t", "PRAGMA journal_mode = memory"])
def test_a_program_that_opened_it_since_the_plan_keeps_its_file(lab: Any, journal: str, does: str) -> None:
    path = lab.make(journal=journal)
    item, old = planned(lab, path), inode(path)
    one = lab.other(path)
    one.does(does)
    work, evidence = lab.done(path, item)
    assert work.values["method"] == in_place.METHOD
    assert str(one.pid) in evidence.reason
    assert inode(path) == old
    assert one.does("INSERT INTO t VALUES (-1, 'kept', '')") == []
    assert asked(path, "SELECT a FROM t WHERE id = -1") == [("kept",)]
    assert lab.sound(path)


@pytest.mark.parametrize("consents", [frozenset(), frozenset({STALL_CONSENT})])
def test_one_that_would_have_to_wait_too_long_has_it_put_off(lab: Any, consents: frozenset[str]) -> None:
    path = lab.make()
    policy = replace(ALWAYS, max_stall=timedelta(microseconds=1), consents=consents)
    item, before = lab.planned(path, Operation.VACUUM, policy), path.read_bytes()
    lab.other(path).does("SELECT 1")
    if consents:
        assert lab.done(path, item)[0].values["method"] == in_place.METHOD
        return
    with pytest.raises(Busy, match="put off") as caught:
        lab.done(path, item)
    assert "longer than the allowed" in caught.value.why
    assert path.read_bytes() == before
    assert lab.own_files(path) == [path.name]


OPENS_AND_WRITES = """
import sqlite3, sys
print("going", flush=True)
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
if sys.argv[2]:
    connection.execute("PRAGMA journal_mode = " + sys.argv[2])
connection.execute("INSERT INTO t VALUES (-1, 'kept', '')")
print("written", connection.execute("SELECT count(*) FROM t").fetchone()[0], flush=True)
sys.stdin.readline()
"""


class Newcomer:
    """Another program that comes to open the file at some stage, and is waiting in `open` before that goes on.

    `journal` is the mode that it sets for itself, if any.
    """

    def __init__(self, path: Path, journal: str) -> None:
        self.path, self.journal = path, journal
        self.process: subprocess.Popen[str] | None = None

    def comes(self) -> None:
        command = [sys.executable, "-c", OPENS_AND_WRITES, str(self.path), self.journal]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        number = f":{inode(self.path)} "
        while not any("LEASE" in line and "BREAK" in line and number in line for line in self._locks()):
            assert self.process.poll() is None

    def _locks(self) -> list[str]:
        return Path("/proc/locks").read_text().splitlines()

    def says(self) -> list[str]:
        assert self.process
        out, _ = self.process.communicate("\n", timeout=30)
        return out.split()


@pytest.fixture
def newcomer() -> Iterator[Callable[[Path, str], Newcomer]]:
    made: list[Newcomer] = []

    def make(path: Path, journal: str) -> Newcomer:
        made.append(Newcomer(path, journal))
        return made[-1]

    yield make
    for one in made:
        if one.process and one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


# Keeps a way to open a file later without its name, and is no opener yet.
LATE = """
import os, shutil, sys
held = os.open(sys.argv[1], os.O_PATH)
print("held", flush=True)
sys.stdin.readline()
shutil.copyfile(f"/proc/self/fd/{held}", sys.argv[2])
"""


class Late:
    """Another program that has looked the name up, and opens what it has found when that has another name."""

    def __init__(self, path: Path, copy: Path) -> None:
        self.copy = copy
        command = [sys.executable, "-c", LATE, str(path), str(copy)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "held\n"

    def finds_it_closed(self, rows: int) -> None:
        """All rows are there, in no mode that uses a `-wal`, and nothing can be written."""
        self.process.communicate("\n")
        with closing(sqlite3.connect(self.copy, isolation_level=None)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (rows,)
            for journal in ("delete", "memory", "off"):
                connection.execute(f"PRAGMA journal_mode = {journal}")
                with pytest.raises(sqlite3.OperationalError, match="readonly"):
                    connection.execute("INSERT INTO t VALUES (-1, 'lost', '')")


@JOURNALS
@pytest.mark.parametrize("own_journal", ["delete", "memory", "off"])
@pytest.mark.parametrize("stage", [rewrite.COPYING, rewrite.CHECKING, rewrite.PLACING])
def test_a_program_that_comes_meanwhile_is_let_in_and_loses_nothing(
    lab: Any, newcomer: Callable[[Path, str], Newcomer], journal: str, own_journal: str, stage: str
) -> None:
    path = lab.make(journal=journal)
    item, old, count = planned(lab, path), inode(path), len(lab.rows_of(path))
    one = newcomer(path, own_journal if journal == "delete" else "")
    recorder = Recorder(lambda name: one.comes() if name == stage else None)
    work, _ = lab.done(path, item, recorder)
    assert one.says() == ["going", "written", str(count + 1)]
    assert work.values["method"] == in_place.METHOD
    assert inode(path) == old
    assert asked(path, "SELECT a FROM t WHERE id = -1") == [("kept",)]
    assert asked(path, "PRAGMA journal_mode") == [(journal,)]
    assert lab.sound(path)
    assert lab.own_files(path) == [path.name]


def test_a_long_copy_is_given_up_as_soon_as_somebody_comes(lab: Any, newcomer: Callable[[Path, str], Newcomer]) -> None:
    path = lab.make(rows=60_000, free=0.1)
    item, one = planned(lab, path), newcomer(path, "delete")
    recorder = Recorder(lambda name: one.comes() if name == rewrite.COPYING else None)
    lab.done(path, item, recorder)
    assert one.says()[:2] == ["going", "written"]
    stages = [stage.partition(":")[0] for stage in recorder.stages if not stage.startswith("statement")]
    assert stages[:2] == [rewrite.COPYING, "in place instead"]


@JOURNALS
def test_a_program_that_comes_at_the_very_exchange_has_it_undone(
    lab: Any, newcomer: Callable[[Path, str], Newcomer], monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    path = lab.make(journal=journal)
    item, old, count = planned(lab, path), inode(path), len(lab.rows_of(path))
    one, exchange = newcomer(path, "memory" if journal == "delete" else ""), twin._exchange
    names, lates = list[int](), list[Late]()

    def late(a: Path, b: Path) -> None:
        if not names:
            one.comes()
        exchange(a, b)
        names.append(inode(path))
        if not lates:  # it has found the new file, which is about to lose the name again
            lates.append(Late(path, lab.folder / "copy.db"))

    monkeypatch.setattr(twin, "_exchange", late)
    work, _ = lab.done(path, item)
    assert names[0] != old == names[1]
    assert work.values["method"] == in_place.METHOD
    assert one.says() == ["going", "written", str(count + 1)]
    assert asked(path, "SELECT a FROM t WHERE id = -1") == [("kept",)]
    assert asked(path, "PRAGMA journal_mode") == [(journal,)]
    assert lab.own_files(path) == [path.name]
    lates[0].finds_it_closed(count)


LEASED = """
import os, sys
from dbupkeep.engines.sqlite.lease import Lease
lease = Lease(os.open(sys.argv[1], os.O_RDWR))
print("held", flush=True)
sys.stdin.readline()
"""


def test_who_waits_to_open_a_file_keeps_no_other_thread_waiting(lab: Any) -> None:
    """One of those threads may be what the rewrite needs to come to its end."""
    path = lab.make()
    command = [sys.executable, "-c", LEASED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        opener, began = threading.Thread(target=lambda: lab.opened(path).close()), time.monotonic()
        opener.start()
        number = f":{inode(path)} "
        while not any("BREAK" in line and number in line for line in Path("/proc/locks").read_text().splitlines()):
            assert opener.is_alive()
        holder.stdin.write("\n")
        holder.stdin.flush()
        opener.join()
        assert time.monotonic() - began < 20  # the kernel ends it after 45 seconds


def test_a_hard_link_that_is_made_meanwhile_keeps_its_file(lab: Any) -> None:
    path, link = lab.make(), lab.folder / "link.db"
    item, old = planned(lab, path), inode(path)
    recorder = Recorder(lambda name: os.link(path, link) if name == rewrite.CHECKING else None)
    with pytest.raises(Refused, match="hard links"):
        lab.done(path, item, recorder)
    assert inode(path) == inode(link) == old
    link.unlink()
    assert lab.done(path, planned(lab, path))[1].effective == "yes"


@JOURNALS
def test_a_file_that_lost_its_name_cannot_be_written_any_more(lab: Any, journal: str) -> None:
    path = lab.make(journal=journal)
    item = planned(lab, path)
    late = Late(path, lab.folder / "copy.db")
    work, _ = lab.done(path, item)
    assert work.values["method"] == rewrite.METHOD
    late.finds_it_closed(len(lab.rows_of(path)))


def test_another_file_that_was_put_there_at_the_very_exchange_stays(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = lab.make(), lab.make(rows=10, free=0)
    item, exchange, foreign = planned(lab, path), twin._exchange, inode(other)

    def late(a: Path, b: Path) -> None:
        if inode(b) != foreign and other.exists():
            other.rename(b)
        exchange(a, b)

    monkeypatch.setattr(twin, "_exchange", late)
    with pytest.raises(Refused, match="replaced"):
        lab.done(path, item)
    assert inode(path) == foreign
    assert len(lab.rows_of(path)) == 10
    assert lab.own_files(path) == [path.name]


@JOURNALS
def test_closing_the_old_file_removes_nothing_of_those_who_use_the_new_one(
    lab: Any, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    path = lab.make(journal=journal)
    item, blunt = planned(lab, path), twin._blunt
    theirs = [path.with_name(path.name + end) for end in ("-journal", "-wal")]

    def then(descriptor: int) -> None:
        blunt(descriptor)
        for file in theirs:
            assert not file.exists()
            file.write_bytes(b"of a program that has just opened the new file")

    monkeypatch.setattr(twin, "_blunt", then)
    monkeypatch.setattr(rewrite._Rewrite, "run", _closed_only(rewrite._Rewrite.run))
    session = lab.opened(path)
    work = session.run(item, Recorder())
    session.handle.connection.close()
    assert work.values["method"] == rewrite.METHOD
    assert [file.exists() for file in theirs] == [True, True]


def _closed_only(run: Any) -> Any:
    """The same, but the new file is not opened again: that would look at what lies beside it."""

    def only(self: Any, path: Path) -> Work:
        reopen = self._handle.reopen
        self._handle.reopen = lambda view: reopen(view) if view == "sole" else self._handle.connection.close()
        try:
            work: Work = run(self, path)
        finally:
            self._handle.reopen = reopen
        return work

    return only


# --- where it cannot be proved ---


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda m: m.setattr(os, "geteuid", lambda: 4242), "belongs to another user"),
        (lambda m: m.setattr(alone, "_FIRST_PIDS", "pid:[1]"), "not all processes can be looked at"),
        (lambda m: m.setattr(alone, "FILE_SYSTEMS", frozenset()), "on the file system"),
        (lambda m: m.delattr("fcntl.F_SETLEASE"), "only Linux"),
    ],
)
def test_where_nobody_can_tell_it_is_done_in_place(
    lab: Any, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch], None], why: str
) -> None:
    path = lab.make()
    item, old = planned(lab, path), inode(path)
    break_it(monkeypatch)
    assert why in str(planned(lab, path).evidence["why_in_place"])
    work, evidence = lab.done(path, item)
    assert work.values["method"] == in_place.METHOD
    assert why in evidence.reason
    assert evidence.effective == "yes"
    assert inode(path) == old


@needs_root
def test_a_file_that_a_container_has_mounted_by_itself_is_not_replaced(lab: Any) -> None:
    path, point = lab.folder / "our \\ own.db", lab.folder / "theirs.db"
    lab.make().rename(path)
    point.touch()
    script = f'mount --bind "{path}" "{point}" && echo mounted && read line'
    container = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert container.stdout
    try:
        assert container.stdout.readline() == "mounted\n"
        assert "mounted by itself" in str(planned(lab, path).evidence["why_in_place"])
        assert planned(lab, lab.make()).method == rewrite.METHOD
    finally:
        container.communicate("\n")
    assert planned(lab, path).method == rewrite.METHOD


@needs_root
def test_a_file_in_the_layer_of_a_container_is_not_replaced(lab: Any) -> None:
    path, root = lab.make(), lab.folder
    below, work, point = (root.with_name(f"{root.name}-{end}") for end in ("below", "work", "point"))
    for folder in (below, work, point):
        folder.mkdir()
    layers = f"lowerdir={below},upperdir={root},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(point)], check=True)
    try:
        assert "in a layer" in str(planned(lab, path).evidence["why_in_place"])
    finally:
        subprocess.run(["umount", str(point)], check=True)
    assert planned(lab, path).method == rewrite.METHOD


def test_it_can_be_turned_off_and_small_files_are_quicker_in_place(lab: Any) -> None:
    path = lab.make()
    off = Policy(force=True, thresholds={"vacuum": {"new_file_min_bytes": 0, "new_file": False}})
    assert lab.planned(path, Operation.VACUUM, off).method == in_place.METHOD
    assert lab.planned(path, Operation.VACUUM, Policy(force=True)).method == in_place.METHOD
    with pytest.raises(UsageError, match="maybe"):
        lab.planned(path, Operation.VACUUM, Policy(force=True, thresholds={"vacuum": {"new_file": "maybe"}}))


@needs_root
def test_a_file_whose_attributes_cannot_be_copied_is_done_in_place_before_anything_is_copied(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lab.make()
    item, old = planned(lab, path), inode(path)
    os.setxattr(path, "user.kept", b"yes")
    refused = OSError(1, "Operation not permitted")
    monkeypatch.setattr(os, "setxattr", lambda *_: (_ for _ in ()).throw(refused))
    recorder = Recorder()
    work, evidence = lab.done(path, item, recorder)
    assert work.values["method"] == in_place.METHOD
    assert "attributes" in evidence.reason
    assert rewrite.CHECKING not in recorder.stages
    assert inode(path) == old
    assert lab.own_files(path) == [path.name]


def test_a_persistent_journal_is_left_alone(lab: Any) -> None:
    path = lab.make(journal="persist")
    assert "journal" in str(planned(lab, path).evidence["why_in_place"])


def test_a_wal_that_somebody_puts_beside_it_at_the_last_moment_is_not_left_to_the_new_file(lab: Any) -> None:
    path = lab.make()
    rows, item, old, wal = lab.rows_of(path), planned(lab, path), inode(path), path.with_name(f"{path.name}-wal")
    recorder = Recorder(lambda name: wal.write_bytes(b"of no use") and None if name == rewrite.PLACING else None)
    work, evidence = lab.done(path, item, recorder)
    assert work.values["method"] == in_place.METHOD
    assert "a journal lies beside it" in evidence.reason
    assert inode(path) == old
    assert lab.rows_of(path) == rows


def test_faults_that_the_database_has_already_are_no_reason_to_fail(lab: Any) -> None:
    path = lab.make("CREATE TABLE n (a)", "INSERT INTO n VALUES (NULL)")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = on")
        connection.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE n (a NOT NULL)' WHERE name = 'n'")
    work, evidence = lab.done(path, planned(lab, path))
    assert work.values["method"] == in_place.METHOD
    assert "NULL value in n.a" in evidence.reason


def test_a_new_file_that_is_not_as_it_should_be_is_thrown_away(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab.make()
    rows, item, old, count_on = lab.rows_of(path), planned(lab, path), inode(path), twin._count_on

    def spoil(new: int, of: int) -> None:
        count_on(new, of)
        os.pwrite(new, b"\xff" * 4096, 4096 * 40)

    monkeypatch.setattr(twin, "_count_on", spoil)
    with pytest.raises(OperationError, match="not as it should be"):
        lab.done(path, item)
    assert inode(path) == old
    assert lab.own_files(path) == [path.name]
    assert lab.rows_of(path) == rows


@JOURNALS
@pytest.mark.parametrize("change", ["DROP INDEX extra", "PRAGMA user_version = 5"])
def test_a_schema_or_a_setting_that_the_new_file_has_not_got_is_seen(
    lab: Any, monkeypatch: pytest.MonkeyPatch, journal: str, change: str
) -> None:
    path = lab.make("CREATE INDEX extra ON t (a, b)", journal=journal)
    item, resemble = planned(lab, path), rewrite._beside

    def without_it(handle: Any, new: Path) -> Any:
        with closing(sqlite3.connect(new)) as connection:
            connection.execute(change)
        return resemble(handle, new)

    monkeypatch.setattr(rewrite, "_beside", without_it)
    with pytest.raises(OperationError) as caught:
        lab.done(path, item)
    assert "schema" in caught.value.why
    assert asked(path, "PRAGMA journal_mode") == [(journal,)]
    assert lab.own_files(path) == [path.name]


# --- stopping ---


@JOURNALS
@pytest.mark.parametrize("stage", [rewrite.COPYING, rewrite.CHECKING])
def test_a_stop_leaves_the_old_file_untouched(lab: Any, journal: str, stage: str) -> None:
    path = lab.make(journal=journal)
    item, before = planned(lab, path), lab.fingerprint()
    session = lab.opened(path)
    stops: list[Stop] = []
    with pytest.raises(Interrupted):
        session.run(item, Recorder(lambda name: stops.append(session.interrupt()) if name == stage else None))
    session.close()
    assert stops == [Stop.STOPPED]
    assert lab.fingerprint() == before


def test_past_the_point_of_return_a_stop_is_refused(lab: Any) -> None:
    path = lab.make()
    item = planned(lab, path)
    session = lab.opened(path)
    stops: list[Stop] = []
    work = session.run(
        item, Recorder(lambda name: stops.append(session.interrupt()) if name == rewrite.PLACING else None)
    )
    session.close()
    assert stops == [Stop.UNSTOPPABLE]
    assert work.values["method"] == rewrite.METHOD


def test_a_stop_while_the_copy_is_made_comes_at_once(lab: Any) -> None:
    path = lab.make(rows=60_000, free=0.1)
    item = planned(lab, path)
    session = lab.opened(path)
    copying = threading.Event()
    threading.Thread(target=lambda: copying.wait(10) and session.interrupt()).start()
    with pytest.raises(Interrupted):
        session.run(item, Recorder(lambda name: copying.set() if name == rewrite.COPYING else None))
    session.close()
    assert lab.own_files(path) == [path.name]


# --- what is left behind ---


def test_of_what_lies_beside_it_only_ours_is_removed(lab: Any) -> None:
    path = lab.make()
    lab.kill_at(path, rewrite.CHECKING, planned(lab, path))
    foreign = path.with_name(f"{path.name}.dbupkeep-somebody.new")
    foreign.write_bytes(b"another's")
    foreign.chmod(0o666)
    session = lab.opened(path)
    found = {Path(left.name): left for left in session.leftovers()}
    ours = path.with_name(f"{path.name}.dbupkeep-lost.new")
    assert {file: left.ours for file, left in found.items()} == {ours: True, foreign: False}
    with pytest.raises(Refused):
        session.clean(Leftover(name=str(foreign), bytes=0, ours=True, explanation="said to be"))
    session.clean(found[ours])
    session.close()
    assert foreign.exists()
    assert not ours.exists()


def test_of_several_lost_attempts_nothing_is_left(lab: Any) -> None:
    path = lab.make()
    for attempt in (1, 2):
        path.with_name(f"{path.name}.dbupkeep-dbupkeep_0123_{attempt}.new").write_bytes(b"cut off")
    others = path.with_name(f"{path.name}.dbupkeep-dbupkeep_0123_3.new")
    others.write_bytes(b"of an attempt that runs")
    session = lab.opened(path)
    assert session.recover(planned(lab, path), "dbupkeep:0123:2") is None
    session.close()
    assert lab.own_files(path) == [path.name, others.name]


def test_the_end_of_the_process_pipe_is_no_end_of_the_lease(lab: Any) -> None:
    """Who waits in `open` is let in as soon as the copy is given up, and does not wait for the kernel's 45 seconds."""
    path = lab.make(rows=60_000, free=0.1)
    item = planned(lab, path)
    opener = """if 1:
        import sys, time
        sys.stdin.readline()
        began = time.monotonic()
        open(sys.argv[1]).close()
        print(time.monotonic() - began)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", opener, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout

    def go(name: str) -> None:
        if name == rewrite.COPYING:
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]

    lab.done(path, item, Recorder(go))
    assert select.select([process.stdout], [], [], 30)[0]
    assert float(process.communicate()[0]) < 5


def test_a_database_that_was_taken_out_of_wal_mode_gets_back_to_it_when_others_let_it(lab: Any) -> None:
    path = lab.make(journal="wal")
    item = lab.planned(
        path, Operation.VACUUM, replace(ALWAYS, thresholds={"vacuum": {"lock_wait": 0.01, "lock_tries": 9_999}})
    )
    asked(path, "PRAGMA journal_mode = delete")
    note = json.dumps({"new_file": {"inode": inode(path), "by": 0, "wal": True}})
    reader = lab.other(path)
    reader.does("BEGIN")
    reader.does("SELECT count(*) FROM t")
    session = lab.opened(path)

    def let_it() -> None:
        deadline = time.monotonic() + 10
        while session.handle.waited < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        reader.does("COMMIT")

    letting = threading.Thread(target=let_it)
    letting.start()
    assert session.recover(item, "dbupkeep:0123:1", [note]) is None
    letting.join()
    session.close()
    assert asked(path, "PRAGMA journal_mode") == [("wal",)]
