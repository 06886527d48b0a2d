"""Progress as lines and as a picture: signs of life, what is known and what is not, never backwards."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from typing_extensions import override

from dbupkeep.events import AttemptLost, Event, JobCompleted, JobFailed, JobStarted, Recorded, RunPaused, StageReached
from dbupkeep.jobs import Job, JobStatus, JobType, Phase, count
from dbupkeep.ledger import JobQuery, Page, Reader
from dbupkeep.views.live import LiveView
from dbupkeep.views.plain import PlainView, event_line
from dbupkeep.views.terminal import Color, Terminal
from dbupkeep.views.watching import Watch
from dbupkeep.views.web.now import Now

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds - 1000)

    def monotonic(self) -> float:
        return self.seconds


def operation(place: int, status: JobStatus, progress: Mapping[str, Any] | None = None, **values: Any) -> Job:
    return Job(
        id=f"child-{place}", parent_id="root", correlation_id="root", type=JobType.DATABASE_MAINTENANCE_OPERATION,
        phase=Phase.EXECUTION, name="vacuum app.db", created_at=NOW, status=status, place=place, attempt=1, weight=100,
        started_at=NOW, config={"operation": "vacuum"}, progress=progress, **values,
    )  # fmt: skip


class Record:
    """What a watch asks a reader for."""

    def __init__(self, *children: Job) -> None:
        self.children = list(children)
        self.recorded: list[Recorded] = []

    def happen(self, job_id: str, event: Event) -> None:
        seq = len(self.recorded) + 1
        self.recorded.append(
            Recorded(seq=seq, at=NOW, job_id=job_id, parent_id="root", correlation_id="root", event=event)
        )

    def job(self, job_id: str) -> Job | None:
        root = Job(
            id="root", parent_id="root", correlation_id="root", type=JobType.DATABASE_MAINTENANCE_PARENT,
            phase=Phase.ORCHESTRATION, name="app.db", created_at=NOW, status=JobStatus.RUNNING, started_at=NOW,
            stats=count(self.children),
        )  # fmt: skip
        return next((job for job in (root, *self.children) if job.id == job_id), None)

    def jobs(self, query: JobQuery, *, cursor: str = "", limit: int = 100) -> Page:
        return Page(jobs=tuple(job for job in self.children if job.status in query.statuses))

    def events(self, after: int = 0, *, correlation_id: str = "", limit: int = 1000) -> Sequence[Recorded]:
        return [each for each in self.recorded if each.seq > after][:limit]


def watch_of(record: Record) -> Watch:
    return Watch(reader=cast("Reader", record), root_id="root")


def test_a_line_for_what_happens_and_a_sign_of_life_each_ten_seconds() -> None:
    record, clock, lines = Record(operation(0, JobStatus.RUNNING, {"stage": "copying"})), Clock(), list[str]()
    watch = watch_of(record)
    view = PlainView(write=lines.append, watch=watch, clock=clock)
    record.happen("child-0", JobStarted(attempt=1))
    view.show(watch.look())
    assert lines == ["app.db vacuum: started"]
    clock.seconds += 9
    view.show(watch.look())
    assert len(lines) == 1
    clock.seconds += 1
    view.show(watch.look())
    assert lines[1:] == ["app.db vacuum: copying · for 10 s"]  # how far it is nobody knows, so nothing is said of it
    record.children[0] = operation(0, JobStatus.RUNNING, {"fraction": 0.42, "source": "measured", "stage": "copying"})
    clock.seconds += 10
    view.show(watch.look())
    assert lines[2:] == ["app.db vacuum: 42 % · copying · for 20 s"]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (JobStarted(attempt=2), "started, attempt 2"),
        (StageReached(stage="copying", message="fast\x1b"), "copying: fast\\x1b"),
        (JobCompleted(result={"reason": "it shrank"}), "done: it shrank"),
        (JobFailed(error={"message": "no luck", "hint": "again"}), "failed: no luck (again)"),
        (AttemptLost(attempt=1, reason="its worker went away"), "attempt 1 lost: its worker went away"),
        (RunPaused(by="me"), "paused by me"),
    ],
)
def test_what_happened_is_a_sentence(event: Event, said: str) -> None:
    record = Record(operation(0, JobStatus.RUNNING))
    record.happen("child-0", event)
    assert event_line(record.recorded[0], watch_of(record)) == f"app.db vacuum: {said}"


def test_a_run_never_goes_back_and_counts_what_came_back() -> None:
    record = Record(operation(0, JobStatus.RUNNING, {"fraction": 0.8}), operation(1, JobStatus.PENDING))
    watch = watch_of(record)
    assert watch.look().progress.fraction == 0.4
    # The attempt is lost and made again from the start.
    record.children[0] = operation(0, JobStatus.RUNNING, {"fraction": 0.1})
    assert watch.look().progress.fraction == 0.4
    result = {"before": {"bytes": 1000}, "after": {"bytes": 400}}
    record.children[0] = operation(0, JobStatus.COMPLETED, result=result)
    record.happen("child-0", JobCompleted(result=result))
    look = watch.look()
    assert look.progress.fraction == 0.5
    assert look.gained == 600
    assert watch.look().gained == 600
    assert watch.look().news == ()


class Fleet(Record):
    """A run over one database, with these operations."""

    @override
    def job(self, job_id: str) -> Job | None:
        parent = Job(
            id="root", parent_id="run", correlation_id="run", type=JobType.DATABASE_MAINTENANCE_PARENT,
            phase=Phase.ORCHESTRATION, name="app.db", created_at=NOW, status=JobStatus.RUNNING, stats=count(self.children),
        )  # fmt: skip
        run = Job(
            id="run", parent_id="run", correlation_id="run", type=JobType.MAINTENANCE_RUN, phase=Phase.ORCHESTRATION,
            name="nightly", created_at=NOW, status=JobStatus.RUNNING, started_at=NOW, stats=count([parent]),
        )  # fmt: skip
        return next((job for job in (run, parent, *self.children) if job.id == job_id), None)

    @override
    def jobs(self, query: JobQuery, *, cursor: str = "", limit: int = 100) -> Page:
        known = [self.job("run"), self.job("root"), *self.children]
        return Page(
            jobs=tuple(
                job for job in known
                if job and job.status in query.statuses and job.type in query.types
            )
        )  # fmt: skip


def test_a_run_keeps_what_has_ended_in_a_database_while_nothing_of_it_runs() -> None:
    """Each look is a new one, as a page's is: paused after the second of three operations, two thirds are done."""
    fleet = Fleet(operation(0, JobStatus.COMPLETED), operation(1, JobStatus.RUNNING, {"fraction": 0.5}), operation(2, JobStatus.PENDING))  # fmt: skip
    reader = cast("Reader", fleet)

    def shares() -> list[float | None]:
        run = fleet.job("run")
        assert run
        told = Now.around(reader, [run]).document(run)["progress"]["fraction"]
        return [Watch(reader=reader, root_id="run").look().progress.fraction, told]

    assert shares() == [0.5, 0.5]
    fleet.children[1] = operation(1, JobStatus.COMPLETED)
    assert shares() == [pytest.approx(2 / 3)] * 2


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:  # type: ignore[explicit-override] # of a text stream
        return True


@pytest.mark.parametrize(("fraction", "percent"), [(0.42, "42 %"), (None, None)])
def test_the_picture_shows_a_share_only_where_it_is_known(
    monkeypatch: pytest.MonkeyPatch, fraction: float | None, percent: str | None
) -> None:
    for name, value in {"COLUMNS": "80", "LINES": "25", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    progress = {"stage": "copying", **({"fraction": fraction, "source": "measured"} if fraction else {})}
    record, clock, stream = Record(operation(0, JobStatus.RUNNING, progress)), Clock(), Tty()
    clock.seconds += 7
    watch = watch_of(record)
    view = LiveView(Terminal(stream, color=Color.NEVER, environ={}), watch, clock)
    view.show(watch.look())
    shown = next(line for line in stream.getvalue().splitlines() if "vacuum" in line)
    view.close()
    assert "copying" in shown
    assert "7 s" in shown
    assert ("%" in shown) is (percent is not None)
    if percent:
        assert percent in shown
