"""Counts what happens, for metrics: into a document that stays when runs are pruned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from dbupkeep.events import AttemptLost, DeferralRepeated, JobSubmitted, ParentSettled, Recorded
from dbupkeep.follower import Memory, Message
from dbupkeep.jobs import Job, JobType
from dbupkeep.ledger import Reader
from dbupkeep.results import ENDINGS, ends_operation, engine_of, reckon
from dbupkeep.schedules import SUCCESSES
from dbupkeep.totals import NAME, STOP_LIMIT, Totals


class TotalsFollower:
    """Fulfils `dbupkeep.follower.Follower`; it has nothing to deliver."""

    name = NAME
    from_start = True

    def __init__(self, reader: Reader) -> None:
        """`reader` says of which job an event is."""
        self._reader = reader

    def fold(self, memory: Memory, events: Sequence[Recorded], now: datetime) -> Sequence[Message]:
        """Count."""
        totals = Totals(memory)
        for recorded in events:
            self._count(totals, recorded)
        return ()

    def deliver(self, message: Message) -> None:
        """There is nothing to deliver."""

    def _count(self, totals: Totals, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, AttemptLost):
            totals.add("attempts_lost")
        job = self._reader.job(recorded.job_id) if _is_of_interest(recorded) else None
        if job is None:  # or pruned between two reads: nobody will ask
            return
        if ends_operation(recorded, job):
            totals.ended(reckon(recorded, job))
        elif isinstance(event, DeferralRepeated):
            totals.add("deferred_often", (engine_of(job.target), str(job.config.get("operation", ""))))
        elif isinstance(event, ParentSettled):
            self._settled(totals, recorded, job, event)
        elif job.type == JobType.DATABASE_MAINTENANCE_PARENT:
            self._surveyed(totals, job)

    def _settled(self, totals: Totals, recorded: Recorded, job: Job, event: ParentSettled) -> None:
        if job.is_root:
            totals.add("runs", (event.outcome,))
        for target, name in self._succeeded(job) if event.outcome in SUCCESSES else ():
            totals.state("last_success", (target, name), recorded.at.timestamp(), recorded.at)

    def _succeeded(self, job: Job) -> Iterable[tuple[str, str]]:
        """Targets, each with the job that it was for: of a run all, of a database itself unless it is one of a fleet."""
        definition = self._reader.get("definition", job.correlation_id) or {}
        name = str(definition.get("name", ""))
        if job.type == JobType.MAINTENANCE_RUN:
            return [(target["name"], name) for step in definition.get("steps", ()) for target in step["targets"]]
        plan = self._reader.get("plan", job.plan_id) or {}
        return () if plan.get("fleet") else [(job.name, name)]

    def _surveyed(self, totals: Totals, job: Job) -> None:
        """What the plan's survey found; not of a fleet, whose files may be many thousands."""
        plan = self._reader.get("plan", job.plan_id)
        if plan is None or plan.get("fleet"):
            return
        facts, target = plan["facts"], (job.name,)
        if not facts["version"]:  # it could not be looked at: a file that is not there has no size
            totals.forget("database_bytes", target)
            return
        at = datetime.fromisoformat(facts["surveyed_at"])
        totals.state("database_bytes", target, facts["bytes"], at)
        age = facts.get("values", {}).get("database_age")
        if isinstance(age, (int, float)):
            totals.state("wraparound", target, STOP_LIMIT - age, at)


def _is_of_interest(recorded: Recorded) -> bool:
    """Whether its job is worth a look: of what was submitted only roots and what is right below them."""
    event = recorded.event
    if isinstance(event, JobSubmitted):
        return recorded.parent_id == recorded.correlation_id
    return event.name in ENDINGS or isinstance(event, (DeferralRepeated, ParentSettled))
