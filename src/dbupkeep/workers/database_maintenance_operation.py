"""Executes one operation on one object of one database: connect, recover, run, verify."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from dbupkeep.clock import Clock
from dbupkeep.codec import from_json, to_json
from dbupkeep.engine import Engine, Evidence, Session, Work
from dbupkeep.errors import Busy, Damaged, Kind, Refused, UpkeepError, UsageError
from dbupkeep.estimates import OF_MEMBERS, Measurement
from dbupkeep.events import NOTED, JobCompleted, JobDeferred, JobFailed, StageReached
from dbupkeep.facts import Value
from dbupkeep.jobs import Job, JobStatus, JobType
from dbupkeep.kept import KeptSessions
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.operations import Operation
from dbupkeep.patience import REACH, Patience
from dbupkeep.plans import Plan, PlanItem
from dbupkeep.worker import Context, Ended

log = logging.getLogger(__name__)

PLANS = 8
"""How many plans a worker process keeps at hand."""

TAKE_ROOM = (Operation.VACUUM, Operation.REINDEX, Operation.OPTIMIZE)

SAID = 3
"""Reasons that are told of members of a group that were put off; all of them are in the result."""

LONGEST = 100
"""Characters of a value that is kept with a measurement: numbers and words, no lists."""


class DatabaseMaintenanceOperationWorker:
    """The worker of type `database_maintenance_operation`."""

    type = JobType.DATABASE_MAINTENANCE_OPERATION.value

    def __init__(self, *, reader: Reader, engines: Callable[[str], Engine], clock: Clock, reach: float = REACH) -> None:
        """`engines` finds an engine by the scheme of a target's url; `reach`: seconds to wait for one that is away."""
        self._reader = reader
        self._engines = engines
        self._clock = clock
        self._sessions = KeptSessions()
        self._patience = Patience(clock, reach=reach)
        # A plan is stored once and never changed, and may have thousands of items: it is read once, not for each child.
        self._plan = lru_cache(maxsize=PLANS)(self._read_plan)
        self._renewing = lru_cache(maxsize=PLANS)(self._read_renewing)

    def close(self) -> None:
        """Close the sessions that wait for another job; safe to repeat."""
        self._sessions.close()

    def validate(self, job: Job) -> None:
        """Refuse a job without exactly one known operation."""
        operation = job.config.get("operation")
        if not isinstance(operation, str) or operation not in set(Operation):
            raise UsageError(
                "the job does not name one operation",
                why=f'its config says {dict(job.config)!r}, where {{"operation": "vacuum"}} is wanted',
                hint="create jobs through the manager of the action database_maintenance",
            )

    def execute(self, job: Job, context: Context) -> Ended:
        """Do the operation and return it with its evidence."""
        plan = self._plan(job.plan_id)
        item = self._renewed(plan.items[job.place], plan, job)
        stage = "connecting"
        try:
            engine = self._engines(plan.target.engine)
            wait = self._patience.waiting(plan.target.url, context)
            with self._sessions.lent(engine, plan.target, tag=context.tag, wait=wait) as session:
                self._patience.reached(plan.target.url)
                stage = "working"
                try:
                    context.on_stop(session.interrupt)
                    return self._work(session, plan, item, job, context)
                finally:
                    context.on_stop(None)
                    context.report.follow(None)
        except UpkeepError as error:
            error.at(operation=item.operation.value, object=item.object, target=plan.target.name, stage=stage)
            if isinstance(error, Damaged) and item.operation is Operation.CHECK:
                log.warning("the check found damage", extra={"error": error.message, "kind": error.kind.value})
                return Ended(event=JobFailed(error=error.document()), sample=self._damage(plan, item, error))
            raise error from error.__cause__

    def _work(self, session: Session, plan: Plan, item: PlanItem, job: Job, context: Context) -> Ended:
        if context.lost_tag:
            found = session.recover(item, context.lost_tag, self._notes(job))
            if found is not None:
                unmeasured = Work(seconds=0.0)
                sample = self._measurement(plan, item, unmeasured, found) if found.members else None
                return Ended(event=JobCompleted(result=_result(found, unmeasured, recovered=True)), sample=sample)
        self._keep_off_a_full_disk(item, job)
        work = session.run(item, context.report)
        evidence = session.verify(item, work)
        sample = self._measurement(plan, item, work, evidence)
        result = _result(evidence, work)
        if work.fault is not None:
            log.warning("members of a group failed", extra={"error": work.fault.message, "kind": work.fault.kind.value})
            error = work.fault.at(operation=item.operation.value, object=item.object, target=plan.target.name)
            return Ended(event=JobFailed(error=error.document(), result=result), sample=sample)
        if work.put_off:
            return Ended(event=JobDeferred(reason=_of_members(item, work.put_off), result=result), sample=sample)
        return Ended(event=JobCompleted(result=result), sample=sample)

    def _keep_off_a_full_disk(self, item: PlanItem, job: Job) -> None:
        """Raise `Busy` where an operation of the run has met a full disk: more of what takes room would only make it worse."""
        parent = self._reader.job(job.parent_id) if item.operation in TAKE_ROOM else None
        if parent is None or not parent.stats.failed:
            return
        for failed in self._reader.jobs(JobQuery(parent_id=parent.id, statuses=(JobStatus.FAILED,))).jobs:
            error = failed.error or {}
            if error.get("kind") == Kind.SPACE and error.get(
                "cause"
            ):  # without one it was foreseen, and nothing was begun
                raise Busy(
                    "not begun: a disk was full a moment ago",
                    why=f"{failed.config.get('operation')} {failed.config.get('object', '')}: {error.get('message')}",
                    hint=str(error.get("hint", "")),
                )

    def _renewed(self, item: PlanItem, plan: Plan, job: Job) -> PlanItem:
        """The item, about what is there now: an operation before it may have put a new file in the place of the planned one.

        Such an operation has the option `renews`, the name of the evidence that is another one afterwards.
        """
        renewing = {
            one.place: str(one.options["renews"]) for one in self._renewing(job.plan_id) if one.place < item.place
        }
        if not renewing:
            return item
        query = JobQuery(parent_id=job.parent_id, statuses=(JobStatus.COMPLETED,), newest_first=False)
        for done in self._reader.jobs(query, limit=item.place).jobs:
            name, values = renewing.get(done.place, ""), (done.result or {}).get("values", {})
            if name in values and item.evidence.get(name) == values.get(f"replaced_{name}"):
                item = replace(item, evidence={**item.evidence, name: values[name]})
        return item

    def _read_renewing(self, plan_id: str) -> list[PlanItem]:
        return [item for item in self._plan(plan_id).items if item.options.get("renews")]

    def _notes(self, job: Job) -> list[str]:
        """What the attempts of a job kept for their recovery, in order."""
        found, after = [], 0
        while events := self._reader.events(after, correlation_id=job.correlation_id):
            found += [
                recorded.event.message
                for recorded in events
                if recorded.job_id == job.id
                and isinstance(recorded.event, StageReached)
                and recorded.event.stage == NOTED
            ]
            after = events[-1].seq
        return found

    def _read_plan(self, plan_id: str) -> Plan:
        doc = self._reader.get("plan", plan_id)
        if doc is None:
            raise Refused(f"the plan {plan_id} is not in the ledger", kind=Kind.LEDGER, hint="plan and run again")
        return from_json(Plan, doc)

    def _measurement(self, plan: Plan, item: PlanItem, work: Work, evidence: Evidence) -> Measurement:
        return Measurement(
            at=self._clock.now(),
            engine=plan.target.engine,
            target=plan.facts.target,
            object=item.object,
            operation=item.operation,
            method=item.method,
            seconds=work.seconds,
            work_bytes=evidence.work_bytes,
            bytes_before=_bytes(evidence.before),
            bytes_after=_bytes(evidence.after),
            predicted_gain=item.estimate.gain_bytes,
            predicted_seconds=item.estimate.seconds,
            effective=evidence.effective.value,
            values=_lasting(evidence),
        )

    def _damage(self, plan: Plan, item: PlanItem, error: Damaged) -> Measurement:
        """What a check found: the next plan repairs exactly that."""
        return Measurement(
            at=self._clock.now(),
            engine=plan.target.engine,
            target=plan.facts.target,
            object=item.object,
            operation=item.operation,
            method=item.method,
            seconds=0.0,
            work_bytes=0,
            bytes_before=plan.facts.bytes,
            bytes_after=plan.facts.bytes,
            effective="yes",
            values={"damaged": json.dumps(list(error.objects))},
        )


