"""Starts the runs that are due. Several processes may have one on the same ledger: each due time is submitted once.

What is remembered stands in the ledger. All that a scheduler writes is written over one version of one document, the
turn: of two that decide at the same moment one writes nothing, and looks again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep.audit import acting
from dbupkeep.clock import Clock, boot_id, is_gone, process_mark
from dbupkeep.codec import from_json, rfc3339, to_json
from dbupkeep.definitions import JobDefinition
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.lifecycle import Lifecycle, Submission, Turn
from dbupkeep.looks import Looks
from dbupkeep.schedules import Busy, Decision, Do, LastRun, Situation, Standing, conclude, decide, standing_of

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between looks at the wall clock and at what is due."""

BEAT = 30.0
"""Seconds between signs of life, by which others know that something starts runs."""

ACTIVE = 500
"""Runs looked at to see whether a target is free."""

REQUESTED_BY = "schedule"

CONFIGURED = ("scheduler", "configuration")
"""Kind and key of the document that says what is wrong with the configuration on disk."""


class Runs(Protocol):
    """What a scheduler needs of the manager of runs."""

    def create_run(
        self, definition: JobDefinition, parent_job_id: str | None = None, *, along: Submission | None = None
    ) -> str:
        """Submit a run; the id is empty where `along` was refused."""
        ...


class Fired(Struct, frozen=True, kw_only=True):
    """What a look did about one job."""

    name: str
    do: Do
    due: datetime
    run_id: str = ""
    reason: str = ""
    late: bool = False


class FaultyFile(Struct, frozen=True, kw_only=True):
    """A configuration on disk that was not taken, so that the one before stays in force."""

    file: str
    fault: str
    since: datetime  # when the service found it


class Scheduler:
    """Looks at the jobs of a configuration and starts what is due."""

    def __init__(self, *, reader: Reader, lifecycle: Lifecycle, runs: Runs, looks: Looks, clock: Clock) -> None:
        """Begin with no jobs; `use` gives them."""
        self._reader = reader
        self._lifecycle = lifecycle
        self._runs = runs
        self._looks = looks
        self._clock = clock
        self._jobs: Mapping[str, JobDefinition] = {}
        self._beat_at: float | None = None
        self._process = {"boot": boot_id(), "process": process_mark()}
        self._fault: str | None = None  # as it stands in the ledger; None: not known yet

    def use(self, jobs: Mapping[str, JobDefinition]) -> None:
        """Have these jobs from now on; those without a schedule are left to people."""
        self._jobs = {name: job for name, job in jobs.items() if is_scheduled(job)}

    def look(self) -> list[Fired]:
        """Read the clock, start what is due, and say what was done. Raises `LedgerError`."""
        self._beat()
        done = []
        for definition in self._jobs.values():
            fired = self._look_at(definition)
            if fired is not None:
                done.append(fired)
        return done

    def configured(self, file: str, fault: str) -> None:
        """Keep for others what is wrong with the file on disk, so that an older one is in force; empty: nothing is.

        Raises `LedgerError`.
        """
        if fault == self._fault:
            return
        known = self._reader.get(*CONFIGURED)
        if fault or known:
            since = known["since"] if known and known["fault"] and fault else rfc3339(self._clock.now())
            self._lifecycle.keep(*CONFIGURED, {"file": file, "fault": fault, "since": since})
        self._fault = fault

    def close(self) -> None:
        """Say that nothing is started from here any more; another scheduler contradicts with its next sign of life."""
        self._lifecycle.keep("scheduler", "alive", {"at": rfc3339(self._clock.now()), "ended": True})

    def _look_at(self, definition: JobDefinition) -> Fired | None:
        version = int((self._reader.get("scheduler", "turn") or {}).get("version", 0))
        known = standing(self._reader, definition.name)
        now = self._clock.now()
        before = standing_of(known, definition.schedule, now)
        now_there = situation(self._reader, definition, now)
        decision = decide(definition, before, now_there)
        if decision.do is Do.LOOK and decision.standing == known and decision.due is not None:
            found = self._looks.ask(definition, decision.due)
            decision = decision if found is None else conclude(decision, now_there.last, found)
        if decision.standing == known and decision.do is not Do.START:
            return None
        return self._write(definition, decision, version)

    def _write(self, definition: JobDefinition, decision: Decision, version: int) -> Fired | None:
        turn = Turn(kind="scheduler", key="turn", version=version, document={"version": version + 1})
        documents = [("schedule", definition.name, to_json(decision.standing))]
        if decision.due is None or decision.do is not Do.START:
            kept = self._lifecycle.keep_all(documents, turn)
            if not kept or decision.due is None or not (said := _reason(decision)):
                return None
            return Fired(name=definition.name, do=decision.do, due=decision.due, reason=said)
        once = f"schedule:{definition.name}:{rfc3339(decision.due)}"
        along = Submission(jobs=(), documents=documents, turn=turn, once=once)
        with acting(REQUESTED_BY):
            run_id = self._runs.create_run(replace(definition, requested_by=REQUESTED_BY), along=along)
        if not run_id:
            if self._reader.get("once", once):  # of a time that a clock set back makes due again
                self._lifecycle.keep_all(documents, turn)
            return None
        log.info("a run was started by its schedule", extra={"correlation_id": run_id, "name_of_job": definition.name})
        return Fired(name=definition.name, do=Do.START, due=decision.due, run_id=run_id, late=decision.late)

    def _beat(self) -> None:
        """Leave a sign of life now and then."""
        now = self._clock.monotonic()
        recent = self._beat_at is not None and 0 <= now - self._beat_at < BEAT
        if not recent or alive_at(self._reader) is None:  # another one has ended, and was the last to leave a sign
            self._lifecycle.keep("scheduler", "alive", {"at": rfc3339(self._clock.now()), **self._process})
            self._beat_at = now


