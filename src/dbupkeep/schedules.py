"""When a job is due and what to do about it then: start, hold, or leave out. Pure: all that it looks at is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep import cron
from dbupkeep.admission import last_start
from dbupkeep.definitions import JobDefinition, Overlap, Schedule, Window

LATE = timedelta(minutes=2)
"""A due time that is noticed later than this was missed: nobody was there to start the run."""

RETRY_SHARE = 10
"""A run of an `every` schedule that was no success is tried again after a tenth of its interval, within these bounds."""

SET_BACK = timedelta(hours=1)
"""A clock that went back by less is waited for: nothing is due twice. After more the schedule begins anew."""

SOONEST, LONGEST = timedelta(minutes=1), timedelta(hours=1)

DOUBLINGS = 12
"""More would be of no use: the shortest wait is `LONGEST` by then."""

SUCCESSES = ("done", "nothing_to_do")


class Missed(Struct, frozen=True, kw_only=True):
    """A due time for which nothing was started."""

    due: datetime
    at: datetime  # when that was decided
    reason: str


class Held(Struct, frozen=True, kw_only=True):
    """A due time whose run is still to be started."""

    due: datetime
    reason: str


class Looked(Struct, frozen=True, kw_only=True):
    """What a look at a job's databases found."""

    at: datetime
    due: int = 0  # operations
    databases: int = 0  # that were surveyed
    faults: tuple[str, ...] = ()  # what kept it from looking at the others


class Standing(Struct, frozen=True, kw_only=True):
    """What is remembered of a schedule."""

    rule: str  # the schedule that this is of: another one begins anew
    since: datetime  # cron times after this count; moves on with each that was dealt with, and with each look
    held: Held | None = None
    missed: Missed | None = None  # the last one
    success_at: datetime | None = None  # when the last success before the newest run ended
    looked: Looked | None = None  # the last look of a job that starts when something is due
    tries: int = 0  # its starts in a row that did not do what was due


class LastRun(Struct, frozen=True, kw_only=True):
    """The newest run of a job, whoever started it."""

    id: str
    ended: bool
    outcome: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def good(self) -> bool:
        """Whether it did all that was to do."""
        return self.outcome in SUCCESSES


class Do(StrEnum):
    """What is to be done now."""

    NOTHING = "nothing"
    LOOK = "look"  # whether anything is due; `conclude` then says what follows
    START = "start"
    HOLD = "hold"
    LEAVE_OUT = "leave_out"


class Decision(Struct, frozen=True, kw_only=True):
    """What is to be done, and what is remembered from then on."""

    do: Do
    standing: Standing
    due: datetime | None = None
    late: bool = False  # it was missed, and is caught up on


class Busy(Struct, frozen=True, kw_only=True):
    """Why one of a job's targets is not free."""

    reason: str
    own: bool  # by the run of the same job before this one


class Situation(Struct, frozen=True, kw_only=True):
    """What a decision looks at beside the schedule itself."""

    now: datetime
    last: LastRun | None = None
    busy: Callable[[], Busy | None] = lambda: None  # asked only where something is due


def rule_of(schedule: Schedule) -> str:
    """What tells one schedule from another."""
    if schedule.when_due:
        return f"when due {schedule.when_due}"
    return f"{schedule.cron} {schedule.timezone}" if schedule.cron else f"every {schedule.every}"


def standing_of(known: Standing | None, schedule: Schedule, now: datetime) -> Standing:
    """What is remembered, or a fresh start where that is of no use: of another schedule, or of a clock set back since."""
    rule = rule_of(schedule)
    if known is not None and known.rule == rule and known.since <= now + SET_BACK:
        return known
    return Standing(rule=rule, since=now)


def decide(definition: JobDefinition, standing: Standing, situation: Situation) -> Decision:
    """What to do about a job now."""
    schedule, now = definition.schedule, situation.now
    due = due_now(schedule, standing, situation)
    if due is None:
        return Decision(do=Do.NOTHING, standing=standing)
    held = standing.held is not None and standing.held.due == due
    late = bool(schedule.cron) and not held and now - due > LATE
    if late and not schedule.catch_up:
        return _left_out(standing, due, now, "missed: no service was there to start it")
    if closed := _closed(definition.window, now):
        return Decision(do=Do.HOLD, standing=replace(standing, held=Held(due=due, reason=closed)), due=due)
    if busy := situation.busy():
        if busy.own and schedule.overlap is Overlap.SKIP and not schedule.when_due:
            return _left_out(standing, due, now, busy.reason)
        return Decision(do=Do.HOLD, standing=replace(standing, held=Held(due=due, reason=busy.reason)), due=due)
    return _free(schedule, standing, situation.last, due, late=late)