def _lasting(evidence: Evidence) -> dict[str, Value]:
    """What is kept with a measurement: short values, and of a group what its members are remembered by."""
    short = {name: value for name, value in evidence.values.items() if len(str(value)) <= LONGEST}
    return {**short, **({OF_MEMBERS: json.dumps(evidence.members)} if evidence.members else {})}


def _of_members(item: PlanItem, put_off: Mapping[str, str]) -> str:
    """Which members of a group come back with the next run; the others are done."""
    said = "; ".join(list(dict.fromkeys(put_off.values()))[:SAID])
    return f"{len(put_off)} of {len(item.members)} come back, the others are done: {said}"


def _bytes(facts: Mapping[str, Any]) -> int:
    value = facts.get("bytes")
    return int(value) if isinstance(value, (int, float)) else 0


def _result(evidence: Evidence, work: Work, *, recovered: bool = False) -> dict[str, Any]:
    """What a completed job keeps."""
    result = {
        "effective": evidence.effective.value,
        "reason": evidence.reason,
        "before": dict(evidence.before),
        "after": dict(evidence.after),
        "seconds": round(work.seconds, 6),
        "stall_seconds": work.stall_seconds,
        "values": {**work.values, **evidence.values},
        "messages": list(work.messages),
        "put_off": dict(work.put_off),
        "notices": [to_json(notice) for notice in evidence.notices],
        "recovered": recovered,
    }
    looked_at = {} if work.blocking_seconds is None else {"blocking_seconds": round(work.blocking_seconds, 3)}
    return {key: value for key, value in result.items() if value not in (None, {}, [], False)} | looked_at
