"""How long work took: pauses and waits are no work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from msgspec.structs import replace

from dbupkeep.jobs import Job, JobStatus, JobType, Phase
from dbupkeep.ledger import JobQuery, Page, Reader
from dbupkeep.views.lengths import run_worked, took, worked
from dbupkeep.views.page import agenda

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def job(begins: float | None, ends: float | None, *, status: JobStatus = JobStatus.COMPLETED, **values: Any) -> Job:
    told: dict[str, Any] = {
        "id": "j", "parent_id": "p", "correlation_id": "r", "type": JobType.DATABASE_MAINTENANCE_OPERATION,
        "phase": Phase.EXECUTION, "name": "n", "created_at": NOW, **values,
    }  # fmt: skip
    at = [None if each is None else NOW + timedelta(seconds=each) for each in (begins, ends)]
    return Job(**told, status=status, started_at=at[0], finished_at=at[1])


def parent(begins: float, ends: float) -> Job:
    return job(begins, ends, type=JobType.DATABASE_MAINTENANCE_PARENT, phase=Phase.ORCHESTRATION)


def test_what_was_skipped_was_no_work() -> None:
    assert worked([job(0, 1), job(5, 9, status=JobStatus.SKIPPED)]) == 1


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([(0, 1), (60, 61.5)], 2.5),  # paused in between
        ([(0, 4), (1, 2), (3, 6)], 6),  # side by side
        ([(None, 11)], None),  # never began
        ([], None),
    ],
)
def test_only_what_was_at_work_counts(spans: list[tuple[float | None, float]], seconds: float | None) -> None:
    assert worked([job(*span) for span in spans]) == seconds


def test_a_database_that_never_began_shows_no_time_and_a_pause_is_none() -> None:
    never = job(None, 11, status=JobStatus.CANCELLED)
    assert took(parent(0, 11), [never]) == ""
    assert took(parent(0, 16), [job(0, 0.1), never]) == "100 ms"
    assert took(job(0, 2)) == "2 s"


def test_how_long_a_run_will_take_is_told_from_its_work() -> None:
    class Ledger:
        def jobs(self, query: JobQuery, *, cursor: str = "", limit: int = 100) -> Page:
            return Page(jobs=(job(0, 1), job(9.9, 11)))

    assert run_worked(cast("Reader", Ledger()), parent(0, 11)) == pytest.approx(2.1)


def test_the_next_run_is_told_by_work_and_not_by_pauses() -> None:
    class Ledger:
        def jobs(self, query: JobQuery, *, cursor: str = "", limit: int = 100) -> Page:
            if query.roots:
                return Page(jobs=(replace(parent(0, 3600), id="r", name="nightly", outcome="done"),))
            return Page(jobs=(job(0, 1), job(3599, 3600)))

    assert agenda._lasts(cast("Reader", Ledger()), "nightly") == 2
