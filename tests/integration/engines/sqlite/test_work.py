"""What the operations do to real files, beside real other programs, and what they say of it."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.engine import Leftover, Stop, Work
from dbupkeep.engines.sqlite import in_place, incremental, space
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.errors import Busy, Damaged, Interrupted, Kind, Refused
from dbupkeep.estimates import History, Measurement
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision
from dbupkeep.testing.engine_suite import Recorder

IN_PLACE = Policy(force=True, thresholds={"vacuum": {"new_file": False}})

# --- vacuum in place ---


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_vacuum_shrinks_the_file_and_keeps_the_rows(lab: Any, journal: str) -> None:
    path = lab.make(journal=journal)
    rows, size = lab.rows_of(path), path.stat().st_size
    work, evidence = lab.done(path, lab.planned(path, Operation.VACUUM))
    assert evidence.effective == "yes"
    assert evidence.before["bytes"] == size
    assert evidence.after["bytes"] == path.stat().st_size < size / 2
    assert evidence.after["free_pages"] == 0
    assert 0 < work.stall_seconds <= work.seconds
    assert lab.rows_of(path) == rows
    assert lab.sound(path)
    assert lab.own_files(path) == [path.name]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_vacuum_is_measured_in_both_phases(lab: Any, journal: str) -> None:
    path = lab.make(journal=journal, rows=40_000, free=0.3)
    recorder = Recorder()
    item = lab.planned(path, Operation.VACUUM, IN_PLACE)
    with recorder.sampling():
        lab.done(path, item, recorder)
    fractions = {
        stage: [p.fraction for p in recorder.seen if p.stage == stage and p.fraction is not None]
        for stage in (in_place.COPYING, in_place.WRITING_BACK)
    }
    assert len(fractions[in_place.COPYING]) > 2
    assert len(fractions[in_place.WRITING_BACK]) > 2
    assert max(fractions[in_place.COPYING]) <= 0.34
    assert min(fractions[in_place.WRITING_BACK]) > 0.3
    assert max(fractions[in_place.WRITING_BACK]) > 0.8
    assert {p.source for p in recorder.seen if p.fraction is not None} == {"measured"}


def test_stop_while_copying_leaves_the_file_as_it_was(lab: Any) -> None:
    path = lab.make()
    before = path.read_bytes()
    session = lab.opened(path)
    answers: list[Stop] = []
    with pytest.raises(Interrupted):
        session.run(
            lab.planned(path, Operation.VACUUM), Recorder(on_stage=lambda _: answers.append(session.interrupt()))
        )
    session.close()
    assert answers == [Stop.STOPPED]
    assert path.read_bytes() == before


def test_stop_while_writing_back_is_said_to_be_too_late(lab: Any) -> None:
    path = lab.make()
    session = lab.opened(path)
    answers: list[Stop] = []

    def stop(stage: str) -> None:
        if stage.startswith(in_place.WRITING_BACK):
            answers.append(session.interrupt())

    item = lab.planned(path, Operation.VACUUM)
    work = session.run(item, Recorder(on_stage=stop))
    assert answers == [Stop.UNSTOPPABLE]
    assert session.verify(item, work).effective == "yes"
    session.close()


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_file_replaced_while_it_runs_is_refused_and_the_new_one_left_alone(lab: Any, journal: str) -> None:
    path, new = lab.make(journal=journal), lab.make(journal=journal)
    content = new.read_bytes()
    item = lab.planned(path, Operation.VACUUM)
    session = lab.opened(path)
    with pytest.raises(Refused) as raised:
        session.run(item, Recorder(on_stage=lambda stage: stage == in_place.COPYING and new.rename(path)))
    assert raised.value.kind is Kind.REPLACED
    session.close()
    assert path.read_bytes() == content


def test_replacement_at_the_last_moment_is_found_by_sqlite_itself(lab: Any) -> None:
    path, new = lab.make(), lab.make()
    content = new.read_bytes()
    item = lab.planned(path, Operation.VACUUM)
    session = lab.opened(path)
    late = Recorder(on_stage=lambda stage: stage.startswith(in_place.WRITING_BACK) and new.rename(path))
    with pytest.raises(Refused) as raised:
        session.run(item, late)
    assert raised.value.kind is Kind.REPLACED
    session.close()
    assert path.read_bytes() == content


@pytest.mark.parametrize("policy", [Policy(force=True), IN_PLACE])
def test_a_forced_vacuum_that_had_nothing_to_gain_was_of_no_effect(lab: Any, policy: Policy) -> None:
    path = lab.make(free=0.0)
    lab.done(path, lab.planned(path, Operation.VACUUM, policy))
    _, evidence = lab.done(path, lab.planned(path, Operation.VACUUM, policy))
    assert evidence.effective == "no"
    assert evidence.reason.startswith("nothing was to be gained")


def test_vacuum_waits_for_a_lock_and_goes_on_when_it_is_free(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.VACUUM, lock_wait=5.0, lock_tries=1)
    one = lab.other(path)
    one.does("BEGIN IMMEDIATE")
    session = lab.opened(path)
    busy = threading.Event()
    waits = session.handle._busy

    def wait(count: int) -> bool:
        busy.set()
        return bool(waits(count))

    session.handle.connection.set_busy_handler(wait)
    results: list[Work] = []
    thread = threading.Thread(target=lambda: results.append(session.run(item, Recorder())))
    thread.start()
    assert busy.wait(20)
    one.does("COMMIT")
    thread.join()
    session.close()
    (work,) = results
    assert work.stall_seconds is not None
    assert work.stall_seconds < work.seconds  # the time that it waited itself kept nobody out


def test_wait_for_a_lock_can_be_stopped(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.VACUUM, lock_wait=60.0, lock_tries=10)
    one = lab.other(path)
    one.does("BEGIN IMMEDIATE")
    session = lab.opened(path)
    waits = session.handle._busy

    def busy(count: int) -> bool:
        session.interrupt()
        return bool(waits(count))

    session.handle.connection.set_busy_handler(busy)
    with pytest.raises(Interrupted):
        session.run(item, Recorder())
    session.close()


def test_long_reader_keeps_the_file_from_shrinking_and_that_is_said(lab: Any) -> None:
    path = lab.make(journal="wal")
    reader = lab.other(path)
    reader.does("BEGIN")
    reader.does("SELECT count(*) FROM t")
    session = lab.opened(path)
    item = lab.planned(path, Operation.VACUUM)
    work = session.run(item, Recorder())
    evidence = session.verify(item, work)
    assert evidence.effective == "no"
    assert str(reader.pid) in evidence.reason
    wal = path.with_name(f"{path.name}-wal")
    assert evidence.after["bytes"] == path.stat().st_size + wal.stat().st_size
    assert evidence.after["bytes"] > evidence.before["bytes"]
    session.close()


# --- slices ---

WRITER = """
import select, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
print("ready", flush=True)
longest, writes, failures, failing = 0.0, 0, 0, None
while not select.select([sys.stdin], [], [], 0.01)[0] or failing is not None:
    try:
        connection.execute("INSERT INTO log VALUES (1)")
        writes += 1
        if failing is not None:
            longest = max(longest, time.perf_counter() - failing)
            failing = None
    except sqlite3.OperationalError:
        failures += 1
        failing = failing or time.perf_counter()
