"""The timeline of a run that may still go on: what was and is, and ghosts of what is to come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct, field

from dbupkeep import cron
from dbupkeep.codec import from_json
from dbupkeep.definitions import Window
from dbupkeep.events import Recorded
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.views import words
from dbupkeep.views.pictures.svg import Svg
from dbupkeep.views.pictures.timeline import Bar, Lane, timeline
from dbupkeep.views.plain import in_words
from dbupkeep.views.reports.entries import Entry
from dbupkeep.views.reports.lanes import Attempt, attempts, lanes

APART = 8
"""Databases up to which each has a lane of its own; more share one, in as many rows as ran at a time."""

DRAWN = 400
"""Attempts that are drawn, the longest ones: the others would be narrower than a line."""

GHOSTS = 60
"""Operations to come that are drawn."""


class Course(Struct, frozen=True, kw_only=True):
    """What a timeline is made of."""

    run: Job
    entries: Sequence[Entry]
    attempts: Sequence[Attempt]
    closes: datetime | None
    now: datetime
    events: Mapping[str, Sequence[Recorded]] = field(default_factory=dict)  # by job; none where there are too many

    def story(self, job_id: str) -> Sequence[tuple[datetime, str]]:
        """What happened to one operation, in order, each in words."""
        return [(each.at, said) for each in self.events.get(job_id, ()) if (said := in_words(each.event))]

    @property
    def at_a_time(self) -> int:
        """How many operations go side by side, as far as is seen."""
        running = sum(entry.job.status is JobStatus.RUNNING for entry in self.entries)
        return max(1, running)

    @property
    def table(self) -> Sequence[Attempt]:
        """The same as a table: the longest ones."""
        return _drawn(self.attempts)

    @property
    def left_out(self) -> int:
        """How many attempts are too short to be drawn."""
        return max(0, len(self.attempts) - DRAWN)

    def picture(self) -> Svg:
        """The timeline; empty where nothing has begun."""
        going = not self.run.status.ended
        drawn = list(lanes(_drawn(self.attempts)))
        ghosts = list(self._ghosts()) if going and not self.run.stop_requested else []
        names = dict.fromkeys([lane.name for lane in drawn] + [name for name, _ in ghosts])
        bars = {name: [bar for lane in drawn if lane.name == name for bar in lane.bars] for name in names}
        for name, ghost in ghosts:
            bars[name].append(ghost)
        if len(names) > APART:
            bars = {
                f"{len([name for name in names if name != self.run.name])} databases": [
                    bar for of_one in bars.values() for bar in of_one
                ]
            }
        made = [Lane(name=name, bars=of_one) for name, of_one in bars.items()]
        now = self.now if going else None
        return timeline(made, title=f"timeline of {self.run.name}", now=now, closes=self.closes if going else None)

    def _ghosts(self) -> Iterable[tuple[str, Bar]]:
        """What waits, placed by its prediction: as many side by side as now, one after another on each database."""
        free = sorted(self._ends()) or [self.now]
        on: dict[str, datetime] = {}
        for entry in [entry for entry in self.entries if entry.job.status is JobStatus.PENDING][:GHOSTS]:
            seconds = (entry.job.estimate or {}).get("seconds")
            begin = max(free.pop(0), on.get(entry.database, self.now))
            end = begin + timedelta(seconds=float(seconds or 0.0))
            on[entry.database] = end
            free = sorted([*free, end])
            takes = f"predicted: {words.duration(seconds)}" if seconds else "nobody knows how long it takes"
            note = words.listed([f"{entry.database} {entry.operation}", "to come", takes])
            yield entry.database, Bar(name=entry.operation, begin=begin, end=end, status="ghost", note=note)

    def _ends(self) -> Iterable[datetime]:
        """When what runs will have ended, by its prediction."""
        for entry in self.entries:
            job = entry.job
            if job.status is JobStatus.RUNNING:
                seconds = float((job.estimate or {}).get("seconds") or 0.0)
                yield max(self.now, (job.started_at or self.now) + timedelta(seconds=seconds))


def course(run: Job, entries: Sequence[Entry], events: Sequence[Recorded], now: datetime) -> Course:
    """The course of a run; without `events`, which are too many in a big one, the last attempt of each operation is drawn."""
    made = attempts(entries, events, now) if events else [attempt for e in entries for attempt in _last(e, now)]
    by_job: dict[str, list[Recorded]] = {}
    for each in events:
        by_job.setdefault(each.job_id, []).append(each)
    return Course(run=run, entries=entries, attempts=made, closes=closes(run, now), now=now, events=by_job)


def closes(run: Job, now: datetime) -> datetime | None:
    """By when a run is to have ended: what a person said last, or else its window."""
    if run.until is not None:
        return run.until
    if not run.config.get("window"):
        return None
    window = from_json(Window, run.config["window"])
    opening = cron.opening(window.open, window.timezone, window.lasts, run.finished_at or now)
    return opening.closes if opening is not None and opening.opens <= now else None


def _drawn(found: Sequence[Attempt]) -> Sequence[Attempt]:
    longest = sorted(found, key=lambda attempt: -attempt.seconds)[:DRAWN]
    return sorted(longest, key=lambda attempt: attempt.begin)


def _last(entry: Entry, now: datetime) -> Iterable[Attempt]:
    job = entry.job
    if job.started_at is not None:
        end = max(job.started_at, job.finished_at or now)
        yield Attempt(entry=entry, worker="", begin=job.started_at, end=end, status=job.status.value, last=True)
