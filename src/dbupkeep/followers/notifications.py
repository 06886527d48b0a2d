"""What people are told of a job: that it failed and that it is well again, not each time that it still is.

All that is remembered stands in the follower's memory: of each job how its last runs went and what was told of it, of
each run that goes on what has happened so far. A job that fails and recovers in turn is told once, until it settles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

from dbupkeep.codec import from_json, rfc3339
from dbupkeep.events import JobFailed, ParentSettled, Recorded
from dbupkeep.follower import Memory, Message
from dbupkeep.jobs import OFTEN, Job, JobType, Outcome
from dbupkeep.ledger import Reader
from dbupkeep.logs import mask, printable
from dbupkeep.quantities import duration, size
from dbupkeep.results import ENDINGS, ends_operation, reckon
from dbupkeep.schedules import Missed, Standing


class Told(StrEnum):
    """What may be told."""

    FAILED = "failed"  # a run failed, and the one before had not
    RECOVERED = "recovered"  # a run is good again
    DEFERRED = "deferred"  # an operation was put off three runs in a row
    WINDOW_MISSED = "window_missed"  # a run was due and left out
    WINDOW_OVERRUN = "window_overrun"  # an operation went on after its window had closed
    WEEKLY_DIGEST = "weekly_digest"  # what a week gave back
    ENDED = "ended"  # any run ended


USUAL = tuple(told for told in Told if told is not Told.ENDED)

FLAPPING = "flapping"
"""The kind of the message that comes in place of more `failed` and `recovered`."""

GOOD, BAD = "g", "b"

RESULTS: Mapping[str, str] = {
    Outcome.DONE: GOOD, Outcome.NOTHING_TO_DO: GOOD, Outcome.FAILED: BAD, Outcome.PARTIAL: BAD,
}  # fmt: skip
"""What an outcome says of a job; cancelled, stopped and deferred runs say nothing."""

LOOKED_AT, CHANGES, SETTLED = 6, 3, 3
"""A job is flapping with so many changes among its last results, and has settled with so many equal ones."""

ALLOWED_OVERRUN = 1.0  # seconds

NAMED = 5
"""Failures and objects that a message names."""

MOST_RUNS = 500
"""Runs that go on of which something is remembered."""

NEWS = timedelta(days=1)
"""A new receiver is told of what was left out since then."""


class Notifier:
    """Makes messages of what happens to some jobs."""

    def __init__(self, reader: Reader, jobs: Iterable[str], on: Iterable[str] = USUAL) -> None:
        """`jobs` are names of definitions; `on` says what is told."""
        self._reader = reader
        self._jobs = frozenset(jobs)
        self._on = frozenset(on)
        self._runs: dict[str, str] = {}

    def fold(self, memory: Memory, events: Sequence[Recorded], now: datetime) -> Sequence[Message]:
        """Take events in, and see what time has brought."""
        messages: list[Message] = []
        for recorded in events:
            messages += self.take(memory, recorded)
        messages += self._missed(memory, now)
        messages += self._digest(memory, now)
        return [message for message in messages if self._wanted(message.kind)]

    def take(self, memory: Memory, recorded: Recorded) -> Iterable[Message]:
        """Take one event in."""
        name = self.job_of(recorded.correlation_id)
        return self._take(memory, recorded, name) if name else ()

    def _wanted(self, kind: str) -> bool:
        return kind in self._on or (kind == FLAPPING and bool({Told.FAILED, Told.RECOVERED} & self._on))

    def job_of(self, run_id: str) -> str:
        """The name of the job that a run is of; empty for one that nobody asked about."""
        if run_id not in self._runs:
            if len(self._runs) > MOST_RUNS:
                self._runs.clear()
            run = self._reader.job(run_id)
            follows = run is not None and run.type == JobType.MAINTENANCE_RUN and run.name in self._jobs
            self._runs[run_id] = run.name if run is not None and follows else ""
        return self._runs[run_id]

    def _take(self, memory: Memory, recorded: Recorded, name: str) -> Iterable[Message]:
        event = recorded.event
        if isinstance(event, ParentSettled) and recorded.job_id == recorded.correlation_id:
            run = self._reader.job(recorded.job_id)
            return _settled(memory, recorded, name, event, run) if run else ()
        job = self._reader.job(recorded.job_id) if event.name in ENDINGS else None
        if job is not None:
            _note(_run(memory, recorded.correlation_id), recorded, job)
        return ()

    def _missed(self, memory: Memory, now: datetime) -> Iterable[Message]:
        """Due times for which nothing was started; of several in a row only the first one is told."""
        for name in sorted(self._jobs):
            document = self._reader.get("schedule", name)
            missed = from_json(Standing, document).missed if document else None
            known = _job(memory, name)
            if missed is None or known.get("missed") == rfc3339(missed.due):
                continue
            is_old = "missed" not in known and now - missed.at > NEWS
            if not is_old and not known.get("missed_told"):
                yield _missed_message(name, missed)
            known["missed"], known["missed_told"] = rfc3339(missed.due), bool(known.get("missed_told")) or not is_old

    def _digest(self, memory: Memory, now: datetime) -> Iterable[Message]:
        """What a week gave back, once it is over."""
        until = memory.setdefault("week_until", rfc3339(_monday(now)))
        if now >= datetime.fromisoformat(until):
            week, memory["week"], memory["week_until"] = memory.get("week", {}), {}, rfc3339(_monday(now))
            if week.get("runs"):
                yield _digest_message(week, until, now)


def _job(memory: Memory, name: str) -> dict[str, Any]:
    found: dict[str, Any] = memory.setdefault("jobs", {}).setdefault(name, {})
    return found


def _run(memory: Memory, run_id: str) -> dict[str, Any]:
    """What is remembered of a run that goes on; of too many, the oldest give way."""
    runs: dict[str, Any] = memory.setdefault("runs", {})
    if run_id not in runs:
        for oldest in sorted(runs)[: max(0, len(runs) - MOST_RUNS + 1)]:
            del runs[oldest]
        runs[run_id] = {
            "operations": {},
            "given_back": 0,
            "overrun": 0.0,
            "ineffective": 0,
            "failures": [],
            "often": [],
        }
    found: dict[str, Any] = runs[run_id]
    return found


def _note(run: dict[str, Any], recorded: Recorded, job: Job) -> None:
    """Remember what an operation of a run came to, or that its databases could not be found."""
    if isinstance(recorded.event, JobFailed) and len(run["failures"]) < NAMED:
        message = _said(str(recorded.event.error.get("message", "")))
        run["failures"].append(f"{_what(job)}: {message}" if message else _what(job))
    if not ends_operation(recorded, job):
        return
    end = reckon(recorded, job)
    if end.in_a_row >= OFTEN and len(run["often"]) < NAMED:
        run["often"].append(f"{_what(job)}: {_said(getattr(recorded.event, 'reason', ''))}")
    run["operations"][end.status.value] = run["operations"].get(end.status.value, 0) + 1
    run["given_back"] += end.given_back
    run["overrun"] += end.overrun
    run["ineffective"] += end.ineffective


def _settled(memory: Memory, recorded: Recorded, name: str, event: ParentSettled, root: Job) -> Iterable[Message]:
    """What is to be told when a run has ended."""
    run, job = _run(memory, root.id), _job(memory, name)
    memory["runs"].pop(root.id)
    job["missed_told"] = False
    _into_week(memory.setdefault("week", {}), run, event.outcome)
    about = _About(recorded, name, event.outcome, run, root)
    yield about.message(Told.ENDED, f"{name} ended: {_words(event.outcome)}")
    yield from _state(about, job, RESULTS.get(event.outcome, ""))
    often, over = bool(run["often"]), run["overrun"] > ALLOWED_OVERRUN
    if often and not job.get("often"):
        yield about.message(Told.DEFERRED, f"{name}: put off three runs in a row or more", *run["often"])
    if over and not job.get("over"):
        late = f"operations that could not be interrupted went on for {duration(run['overrun'])} after its end"
        yield about.message(Told.WINDOW_OVERRUN, f"{name} went on after its window had closed", late)
    job["often"], job["over"] = often, over


def _state(about: _About, job: dict[str, Any], result: str) -> Iterable[Message]:
    """Whether the job's state has changed, and is to be told."""
    if not result:
        return
    results = job["results"] = (job.get("results", "") + result)[-LOOKED_AT:]
    before, name = job.get("told", GOOD), about.name
    changes = sum(one != other for one, other in pairwise(results))
    if job.get("flapping"):
        if set(results[-SETTLED:]) != {result} or len(results) < SETTLED:
            return
        job["flapping"], job["results"] = False, results[-SETTLED:]
    elif changes >= CHANGES and result != before:
        job["flapping"] = True
        yield about.message(FLAPPING, f"{name} fails and recovers in turn", "nothing more is told until it settles")
        return
    job["told"] = result
    if result == BAD and before == GOOD:
        word = "failed in part" if about.outcome == Outcome.PARTIAL else "failed"
        yield about.message(Told.FAILED, f"{name} {word}", *about.run["failures"])
    elif result == GOOD and before == BAD:
        yield about.message(Told.RECOVERED, f"{name} is well again")


