"""What is to come: when each job of the configuration is due, in which window, and how long it will take by its past."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, count, islice, takewhile

from msgspec import Struct

from dbupkeep import cron
from dbupkeep.definitions import JobDefinition
from dbupkeep.estimates import RECENT, median
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.views import words
from dbupkeep.views.lengths import run_worked
from dbupkeep.views.pictures.calendar import Span
from dbupkeep.views.scheduled import Scheduled, in_words

MOST = 400
"""Due times of one job up to which each is drawn; a job by the minute would have thousands."""


class Appointment(Struct, frozen=True, kw_only=True):
    """What is known of one job."""

    scheduled: Scheduled
    lasts: float | None  # seconds that its last runs took, the middle of them

    @property
    def job(self) -> JobDefinition:
        """Its definition."""
        return self.scheduled.job

    @property
    def due(self) -> datetime | None:
        """When it runs next by itself; None when nothing can be said."""
        return next(iter(self.scheduled.coming), None)

    @property
    def when(self) -> str:
        """Its schedule in plain words."""
        return in_words(self.job.schedule)

    def dues(self, until: datetime) -> Iterator[datetime]:
        """All times at which it is due by then, the first `MOST` ones."""
        first, schedule = self.due, self.job.schedule
        if first is None or schedule.when_due:
            return iter(())  # what comes is a look, and nobody knows when one finds something
        if schedule.every is None:
            coming = chain([first], cron.times(schedule.cron, schedule.timezone, first))
        else:
            # Each after the one before has succeeded: by its past it takes so long.
            step = schedule.every + timedelta(seconds=self.lasts or 0.0)
            coming = chain(first + number * step for number in count())
        return takewhile(lambda due: due < until, islice(coming, MOST))


def appointments(reader: Reader, jobs: Iterable[JobDefinition], now: datetime) -> Sequence[Appointment]:
    """Look at the jobs of a configuration; the next one due comes first, those that nothing starts last."""
    found = [Appointment(scheduled=Scheduled.of(reader, job, now), lasts=_lasts(reader, job.name)) for job in jobs]
    return sorted(found, key=lambda each: (each.due is None, each.due or now, each.job.name))


def windows(found: Iterable[Appointment], now: datetime, until: datetime) -> Sequence[Span]:
    """When the windows of jobs are open, in the reader's time zone; a window of several jobs once."""
    spans: dict[tuple[str, datetime], Span] = {}
    for each in found:
        window = each.job.window
        if window is None:
            continue
        opens = takewhile(lambda at: at < until, cron.times(window.open, window.timezone, now - window.lasts))
        for at in islice(opens, MOST):
            begins, ends = at.astimezone(), (at + window.lasts).astimezone()
            note = f"window {window.name}: {begins:%a %H:%M} to {ends:%H:%M}"
            spans[window.name, at] = Span(name=window.name, begins=begins, ends=ends, note=note)
    return list(spans.values())


def runs(found: Iterable[Appointment], until: datetime) -> Sequence[Span]:
    """The runs to come, as long as they will take by their past."""
    return [span for each in found for span in _runs(each, until)]


def _runs(each: Appointment, until: datetime) -> Sequence[Span]:
    """The runs of one job; of more than are drawn one by one, a single band over all days."""
    found = [_run(each, due) for due in each.dues(until)]
    if len(found) < MOST:
        return found
    note = f"{words.name(each.job.name, width=24)} {each.when}"
    overruns = any(run.overruns for run in found)
    return [Span(name=found[0].name, begins=found[0].begins, ends=until, note=note, overruns=overruns, band=True)]


def _run(each: Appointment, due: datetime) -> Span:
    lasts, window = timedelta(seconds=each.lasts or 0.0), each.job.window
    overruns = False
    if window is not None:
        opening = cron.opening(window.open, window.timezone, window.lasts, due)
        overruns = opening is not None and due + lasts > opening.closes
    takes = (
        f"takes about {words.duration(each.lasts)}" if each.lasts else "never ran, so nobody knows how long it takes"
    )
    begins = due.astimezone()
    note = words.listed([
        f"{words.name(each.job.name)}: {begins:%a %d %b %H:%M}", takes, "would not fit its window" if overruns else "",
    ])  # fmt: skip
    name = words.name(each.job.name, width=24)
    return Span(name=name, begins=begins, ends=(due + lasts).astimezone(), note=note, overruns=overruns)


def _lasts(reader: Reader, name: str) -> float | None:
    """How long the last runs of a job were at work, the middle of them; a pause says nothing of the next one."""
    found = reader.jobs(JobQuery(roots=True, target=name), limit=4 * RECENT).jobs
    past = [
        run
        for run in found
        if run.name == name and run.started_at and run.finished_at and run.outcome in ("done", "partial")
    ][:RECENT]
    worked = [seconds for run in past if (seconds := run_worked(reader, run)) is not None]
    return median(worked) if worked else None
