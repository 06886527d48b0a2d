"""The manager of the action `maintenance_run`: several steps, several databases or a fleet, as one tree of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import structs

from dbupkeep.clock import Clock
from dbupkeep.codec import to_json
from dbupkeep.definitions import JobDefinition, OnError, Step, Target
from dbupkeep.engine import Engine, Scope
from dbupkeep.errors import Unmatched, UpkeepError, UsageError
from dbupkeep.facts import Notice
from dbupkeep.jobs import Job, JobStatus, JobType, Phase
from dbupkeep.ledger import Reader, Wait
from dbupkeep.lifecycle import Lifecycle, Submission
from dbupkeep.manager import Monitoring, Planned
from dbupkeep.plans import Plan, RunPlan

LATEST = "latest_run"
"""The kind of document that has, by the name of a definition, the id of its newest run."""


class Databases(Protocol):
    """What a run needs of the manager of single databases."""

    def plan(self, step: Step, definition: JobDefinition, *, fleet: bool = False) -> Plan:
        """Survey one database and decide; writes nothing."""
        ...

    def check(self, plan: Plan) -> None:
        """Refuse a plan that its target no longer fits."""
        ...

    def submit(self, plan: Planned, parent_job_id: str | None = None, *, along: Submission | None = None) -> str:
        """Submit the plan of one database."""
        ...

    def submission(self, plan: Plan, parent: Job | None = None) -> Submission:
        """The jobs of a plan below a parent that may not be written yet; writes nothing."""
        ...


class MaintenanceRunManager:
    """Plans and submits runs."""

    action = JobType.MAINTENANCE_RUN.value

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        orchestrator: Monitoring,
        reader: Reader,
        databases: Databases,
        engines: Callable[[str], Engine],
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        """`databases` plans each single database."""
        self._lifecycle = lifecycle
        self._orchestrator = orchestrator
        self._reader = reader
        self._databases = databases
        self._engines = engines
        self._clock = clock
        self._new_id = new_id

    def create_parent_job(self, step: Step, definition: JobDefinition, parent_job_id: str | None = None) -> str:
        """Submit one step as a run of its own; databases are surveyed by its discovery jobs."""
        return self.create_run(structs.replace(definition, steps=(step,)), parent_job_id)

    def create_run(
        self, definition: JobDefinition, parent_job_id: str | None = None, *, along: Submission | None = None
    ) -> str:
        """Submit a run of all steps: a discovery job for each place of each step, each step after the one before.

        What `along` has (documents, a turn, a key that lets it happen once) is written in the same transaction; where
        that is refused no run is made, and the returned id is empty.
        """
        latest = self._reader.get(LATEST, definition.name) or {}
        definition = structs.replace(definition, follows=str(latest.get("job_id", "")))
        root = self._root(definition.name, definition, parent_job_id)
        steps = [[self._discovery(definition, root, number, place) for place in range(len(step.targets))]
                 for number, step in enumerate(definition.steps)]  # fmt: skip
        if not any(steps):
            raise UsageError(f"the job {definition.name} has no targets", hint="name at least one database or folder")
        linked = [
            structs.replace(job, config={**job.config, "then": [later.id for later in following]})
            for jobs, following in zip(steps, [*steps[1:], []], strict=True)
            for job in jobs
        ]
        waits = [
            Wait(job_id=later.id, on_id=job.id, gate=definition.steps[number].errors.on_error is not OnError.CONTINUE)
            for number, jobs in enumerate(steps[:-1])
            for job in jobs
            for later in steps[number + 1]
        ]
        along = along or Submission(jobs=())
        submission = structs.replace(
            along,
            jobs=[root, *(structs.replace(job, place=place) for place, job in enumerate(linked))],
            waits=waits,
            slots={job.target: 1 for job in linked},
            documents=[
                *along.documents,
                ("definition", root.id, to_json(definition)),
                (LATEST, definition.name, {"job_id": root.id}),
            ],
        )
        if not self._lifecycle.submit(submission):
            return ""
        self._orchestrator.start_monitoring(root.id)
        return root.id

    def plan(self, step: Step, definition: JobDefinition) -> RunPlan:
        """Find and survey all databases of a step; writes nothing. What cannot be surveyed is among `problems`."""
        plans: list[Plan] = []
        problems: list[Notice] = []
        idle = looked_at = unmatched = 0
        for target, fleet, due in self._databases_of(step, problems):
            looked_at += 1
            single = structs.replace(step, targets=(target,))
            try:
                plan = self._databases.plan(single, definition, fleet=fleet) if due else None
            except UpkeepError as error:
                if fleet and isinstance(error, Unmatched):
                    unmatched += 1
                else:
                    problems.append(_problem(error))
                continue
            if plan is not None and (plan.due or not fleet):
                plans.append(plan)
            else:
                idle += 1
        if unmatched and unmatched == looked_at:
            problems.append(_problem(Unmatched.anywhere(looked_at)))
        return RunPlan(
            id=self._new_id(), name=definition.name, created_at=self._clock.now(), plans=tuple(plans), idle=idle + unmatched,
            problems=tuple(problems), errors=definition.errors, lane=definition.lane,
        )  # fmt: skip

    def check(self, plan: RunPlan) -> None:
        """Refuse a plan that one of its targets no longer fits. Raises `Refused` of kind `drift`."""
        for one in plan.plans:
            self._databases.check(one)

    def submit(self, plan: Planned, parent_job_id: str | None = None, *, along: Submission | None = None) -> str:
        """Write the run, its parents and all their children in one transaction; return the run's id.

        What `along` has is written with them; with a key in it that was used before nothing is, and the first run's
        id is returned.
        """
        if isinstance(plan, Plan):
            return self._databases.submit(plan, parent_job_id, along=along)
        if not plan.plans:
            raise UsageError("the plan has nothing to do", hint="`dbupkeep plan` says why for each database")
        definition = JobDefinition(name=plan.name, steps=(), lane=plan.lane, errors=plan.errors)
        root = self._root(plan.name, definition, parent_job_id)
        parts = [self._databases.submission(one, root) for one in plan.plans]
        jobs = [job for part in parts for job in part.jobs]
        along = along or Submission(jobs=())
        submission = structs.replace(
            along,
            jobs=[root, *jobs],
            waits=[wait for part in parts for wait in part.waits],
            slots={target: count for part in parts for target, count in part.slots.items()},
            endings=[ending for part in parts for ending in part.endings],
            documents=[*along.documents, *(document for part in parts for document in part.documents)],
        )
        if not self._lifecycle.submit(submission):
            return str((self._reader.get("once", along.once) or {}).get("job_id", ""))
        self._orchestrator.start_monitoring(root.id)
        return root.id

    def _databases_of(self, step: Step, problems: list[Notice]) -> Iterator[tuple[Target, bool, bool]]:
        """The databases of a step: target, whether it is one of a fleet, whether a look is worth while."""
        for place in step.targets:
            if not place.is_fleet:
                yield place, False, True
                continue
            scope = Scope(
                operations=step.operations, fleet=True, now=self._clock.now(), config=step.config, policy=step.policy
            )
            try:
                for candidate in self._engines(place.engine).discover(place, scope):  # it may look while we go
                    if candidate.problem:
                        message = f"{candidate.target.name}: {candidate.problem}"
                        problems.append(Notice(code="not_maintainable", message=message))
                    else:
                        yield candidate.target, True, candidate.due or step.policy.force
            except UpkeepError as error:
                if len(step.targets) == 1:
                    raise
                problems.append(_problem(error))

    def _root(self, name: str, definition: JobDefinition, parent_job_id: str | None) -> Job:
        own_id, now = self._new_id(), self._clock.now()
        starter = self._reader.job(parent_job_id) if parent_job_id else None
        return Job(
            id=own_id,
            parent_id=parent_job_id or own_id,
            correlation_id=starter.correlation_id if starter else own_id,
            type=JobType.MAINTENANCE_RUN,
            phase=Phase.ORCHESTRATION,
            name=name,
            created_at=now,
            started_at=now,
            status=JobStatus.RUNNING,
            config={
                "steps": [step.name for step in definition.steps],
                **({"window": to_json(definition.window)} if definition.window else {}),
                **({"hooks": to_json(definition.hooks)} if definition.hooks else {}),
            },
            lane=definition.lane,
            errors=definition.errors,
        )

    def _discovery(self, definition: JobDefinition, root: Job, number: int, place: int) -> Job:
        step = definition.steps[number]
        target = step.targets[place]
        return Job(
            id=self._new_id(),
            parent_id=root.id,
            correlation_id=root.correlation_id,
            type=JobType.DATABASE_DISCOVERY,
            phase=Phase.EXECUTION,
            name=f"find databases in {target.name}" if target.is_fleet else f"survey {target.name}",
            created_at=root.created_at,
            config={"definition": root.id, "step": number, "target": place},
            target=f"discovery:{target.url}",
            hold=f"discovery:{root.id}:{number}:{place}",
            lane=definition.lane,
            max_attempts=step.policy.max_attempts,
        )


def _problem(error: UpkeepError) -> Notice:
    return Notice(code=error.kind.value, message=error.message, hint=error.hint, severity="error")
