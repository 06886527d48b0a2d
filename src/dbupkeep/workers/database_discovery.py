"""Executes one discovery: finds databases at a place and has a maintenance parent submitted for each due one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import Struct, field, structs

from dbupkeep.clock import Clock
from dbupkeep.codec import from_json
from dbupkeep.definitions import DATABASE_MAINTENANCE, JobDefinition, Step, Target
from dbupkeep.engine import Candidate, Engine, Scope
from dbupkeep.errors import (
    Busy,
    IllegalTransition,
    Interrupted,
    Kind,
    LedgerError,
    Refused,
    Unmatched,
    UpkeepError,
    UsageError,
)
from dbupkeep.events import JobCompleted
from dbupkeep.jobs import Effective, Job, JobStatus, JobType
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.manager import JobManager
from dbupkeep.plans import Plan
from dbupkeep.progress import Progress
from dbupkeep.registry import Registry
from dbupkeep.worker import Context, Ended

NAMED = 20
"""How many problems are kept by name in a discovery's result; the rest are counted."""

CARRIED = 10_000
"""Deferred operations of the run before that are looked at."""


class Databases(Protocol):
    """What a discovery needs of the manager of databases."""

    def plan(self, step: Step, definition: JobDefinition, *, fleet: bool = False) -> Plan:
        """Survey one database and decide."""
        ...

    def submit(
        self, plan: Plan, parent_job_id: str | None = None, *, once: str = "", before: tuple[str, ...] = ()
    ) -> str:
        """Submit the plan once, ahead of the jobs `before`."""
        ...

    def submit_unsurveyed(  # noqa: D102 - as in the manager
        self, step: Step, definition: JobDefinition, error: UpkeepError, parent_job_id: str, *, once: str = "",
        before: tuple[str, ...] = (),
    ) -> str: ...  # fmt: skip


class _Tally(Struct):
    """What a discovery has found so far."""

    found: int = 0
    due: int = 0
    idle: int = 0
    failed: int = 0
    put_off: int = 0
    unmatched: int = 0  # of those in need of nothing
    problems: list[str] = field(default_factory=list)
    stopped: str = ""

    def result(self) -> dict[str, object]:
        """What the job keeps."""
        counts = (
            (self.due, "due"), (self.idle, "in need of nothing"), (self.failed, "failed"),
            (self.put_off, "put off"), (len(self.problems), "not maintainable"),
        )  # fmt: skip
        said = ", ".join(f"{count:,} {word}" for count, word in counts if count)
        found = "1 database" if self.found == 1 else f"{self.found:,} databases"
        words = f"{found}: {said}" if said else "no database was found"
        return {
            "effective": Effective.YES.value,
            "reason": f"{words}; {self.stopped}" if self.stopped else words,
            "values": {"found": self.found, "due": self.due, "idle": self.idle, "unsurveyed": self.failed + self.put_off,
                       "problems": len(self.problems)},
            "messages": self.problems[:NAMED],
        }  # fmt: skip


