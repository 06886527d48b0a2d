"""Small indexes of small tables are rebuilt in groups: what is in the way of one keeps no other, and all is cleared up."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from msgspec import structs

from dbupkeep.definitions import Policy
from dbupkeep.engines.postgresql import rebuilds
from dbupkeep.engines.postgresql.inquiry import hold_of
from dbupkeep.errors import Busy, Gone, Interrupted, Kind, Lost, NotPermitted, OperationError
from dbupkeep.estimates import OF_MEMBERS, History, Measurement
from dbupkeep.facts import ObjectFacts
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql import NEWEST, Server, clone, start
from tests.plugins.postgresql_bench import Workbench, holding, in_thread, until
from tests.plugins.postgresql_phases import PHASES, SETUP, held, invalid, lost, strangers

pytestmark = pytest.mark.engine("postgresql")

REINDEX = Operation.REINDEX
EVERY = ("t_k", "t_pkey", "u_a", "u_pkey", "v_pkey", "w_pkey")
"""The indexes of the group, in the order in which they are rebuilt: the big before the small, then by name."""


def policy(**settings: float) -> Policy:
    return Policy(force=True, thresholds={"reindex": {"group_from": 2, "cleanup_wait": 2.0, **settings}})


def small(bench: Workbench) -> None:
    """Four small tables beside the one whose rebuild can be held, all with indexes of the same size."""
    bench.database.execute(
        *(statement.replace("generate_series(1, 2000)", "generate_series(1, 200)") for statement in SETUP),
        "CREATE TABLE u (id int PRIMARY KEY, a int)",
        "CREATE INDEX u_a ON u (a)",
        "CREATE TABLE v (id int PRIMARY KEY)",
        "CREATE TABLE w (id int PRIMARY KEY)",
        "INSERT INTO u SELECT n, -n FROM generate_series(1, 200) n",
        "INSERT INTO v SELECT n FROM generate_series(1, 200) n",
        "INSERT INTO w SELECT n FROM generate_series(1, 200) n",
        "VACUUM ANALYZE",
    )


def group(bench: Workbench, names: Sequence[str] = EVERY, **settings: float) -> PlanItem:
    """All indexes there are in one item: as if their names were of one group."""
    found = bench.due(REINDEX, policy=policy(**settings, group_from=1000))
    one = {each.object: each for each in found}
    whole = [name if "." in name else f"public.{name}" for name in names]
    assert set(one) == set(whole)
    items = [one[name] for name in whole]
    return structs.replace(
        item_of(items[0]), object="small tables 1", hold="small tables 1", members=tuple(each.object for each in items),
        evidence={
            **{name: items[0].evidence[name] for name in ("system", "database_oid", "version_number")},
            "oids": json.dumps([oid for each in items for oid in json.loads(str(each.evidence["oids"]))]),
            "tables": json.dumps([each.evidence["table_oid"] for each in items]),
            "bytes": sum(int(each.evidence["bytes"] or 0) for each in items),
            "valid": True,
        },
    )  # fmt: skip


def oids(bench: Workbench) -> dict[str, int]:
    """The valid indexes by name."""
    return dict(
        bench.database.query(
            "SELECT relname::text, oid::bigint FROM pg_class JOIN pg_index ON indexrelid = oid WHERE indisvalid"
            " AND relnamespace = 'public'::regnamespace"
        )
    )


def rebuilt(bench: Workbench, before: dict[str, int]) -> set[str]:
    now = oids(bench)
    return {name for name in before if now.get(name, before[name]) != before[name]}


@contextmanager
def counted(bench: Workbench) -> Iterator[list[str]]:
    """The statements that rebuild, as the server logged them meanwhile."""
    start, found = len(bench.database.server.log), list[str]()
    yield found
    found += [
        line
        for line in bench.database.server.log[start:].splitlines()
        if "REINDEX INDEX" in line and "/* dbupkeep" in line
    ]


# --- it is done, and looked at ---


def test_a_group_is_rebuilt_verified_and_told_of_each_member(bench: Workbench) -> None:
    small(bench)
    bench.database.execute("DELETE FROM u WHERE id > 5", "VACUUM u")
    item, before, recorder = group(bench), oids(bench), Recorder()
    work, evidence = bench.perform(item, recorder)
    assert rebuilt(bench, before) == set(EVERY)
    assert evidence.effective is Effective.YES
    assert "6 indexes: " in evidence.reason
    assert work.values["indexes"] == 6
    assert int(work.values["wal_bytes"] or 0) > 0
    pairs = json.loads(str(evidence.values["members"]))
    assert list(pairs) == list(item.members)
    assert evidence.before["bytes"] == sum(was[0] for was, _ in pairs.values()) == item.evidence["bytes"]
    assert evidence.after["bytes"] == sum(now[0] for _, now in pairs.values())
    assert evidence.members.keys() == set(item.members)
    assert len(recorder.notes) == 1
    assert [(seen.current, seen.total) for seen in recorder.seen if seen.unit == "indexes"] == [
        (n, 6) for n in range(1, 7)
    ]
    assert not bench.database.query("SELECT FROM pg_locks WHERE locktype = 'advisory'")


def test_they_are_planned_in_groups_and_the_same_indexes_alone_hold_the_same(newest: Workbench) -> None:
    for number in range(20):
        newest.database.execute(f"CREATE TABLE s{number} (id int PRIMARY KEY)")
    found = newest.due(REINDEX, policy=Policy(force=True))
    assert 1 <= len(found) <= 4
    assert sorted(name for each in found for name in each.members) == sorted(f"public.s{n}_pkey" for n in range(20))
    alone = {each.object: each.hold for each in newest.due(REINDEX, policy=policy(group_from=1000))}
    assert alone == {name: each.hold for each in found for name in each.members}
    before = oids(newest)
    for each in found:
        assert newest.perform(item_of(each))[1].effective is Effective.YES
    assert len(rebuilt(newest, before)) == 20
    assert newest.due(REINDEX) == []


def test_indexes_of_toast_tables_and_partitions_and_strange_names_are_members_too(newest: Workbench) -> None:
    newest.database.execute(
        "CREATE TABLE t (a text)",
        "ALTER TABLE t ALTER a SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT repeat('x', 3000) FROM generate_series(1, 20)",
        "CREATE TABLE p (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000)",
        "CREATE INDEX p_id ON p (id)",
        """CREATE TABLE "Strange; ""table"" %s" (id int PRIMARY KEY)""",
        "VACUUM ANALYZE",
    )
    toast = newest.database.value(
        "SELECT 'pg_toast.' || relname FROM pg_class JOIN pg_index ON indexrelid = oid"
        " WHERE indrelid = (SELECT reltoastrelid FROM pg_class WHERE oid = 't'::regclass)"
    )
    names = [toast, "public.p1_id_idx", 'public."Strange; ""table"" %s_pkey"']
    one = {each.object: each for each in newest.due(REINDEX, policy=policy(group_from=1000))}
    assert one.keys() == set(names)
    assert one[toast].hold == hold_of(ObjectFacts(name="public.t", kind="table", bytes=0))
    item = group(newest, [name.removeprefix("public.") for name in names])
    numbers = "SELECT string_agg(indexrelid::text, ' ' ORDER BY indrelid) FROM pg_index WHERE indrelid >= 16384"
    before = newest.database.value(numbers)
    _, evidence = newest.perform(item)
    assert evidence.effective is Effective.YES
    assert evidence.members.keys() == set(names)
    now = newest.database.value(numbers)
    assert [was == new for was, new in zip(before.split(), now.split(), strict=True)].count(True) == 1, (
        "p_id has no file"
    )
    assert invalid(newest.database) == set()


def test_a_plan_that_is_looked_at_again_names_the_member_that_is_gone(newest: Workbench) -> None:
    small(newest)
    item = group(newest)
    assert newest.drift(item) == ""
    newest.database.execute("DROP INDEX u_a", "CREATE INDEX u_a ON u (a)")
    assert newest.drift(item).startswith("public.u_a is gone")


def test_done_by_others_meanwhile_there_is_nothing_to_do(newest: Workbench) -> None:
    small(newest)
    item = group(newest)
    newest.database.execute("REINDEX TABLE CONCURRENTLY t", "REINDEX TABLE CONCURRENTLY u")
    newest.database.execute("REINDEX TABLE CONCURRENTLY v", "REINDEX TABLE CONCURRENTLY w")
    with counted(newest) as statements:
        _, evidence = newest.perform(item)
    assert statements == []
    assert evidence.effective is Effective.YES
    assert evidence.reason == "6 indexes had been rebuilt since the plan already"


def test_verification_names_the_member_that_is_not_rebuilt(newest: Workbench) -> None:
    small(newest)
    item = group(newest)
    with newest.session() as session:
        work = session.run(item, Recorder())
        was = json.loads(str(item.evidence["oids"]))
        now = oids(newest)
        wrong = structs.replace(item, evidence={**item.evidence, "oids": json.dumps([*was[:2], now["u_a"], *was[3:]])})
        evidence = session.verify(wrong, work)
        assert (evidence.effective, "public.u_a is not rebuilt" in evidence.reason) == (Effective.NO, True)
        assert "public.u_a" not in evidence.members
        newest.database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'v_pkey'::regclass")
        evidence = session.verify(item, work)
        assert evidence.effective is Effective.NO
        assert "public.v_pkey is not rebuilt, or not valid" in evidence.reason
        newest.database.execute("DROP TABLE v")
        assert session.verify(item, work).effective is Effective.YES, "what is dropped afterwards is nobody's fault"


def test_changed_collations_of_many_small_indexes_are_rebuilt_once(postgresql: Callable[[int], Server]) -> None:
    bench = Workbench(database=postgresql(15).create())
    bench.database.execute("CREATE COLLATION german (provider = icu, locale = 'de')")
    for number in range(20):
        bench.database.execute(f"CREATE TABLE s{number} (a text COLLATE german UNIQUE)")
    bench.database.execute("UPDATE pg_collation SET collversion = '1' WHERE collname = 'german'")
    due = bench.due(REINDEX)
    assert sum(len(each.members) or 1 for each in due) == 20
    runs = []
    for each in due:
        work, evidence = bench.perform(item_of(each))
        runs.append(Measurement(
            at=datetime.now(UTC), engine="postgresql", target="", object=each.object, operation=REINDEX, method="",
            seconds=work.seconds, work_bytes=1, bytes_before=1, bytes_after=1,
            values={**evidence.values, OF_MEMBERS: json.dumps(evidence.members)},
        ))  # fmt: skip
    assert bench.due(REINDEX, history=History(own=runs)) == []
    assert bench.due(REINDEX, history=History(own=runs[1:])) != []
    bench.database.drop()


# --- what is in the way of one ---


def test_a_member_that_is_waited_for_too_long_is_put_off_and_the_others_are_done(newest: Workbench) -> None:
    small(newest)
    item, before = group(newest, max_wait=1.0), oids(newest)
    with holding(newest.database, "UPDATE u SET a = 0 WHERE id = 1") as holder:
        work, evidence = newest.perform(item)
        assert f"blocked by pid {holder.info.backend_pid}" in work.put_off["public.u_a"]
    assert work.put_off.keys() == {"public.u_a", "public.u_pkey"}
    assert "is not begun: it would wait" in work.put_off["public.u_pkey"], "who was waited for once is known"
    assert rebuilt(newest, before) == set(EVERY) - {"u_a", "u_pkey"}
    assert evidence.effective is Effective.YES
    assert evidence.members.keys() == set(item.members) - work.put_off.keys()
    assert work.values["copies_left"] == 1, "the table was in use"
    assert invalid(newest.database) == {"u_a_ccnew"}
    drop = newest.item(REINDEX)
    assert (drop.object, drop.method) == ("public.u_a_ccnew", "drop what was left")
    newest.perform(drop)
    assert invalid(newest.database) == set()


def test_who_is_in_the_way_before_puts_off_only_his_tables(newest: Workbench) -> None:
    small(newest)
    item, before = group(newest, blocker_age=0.05), oids(newest)
    with holding(newest.database, "UPDATE v SET id = 0 WHERE id = 1"):
        until(lambda: newest.database.query("SELECT FROM pg_stat_activity WHERE application_name = 'the application'"
                                            " AND xact_start < clock_timestamp() - interval '0.1 s'"))  # fmt: skip
        with counted(newest) as statements:
            work, _ = newest.perform(item)
    assert list(work.put_off) == ["public.v_pkey"]
    assert not any("v_pkey" in line for line in statements), "nothing was begun there"
    assert rebuilt(newest, before) == set(EVERY) - {"v_pkey"}


def test_a_deadline_holds_for_each_index(newest: Workbench) -> None:
    small(newest)
    item, before = group(newest, deadline=1.0), oids(newest)
    with held(newest.database, "building index"):
        work, evidence = newest.perform(item)
    assert "longer than its deadline" in work.put_off["public.t_k"]
    assert rebuilt(newest, before) == set(EVERY) - {"t_k"}
    assert evidence.effective is Effective.YES
    assert invalid(newest.database) == set()


def test_the_clock_begins_anew_with_each_index(newest: Workbench) -> None:
    newest.database.execute(
        "CREATE FUNCTION slow(k int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_catalog.pg_sleep(0.008); RETURN k; END $$"
    )
    names = [f"s{number}_k" for number in range(5)]
    for number in range(5):
        newest.database.execute(
            f"CREATE TABLE s{number} AS SELECT generate_series(1, 50) AS k",
            f"CREATE INDEX s{number}_k ON s{number} (slow(k))",
        )
    item = group(newest, names, deadline=1.5)
    work, _ = newest.perform(item)
    assert work.seconds > 1.5, "together they take longer than one may"
    assert work.put_off == {}


def test_a_table_that_another_of_us_is_on_is_put_off(newest: Workbench) -> None:
    small(newest)
    item, before = group(newest), oids(newest)
    with newest.session(tag="dbupkeep:other:1") as other:
        other.handle.lock(newest.database.value("SELECT 't'::regclass::oid::bigint"), "t")  # type: ignore[attr-defined]
        work, _ = newest.perform(item)
    assert work.put_off.keys() == {"public.t_k", "public.t_pkey"}
    assert "being maintained already" in work.put_off["public.t_k"]
    assert rebuilt(newest, before) == set(EVERY) - {"t_k", "t_pkey"}


def test_dropped_and_renamed_members_are_passed_over(newest: Workbench) -> None:
    small(newest)
    item, before = group(newest), oids(newest)
    newest.database.execute(
        "DROP TABLE v", "ALTER INDEX u_a RENAME TO u_b", "DROP INDEX t_k", "CREATE INDEX t_k ON t (k)"
    )
    work, evidence = newest.perform(item)
    assert work.put_off == {}
    assert rebuilt(newest, before) - {"t_k"} == {"t_pkey", "u_pkey", "w_pkey"}
    assert json.loads(str(work.values["rebuilt_before"])) == ["public.t_k"], "it is a new one already"
    assert evidence.members.keys() == {f"public.{name}" for name in ("t_k", "t_pkey", "u_pkey", "w_pkey")}
    newest.database.execute("DROP TABLE t, u, w")
    with pytest.raises(Gone):
        newest.perform(item)


def test_a_table_that_is_dropped_in_the_middle_is_passed_over(newest: Workbench) -> None:
    small(newest)
    item, before = group(newest), oids(newest)
    with held(newest.database, "building index") as phase:
        running = in_thread(lambda: newest.perform(item))
        phase.arrive()
        newest.database.execute("DROP TABLE u")
        phase.release()
        work, evidence = running.outcome()
    assert (work.put_off, work.fault) == ({}, None)
    assert rebuilt(newest, before) == {"t_k", "t_pkey", "v_pkey", "w_pkey"}
    assert evidence.effective is Effective.YES


def test_a_member_that_cannot_be_built_fails_alone_and_the_others_have_their_evidence(bench: Workbench) -> None:
    small(bench)
    item, before = group(bench), oids(bench)
    bench.database.execute(
        "UPDATE pg_index SET indisunique = false WHERE indexrelid = 'v_pkey'::regclass",
        "INSERT INTO v VALUES (1)",
        "UPDATE pg_index SET indisunique = true WHERE indexrelid = 'v_pkey'::regclass",
    )
    work, evidence = bench.perform(item)
    assert isinstance(work.fault, OperationError)
    assert "1 of 6 small indexes were not done: 5 of 6 indexes are done" in work.fault.message
    assert "23505" in work.fault.why
    assert rebuilt(bench, before) == set(EVERY) - {"v_pkey"}
    assert evidence.members.keys() == set(item.members) - {"public.v_pkey"}
    assert invalid(bench.database) == set()


def test_what_one_was_stopped_for_is_not_said_of_another(newest: Workbench) -> None:
    small(newest)
    item = group(newest, max_wait=1.0)
    newest.database.execute(
        "UPDATE pg_index SET indisunique = false WHERE indexrelid = 'v_pkey'::regclass",
        "INSERT INTO v VALUES (1)",
        "UPDATE pg_index SET indisunique = true WHERE indexrelid = 'v_pkey'::regclass",
    )
    with holding(newest.database, "UPDATE u SET a = 0 WHERE id = 1"):
        work, _ = newest.perform(item)
    assert work.put_off.keys() == {"public.u_a", "public.u_pkey"}
    assert work.fault is not None
    assert "1 of 6 small indexes were not done: 3 of 6 indexes are done; public.v_pkey: " in work.fault.message
    assert "waited" not in work.fault.message


def test_a_role_without_rights_on_some_tables(newest: Workbench) -> None:
    small(newest)
    item = group(newest)
    newest.database.execute("CREATE ROLE keeper LOGIN", "GRANT MAINTAIN ON u, v TO keeper")
    try:
        before = oids(newest)
        work, _ = newest.perform(item, user="keeper")
        assert isinstance(work.fault, NotPermitted)
        assert rebuilt(newest, before) == {"u_a", "u_pkey", "v_pkey"}
        newest.database.execute("REVOKE ALL ON u, v FROM keeper")
        with pytest.raises(NotPermitted):
            newest.perform(group(newest), user="keeper")
    finally:
        newest.database.execute("DROP OWNED BY keeper", "DROP ROLE keeper")


# --- stopped, and lost ---


@pytest.mark.parametrize("phase", PHASES)
def test_stopped_in_any_phase_of_one_it_leaves_nothing_and_ends_them_all(newest: Workbench, phase: str) -> None:
    small(newest)
    theirs = strangers(newest.database, "t_k_ccnew", "t_pkey_ccnew") | strangers(
        newest.database, "u_a_ccold", table="u"
    )
    item, before = group(newest), oids(newest)
    with newest.session() as session, held(newest.database, phase) as hold:
        running = in_thread(lambda: session.run(item, Recorder()))
        hold.arrive()
        session.interrupt()
        hold.release()
        with pytest.raises(Interrupted):
            running.outcome()
    assert rebuilt(newest, before) == ({"t_k"} if "readers" in phase else set())
    assert invalid(newest.database) == theirs
    assert not newest.database.query("SELECT FROM pg_stat_activity WHERE application_name LIKE 'dbupkeep:%'")


def test_a_stop_that_comes_as_the_time_of_one_is_over_is_not_lost(newest: Workbench) -> None:
    """What one statement was stopped for is forgotten for the next; that somebody asked is not."""
    with newest.session() as session:
        handle = session.handle  # type: ignore[attr-defined] # PostgreSQL's own
        handle.interrupt(OperationError("too late", kind=Kind.INTERRUPTED))
        handle.go_on()
        handle.check_stop()
        handle.interrupt(OperationError("too late", kind=Kind.INTERRUPTED))
        handle.interrupt()
        handle.go_on()
        with pytest.raises(Interrupted):
            handle.check_stop()
        with pytest.raises(Interrupted), handle.one_item():
            raise AssertionError("it is not begun")
        with handle.one_item():
            pass


@pytest.mark.parametrize("phase", ["building index", "waiting for readers before dropping"])
def test_a_lost_attempt_is_gone_on_with_where_it_was(bench: Workbench, phase: str) -> None:
    small(bench)
    theirs = strangers(bench.database, "t_k_ccnew")
    item = of_these(group(bench), "u_a", "u_pkey", "v_pkey", "t_k")
    before, recorder = oids(bench), lost(bench, item, phase)
    with bench.session(tag="dbupkeep:lost:2") as session:
        evidence = session.recover(item, "dbupkeep:lost:1", recorder.notes)
        assert invalid(bench.database) == theirs
        assert session.recover(item, "dbupkeep:lost:1", recorder.notes) == evidence
        if "readers" in phase:
            assert evidence is not None
            assert evidence.before["bytes"] == item.evidence["bytes"]
            assert evidence.reason.startswith("the attempt before had done it: 4 indexes")
        else:
            assert evidence is None
            with counted(bench) as statements:
                work = session.run(item, recorder)
            assert len(statements) == 1, "the others are not done again"
            evidence = session.verify(item, work)
            assert "; 3 indexes had been rebuilt since the plan already" in evidence.reason
        assert evidence.effective is Effective.YES
        assert evidence.members.keys() == set(item.members)
    assert rebuilt(bench, before) == {"u_a", "u_pkey", "v_pkey", "t_k"}
    assert invalid(bench.database) == theirs


def of_these(whole: PlanItem, *names: str) -> PlanItem:
    """A group of some members of another one."""
    places = [whole.members.index(f"public.{name}") for name in names]
    chosen = {
        name: json.dumps([json.loads(str(whole.evidence[name]))[place] for place in places])
        for name in ("oids", "tables")
    }
    evidence = {**whole.evidence, **chosen, "bytes": 16384 * len(names)}
    return structs.replace(whole, members=tuple(whole.members[place] for place in places), evidence=evidence)


def test_a_server_that_goes_down_is_gone_on_with_when_it_is_back() -> None:
    own = start(NEWEST)
    try:
        bench = Workbench(database=own.create("mortal"))
        small(bench)
        bench.database.execute("CHECKPOINT")
        item, recorder = of_these(group(bench), "u_a", "u_pkey", "v_pkey", "t_k", "w_pkey"), Recorder()
        before = oids(bench)
        with bench.session(tag="dbupkeep:lost:1") as session, held(bench.database, "building index") as phase:
            running = in_thread(lambda: session.run(item, recorder))
            phase.arrive()
            own.stop("QUIT")
            with pytest.raises(Lost):
                running.outcome()
        own.start_again()
        with bench.session(tag="dbupkeep:lost:2") as session:
            assert session.recover(item, "dbupkeep:lost:1", recorder.notes) is None
            assert invalid(bench.database) == set()
            assert session.verify(item, session.run(item, Recorder())).effective is Effective.YES
        assert rebuilt(bench, before) == set(EVERY) - {"t_pkey"}
        assert invalid(bench.database) == set()
    finally:
        own.remove()


def test_a_stranger_who_left_a_copy_meanwhile_keeps_it(newest: Workbench) -> None:
    """Nobody knows then which of two is ours: better one too many than one of somebody else's gone."""
    small(newest)
    item = group(newest)
    recorder = lost(newest, item, "building index")
    strangers(newest.database, "w_pkey_ccnew", table="w")
    with newest.session(tag="dbupkeep:lost:2") as session:
        assert session.recover(item, "dbupkeep:lost:1", recorder.notes) is None
    assert invalid(newest.database) == {"t_k_ccnew", "w_pkey_ccnew"}


