"""The pure parts of the page: its sentence, what is left of a run, filters, the past, rows and pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from dbupkeep.estimates import Measurement
from dbupkeep.jobs import ChildStats, Job, JobStatus, JobType, Phase
from dbupkeep.operations import Operation
from dbupkeep.plans import Source
from dbupkeep.progress import Progress
from dbupkeep.views.page import filters, past, promises, squares, tables, tree, trouble
from dbupkeep.views.page.headline import State, headline
from dbupkeep.views.page.remaining import remaining
from dbupkeep.views.page.signs import state
from dbupkeep.views.page.templates import prose

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
MIB = 1 << 20


def job(name: str = "vacuum", **values: object) -> Job:
    config = {"operation": name}
    made = Job(
        id=name, parent_id="run", correlation_id="run", type=JobType.DATABASE_MAINTENANCE_OPERATION, phase=Phase.EXECUTION,
        name=f"{name} app.db", created_at=NOW, config=config, target="sqlite:///srv/app.db",
    )  # fmt: skip
    return replace(made, **values)


def run(**values: object) -> Job:
    base = job("run", type=JobType.DATABASE_MAINTENANCE_PARENT, phase=Phase.ORCHESTRATION, status=JobStatus.RUNNING)
    return replace(base, started_at=NOW - timedelta(seconds=50), **values)


QUIET = State(databases=12, troubled=0, failed=0, running=0, gained=0, due=None, served=True)


@pytest.mark.parametrize(
    ("changed", "tone", "said"),
    [
        ({}, "good", "All 12 databases are healthy."),
        ({"databases": 1}, "good", "The one database is healthy."),
        ({"databases": 0}, "quiet", "No database was maintained yet."),
        ({"troubled": 2, "failed": 1}, "bad", "2 of 12 databases need a look."),
        ({"troubled": 1}, "warn", "1 of 12 databases needs another run."),
        ({"gained": 3 << 30}, "good", "All 12 databases are healthy. 3.0 GiB given back in the last 24 hours."),
        ({"due": NOW + timedelta(hours=5)}, "good", "All 12 databases are healthy. The next run starts in 5 h."),
        ({"due": NOW, "served": False}, "good", "All 12 databases are healthy. Nothing starts by itself now: no service runs on this ledger."),
        ({"running": 2}, "good", "All 12 databases are healthy. 2 runs go on now."),
    ],
)  # fmt: skip
def test_how_things_are_in_a_sentence(changed: dict[str, object], tone: str, said: str) -> None:
    found = headline(replace(QUIET, **changed), NOW)
    assert (found.tone, f"{found.first} {found.rest}".strip()) == (tone, said)
    assert found.mark, "colour is not all that tells it"


def going(fraction: float | None) -> Progress:
    return Progress(fraction=fraction, source=Source.ESTIMATED)


def test_what_is_left_is_a_range_of_prediction_and_pace() -> None:
    slow = run(stats=ChildStats(running=1, weight_total=60_000))
    found = remaining(slow, going(0.5), at_a_time=1, now=NOW)
    assert found is not None
    assert found.least == 30
    assert found.most == pytest.approx(50 * 1.3)
    assert found.said == "30 s to 1 min left"


def test_at_the_beginning_only_the_prediction_counts() -> None:
    found = remaining(run(stats=ChildStats(running=1, weight_total=60_000)), going(0.01), at_a_time=2, now=NOW)
    assert found is not None
    assert found.least < 30 < found.most


def test_a_pause_is_no_pace() -> None:
    slow = run(stats=ChildStats(running=1, weight_total=10_000), paused=True)
    found = remaining(slow, going(0.99), at_a_time=0, now=NOW + timedelta(hours=5))
    assert found is not None
    assert found.said == "almost done"


def test_nothing_is_said_of_what_nobody_knows() -> None:
    stats = ChildStats(running=1, weight_total=60_000)
    assert remaining(run(stats=stats), going(None), at_a_time=1, now=NOW) is None
    assert remaining(run(stats=stats, status=JobStatus.COMPLETED), going(1.0), at_a_time=1, now=NOW) is None


def test_filters() -> None:
    wanted = filters.read("state:failed state:done op:vacuum APP colour:red")
    assert wanted.states == {"failed", "completed"}
    assert wanted.words == ("app", "colour:red")
    assert filters.read("op:vacuum app").fits(job(status=JobStatus.FAILED))
    assert not filters.read("op:analyze").fits(job())
    assert not filters.read("engine:postgresql").fits(job())
    assert not filters.read("")


def sample(days: int, before: int, after: int, **values: object) -> Measurement:
    made = Measurement(
        at=NOW + timedelta(days=days), engine="sqlite", target="sqlite:///srv/app%20one.db", object="", operation=Operation.VACUUM,
        method="", seconds=2.0, work_bytes=1, bytes_before=before * MIB, bytes_after=after * MIB, predicted_gain=10 * MIB,
        predicted_seconds=1.0,
    )  # fmt: skip
    return replace(made, **values)


SAMPLES = [sample(20, 70, 40), sample(10, 60, 40), sample(0, 100, 40)]


def test_what_grows_back() -> None:
    (found,) = past.regrowths([*SAMPLES, sample(5, 40, 40, operation=Operation.ANALYZE)])
    assert found.name == "app one.db"
    assert found.each_day == pytest.approx((20 + 30) * MIB / 20)
    assert found.days == pytest.approx(30 / 2.5)
    assert len(found.sizes) == 6


def test_predictions_are_right_within_a_factor() -> None:
    points = past.points(SAMPLES, of="seconds")
    assert len(points) == 3
    assert past.off_by(points) == 2
    assert past.off_by([]) is None


def test_the_size_of_all_does_not_grow_by_what_comes_to_be_known() -> None:
    other = sample(10, 500, 500, target="sqlite:///srv/big.db")
    runs = [run(id=f"{day}", finished_at=NOW + timedelta(days=day), status=JobStatus.COMPLETED) for day in (0, 10, 20)]
    found = past.tallies(runs, [*SAMPLES, other], lambda each: int(each.id) * MIB)
    assert [each.total for each in found] == [540 * MIB] * 3
    assert [each.gained for each in found] == [0, 10 * MIB, 20 * MIB]


def test_rows_of_one_database_are_divided_between_tables() -> None:
    jobs = [
        job(operation, id=f"{table}{operation}", hold=f"x|t{table:02}", config={"operation": operation, "object": f"t{table:02}"})
        for table in range(50)
        for operation in ("vacuum", "analyze")
    ]  # fmt: skip
    found = [tree.listing(run(), jobs, lambda _: [], filters.read(""), page) for page in (1, 2, 9)]
    assert [len(each.databases[0].tables) for each in found] == [30, 20, 20]
    assert {len(table.rows) for each in found for table in each.databases[0].tables} == {2}
    there = tree.listing(run(), jobs, lambda _: [], filters.read(""), 1, at="40analyze")
    assert (there.page, there.databases[0].tables[0].name) == (2, "t30")
    one = tree.listing(run(), jobs, lambda _: [], filters.read("op:vacuum t07"), 1)
    assert [row.job.id for table in one.databases[0].tables for row in table.rows] == ["7vacuum"]


def test_what_is_of_no_table_stands_alone() -> None:
    whole = job("check", hold="x|nothing")
    found = tree.listing(run(), [whole], lambda _: [], filters.read(""), 1)
    assert [table.name for table in found.databases[0].tables] == [""]


def test_databases_with_something_to_see_come_first_and_too_many_rows_are_left_out() -> None:
    stats = ChildStats(completed=100)
    parents = [
        run(id=f"db{number:02}", parent_id="run", name=f"db{number:02}", status=JobStatus.COMPLETED, stats=stats)
        for number in range(45)
    ]  # fmt: skip
    parents[43:] = [replace(parent, status=JobStatus.FAILED) for parent in parents[43:]]

    def children(parent_id: str) -> Sequence[Job]:
        return [job(id=f"{parent_id}-{number}", parent_id=parent_id) for number in range(100)]

    found = tree.listing(run(), parents, children, filters.read(""), 1)
    assert (found.pages, found.total, len(found.databases)) == (2, 45, 40)
    assert (found.databases[0].job.name, found.databases[0].shown) == ("db43", True)
    assert not any(database.shown for database in found.databases[1:]), "there is no room for the operations of db44"


@pytest.mark.parametrize(
    ("stats", "paused", "said"),
    [
        (ChildStats(running=1, pending=1), False, "1 running"),
        (ChildStats(running=1, pending=1), True, "1 running"),
        (ChildStats(pending=2), False, "1 waiting"),
        (ChildStats(pending=2), True, "1 paused"),
        (ChildStats(), False, "1 running"),
    ],
)
def test_a_database_whose_operations_all_wait_is_not_running(stats: ChildStats, paused: bool, said: str) -> None:
    assert tree.counted([run(id="db", stats=stats)], paused=paused) == said


@pytest.mark.parametrize(
    ("values", "verbs"),
    [
        ({}, ["pause", "stop", "cancel"]),
        ({"paused": True}, ["resume", "stop", "cancel"]),
        ({"stop_requested": True}, ["pause", "cancel"]),
        ({"cancel_requested": True}, []),
        ({"status": JobStatus.COMPLETED}, []),
        ({"status": JobStatus.COMPLETED, "stats": ChildStats(completed=1, cancelled=1)}, ["retry"]),
        ({"status": JobStatus.FAILED, "stats": ChildStats(failed=1)}, ["retry"]),
    ],
)
def test_what_may_be_asked_of_a_run(values: dict[str, object], verbs: list[str]) -> None:
    found = promises.of_run(run(id="run", **values))
    assert [button.verb for button in found] == verbs
    assert all(button.promise for button in found)


def test_what_an_engine_does_with_what_is_half_done_is_said() -> None:
    (cancel,) = promises.of_operation(job(status=JobStatus.RUNNING))
    assert "the file stays as it was" in cancel.promise
    assert cancel.grave
    (skip,) = promises.of_operation(job())
    assert skip.verb == "skip"


def test_troubles_are_the_newest_runs_alone() -> None:
    assert [each.id for each in trouble.newest_of_each([run(id="2"), run(id="1"), run(id="0", name="other")])] == [
        "2",
        "0",
    ]
    assert trouble.sort_of(job(status=JobStatus.COMPLETED, result={"effective": "no"})) == "no effect"
    assert (
        trouble.sort_of(job(status=JobStatus.DEFERRED, result={"in_a_row": 3}))
        == "deferred three runs in a row or more"
    )
    assert trouble.sort_of(job()) is None


def test_what_could_be_given_back_of_a_database() -> None:
    pages = {"bytes": 400 * 4096, "pages": 400, "free_pages": 100, "page_size": 4096}
    skipped = job("vacuum", parent_id="db", status=JobStatus.SKIPPED, result={"pages": 400, "free_pages": 100})
    checked = job("check", parent_id="db", status=JobStatus.COMPLETED, result={"after": pages}, finished_at=NOW)
    failed = job("analyze", parent_id="db", status=JobStatus.FAILED, error={"message": "torn page"})
    (found,) = squares.known([run(id="db", name="app.db")], [skipped, checked, failed], lambda _: None)
    assert found.share == 0.25
    assert found.trouble == "torn page"
    (planned,) = squares.known([run(id="db")], [job(parent_id="db", estimate={"gain_bytes": MIB})], lambda _: 4 * MIB)
    assert planned.share == 0.25


def test_figures_in_words() -> None:
    assert tables.figure_value("lock_wait_seconds", 1.5) == "1.5 s"
    assert tables.figure_value("free_pages", 12345) == "12,345"
    assert tables.figure_value("tables", '["a", "b"]') == "a, b"
    assert tables.figure_name("lock_wait_seconds") == "lock wait"
    assert tables.until(NOW + timedelta(hours=5), NOW) == "in 5 h"


def test_sentences_with_code_are_escaped() -> None:
    assert prose("run `a <b>` & go") == "run <code>a &lt;b&gt;</code> &amp; go"
    assert prose("one ` alone <i>") == "one ` alone &lt;i&gt;"


def test_words_for_states() -> None:
    assert state(run(paused=True)) == "paused"
    assert state(run(status=JobStatus.COMPLETED, outcome="nothing_to_do")) == "nothing to do"
    assert state(job()) == "waiting"
