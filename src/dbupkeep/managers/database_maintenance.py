"""The manager of the action `database_maintenance`: one parent for a database, one child for each operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from dbupkeep import surveys
from dbupkeep.clock import Clock
from dbupkeep.codec import to_json
from dbupkeep.definitions import DATABASE_MAINTENANCE, JobDefinition, OnError, Step
from dbupkeep.engine import Engine, Scope
from dbupkeep.errors import Busy, Kind, Refused, UnknownName, UpkeepError, UsageError
from dbupkeep.estimates import History, Measurement
from dbupkeep.events import Event, JobDeferred, JobFailed, JobSkipped
from dbupkeep.facts import DatabaseFacts
from dbupkeep.jobs import Job, JobStatus, JobType, Phase, hold_of
from dbupkeep.ledger import JobQuery, Reader, Wait
from dbupkeep.lifecycle import Lifecycle, Submission
from dbupkeep.manager import Monitoring, Planned
from dbupkeep.operations import Operation, in_order
from dbupkeep.planner import Work, lay_out
from dbupkeep.plans import Decision, Plan, PlanItem, RunPlan
from dbupkeep.surveys import Ahead

HISTORY = 50
"""How many measurements of other targets a plan looks at: enough for a rate."""

OWN_HISTORY = 2000
"""How many of its own target: the last rebuild of each of many indexes is the measure of the next."""

CARRIED = 10_000
"""Deferred operations of the run before that are looked at."""

RATES_KEPT = 1.0
"""Seconds for which the plans of a fleet look at the same measurements of their engine."""


class DatabaseMaintenanceManager:
    """Plans and submits the maintenance of one database."""

    action = DATABASE_MAINTENANCE

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        orchestrator: Monitoring,
        reader: Reader,
        engines: Callable[[str], Engine],
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        """`engines` finds an engine by the scheme of a target's url; `new_id` makes identifiers that sort by age."""
        self._lifecycle = lifecycle
        self._orchestrator = orchestrator
        self._reader = reader
        self._engines = engines
        self._clock = clock
        self._new_id = new_id
        self._rates: dict[str, tuple[float, Sequence[Measurement]]] = {}

    def create_parent_job(self, step: Step, definition: JobDefinition, parent_job_id: str | None = None) -> str:
        """Plan and submit; return the parent's id."""
        return self.submit(self.plan(step, definition), parent_job_id)

    def plan(self, step: Step, definition: JobDefinition, *, fleet: bool = False, ahead: Ahead | None = None) -> Plan:
        """Survey the step's one target and decide; writes nothing. Raises `TargetError` and `UsageError`.

        A survey that was begun `ahead` is of the same step.
        """
        engine = self._engines(surveys.only_target(step).engine)
        seen = ahead.result() if ahead else surveys.of_step(engine, step, now=self._clock.now(), fleet=fleet)
        target, facts, operations = seen.target, seen.facts, seen.scope.operations
        proposals = engine.assess(facts, step.policy, self._history(facts, fleet=fleet), seen.scope)
        items = lay_out(proposals, self._put_off(definition, facts.target))
        settings = {
            op.value: {**engine.defaults.get(op, {}), **step.policy.thresholds.get(op, {})} for op in operations
        }
        return Plan(
            id=self._new_id(),
            name=target.name,
            created_at=self._clock.now(),
            target=target,
            operations=operations,
            policy=step.policy,
            errors=step.errors,
            facts=structs.replace(facts, objects=()),
            settings=settings,
            items=items,
            notices=facts.notices,
            step=step.name,
            config=step.config,
            lane=definition.lane,
            fleet=fleet,
        )

    def drift(self, plan: Plan) -> list[str]:
        """What changed on the target since the plan, a sentence for each item that no longer holds."""
        engine = self._engines(plan.target.engine)
        scope = Scope(
            operations=plan.operations, fleet=plan.fleet, now=self._clock.now(), policy=plan.policy, config=plan.config,
            planned=tuple(plan.due),
        )  # fmt: skip
        facts = surveys.look(engine, plan.target, scope)
        return list(dict.fromkeys(said for item in plan.due if (said := engine.drift(item, facts))))

    def check(self, plan: Plan) -> None:
        """Refuse a plan that its target no longer fits. Raises `Refused` of kind `drift`, naming what changed."""
        changes = self.drift(plan)
        if changes:
            raise Refused(
                f"the plan {plan.id} no longer fits {plan.target.name}",
                why="; ".join(changes),
                kind=Kind.DRIFT,
                hint="plan again; nothing was changed",
            )

    def submit(
        self, plan: Planned, parent_job_id: str | None = None, *, once: str = "", before: tuple[str, ...] = (),
        along: Submission | None = None,
    ) -> str:  # fmt: skip
        """Write the parent and its children and enqueue them in one transaction; return the parent's id.

        With `once`, a second submission with the same key writes nothing and returns the first one's parent.
        The jobs `before` wait for the parent. What `along` has (documents, a turn, such a key) is written with them.
        """
        if isinstance(plan, RunPlan):
            raise UsageError("a plan of several databases is carried out by the action maintenance_run")
        along = along or Submission(jobs=(), once=once)
        submission = self.submission(plan, self._starter(parent_job_id))
        documents = [*along.documents, *submission.documents]
        submission = structs.replace(submission, documents=documents, turn=along.turn)
        return self._send(submission, plan, along.once, before)

    def submit_unsurveyed(
        self, step: Step, definition: JobDefinition, error: UpkeepError, parent_job_id: str, *, once: str = "",
        before: tuple[str, ...] = (),
    ) -> str:  # fmt: skip
        """Record a database that could not even be surveyed: a parent whose every operation failed with that error.

        Where it was `Busy`, they are put off instead, as if that had been found a moment later.
        """
        target = surveys.only_target(step)
        now = self._clock.now()
        facts = DatabaseFacts(target=target.url, engine=target.engine, version="", surveyed_at=now, bytes=0)
        items = tuple(
            PlanItem(operation=operation, decision=Decision.RUN, reason=error.message, place=place)
            for place, operation in enumerate(in_order(step.operations))
        )
        plan = Plan(
            id=self._new_id(), name=target.name, created_at=now, target=target, operations=in_order(step.operations),
            policy=step.policy, errors=step.errors, facts=facts, settings={}, items=items, step=step.name,
            lane=definition.lane,
        )  # fmt: skip
        submission = self.submission(plan, self._starter(parent_job_id))
        endings = [(job.id, _unsurveyed(error)) for job in submission.jobs[1:]]
        return self._send(structs.replace(submission, endings=endings, waits=()), plan, once, before)

    def _send(self, submission: Submission, plan: Plan, once: str, before: tuple[str, ...]) -> str:
        """Submit, and have the parent monitored once all is committed."""
        parent_id = submission.jobs[0].id
        gate = plan.errors.on_error is not OnError.CONTINUE
        waits = [*submission.waits, *(Wait(job_id=later, on_id=parent_id, gate=gate) for later in before)]
        if self._lifecycle.submit(structs.replace(submission, waits=waits, once=once)):
            self._orchestrator.start_monitoring(parent_id)
            return parent_id
        earlier = self._reader.get("once", once) or {}
        return str(earlier.get("job_id", parent_id))

    def submission(self, plan: Plan, starter: Job | None = None) -> Submission:
        """The jobs of a plan, below `starter` if there is one, with their waits and what ends at once; writes nothing."""
        parent = self._parent(plan, starter)
        children = [self._child(plan, item, parent) for item in plan.items]
        waits = [
            Wait(job_id=child.id, on_id=children[place].id, gate=place in item.gates)
            for child, item in zip(children, plan.items, strict=True)
            for place in item.after
        ]
        endings = [
            (child.id, event)
            for child, item in zip(children, plan.items, strict=True)
            if (event := _ending(item)) is not None
        ]
        return Submission(
            jobs=[parent, *children],
            waits=waits,
            slots={plan.facts.target: max(1, plan.target.parallel)},
            endings=endings,
            documents=[("plan", plan.id, to_json(plan))],
        )

    def _history(self, facts: DatabaseFacts, *, fleet: bool) -> History:
        others = self._recent(facts.engine) if fleet else self._reader.measurements(engine=facts.engine, limit=HISTORY)
        return History(own=self._reader.measurements(target=facts.target, limit=OWN_HISTORY), others=others)

    def _put_off(self, definition: JobDefinition, target: str) -> Mapping[Work, int]:
        """What the run before deferred on this target, each with for how many runs in a row."""
        if not definition.follows:
            return {}
        query = JobQuery(
            correlation_id=definition.follows,
            statuses=(JobStatus.DEFERRED,),
            types=(JobType.DATABASE_MAINTENANCE_OPERATION.value,),
            target=target,
        )
        return {
            (Operation(job.config["operation"]), str(job.config.get("object", ""))): int(
                (job.result or {}).get("in_a_row", 1)
            )
            for job in self._reader.jobs(query, limit=CARRIED).jobs
        }

    def _recent(self, engine: str) -> Sequence[Measurement]:
        """An engine's measurements as of a moment ago: reading them anew for each file of a fleet would cost more than it."""
        now = self._clock.monotonic()
        read_at, found = self._rates.get(engine, (now - RATES_KEPT, ()))
        if now - read_at >= RATES_KEPT:
            found = self._reader.measurements(engine=engine, limit=HISTORY)
            self._rates[engine] = (now, found)
        return found

    def _starter(self, job_id: str | None) -> Job | None:
        if job_id is None:
            return None
        starter = self._reader.job(job_id)
        if starter is None:
            raise UnknownName(f"no job {job_id} to start others", hint="list them with `dbupkeep jobs`")
        return starter

    def _parent(self, plan: Plan, starter: Job | None) -> Job:
        own_id = self._new_id()
        return Job(
            id=own_id,
            parent_id=starter.id if starter else own_id,
            correlation_id=starter.correlation_id if starter else own_id,
            type=JobType.DATABASE_MAINTENANCE_PARENT,
            phase=Phase.ORCHESTRATION,
            name=plan.name,
            created_at=self._clock.now(),
            started_at=self._clock.now(),
            status=JobStatus.RUNNING,
            config={"operations": [operation.value for operation in plan.operations], "step": plan.step},
            target=plan.facts.target,
            lane=plan.lane,
            plan_id=plan.id,
            errors=plan.errors,
        )

    def _child(self, plan: Plan, item: PlanItem, parent: Job) -> Job:
        config = {"operation": item.operation.value, **({"object": item.object} if item.object else {})}
        return Job(
            id=self._new_id(),
            parent_id=parent.id,
            correlation_id=parent.correlation_id,
            type=JobType.DATABASE_MAINTENANCE_OPERATION,
            phase=Phase.EXECUTION,
            name=f"{item.operation} {item.object or plan.name}",
            created_at=parent.created_at,
            config=config,
            target=plan.facts.target,
            hold=hold_of(plan.facts.target, item.hold),
            lane=plan.lane,
            plan_id=plan.id,
            place=item.place,
            weight=max(1, item.weight),
            max_attempts=plan.policy.max_attempts,
            estimate=to_json(item.estimate),
        )


def _ending(item: PlanItem) -> Event | None:
    """How an item that does not run ends at once."""
    if item.decision is Decision.SKIP:
        return JobSkipped(reason=item.reason, result=dict(item.evidence))
    if item.decision is Decision.DEFER:
        return JobDeferred(reason=item.reason, result=dict(item.evidence))
    return None


def _unsurveyed(error: UpkeepError) -> Event:
    """How every operation ends on a database that could not be surveyed."""
    if isinstance(error, Busy):
        return JobDeferred(reason=error.message, result={"hint": error.hint} if error.hint else {})
    return JobFailed(error=error.document())