# --- replicas ---


@pytest.fixture
def replicated() -> Iterator[tuple[Workbench, psycopg.Connection[Any]]]:
    primary = start(NEWEST)
    standby = clone(primary)
    try:
        with standby.connect() as looking:
            yield Workbench(database=primary.create()), looking
    finally:
        standby.remove()
        primary.remove()


def test_replicas_are_looked_at_between_the_indexes(
    replicated: tuple[Workbench, psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilds, "LOOKS", 0.0)
    bench, standby = replicated
    small(bench)
    item = group(bench, max_lag_bytes=200_000, lag_patience=60.0, deadline=0.3)
    until(lambda: bench.database.value("SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication"))
    before, recorder, reached = oids(bench), Recorder(), threading.Event()

    def at_first(stage: str) -> None:
        if stage == "rebuilding":
            standby.execute("SELECT pg_wal_replay_pause()")
            bench.database.execute("CREATE TABLE more AS SELECT generate_series(1, 10000) AS a")
            reached.set()

    recorder._on_stage = at_first
    running = in_thread(lambda: bench.perform(item, recorder))
    until(lambda: any("waiting for a replica" in seen.stage for seen in recorder.seen))
    assert rebuilt(bench, before) == set()
    threading.Event().wait(0.6)  # the clock of the deadline stands while it waits
    standby.execute("SELECT pg_wal_replay_resume()")
    work, _ = running.outcome()
    assert work.put_off == {}
    assert rebuilt(bench, before) == set(EVERY)


def test_those_that_a_replica_kept_are_put_off(
    replicated: tuple[Workbench, psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, standby = replicated
    small(bench)
    item = group(bench, max_lag_bytes=1000, lag_patience=0.2)
    until(lambda: bench.database.value("SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication"))
    before, recorder = oids(bench), Recorder()
    monkeypatch.setattr(rebuilds, "LOOKS", 1000.0)

    def after_the_first(progress: Any) -> None:
        if progress.unit == "indexes" and progress.current == 1:
            standby.execute("SELECT pg_wal_replay_pause()")
            bench.database.execute("CREATE TABLE more AS SELECT generate_series(1, 10000) AS a")
            monkeypatch.setattr(rebuilds, "LOOKS", 0.0)

    recorder.progress = after_the_first  # type: ignore[method-assign] # it is to be told of each
    work, evidence = bench.perform(item, recorder)
    standby.execute("SELECT pg_wal_replay_resume()")
    assert rebuilt(bench, before) == {EVERY[0]}
    assert work.put_off.keys() == {f"public.{name}" for name in EVERY[1:]}
    assert "a replica is too far behind" in work.put_off["public.w_pkey"]
    assert evidence.effective is Effective.YES


def test_where_nothing_is_done_all_are_busy(newest: Workbench) -> None:
    small(newest)
    item = group(newest, blocker_age=0.05)
    with holding(newest.database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"):
        until(lambda: newest.database.query("SELECT FROM pg_stat_activity WHERE application_name = 'the application'"
                                            " AND xact_start < clock_timestamp() - interval '0.1 s'"))  # fmt: skip
        with pytest.raises(Busy) as raised:
            newest.perform(item)
    assert "6 of 6 small indexes were not done" in raised.value.what