print(writes, failures, longest, flush=True)
"""


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_slices_never_keep_a_busy_writer_out_for_longer_than_allowed(lab: Any, journal: str) -> None:
    path = lab.make("CREATE TABLE log (a INTEGER)", auto_vacuum=2, rows=60_000, journal=journal)
    allowed = 1.0  # a fifth of it is aimed at; the rest is for a busy disk
    policy = Policy(force=True, max_stall=timedelta(seconds=allowed))
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        history = slow(path)
        proposal = lab.proposed(path, Operation.VACUUM, policy, history)
        assert proposal.method == "incremental"
        assert "in slices" in proposal.reason
        work, evidence = lab.done(path, lab.item_of(proposal))
        writer.stdin.close()
        writes, _, longest = writer.stdout.readline().split()
    assert int(writes) > 5
    assert float(longest) <= allowed
    assert work.stall_seconds <= allowed
    assert work.values["slices"] > 3
    assert 0 < work.values["throttled_seconds"] < work.seconds
    assert evidence.effective == "yes"
    assert evidence.after["free_pages"] == 0
    assert lab.sound(path)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_reported_stall_is_what_a_writer_sees(lab: Any, journal: str) -> None:
    path = lab.make("CREATE TABLE log (a INTEGER)", rows=60_000, free=0.2, journal=journal)
    item = lab.planned(path, Operation.VACUUM, Policy(force=True))
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        work, _ = lab.done(path, item)
        writer.stdin.close()
        _, failures, longest = writer.stdout.readline().split()
    assert int(failures) > 2
    # The writer looks every 10 ms at best, and either process may be kept waiting by a busy machine.
    assert 0.3 * float(longest) - 0.1 <= work.stall_seconds <= 3 * float(longest) + 0.1


def test_slices_are_as_long_as_the_disk_is_quick(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that takes a millisecond for a page, no slice is longer than a fifth of the allowed stall."""
    path = lab.make("CREATE VIEW dep AS SELECT rowid FROM loose", "CREATE TABLE loose (a)", auto_vacuum=2, rows=20_000)
    slices: list[int] = []
    free = incremental._slice

    def on_a_slow_disk(handle: Handle, pages: int) -> float:
        free(handle, pages)
        slices.append(pages)
        return pages / 1000

    monkeypatch.setattr(incremental, "_slice", on_a_slow_disk)
    monkeypatch.setattr(Handle, "pause", lambda self, seconds: self.check_stop())
    item = lab.planned(path, Operation.VACUUM, Policy(max_stall=timedelta(seconds=0.25)))
    work, evidence = lab.done(path, item)
    assert evidence.after["free_pages"] == 0
    assert slices[0] < max(slices)  # it grows from a careful start
    assert max(slices) <= 50
    assert work.stall_seconds <= 0.05