def _free(schedule: Schedule, standing: Standing, last: LastRun | None, due: datetime, *, late: bool) -> Decision:
    """What is done once nothing is in the way."""
    if schedule.when_due:
        return Decision(do=Do.LOOK, standing=replace(standing, held=None), due=due)
    after = replace(standing, since=max(due, standing.since), held=None, success_at=success_at(standing, last))
    return Decision(do=Do.START, standing=after, due=due, late=late)


def conclude(asked: Decision, last: LastRun | None, found: Looked) -> Decision:
    """What follows from the look that was asked for: a run when something is due, else the next look in its time."""
    before = asked.standing
    after = replace(before, since=found.at, held=None, looked=found)
    if not found.due:
        return Decision(do=Do.NOTHING, standing=after if found.faults else replace(after, tries=0), due=asked.due)
    tries = 1 if last is None or _did_it(last) else before.tries + 1
    after = replace(after, tries=tries, success_at=success_at(before, last))
    return Decision(do=Do.START, standing=after, due=asked.due)


def next_due(schedule: Schedule, standing: Standing, situation: Situation) -> datetime | None:
    """When the job (or a look at it) is due next, now or later; None while its last run goes on: nobody can say."""
    if schedule.cron:
        return cron.next_time(schedule.cron, schedule.timezone, max(standing.since, situation.now))
    return _next_look(schedule, standing, situation) or _next_by_interval(schedule, standing, situation)


def _left_out(standing: Standing, due: datetime, now: datetime, reason: str) -> Decision:
    missed = Missed(due=due, at=now, reason=reason)
    return Decision(do=Do.LEAVE_OUT, standing=replace(standing, since=due, held=None, missed=missed), due=due)


def due_now(schedule: Schedule, standing: Standing, situation: Situation) -> datetime | None:
    """The due time that is to be dealt with now: of several cron times only the last one."""
    if schedule.cron:
        return cron.latest(schedule.cron, schedule.timezone, after=standing.since, until=situation.now)
    due = _next_look(schedule, standing, situation) or _next_by_interval(schedule, standing, situation)
    return due if due is not None and due <= situation.now else None


def _next_by_interval(schedule: Schedule, standing: Standing, situation: Situation) -> datetime | None:
    last, every = situation.last, schedule.every
    if every is None or (last is not None and not last.ended):
        return None
    success = success_at(standing, last)
    since = standing.since if success is None else success + every
    if last is None or last.good or last.finished_at is None:
        return since
    return max(since, last.finished_at + min(every, max(SOONEST, min(LONGEST, every / RETRY_SHARE))))


def _next_look(schedule: Schedule, standing: Standing, situation: Situation) -> datetime | None:
    """A run that left something due is not made again at each look: its wait doubles, up to the longest of `every`."""
    last, interval = situation.last, schedule.when_due
    if interval is None or (last is not None and not last.ended):
        return None
    since = standing.since if standing.looked is None else standing.since + interval
    if last is None or _did_it(last) or last.finished_at is None:
        return since
    doubled = interval
    if interval < LONGEST:
        doubled = min(LONGEST, interval * 2 ** min(max(standing.tries - 1, 0), DOUBLINGS))
    return max(since, last.finished_at + doubled)


def _did_it(last: LastRun) -> bool:
    """Whether it did what was due; one that found nothing to do did not do what a look had found."""
    return last.outcome == "done"


def success_at(standing: Standing, last: LastRun | None) -> datetime | None:
    """When the job's last success ended."""
    return last.finished_at if last is not None and last.good else standing.success_at


def _closed(window: Window | None, now: datetime) -> str:
    if window is None:
        return ""
    opening = cron.opening(window.open, window.timezone, window.lasts, now)
    if opening is None:
        return f"the window {window.name} never opens"
    if opening.opens > now:
        return f"the window {window.name} is closed"
    return "" if now < last_start(window, opening) else f"the window {window.name} takes nothing new any more"
