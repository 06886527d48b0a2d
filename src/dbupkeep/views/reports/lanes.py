"""From what happened in a run to the lanes of its timeline: each attempt a bar. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from dbupkeep.events import AttemptLost, JobReturned, JobStarted, Recorded
from dbupkeep.jobs import TRANSITIONS, JobStatus
from dbupkeep.views import words
from dbupkeep.views.pictures.timeline import Bar, Lane, Piece, Spent
from dbupkeep.views.reports.entries import SLEPT, WAITED, Entry

MOST_LANES = 40
"""Databases that get a lane each; of more, the worker processes do."""

MOST_BARS = 2000
"""Attempts that are drawn, the longest ones; more could not be told apart."""

_ENDS: Mapping[str, str] = {row.event.name: row.target.value for row in TRANSITIONS if row.target.ended}


class Attempt(Struct, frozen=True, kw_only=True):
    """One attempt of an operation."""

    entry: Entry
    worker: str
    begin: datetime
    end: datetime
    status: str  # how it ended: of a job, or `lost`, or `running`
    last: bool  # of its job

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.begin).total_seconds()


def attempts(entries: Iterable[Entry], events: Sequence[Recorded], now: datetime) -> Sequence[Attempt]:
    """All attempts of a run, in the order of their starts; what runs goes to now."""
    known, found = {entry.job.id: entry for entry in entries}, list[Attempt]()
    for job_id, recorded in _by_job(events).items():
        if job_id in known:
            found.extend(_attempts(known[job_id], recorded, now))
    return sorted(found, key=lambda attempt: attempt.begin)


def lanes(made: Sequence[Attempt]) -> Sequence[Lane]:
    """The lanes: databases, or worker processes where there are too many of those."""
    drawn = sorted(sorted(made, key=lambda each: -each.seconds)[:MOST_BARS], key=lambda each: each.begin)
    databases = list(dict.fromkeys(each.entry.database for each in drawn))
    if len(databases) <= MOST_LANES:
        return [
            Lane(name=name, bars=[_bar(each) for each in drawn if each.entry.database == name]) for name in databases
        ]
    workers = list(dict.fromkeys(each.worker for each in drawn))
    return [
        Lane(name=f"worker {number}", bars=[_bar(each) for each in drawn if each.worker == worker])
        for number, worker in enumerate(workers, start=1)
    ]


def _by_job(events: Iterable[Recorded]) -> dict[str, list[Recorded]]:
    found: dict[str, list[Recorded]] = {}
    for recorded in events:
        found.setdefault(recorded.job_id, []).append(recorded)
    return found


def _attempts(entry: Entry, recorded: Iterable[Recorded], now: datetime) -> Iterator[Attempt]:
    begun: Recorded | None = None
    worker = ""
    for each in recorded:
        if isinstance(each.event, JobStarted):
            begun, worker = each, each.event.worker
        elif begun is not None and (status := _status(each)):
            last = each.event.name in _ENDS and entry.job.finished_at is not None and each.at >= entry.job.finished_at
            yield Attempt(entry=entry, worker=worker, begin=begun.at, end=each.at, status=status, last=last)
            begun = None
    if begun is not None:
        running = JobStatus.RUNNING.value
        yield Attempt(entry=entry, worker=worker, begin=begun.at, end=max(now, begun.at), status=running, last=True)


def _status(recorded: Recorded) -> str:
    """How an attempt ended by this event; empty where it did not."""
    if isinstance(recorded.event, (AttemptLost, JobReturned)):
        return "lost" if isinstance(recorded.event, AttemptLost) else "returned"
    return _ENDS.get(recorded.event.name, "")


def _bar(attempt: Attempt) -> Bar:
    entry = attempt.entry
    waited, slept = (entry.value(name) if attempt.last else 0.0 for name in (WAITED, SLEPT))
    said = (
        f"{entry.database} {entry.operation}", attempt.status, words.duration(attempt.seconds),
        f"{words.duration(waited)} waiting for locks" if waited else "",
        f"{words.duration(slept)} asleep for others" if slept else "",
        words.gain(*entry.sizes) if attempt.status == JobStatus.COMPLETED else "",
    )  # fmt: skip
    return Bar(
        name=entry.operation,
        begin=attempt.begin,
        end=attempt.end,
        status="failed" if attempt.status == "lost" else "deferred" if attempt.status == "returned" else attempt.status,
        pieces=list(_pieces(attempt, waited, slept)),
        note=words.listed(said),
        link=f"#{entry.job.id}",
    )


def _pieces(attempt: Attempt, waited: float, slept: float) -> Iterator[Piece]:
    """Shares of the bar: what is kept is how long, not when, so waiting is drawn at its start and sleep at its end."""
    if waited:
        end = min(attempt.end, attempt.begin + timedelta(seconds=waited))
        yield Piece(spent=Spent.WAIT, begin=attempt.begin, end=end)
    if slept:
        begin = max(attempt.begin, attempt.end - timedelta(seconds=slept))
        yield Piece(spent=Spent.SLEEP, begin=begin, end=attempt.end)