def test_slices_do_not_shrink_to_nothing_where_a_commit_is_slow(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit takes as long for one page as for many, so that pages one by one would never come to an end."""
    path = lab.make("CREATE VIEW dep AS SELECT rowid FROM loose", "CREATE TABLE loose (a)", auto_vacuum=2, rows=2_000)
    slices: list[int] = []
    free = incremental._slice

    def with_a_slow_commit(handle: Handle, pages: int) -> float:
        free(handle, pages)
        slices.append(pages)
        return 0.5

    monkeypatch.setattr(incremental, "_slice", with_a_slow_commit)
    monkeypatch.setattr(Handle, "pause", lambda self, seconds: self.check_stop())
    lab.done(path, lab.planned(path, Operation.VACUUM, Policy(max_stall=timedelta(seconds=0.02), force=True)))
    assert len(slices) > 2
    assert min(slices) >= 16


def slow(path: Path) -> History:
    """A past in which VACUUM of this file took long."""
    return History(
        own=[
            Measurement(
                at=datetime(2025, 1, 1, tzinfo=UTC), engine="sqlite", target=str(path), object="",
                operation=Operation.VACUUM, method="in place", seconds=100.0, work_bytes=1_000_000, bytes_before=2,
                bytes_after=1,
            )
        ]
    )  # fmt: skip


def test_stall_that_others_would_notice_is_deferred_with_the_figure(lab: Any) -> None:
    path = lab.make()
    assert lab.proposed(path, Operation.VACUUM, None, slow(path)).decision is Decision.RUN  # nobody is there to notice
    one = lab.other(path)
    one.does("SELECT 1 FROM t")
    proposal = lab.proposed(path, Operation.VACUUM, None, slow(path))
    assert proposal.decision is Decision.DEFER
    assert "min" in proposal.reason
    assert "5.0 s" in proposal.reason
    assert str(one.pid) in proposal.reason
    agreed = Policy(consents=frozenset({"long_stall"}))
    assert lab.proposed(path, Operation.VACUUM, agreed, slow(path)).decision is Decision.RUN


def test_slices_can_be_stopped_and_keep_what_they_freed(lab: Any) -> None:
    path = lab.make("CREATE VIEW dep AS SELECT rowid FROM loose", "CREATE TABLE loose (a)", auto_vacuum=2)
    item = lab.planned(path, Operation.VACUUM)
    session = lab.opened(path)
    recorder = Recorder()
    seen = recorder.progress

    def stop_half_way(progress: Any) -> None:
        seen(progress)
        if progress.fraction and progress.fraction > 0.2:
            session.interrupt()

    recorder.progress = stop_half_way  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        session.run(item, recorder)
    session.close()
    left = lab.surveyed(path).values["free_pages"]
    assert 0 < left < item.evidence["free_pages"]
    assert lab.sound(path)


# --- backup ---


@pytest.mark.parametrize("operation", [Operation.VACUUM, Operation.REINDEX])
def test_backup_copy_is_kept_until_the_check_has_passed(lab: Any, operation: Operation) -> None:
    path = lab.make()
    item = lab.planned(path, operation, Policy(backup_first=True, force=True))
    assert "backup copy" in item.space[0].purpose
    session = lab.opened(path, tag="attempt-1")
    work = session.run(item, Recorder())
    (leftover,) = session.leftovers()
    assert leftover.ours
    assert leftover.name == f"{path}.dbupkeep-attempt-1.copy"
    assert stat.S_IMODE(Path(leftover.name).stat().st_mode) == 0o600
    assert lab.rows_of(Path(leftover.name)) == lab.rows_of(path)
    session.verify(item, work)
    assert session.leftovers() == []
    session.close()
    assert lab.own_files(path) == [path.name]


def test_backup_copy_is_not_left_by_work_that_was_stopped(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.VACUUM, Policy(backup_first=True))
    session = lab.opened(path)
    with pytest.raises(Interrupted):
        session.run(item, Recorder(on_stage=lambda stage: stage == in_place.COPYING and session.interrupt()))
    session.close()
    assert lab.own_files(path) == [path.name]


def test_backup_copy_stays_when_the_check_fails(lab: Any) -> None:
    path = lab.make(free=0)
    item = lab.planned(path, Operation.REINDEX, Policy(backup_first=True, force=True))
    session = lab.opened(path, tag="a")
    work = session.run(item, Recorder())
    spoil_index(path, "t_a")
    with pytest.raises(Damaged):
        session.verify(item, work)
    assert len(session.leftovers()) == 1
    session.close()


def test_only_own_copies_are_cleaned(lab: Any) -> None:
    path = lab.make()
    session = lab.opened(path)
    foreign = path.with_name(f"{path.name}.dbupkeep-x.copy")
    foreign.write_bytes(b"made by somebody else")
    foreign.chmod(0o644)
    (left,) = session.leftovers()
    assert not left.ours
    with pytest.raises(Refused):
        session.clean(left)
    for name in (str(path), "/etc/hostname", f"{path}-journal"):
        with pytest.raises(Refused):
            session.clean(Leftover(name=name, bytes=1, ours=True, explanation=""))
    foreign.chmod(0o600)
    session.clean(left)
    assert not foreign.exists()
    session.close()


# --- recovery ---


@pytest.mark.parametrize("stage", ["backup copy", in_place.COPYING, in_place.WRITING_BACK])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_killed_attempt_is_recovered_and_done_again(lab: Any, stage: str, journal: str) -> None:
    path = lab.make(journal=journal)
    rows = lab.rows_of(path)
    item = lab.planned(path, Operation.VACUUM, Policy(backup_first=True))
    lab.kill_at(path, stage, item)
    session = lab.opened(path, tag="next")
    assert session.recover(item, "lost") is None
    assert session.recover(item, "lost") is None
    assert session.leftovers() == []
    work = session.run(item, Recorder())
    assert session.verify(item, work).effective == "yes"
    session.close()
    assert lab.rows_of(path) == rows
    assert lab.sound(path)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_attempt_killed_in_the_middle_of_writing_back_is_rolled_back_when_the_next_one_opens(
    lab: Any, journal: str
) -> None:
    path = lab.make(journal=journal, rows=40_000, free=0.3)
    rows, size = lab.rows_of(path), path.stat().st_size
    item = lab.planned(path, Operation.VACUUM, IN_PLACE)
    lab.kill_at(path, "half written", item)
    side = path.with_name(f"{path.name}-{'journal' if journal == 'delete' else 'wal'}")
    assert side.stat().st_size > 0
    session = lab.opened(path, tag="next")
    assert session.recover(item, "lost") is None
    session.close()
    assert path.stat().st_size == size
    assert lab.own_files(path) == [path.name]
    assert lab.rows_of(path) == rows
    assert lab.sound(path)


def test_attempt_that_did_the_work_before_it_was_lost_is_found(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.VACUUM)
    lab.done(path, item)
    session = lab.opened(path)
    evidence = session.recover(item, "lost")
    session.close()
    assert evidence is not None
    assert evidence.effective == "yes"
    assert evidence.before["bytes"] > evidence.after["bytes"]


LOST_BEFORE_THE_CHECKPOINT = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA wal_autocheckpoint = 0")
connection.execute("VACUUM")
os._exit(0)
"""


def test_work_that_was_lost_before_its_checkpoint_is_found_and_told_as_it_is(lab: Any) -> None:
    path = lab.make(journal="wal")
    item = lab.planned(path, Operation.VACUUM)
    size = path.stat().st_size
    subprocess.run([sys.executable, "-c", LOST_BEFORE_THE_CHECKPOINT, str(path)], check=True)
    assert path.stat().st_size == size
    session = lab.opened(path)
    evidence = session.recover(item, "lost")
    session.close()
    assert evidence is not None
    assert evidence.effective == "yes"
    assert evidence.before["bytes"] == size
    assert evidence.after["bytes"] == path.stat().st_size < size


def test_free_pages_that_others_have_used_are_no_sign_of_lost_work(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.VACUUM)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE filler (x)")
    while connection.execute("PRAGMA freelist_count").fetchone()[0]:
        connection.execute("INSERT INTO filler VALUES (zeroblob(100000))")
    connection.commit()
    connection.close()
    session = lab.opened(path)
    assert session.recover(item, "lost") is None
    session.close()


# --- space ---


def test_no_space_is_refused_before_start_with_the_numbers(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab.make()
    monkeypatch.setattr(space, "free_bytes", lambda _: 1_000)
    proposal = lab.proposed(path, Operation.VACUUM)
    assert not proposal.space[0].enough
    assert [notice.code for notice in proposal.notices] == ["no_space"]
    before = path.read_bytes()
    with pytest.raises(Refused) as raised:
        lab.done(path, lab.planned(path, Operation.VACUUM))
    assert raised.value.kind is Kind.SPACE
    assert "1,000" in raised.value.message
    live = lab.surveyed(path).values["live_bytes"]
    assert f"{int(2 * 1.2 * live):,}" in raised.value.message
    assert path.read_bytes() == before


def test_temporary_file_goes_where_the_space_is(lab: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = lab.make()
    small = tmp_path / "small"
    small.mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(small))
    free = space.free_bytes
    monkeypatch.setattr(space, "free_bytes", lambda folder: 0 if folder == str(small) else free(folder))
    monkeypatch.setattr(space, "_same_volume", lambda folder, temp: folder == temp)
    session = lab.opened(path)
    item = lab.planned(path, Operation.VACUUM)
    folders: list[str] = []
    work = session.run(
        item, Recorder(on_stage=lambda _: folders.append(session.handle.pragma("temp_store_directory") or ""))
    )
    assert work.values["temp_folder"] == str(path.parent)
    assert str(path.parent) in folders
    assert not session.handle.pragma("temp_store_directory")
    session.close()


# --- reindex and check ---


def test_each_fault_of_a_check_is_a_sentence(lab: Any) -> None:
    path = lab.make()
    with path.open("r+b") as file:
        file.seek(32)  # the list of free pages is lost, and its pages belong to nothing
        file.write(bytes(8))
    with pytest.raises(Damaged) as raised:
        lab.done(path, lab.planned(path, Operation.CHECK))
    assert "***" not in raised.value.why
    assert "\n" not in raised.value.why
    assert "never used; Page" in raised.value.why
    assert "more" in raised.value.why


def spoil_index(path: Path, index: str) -> None:
    """Change a key within a leaf of an index: its pages are well formed, and it no longer fits its table."""
    connection = sqlite3.connect(path)
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (index,)).fetchone()[0]
    connection.close()
    content = bytearray(path.read_bytes())
    start = (root - 1) * size
    kind = content[start]
    if kind == 0x02:  # an interior page: go to its first child
        cell = int.from_bytes(content[start + 12 : start + 14], "big")
        child = int.from_bytes(content[start + cell : start + cell + 4], "big")
        start = (child - 1) * size
    position = content.index(b"0" * 40, start, start + size)
    content[position : position + 5] = b"spoil"
    path.write_bytes(content)


@pytest.mark.parametrize(("method", "finds"), [("quick_check", False), ("integrity_check", True)])
def test_planted_damage_turns_the_check_red(lab: Any, method: str, finds: bool) -> None:
    path = lab.make(free=0)
    spoil_index(path, "t_a")
    policy = Policy(thresholds={"check": {"method": method}})
    item = lab.planned(path, Operation.CHECK, policy)
    if not finds:
        assert lab.done(path, item)[1].effective == "yes"  # it does not compare indexes with tables
        return
    with pytest.raises(Damaged) as raised:
        lab.done(path, item)
    assert raised.value.objects == ("t_a",)
    assert "reindex" in raised.value.hint


def test_vacuum_does_not_repair_an_index_and_reindex_does(lab: Any) -> None:
    path = lab.make(free=0)
    spoil_index(path, "t_a")
    lab.done(path, lab.planned(path, Operation.VACUUM, Policy(force=True)))
    assert not lab.sound(path)
    damaged = Measurement(
        at=datetime(2025, 12, 31, tzinfo=UTC), engine="sqlite", target="", object="", operation=Operation.CHECK,
        method="", seconds=1, work_bytes=1, bytes_before=1, bytes_after=1, values={"damaged": json.dumps(["t_a"])},
    )  # fmt: skip
    proposal = lab.proposed(path, Operation.REINDEX, None, History(own=[damaged]))
    assert (proposal.decision, proposal.object) == (Decision.RUN, "t_a")
    assert "damaged" in proposal.reason
    vacuum = lab.proposed(
        path, Operation.VACUUM, Policy(thresholds={"vacuum": {"min_share": 0}}), History(own=[damaged])
    )
    assert Operation.REINDEX not in vacuum.covers
    _, evidence = lab.done(path, lab.item_of(proposal))
    assert evidence.effective == "yes"
    assert lab.sound(path)


def test_reindex_is_followed_by_a_check_of_its_table(lab: Any) -> None:
    path = lab.make(free=0)
    spoil_index(path, "t_b")
    item = lab.item_of(lab.proposed(path, Operation.REINDEX, Policy(force=True)), object="t_a")
    with pytest.raises(Damaged) as raised:
        lab.done(path, item)
    assert raised.value.objects == ("t_b",)


def test_reindex_of_rows_that_break_a_constraint_is_damage(lab: Any) -> None:
    path = lab.make("CREATE TABLE u (a)", "INSERT INTO u VALUES (1), (1)")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("CREATE INDEX u_a ON u (a)")
        connection.execute("UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX u_a ON u (a)' WHERE name = 'u_a'")
    connection.close()
    with pytest.raises(Damaged, match="break a constraint"):
        lab.done(path, lab.item_of(lab.proposed(path, Operation.REINDEX, Policy(force=True)), object="u_a"))


def test_index_that_is_gone_is_drift(lab: Any) -> None:
    path = lab.make()
    item = lab.item_of(lab.proposed(path, Operation.REINDEX, Policy(force=True)), object="gone")
    with pytest.raises(Refused) as raised:
        lab.done(path, item)
    assert raised.value.kind is Kind.DRIFT


@pytest.mark.parametrize("operation", [Operation.REINDEX, Operation.CHECK])
def test_long_reading_is_stopped_at_once(lab: Any, operation: Operation) -> None:
    path = lab.make(rows=30_000, free=0)
    policy = Policy(force=True, thresholds={"check": {"method": "integrity_check"}})
    item = lab.planned(path, operation, policy)
    session = lab.opened(path)
    ticks: list[int] = []
    tick = session.handle._tick

    def interrupt_at_third(*_: object) -> bool:
        ticks.append(1)
        if len(ticks) == 3:
            session.interrupt()
        return bool(tick())

    session.handle._tick = interrupt_at_third
    with pytest.raises(Interrupted):
        session.run(item, Recorder())
    assert len(ticks) <= 4
    session.close()


@pytest.mark.parametrize("operation", [Operation.REINDEX, Operation.CHECK])
def test_long_reading_shows_how_far_it_is(lab: Any, operation: Operation) -> None:
    path = lab.make(rows=40_000, free=0)
    policy = Policy(force=True, thresholds={"check": {"method": "integrity_check"}})
    recorder = Recorder()
    with recorder.sampling():
        lab.done(path, lab.planned(path, operation, policy), recorder)
    fractions = [p.fraction for p in recorder.seen if p.fraction]
    assert len(set(fractions)) > 3
    assert fractions == sorted(fractions)
    assert min(fractions) < 0.5 < max(fractions)


# --- statistics ---


def test_limited_analyze_keeps_no_samples_and_a_database_with_samples_is_analysed_in_full(lab: Any) -> None:
    path = lab.make()
    lab.done(path, lab.planned(path, Operation.ANALYZE))
    assert samples(path) == 0
    full = Policy(force=True, thresholds={"analyze": {"analysis_limit": 0}})
    lab.done(path, lab.planned(path, Operation.ANALYZE, full))
    assert samples(path) > 0
    again = lab.planned(path, Operation.ANALYZE, Policy(force=True))
    assert (again.method, [notice.code for notice in again.notices]) == ("full", ["stat4_kept"])
    lab.done(path, again)
    assert samples(path) > 0
    limited = Policy(force=True, thresholds={"analyze": {"analysis_limit": 400}})
    assert [n.code for n in lab.planned(path, Operation.ANALYZE, limited).notices] == ["stat4_lost"]


def samples(path: Path) -> int:
    connection = sqlite3.connect(path)
    found: int = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat4'").fetchone()[0]
    # Another build of SQLite does not read the table of that name, but its pages show in the schema alone.
    connection.close()
    code = "import apsw, sys; print(apsw.Connection(sys.argv[1]).execute('SELECT count(*) FROM sqlite_stat4').get)"
    counted = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True, text=True)
    return int(counted.stdout) if found else 0


