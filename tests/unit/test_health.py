"""What is wrong with a service is said of what is looked at, and of nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from dbupkeep.health import Check, FollowerSight, JobSight, Level, Sight, Verdict, judge
from dbupkeep.schedules import LastRun
from dbupkeep.views.cli.health import nagios_line

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def last(outcome: str, ago: timedelta = HOUR) -> LastRun:
    return LastRun(id="x", ended=True, outcome=outcome, started_at=NOW - ago, finished_at=NOW - ago)


WELL = JobSight(name="nightly", known_since=NOW - 9 * DAY, gap=DAY, last=last("done"), good_at=NOW - HOUR)
SIGHT = Sight(now=NOW, jobs=(WELL,), workers=1, scheduler_at=NOW - timedelta(seconds=20))


def checks(**changes: Any) -> dict[str, Check]:
    return {check.name: check for check in judge(replace(SIGHT, **changes)).checks}


def job(**changes: Any) -> tuple[JobSight, ...]:
    return (replace(WELL, **changes),)


def test_when_all_is_well_it_says_so_with_the_age_of_the_last_success() -> None:
    verdict = judge(SIGHT)
    assert verdict.level is Level.OK
    (success,) = [check for check in verdict.document()["checks"] if check["name"] == "success"]
    assert success == {
        "name": "success", "status": "ok", "message": "its last success was 60 min ago", "subject": "nightly",
        "age_seconds": 3600.0,
    }  # fmt: skip
    assert verdict.document()["status"] == "ok"


@pytest.mark.parametrize(
    ("changes", "name", "level", "said"),
    [
        ({"ledger": "row 7 is missing"}, "ledger", Level.CRITICAL, "row 7"),
        ({"scheduler_at": None}, "scheduler", Level.CRITICAL, "no service runs"),
        ({"scheduler_at": NOW - HOUR}, "scheduler", Level.CRITICAL, "60 min"),
        ({"scheduler_at": None, "jobs": ()}, "scheduler", Level.OK, "no job has a schedule"),
        ({"scheduler_at": None, "jobs": (), "served": True}, "scheduler", Level.CRITICAL, "no service runs"),
        ({"workers": 0}, "workers", Level.WARNING, "no worker process"),
        ({"workers": 0, "deliverable": 1, "oldest_pending_at": NOW - HOUR}, "workers", Level.CRITICAL, "60 min"),
        ({"workers": 0, "deliverable": 0, "oldest_pending_at": NOW - HOUR}, "workers", Level.WARNING, "no worker"),
        ({"workers": 0, "running": 2, "worker_at": NOW - HOUR}, "workers", Level.CRITICAL, "since 60 min, and nobody takes over"),
        ({"workers": 0, "running": 2, "worker_at": NOW - HOUR, "jobs": ()}, "workers", Level.CRITICAL, "(2 running)"),
        ({"workers": 0, "running": 1, "worker_at": NOW}, "workers", Level.WARNING, "nobody takes over"),
        ({"workers": 0, "running": 1}, "workers", Level.CRITICAL, "nobody takes over"),
        ({"jobs": job(good_at=NOW - 3 * DAY)}, "success", Level.CRITICAL, "ago"),
        ({"jobs": job(good_at=NOW - 3 * DAY, gap=2 * DAY)}, "success", Level.OK, "ago"),
        ({"jobs": job(last=last("failed"))}, "success", Level.WARNING, "ended failed; its last success"),
        ({"jobs": job(last=None, good_at=None, known_since=NOW)}, "success", Level.OK, "has not run yet"),
        ({"jobs": job(due_since=NOW - HOUR)}, "overdue", Level.CRITICAL, "nobody started it"),
        ({"jobs": job(due_since=NOW - HOUR, held="the window night is closed")}, "overdue", Level.WARNING, "night"),
        ({"followers": (FollowerSight(name="notify:ops", failing_since=NOW - HOUR, reason="no route", waiting=2),)},
         "follower", Level.WARNING, "2 wait): no route"),
        ({"followers": (FollowerSight(name="notify:ops", failing_since=NOW, reason="no route"),)},
         "follower", Level.OK, "no route"),
    ],
)  # fmt: skip
def test_what_is_wrong(changes: dict[str, Any], name: str, level: Level, said: str) -> None:
    check = checks(**changes)[name]
    assert check.level is level
    assert said in check.message
    others = [other for other in checks(**changes).values() if other.name != name]
    assert all(other.level is Level.OK for other in others)


def test_a_run_that_has_just_become_due_is_not_overdue() -> None:
    assert "overdue" not in checks(jobs=job(due_since=NOW - timedelta(minutes=5)))


def test_a_line_for_nagios() -> None:
    verdict = judge(replace(SIGHT, jobs=(replace(WELL, name="o'clock|=", last=last("failed")),)))
    line = nagios_line(verdict)
    assert line.startswith("DBUPKEEP WARNING - o'clock/=: its last run ended failed")
    said, _, data = line.partition(" | ")
    assert "|" not in said
    assert "'scheduler'=20s" in data
    assert nagios_line(Verdict(at=NOW, checks=())) == "DBUPKEEP OK - 0 checks"


def test_the_counters_of_the_metrics_are_no_receiver() -> None:
    assert (
        checks(followers=(FollowerSight(name="totals"),))["follower"].message == "the counters of the metrics keep up"
    )
    assert checks(followers=(FollowerSight(name="notify:ops"),))["follower"].message == "messages are delivered"