class _About:
    """What messages about an ended run say."""

    def __init__(self, recorded: Recorded, name: str, outcome: str, run: Mapping[str, Any], root: Job) -> None:
        self.recorded, self.name, self.outcome, self.run, self.root = recorded, name, outcome, run, root

    def message(self, kind: str, title: str, *lines: str) -> Message:
        """A message; its id is the same whenever it is made anew."""
        return Message(
            id=f"msg_{kind}_{self.root.id}_{self.recorded.seq}",
            kind=str(kind),
            at=self.recorded.at,
            title=printable(title),
            text="\n".join([*lines, self._summary(), f"dbupkeep show {self.root.id[:13]}"]),
            data=self._data(),
        )

    def _summary(self) -> str:
        counts = ", ".join(f"{count} {word}" for word, count in sorted(self.run["operations"].items()))
        parts = [
            counts or "no operation",
            f"{size(self.run['given_back'])} given back" if self.run["given_back"] else "",
            f"{self.run['ineffective']} without effect" if self.run["ineffective"] else "",
            f"took {duration(self._seconds())}",
        ]
        return "; ".join(part for part in parts if part)

    def _seconds(self) -> float:
        began = self.root.started_at or self.root.created_at
        return max(0.0, (self.recorded.at - began).total_seconds())

    def _data(self) -> Mapping[str, Any]:
        return {
            "job": self.name,
            "run_id": self.root.id,
            "outcome": self.outcome,
            "operations": dict(self.run["operations"]),
            "ineffective": self.run["ineffective"],
            "given_back_bytes": self.run["given_back"],
            "overrun_seconds": self.run["overrun"],
            "failures": list(self.run["failures"]),
            "deferred_often": list(self.run["often"]),
            "started_at": rfc3339(self.root.started_at or self.root.created_at),
            "finished_at": rfc3339(self.recorded.at),
            "seconds": round(self._seconds(), 3),
        }