@pytest.mark.parametrize("operation", [Operation.ANALYZE, Operation.OPTIMIZE])
def test_statistics_are_there_afterwards(lab: Any, operation: Operation) -> None:
    path = lab.make("CREATE TABLE u (a PRIMARY KEY)", "INSERT INTO u VALUES (1), (2)")
    work, evidence = lab.done(path, lab.planned(path, operation))
    assert evidence.effective == "yes"
    connection = sqlite3.connect(path)
    assert {row[0] for row in connection.execute("SELECT tbl FROM sqlite_stat1")} >= {"t", "u"}
    connection.close()
    assert lab.proposed(path, operation).decision is Decision.SKIP
    if operation is Operation.OPTIMIZE:
        assert sorted(work.messages) == ['ANALYZE "main"."t"', 'ANALYZE "main"."u"']


def test_statistics_that_are_not_there_are_not_claimed(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.ANALYZE)
    session = lab.opened(path)
    work = session.run(item, Recorder())
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM sqlite_stat1")
    connection.close()
    assert session.verify(item, work).effective == "no"
    session.close()


def test_busy_analyze_is_deferred(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.ANALYZE, lock_wait=0.01, lock_tries=2)
    one = lab.other(path)
    one.does("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match="locked") as raised:
        lab.done(path, item)
    assert str(one.pid) in raised.value.message