def is_scheduled(job: JobDefinition) -> bool:
    """Whether it starts by itself."""
    return bool(job.schedule.cron or job.schedule.every or job.schedule.when_due)


def standing(reader: Reader, name: str) -> Standing | None:
    """What is remembered of a job's schedule."""
    document = reader.get("schedule", name)
    return from_json(Standing, document) if document is not None else None


def situation(reader: Reader, definition: JobDefinition, now: datetime) -> Situation:
    """What is now, for one job."""
    return Situation(now=now, last=last_run(reader, definition.name), busy=partial(_busy, reader, definition))


def last_run(reader: Reader, name: str) -> LastRun | None:
    """The newest run of a job; None when there was none, or it is forgotten."""
    document = reader.get("latest_run", name)
    job = reader.job(str(document["job_id"])) if document else None
    if job is None:
        return None
    return LastRun(
        id=job.id,
        ended=job.status.ended,
        outcome=job.outcome,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def alive_at(reader: Reader) -> datetime | None:
    """When a scheduler last left a sign of life; None when the last one said that it ends, or is known to have ended."""
    document = reader.get("scheduler", "alive")
    if not document or document.get("ended"):
        return None
    process = str(document.get("process", ""))
    if process and document.get("boot") == boot_id() and is_gone(process):
        return None
    return datetime.fromisoformat(document["at"])


def faulty_file(reader: Reader) -> FaultyFile | None:
    """What the service says of the file on disk, where that is not what is in force; None when no service is there."""
    document = reader.get(*CONFIGURED)
    if not document or not document["fault"] or alive_at(reader) is None:
        return None
    return FaultyFile(file=document["file"], fault=document["fault"], since=datetime.fromisoformat(document["since"]))


def _busy(reader: Reader, definition: JobDefinition) -> Busy | None:
    """Which run is on one of the job's targets, if one is."""
    wanted = {target.url for step in definition.steps for target in step.targets}
    active = reader.jobs(JobQuery(roots=True, statuses=(JobStatus.PENDING, JobStatus.RUNNING)), limit=ACTIVE)
    for run in active.jobs:
        if any(_meet(url, other) for url in wanted for other in _targets(reader, run)):
            state = "is paused" if run.paused else "has not ended"
            own = run.name == definition.name
            return Busy(reason=f"{'its last run' if own else f'a run of {run.name}'} {state} ({run.id[:13]})", own=own)
    return None


def _targets(reader: Reader, run: Job) -> Sequence[str]:
    if run.target:
        return (run.target,)
    document = reader.get("definition", run.id)
    if document is None:
        return ()
    return [target["url"] for step in document.get("steps", ()) for target in step.get("targets", ())]


def _meet(one: str, other: str) -> bool:
    """Whether they are one database, or one is a folder that the other lies in."""
    return one == other or one.startswith(f"{other.rstrip('/')}/") or other.startswith(f"{one.rstrip('/')}/")


def _reason(decision: Decision) -> str:
    if decision.do is Do.LOOK:
        return ""
    if decision.do is Do.NOTHING:
        return "; ".join(decision.standing.looked.faults) if decision.standing.looked else ""
    said = decision.standing.held if decision.do is Do.HOLD else decision.standing.missed
    return said.reason if said else ""