def _missed_message(name: str, missed: Missed) -> Message:
    due = rfc3339(missed.due)
    who = hashlib.sha256(name.encode()).hexdigest()[:12]
    return Message(
        id=f"msg_{Told.WINDOW_MISSED}_{who}_{int(missed.due.timestamp())}",
        kind=Told.WINDOW_MISSED.value,
        at=missed.at,
        title=printable(f"{name} was left out"),
        text=f"the run due {due} was not started: {_said(missed.reason)}\ndbupkeep schedule {printable(name)}",
        data={"job": name, "due": due, "reason": missed.reason},
    )


def _digest_message(week: Mapping[str, Any], until: str, now: datetime) -> Message:
    runs, bad = week["runs"], week.get("bad", 0)
    text = f"{runs} run{'' if runs == 1 else 's'}, {week.get('operations', 0)} operations"
    return Message(
        id=f"msg_{Told.WEEKLY_DIGEST}_{until[:10]}",
        kind=Told.WEEKLY_DIGEST.value,
        at=now,
        title=f"{size(week.get('given_back', 0))} given back in a week",
        text=f"{text}; {bad} failed" if bad else f"{text}; all went well",
        data={"until": until, "runs": runs, "failed_runs": bad, "operations": week.get("operations", 0),
              "given_back_bytes": week.get("given_back", 0)},
    )  # fmt: skip


def _into_week(week: dict[str, Any], run: Mapping[str, Any], outcome: str) -> None:
    for name, amount in (
        ("runs", 1), ("bad", RESULTS.get(outcome) == BAD), ("given_back", run["given_back"]),
        ("operations", sum(run["operations"].values())),
    ):  # fmt: skip
        week[name] = week.get(name, 0) + int(amount)


def _monday(now: datetime) -> datetime:
    """The next Monday's beginning."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=7 - day.weekday())


def _what(job: Job) -> str:
    """`vacuum of app.db`, `reindex public.orders_pkey of shop`; the name of what is no operation."""
    operation, object = job.config.get("operation"), job.config.get("object")
    if not operation:
        return printable(mask(job.name))
    place = job.target.rpartition("/")[2] or job.target
    return printable(mask(f"{operation} {object} of {place}" if object else f"{operation} of {place}"))


def _said(text: str) -> str:
    return printable(mask(text))[:300]


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")