class DatabaseDiscoveryWorker:
    """The worker of type `database_discovery`."""

    type = JobType.DATABASE_DISCOVERY.value

    def __init__(
        self,
        *,
        reader: Reader,
        databases: Databases,
        managers: Registry[JobManager],
        engines: Callable[[str], Engine],
        clock: Clock,
    ) -> None:
        """`databases` submits maintenance; `managers` has the managers of other actions."""
        self._reader = reader
        self._databases = databases
        self._managers = managers
        self._engines = engines
        self._clock = clock

    def validate(self, job: Job) -> None:
        """Refuse a job that does not say which place of which definition it is for."""
        if not {"definition", "step", "target"} <= set(job.config):
            raise UsageError("the discovery does not name its definition, step and target")

    def execute(self, job: Job, context: Context) -> Ended:
        """Find databases; each due one becomes a parent below this job's parent. Safe to repeat."""
        definition = self._definition(job)
        step = definition.steps[job.config["step"]]
        place = step.targets[job.config["target"]]
        tally = _Tally()
        for candidate in self._in_turn(self._candidates(place, step), definition):
            if context.stopping:
                raise Interrupted("discovery was stopped", why=f"{tally.found} databases were looked at")
            tally.found += 1
            context.report.progress(Progress(current=tally.found, unit="databases", stage="discovering"))
            starts = not candidate.problem and (candidate.due or step.policy.force)
            tally.stopped = self._stopped(job) if starts else ""
            if tally.stopped:
                break
            self._take(job, definition, step, candidate, tally)
        if tally.found and tally.unmatched == tally.found:
            raise Unmatched.anywhere(tally.found)
        return Ended(event=JobCompleted(result=tally.result()))

    def _candidates(self, place: Target, step: Step) -> Iterable[Candidate]:
        if not place.is_fleet:
            return [Candidate(target=place, due=True)]
        scope = Scope(
            operations=step.operations, fleet=True, now=self._clock.now(), config=step.config, policy=step.policy
        )
        return self._engines(place.engine).discover(place, scope)

    def _in_turn(self, candidates: Iterable[Candidate], definition: JobDefinition) -> Iterable[Candidate]:
        """Databases that the run before put off go first, those put off most often before all: nothing starves."""
        if not definition.follows:
            return candidates
        operations = (JobType.DATABASE_MAINTENANCE_OPERATION.value,)
        query = JobQuery(correlation_id=definition.follows, statuses=(JobStatus.DEFERRED,), types=operations)
        ages: dict[str, int] = {}
        for job in self._reader.jobs(query, limit=CARRIED).jobs:
            ages[job.target] = max(ages.get(job.target, 0), int((job.result or {}).get("in_a_row", 1)))
        return sorted(candidates, key=lambda each: -ages.get(each.target.url, 0)) if ages else candidates

    def _take(self, job: Job, definition: JobDefinition, step: Step, candidate: Candidate, tally: _Tally) -> None:
        if candidate.problem:
            tally.problems.append(f"{candidate.target.name}: {candidate.problem}")
            return
        if not (candidate.due or step.policy.force):
            tally.idle += 1
            return
        single = structs.replace(step, targets=(candidate.target,))
        once, before = f"{job.id}:{candidate.target.url}", tuple(job.config.get("then", ()))
        fleet = step.targets[job.config["target"]].is_fleet
        try:
            if step.action != DATABASE_MAINTENANCE:
                self._managers.get(step.action).create_parent_job(single, definition, job.parent_id)
                tally.due += 1
                return
            plan = self._databases.plan(single, definition, fleet=fleet)
            if fleet and not plan.due:
                tally.idle += 1
                return
            self._databases.submit(plan, job.parent_id, once=once, before=before)
            tally.due += 1
        except IllegalTransition as error:
            raise Interrupted("discovery was stopped", why=error.message) from error
        except LedgerError:  # no fault of the database
            raise
        except UpkeepError as error:
            if fleet and isinstance(error, Unmatched):
                tally.idle += 1
                tally.unmatched += 1
                return
            self._databases.submit_unsurveyed(single, definition, error, job.parent_id, once=once, before=before)
            if isinstance(error, Busy):
                tally.put_off += 1
            else:
                tally.failed += 1

    def _definition(self, job: Job) -> JobDefinition:
        doc = self._reader.get("definition", job.config["definition"])
        if doc is None:
            raise Refused("the definition of this run is not in the ledger", kind=Kind.LEDGER, hint="run it again")
        return from_json(JobDefinition, doc)

    def _stopped(self, job: Job) -> str:
        """Why the run starts nothing more, if so."""
        run = self._reader.job(job.parent_id)
        if run is not None and run.errors.stops_at(run.stats.failed):
            return f"stopped there: {run.stats.failed} failed"
        return ""
